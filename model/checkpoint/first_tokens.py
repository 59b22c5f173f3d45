"""Says which special tokens begin a run, as the files of a model folder state.

This holds for models that only transformers runs; runs of the own network's model types begin with BOS. The
`post_processor` of tokenizer.json adds tokens before a text. `add_bos_token` in tokenizer_config.json can contradict
it; it then decides, and a note says so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.checkpoint.files import CONFIG_NAME
from model.checkpoint.header import CheckpointError, printable, read_json
from model.checkpoint.vocabulary import VocabularyError, added_tokens, entries
from model.network.config import MODEL_TYPES

SETTINGS_NAME = "tokenizer_config.json"
_OTHER_SPELLINGS = ("RobertaProcessing", "BertProcessing")  # state a first and a last token, by name and id


def begins_with_bos(folder: Path) -> bool:
    """Return whether runs begin with BOS, whatever the files state: the own network has the folder's model type.

    A folder without a readable config.json holds no model; the tokenizer was trained here, with BOS.
    """
    try:
        return read_json(folder / CONFIG_NAME).get("model_type") in MODEL_TYPES
    except (CheckpointError, OSError):
        return True


def first_tokens(published: dict[str, Any], folder: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the ids of the tokens that begin each run, and the notes on them.

    Args:
        published: the parsed tokenizer.json.
        folder: the folder, which may hold tokenizer_config.json.

    Raises:
        VocabularyError: the post_processor is damaged or of a kind that is not known.
        CheckpointError: tokenizer_config.json is damaged.
    """
    names = {entry_id: piece for piece, entry_id in entries(published).items()}
    names |= {entry["id"]: entry["content"] for entry in added_tokens(published)}
    before, after = _added(published.get("post_processor"))
    if unknown := [token_id for token_id in (*before, *after) if token_id not in names]:
        raise VocabularyError(f"its post_processor adds the id {unknown[0]!r:.40}, which is no token")
    settings = read_json(folder / SETTINGS_NAME) if (folder / SETTINGS_NAME).is_file() else {}
    first, notes = _as_settings_say(before, settings, {name: token_id for token_id, name in names.items()})
    if after:
        ends = " ".join(names[token_id] for token_id in after)
        notes.append(
            f"tokenizer.json puts {ends} after a text; runs leave it out, because the model continues the text"
        )
    return first, tuple(map(printable, notes))


def _as_settings_say(
    before: tuple[int, ...], settings: dict[str, Any], ids: dict[str, int]
) -> tuple[tuple[int, ...], list[str]]:
    """Return the first tokens after `add_bos_token` was followed, and a note if it changed them.

    Args:
        before: the tokens that tokenizer.json adds.
        settings: the content of tokenizer_config.json.
        ids: spelling of a token -> its id.
    """
    stated, bos = settings.get("add_bos_token"), settings.get("bos_token")
    name = bos.get("content") if isinstance(bos, dict) else bos
    bos_id = ids.get(name) if isinstance(name, str) else None
    if stated is True and bos_id is None:
        which = "names no bos_token" if name is None else f"names the bos_token {name!r:.80}, which is no token"
        return before, [f"{SETTINGS_NAME} asks for a first token (add_bos_token), but {which}; runs begin without it"]
    if stated is True and bos_id is not None and bos_id not in before:
        reason = f"as {SETTINGS_NAME} states (add_bos_token); tokenizer.json does not add it"
        return (bos_id, *before), [f"runs begin with {name}, {reason}"]
    if stated is False and bos_id in before:
        reason = f"as {SETTINGS_NAME} states (add_bos_token false); tokenizer.json would add it"
        return tuple(token_id for token_id in before if token_id != bos_id), [f"runs begin without {name}, {reason}"]
    return before, []


def _added(processor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that a post-processor adds before and after a text."""
    before, after = tuple[int, ...](), tuple[int, ...]()
    for step in _steps(processor):
        more_before, more_after = _of_step(step)
        before, after = more_before + before, after + more_after
    return before, after


def _steps(processor: Any) -> Iterator[Any]:
    if not isinstance(processor, dict) or processor.get("type") != "Sequence":
        return iter([] if processor is None else [processor])
    steps = processor.get("processors")
    return iter(steps if isinstance(steps, list) else [steps])


def _of_step(step: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kind = step.get("type") if isinstance(step, dict) else step
    try:
        if kind == "ByteLevel":
            return (), ()
        if kind in _OTHER_SPELLINGS:
            return _ids([step["cls"][1]]), _ids([step["sep"][1]])
        if kind == "TemplateProcessing":
            return _of_template(step)
    except (KeyError, TypeError, IndexError, ValueError):
        raise VocabularyError("its post_processor is damaged; give token ids instead of text") from None
    raise VocabularyError(f"its post_processor {kind!r:.40} is not known; give token ids instead of text")


def _of_template(step: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids before and after the text in the template for a single text."""
    is_text = ["Sequence" in part for part in step["single"]]
    place = is_text.index(True)
    if sum(is_text) != 1:
        raise ValueError
    before, after = step["single"][:place], step["single"][place + 1 :]
    return _ids_of(before, step["special_tokens"]), _ids_of(after, step["special_tokens"])


def _ids_of(parts: list[Any], special_tokens: dict[str, Any]) -> tuple[int, ...]:
    names = [part["SpecialToken"]["id"] for part in parts]
    return _ids([token_id for name in names for token_id in special_tokens[name]["ids"]])


def _ids(values: list[Any]) -> tuple[int, ...]:
    if any(type(value) is not int for value in values):
        raise ValueError
    return tuple(values)
