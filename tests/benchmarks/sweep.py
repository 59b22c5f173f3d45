"""Compare a sweep to a plain loop of `Engine.run` over the same documents: tokens per CPU second, and memory.

Both sides encode and route every document of a shard, in turn and in this process. The loop discards each trace; the
sweep also sums and writes its part. Other programs disturb neighbours alike, so the ratio is that of the sums over
shards; its range is that of the shards.

    python -m tests.benchmarks.sweep PATHS... [--model mini-v3] [--tokens 200000] [--without-loop]
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch

from model.run.engine import Engine
from model.run.request import RunRequest
from model.sweep.network import NetworkSource
from model.sweep.plan import plan
from model.sweep.settings import Settings
from model.sweep.sweeper import Sweeper
from model.sweep.texts import Document, find_files

OWN_TEXTS, OWN_ENDINGS = Path("model"), (".py", ".md", ".toml")  # without a corpus, the project's source is one


def loop(engine: Engine, documents: list[Document]) -> int:
    """Run every document, and return the number of tokens."""
    tokens = 0
    for document in documents:
        ids = [*engine.tokenizer.first_ids, *engine.tokenizer.encode(document.text)][: engine.context]
        tokens += engine.run(RunRequest(token_ids=tuple(ids), max_new_tokens=0)).data.sizes["token"]
    return tokens


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="mini-v3", show_default=True)
@click.option("--tokens", default=200_000, show_default=True, help="Stop after about so many.")
@click.option("--shard-tokens", default=65_536, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--without-loop", is_flag=True, help="Measure the sweep alone.")
def main(paths: tuple[Path, ...], model: str, tokens: int, shard_tokens: int, threads: int, without_loop: bool) -> None:
    """Measure over the documents of PATHS, or of the project's own source files."""
    torch.set_num_threads(threads)
    own = [path for path in sorted(OWN_TEXTS.rglob("*")) if path.suffix in OWN_ENDINGS and path.stat().st_size]
    files = [str(path) for path in (find_files(paths) if paths else own)]
    engine = Engine.load(model, device="cpu")
    assert engine.tokenizer is not None
    source = NetworkSource(engine, engine.tokenizer, bits=False)
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "parts").mkdir()
        settings = Settings(model=model, paths=tuple(files), out=out, shard_tokens=shard_tokens)
        cells = len(source.layers) * source.num_experts
        settings = plan(settings, source.tokenizer, source.vocab_size, cells).settings
        order = np.random.default_rng(0).permutation(len(settings.shards))  # every part of the corpus
        settings = dataclasses.replace(settings, shards=tuple(settings.shards[index] for index in order))
        sweeper, reader = Sweeper(settings, source), Sweeper(settings, source)
        rows, memory, swept = [], [], 0
        for shard in range(len(settings.shards)):
            began = time.process_time()
            swept += (summary := sweeper.route(shard)).tokens
            ours, theirs, looped = time.process_time() - began, 0.0, 0
            memory.append(resident())
            if not without_loop:
                documents = [each for each in reader.documents(settings.shards[shard]) if isinstance(each, Document)]
                began = time.process_time()
                looped = loop(engine, documents)
                theirs = time.process_time() - began
            rows.append((summary.tokens, ours, looped, theirs))
            if swept >= tokens:
                break
    ours_tokens, ours, loop_tokens, theirs = np.array(rows).sum(0)
    click.echo(f"{len(rows)} shards, {ours_tokens:,.0f} tokens: {ours_tokens / ours:,.0f} tokens per CPU second")
    half = len(memory) // 2
    first, second = max(memory[: half + 1]), max(memory[half:])
    click.echo(f"resident memory: {memory[0]:,.0f} MB after a shard, {first:,.0f} and {second:,.0f} at most by halves")
    if not without_loop:
        ratios = [(row[0] / row[1]) / (row[2] / row[3]) for row in rows]
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        ratio = (ours_tokens / ours) / (loop_tokens / theirs)
        click.echo(
            f"loop of Engine.run: {loop_tokens / theirs:,.0f} tokens per CPU second; ratio {ratio:.2f}, of single "
            f"shards {middle:.2f} [{low:.2f}, {high:.2f}]"
        )


if __name__ == "__main__":
    main()
