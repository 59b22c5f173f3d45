"""Notes on the parts of a model folder that a run ignores.

Examples are an adapter, a second set of weights, a vocabulary of another size, and keys of `config.json` that have no
effect. A run does not fail on these parts, but a user may expect them to change its results.
"""

import json
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

from model.checkpoint.files import CONFIG_NAME, INDEX_NAME, SINGLE_NAME
from model.checkpoint.header import CheckpointError, printable, read_json
from model.checkpoint.layouts import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from model.checkpoint.vocabulary import added_tokens, entries
from model.checkpoint.weights import Manifest
from model.network.config import unknown_keys, unused_keys
from model.trace.limits import SETTINGS, TOKENIZER, check_json
from model.trace.ordinary import read_ordinary

BOM = b"\xef\xbb\xbf"
_OTHER_FORMS = (".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack")
_MOST_NAMED = 8


def notes(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    """Return the notes on a folder, one line each; usually empty."""
    lines = [*adapters(manifest, folder), *other_weights(manifest, folder), *_vocabulary(manifest, folder)]
    return tuple(map(printable, [*lines, *configuration(manifest, folder)]))


def configuration(manifest: Manifest, folder: Path) -> Iterator[str]:
    """Yield the notes on parts of `config.json` that have no effect."""
    yield from (f"{CONFIG_NAME}: {line}" for line in unused_keys(manifest.published))
    if unknown := unknown_keys(manifest.published):
        yield f"{CONFIG_NAME} has keys that are not known here, and have no effect: {_named(unknown)}"
    if read_ordinary(folder / CONFIG_NAME, SETTINGS.num_bytes).startswith(BOM):
        yield f"{CONFIG_NAME} begins with a byte order mark, which is left out"


def adapters(manifest: Manifest, folder: Path) -> Iterator[str]:
    """Yield the notes on adapters that lie in their own files or among the weights."""
    what_to_do = (
        "is not applied: a run shows the base model alone; merge it (merge_and_unload of peft) to see its effect"
    )
    files = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if (folder / name).exists()]
    if files:
        yield f"the adapter beside the weights ({adapter_line(folder) or files[0]}) {what_to_do}"
    inside = [name for name in manifest.surplus if ".lora_" in name]
    if inside:
        which = f"{len(inside):,} tensor{_s(inside)}, the first is {inside[0]}"
        yield f"the LoRA adapter among the weights ({which}) {what_to_do}"


def adapter_line(folder: Path) -> str:
    """Return kind, rank and target modules of the adapter in a folder; empty if its settings cannot be read."""
    try:
        settings = read_json(folder / ADAPTER_CONFIG)
    except (CheckpointError, OSError):
        return ""
    targets = settings.get("target_modules")
    on = f" on {_named(tuple(map(str, targets)))}" if isinstance(targets, list) and targets else ""
    return f"{settings.get('peft_type', 'adapter')!s:.20}, rank {settings.get('r', '?')!s:.10}{on}"


def other_weights(manifest: Manifest, folder: Path) -> Iterator[str]:
    """Yield the notes on weights that a run does not read."""
    read = {stored.file.name for stored in manifest.stored.values()}
    if not read:
        return
    if SINGLE_NAME in read and (folder / INDEX_NAME).exists():
        yield f"{SINGLE_NAME} is read; {INDEX_NAME} and the files that it names are not"
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name.endswith(".safetensors") and name not in {*read, ADAPTER_WEIGHTS}]
    if others:
        yield f"other weights lie beside those that are read ({_named(tuple(sorted(read)))}): {_named(tuple(others))}"
    foreign = [name for name in names if name.endswith(_OTHER_FORMS)]
    if foreign:
        yield f"weights in other forms are not read: {_named(tuple(foreign))}"
    if manifest.repeated:
        first = manifest.repeated[0]
        count = f"{len(manifest.repeated):,} tensor{_s(manifest.repeated)}"
        yield f"{count} in several files, such as {first}; {INDEX_NAME} says which is read"


def _vocabulary(manifest: Manifest, folder: Path) -> Iterator[str]:
    largest, rows = largest_id(folder), manifest.config.vocab_size
    if largest is not None and largest >= rows:
        ids = f"tokenizer.json has ids up to {largest:,}, the model rows up to {rows - 1:,}"
        yield f"{ids}: it belongs to another model"


def largest_id(folder: Path) -> int | None:
    """Return the largest token id in a folder's `tokenizer.json`; None if the file cannot be read."""
    try:
        content = read_ordinary(folder / "tokenizer.json", TOKENIZER.num_bytes)
        check_json(content, TOKENIZER)
        published: Any = json.loads(content)
        ids = [*entries(published).values(), *(entry["id"] for entry in added_tokens(published))]
    except (OSError, ValueError, RecursionError):
        return None
    return max(ids)


def _s(names: Sized) -> str:
    return "" if len(names) == 1 else "s"


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
