"""Print two sections of a model card: generated text, and held-out text against a general compressor.

Generated text is unedited: twenty fixed beginnings of each of six kinds, at temperature 0 and 0.7. For each kind the
card has the share of 4-grams of tokens that occurred before in the same text, and of those that occur in the training
shards.

    python -m tests.benchmarks.card MODEL --shards SHARDS --heldout FOLDER --window 1024 --out SAMPLES.md
"""

import lzma
import tomllib
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.run.engine import Engine, spare_cores
from model.run.request import Capture, RunRequest
from model.train.data.corpus import corpus_files, read_stream
from model.train.evaluation.heldout import evaluate, read_pieces

PROMPTS = Path(__file__).with_name("sample_prompts.toml")
NEW_TOKENS, TEMPERATURES, GRAM = 40, (0.0, 0.7), 4
PART_BYTES = 100_000  # of each held-out file; shorter files are skipped


def grams(ids: np.ndarray) -> np.ndarray:
    """Return every 4-gram of tokens as one number, in order; ids are below 2^16."""
    windows = np.lib.stride_tricks.sliding_window_view(ids.astype(np.uint64), GRAM)
    return (windows << (16 * np.arange(GRAM, dtype=np.uint64))).sum(1, dtype=np.uint64)


def repeated(ids: np.ndarray) -> tuple[int, int]:
    """Return the number of 4-grams that occurred before in the same text, and of all 4-grams."""
    found = grams(ids)
    return len(found) - len(np.unique(found)), len(found)


def seen_in(shards: Path, wanted: np.ndarray) -> np.ndarray:
    """Return which 4-grams occur in the shards, bool."""
    ordered, hit = np.sort(np.unique(wanted)), set[int]()
    for path in sorted(shards.glob("*.bin")):
        ids = np.memmap(path, np.uint16, mode="r")
        for start in range(0, len(ids), 1 << 20):
            part = grams(np.asarray(ids[start : start + (1 << 20) + GRAM - 1]))
            places = np.searchsorted(ordered, part).clip(0, len(ordered) - 1)
            hit.update(part[ordered[places] == part].tolist())
    return np.isin(wanted, np.array(sorted(hit), np.uint64))


def samples(engine: Engine, shards: Path) -> Iterable[str]:
    """Return Markdown: a table of the shares, then every text."""
    prompts: dict[str, list[str]] = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))
    texts = {}
    for kind, beginnings in prompts.items():
        for temperature in TEMPERATURES:
            for number, beginning in enumerate(beginnings):
                request = RunRequest(prompt=beginning, max_new_tokens=NEW_TOKENS, temperature=temperature, seed=number,
                                     capture=Capture(frozenset()))  # fmt: skip
                trace = engine.run(request)
                new = [token for token in trace.tokens if token.generated]
                said = trace.text[new[0].start :].decode(errors="replace") if new else ""
                texts[kind, temperature, number] = (np.array([token.id for token in new]), beginning, said)
    yield "| kind | temperature | repeats | seen in training |\n|---|---:|---:|---:|"
    for kind in prompts:
        for temperature in TEMPERATURES:
            ids = [texts[kind, temperature, number][0] for number in range(len(prompts[kind]))]
            again, total = np.sum([repeated(each) for each in ids if len(each) >= GRAM], axis=0)
            known = seen_in(shards, np.concatenate([grams(each) for each in ids if len(each) >= GRAM]))
            yield f"| {kind} | {temperature:g} | {again / total:.0%} | {known.mean():.0%} |"
    for kind in prompts:
        for temperature in TEMPERATURES:
            yield f"\n## {kind}, temperature {temperature:g}\n"
            for number in range(len(prompts[kind])):
                _, beginning, said = texts[kind, temperature, number]
                yield f"{number + 1}. `{_line(beginning)}` {_escaped(_line(said))}"


def _line(text: str) -> str:
    return text.replace("\n", "⏎").replace("`", "'")


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\*_<>#[]|~$" else character for character in text)


def compression(engine: Engine, heldout: Path, window: int) -> Iterable[str]:
    """Return Markdown: bits per byte of the first records of each large held-out file, of model and `xz -9e`."""
    texts = {name: _beginning(paths) for name, paths in corpus_files(heldout).items()}
    large = {name: text for name, text in texts.items() if len(text) >= PART_BYTES}
    names, pieces = read_pieces(heldout, Tokenizer.load(engine.folder), window, PART_BYTES)
    kept = [piece for piece in pieces if names[piece.stream] in large]
    scores = evaluate(engine.model, names, kept)
    nats, sizes = (np.bincount(scores.stream_P, of, len(names)) for of in (scores.nats_P, scores.bytes_P))
    yield "| held-out text | kB | bits per byte | xz -9e |\n|---|---:|---:|---:|"
    wins = 0
    for place, name in enumerate(names):
        if name in large:
            packed = 8 * len(lzma.compress(large[name], preset=9 | lzma.PRESET_EXTREME)) / len(large[name])
            bits = nats[place] / sizes[place] / np.log(2)
            wins += bits < packed
            mark = "" if bits < packed else " (better)"
            yield f"| {name} | {len(large[name]) / 1000:.0f} | {bits:.3f} | {packed:.3f}{mark} |"
    yield f"\nBelow xz in {wins} of {len(large)}."


def _beginning(paths: tuple[Path, ...]) -> bytes:
    """Return whole records joined by blank lines, at least `PART_BYTES` of text."""
    texts, used = [], 0
    for record in read_stream(paths):
        if used >= PART_BYTES:
            break
        texts.append(record.text)
        used += len(record.text.encode())
    return "\n\n".join(texts).encode()


@click.command()
@click.argument("model")
@click.option("--shards", type=click.Path(exists=True, path_type=Path), help="Where the training tokens are.")
@click.option("--heldout", type=click.Path(exists=True, path_type=Path), help="Held-out streams.")
@click.option("--window", type=click.IntRange(2), help="Tokens read at once; default: the model's context.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the samples there.")
def main(model: str, shards: Path | None, heldout: Path | None, window: int | None, out: Path | None) -> None:
    """Print samples (with --shards) and the comparison with a compressor (with --heldout)."""
    spare_cores(0)
    engine = Engine.load(find_model(model), device="cpu")
    if shards is not None:
        written = f"# Text of {engine.name}\n\n" + "\n".join(samples(engine, shards)) + "\n"
        (out.write_text(written, encoding="utf-8") if out else click.echo(written))
    if heldout is not None:
        click.echo("\n".join(compression(engine, heldout, window or engine.config.max_positions)))


if __name__ == "__main__":
    main()
