"""Compare speculative decoding with the model's own drafts to plain decoding: text, acceptance rate, speed.

The prompts are pieces of this project's own texts and sources. A text that differs is listed with the distance between
the two best log-probabilities at its first difference, which only a near tie may cause. The acceptance rate is also
measured with the module's other input (before or after the final norm), to tell which one a checkpoint was trained for.

    python -m tests.benchmarks.drafts [MODEL] [--prompts 200] [--new 64]
"""

import dataclasses
import time
from pathlib import Path

import click
import numpy as np

from model.checkpoint.embedded import find_model
from model.run.engine import Engine, spare_cores
from model.run.request import Capture, RunRequest
from model.trace import drafts
from model.trace.trace import Trace

ROOT = Path(__file__).parents[2]
SOURCES = ("*.md", "model/**/*.py", "model/presets/*.md", "pages/**/*.py")
PLAIN, DRAFTED = Capture(frozenset()), Capture(frozenset({"drafts"}))


def prompts(count: int) -> list[str]:
    """Return pieces of 40 to 200 characters, the same in every call."""
    texts = [path.read_text(encoding="utf-8") for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    rng, pieces = np.random.default_rng(0), []
    while len(pieces) < count:
        text = texts[rng.integers(len(texts))]
        if len(text) > 400:
            start = int(rng.integers(len(text) - 200))
            pieces.append(text[start : start + int(rng.integers(40, 200))])
    return pieces


def timed(engine: Engine, request: RunRequest) -> tuple[Trace, float]:
    began = time.perf_counter()
    trace = engine.run(request)
    return trace, time.perf_counter() - began


def gap(trace: Trace, other: Trace) -> tuple[int, float]:
    """Return the first position where two runs differ, and the gap of the two best log-probabilities before it."""
    place = int(np.flatnonzero(trace.data["token_id"].values != other.data["token_id"].values)[0])
    best = trace.data["candidate_logprob"].values[place - 1]
    return place, float(best[0] - best[1])


def acceptance(engine: Engine, requests: list[RunRequest]) -> tuple[int, int]:
    """Return the number of accepted drafts, and of all verified ones."""
    found = [drafts.acceptance(engine.run(request)) for request in requests]
    return sum(one.matching for one in found), sum(one.total for one in found)


@click.command()
@click.argument("model", default="mini-v3")
@click.option("--prompts", "count", default=200, show_default=True)
@click.option("--new", "new_tokens", default=64, show_default=True)
def main(model: str, count: int, new_tokens: int) -> None:
    """Print the differences, the acceptance rate and the speed."""
    spare_cores(1)
    engine = Engine.load(find_model(model), device="cpu")
    pieces, ratios, found, differing = prompts(count), [], [], 0
    for piece in pieces:
        plain, plain_seconds = timed(engine, RunRequest(prompt=piece, max_new_tokens=new_tokens, capture=PLAIN))
        drafted, seconds = timed(
            engine, RunRequest(prompt=piece, max_new_tokens=new_tokens, capture=DRAFTED, verify_drafts=True)
        )
        ratios.append(plain_seconds / seconds)
        found.append(drafts.acceptance(drafted))
        if not np.array_equal(plain.data["token_id"], drafted.data["token_id"]):
            differing += 1
            place, distance = gap(plain, drafted)
            click.echo(f"differs at token {place}, two best {distance:.2g} nats apart: {piece[:40]!r}")
    accepted, total = sum(one.matching for one in found), sum(one.total for one in found)
    low, high = drafts.Acceptance(accepted, total).interval
    click.echo(f"{model}: {count} prompts x {new_tokens} tokens, temperature 0, {differing} differ")
    click.echo(f"accepted {accepted:,} of {total:,} verified drafts, {accepted / total:.1%} ({low:.1%} to {high:.1%})")
    quartiles = np.quantile(ratios, [0.25, 0.5, 0.75])
    click.echo(f"speed against plain decoding, median {quartiles[1]:.2f} ({quartiles[0]:.2f} to {quartiles[2]:.2f})")
    other = not engine.config.mtp_reads_normed
    engine.model.config = dataclasses.replace(engine.config, mtp_reads_normed=other)
    requests = [
        RunRequest(prompt=piece, max_new_tokens=new_tokens, capture=DRAFTED, verify_drafts=True)
        for piece in pieces[:40]
    ]
    accepted, total = acceptance(engine, requests)
    said = "after" if other else "before"
    click.echo(f"with the hidden state from {said} the final norm: {accepted:,} of {total:,}, {accepted / total:.1%}")


if __name__ == "__main__":
    main()
