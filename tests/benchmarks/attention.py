"""Measure a long prompt's attention on demand: time from the request to the array, and total memory.

The prompt is longer than the embedded model was trained for, so its attention weights mean little; their cost is the
same. Every time is the best of several tries, because other programs can only make it worse:

    python -m tests.benchmarks.attention [MODEL] [--tokens 8192]
"""

import os
import resource
import sys
import time
from collections.abc import Callable

import click
import numpy as np
import torch

from model.run.attention import LayerAttention
from model.run.engine import Engine, spare_cores
from model.run.request import Capture, RunRequest
from model.trace.cells import MAX_CELLS, Window
from pages.common.limits import SPARED_CORES

LIMITS = {"array": 0.3, "zoom": 0.2}  # seconds
MEMORY = 2 * 2**30  # bytes resident


def best(ask: Callable[[], object], tries: int = 7) -> float:
    """Return the seconds of the fastest try."""
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def report(name: str, seconds: float, limit: float | None = None) -> bool:
    """Print one line on a measurement; return whether it is within the limit."""
    click.echo(f"{name:48s} {1e3 * seconds:8.0f} ms" + (f"   (limit {1e3 * limit:.0f} ms)" if limit else ""))
    return limit is None or seconds <= limit


@click.command()
@click.argument("model", default="mini-v3")
@click.option("--tokens", default=8192, show_default=True)
def main(model: str, tokens: int) -> None:
    """Measure MODEL with as many threads as the app leaves it, and print a table."""
    spare_cores(SPARED_CORES)
    click.echo(f"{torch.get_num_threads()} threads, load of the machine {os.getloadavg()[0]:.1f}")
    engine = Engine.load(model, device="cpu", context=tokens)
    ids = np.random.default_rng(0).integers(16, engine.config.vocab_size, tokens).tolist()
    request = RunRequest(token_ids=tuple(ids), capture=Capture(frozenset({"router", "inputs"})))
    start = time.perf_counter()
    trace = engine.run(request)
    report(f"the run itself, {tokens:,} tokens", time.perf_counter() - start)
    layer = engine.config.num_layers - 1
    known, middle = LayerAttention(engine, trace, layer), tokens // 2
    window = Window(middle, middle + MAX_CELLS, middle - MAX_CELLS, middle)
    fast = [
        report(
            f"one head in {MAX_CELLS} x {MAX_CELLS} cells, from the request",
            best(lambda: LayerAttention(engine, trace, layer).cells(0)),
            LIMITS["array"],
        ),
        report("the next head of the layer", best(lambda: known.cells(1)), LIMITS["array"]),
        report(f"zoom to {MAX_CELLS} x {MAX_CELLS} pairs", best(lambda: known.cells(0, window)), LIMITS["zoom"]),
    ]
    every = range(engine.config.num_heads)
    report(f"small maps and figures of {len(every)} heads", best(lambda: known.overview(every, 48), 2))
    report("content and position parts in cells", best(lambda: known.part_cells(0), 2))
    report(f"parts by distance, {len(every)} heads", best(lambda: known.parts_by_distance(every), 2))
    click.echo(f"{'memory, peak of the process':48s} {peak_bytes() / 2**20:8.0f} MB   (limit {MEMORY / 2**20:.0f} MB)")
    if not all(fast) or peak_bytes() > MEMORY:
        raise SystemExit("a limit does not hold")


if __name__ == "__main__":
    main()
