"""Compare the importance map to one plain forward pass per knock-out: ratio of times, largest difference.

The plain passes build no trace and compare nothing: they end at the logits. They include experts that no token
selected. Both sides run in turn in this process on the same threads. Other programs disturb both runs of a pair alike,
so the result is the median of the pairs' ratios, for wall-clock and processor time.

    python -m tests.benchmarks.importance [MODEL] [--tokens 64] [--threads 1]
"""

import time
from collections.abc import Callable

import click
import numpy as np
import torch
import xarray as xr

from model.checkpoint.embedded import find_model
from model.network.edit import RoutingEdit
from model.run.engine import Engine
from model.run.importance import importance
from model.run.interventions import KnockOut
from model.run.request import RunRequest
from model.run.routing_edit import routing_edit

TEXT = (
    "Once upon a time there was a wolf who lived in the forest. One day he met a little girl who was going to her "
    "grandmother's house with a basket of bread and wine. The wolf asked her where she was going, and she said to him "
    "that she was going to see her grandmother, who was ill in bed. Then the wolf thought to himself what to do. "
)


def edits(engine: Engine) -> list[RoutingEdit]:
    """Return a knock-out of each expert of each MoE layer."""
    config = engine.config
    places = ((layer, expert) for layer in config.moe_layers for expert in range(config.num_experts))
    found = (routing_edit((KnockOut(*place),), config, engine.device) for place in places)
    return [edit for edit in found if edit is not None]


def last(engine: Engine, ids: list[int]) -> xr.Dataset:
    """Return the complete map."""
    return list(importance(engine, ids))[-1].effects


def plain(engine: Engine, ids: list[int], changes: list[RoutingEdit]) -> list[torch.Tensor]:
    """Compute the logits of each knock-out."""
    fed = torch.tensor([ids], device=engine.device)
    return [engine.model(fed, edit=edit)[0] for edit in changes]


def difference(engine: Engine, ids: list[int], changes: list[RoutingEdit]) -> float:
    """Return the largest difference of a mean change of log-probability or a mean KL, in nats."""
    fed = torch.tensor([ids], device=engine.device)
    before = engine.model(fed)[0].double().log_softmax(-1)
    next_tokens = torch.arange(len(ids) - 1), fed[0, 1:]
    worst, found = 0.0, last(engine, ids)
    pairs = zip(found["logprob_change"].values.ravel(), found["kl"].values.ravel(), strict=True)
    for edit, (change, kl) in zip(changes, pairs, strict=True):
        after = engine.model(fed, edit=edit)[0].double().log_softmax(-1)
        exact = float((before.exp() * (before - after)).sum(-1).mean())
        moved = float((after - before)[next_tokens].mean())
        worst = max(worst, abs(exact - float(kl)), abs(moved - float(change)))
    return worst


def seconds(work: Callable[[], object]) -> np.ndarray:
    """Return wall-clock and processor seconds."""
    began = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - began


@click.command()
@click.argument("model", default="mini-v3")
@click.option("--tokens", "count", default=64, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--pairs", default=7, show_default=True)
@torch.inference_mode()
def main(model: str, count: int, threads: int, pairs: int) -> None:
    """Print the ratio; it should be 0.2 at most."""
    torch.set_num_threads(threads)
    engine = Engine.load(find_model(model), device="cpu")
    text = TEXT * (1 + count // 40)
    ids, changes = engine.encode(RunRequest(prompt=text[: 12 * count]))[:count], edits(engine)
    last(engine, ids)
    plain(engine, ids, changes[:8])
    measured = []
    for _ in range(pairs):
        measured.append((seconds(lambda: last(engine, ids)), seconds(lambda: plain(engine, ids, changes))))
        ratios = measured[-1][0] / measured[-1][1]
        click.echo(f"  {measured[-1][0][0]:.2f} s against {measured[-1][1][0]:.2f} s; ratio {ratios[0]:.3f}", err=True)
    times = np.array(measured)  # [pair, map or plain, clock or processor]
    for place, clock in enumerate(("by the clock", "processor time")):
        low, middle, high = np.quantile(times[:, 0, place] / times[:, 1, place], [0.25, 0.5, 0.75])
        click.echo(f"{clock:16s} {middle:.3f} of the plain passes' time (quartiles {low:.3f} to {high:.3f})")
    click.echo(
        f"{model}, {len(ids)} tokens, {len(changes)} knock-outs, {threads} threads; largest difference "
        f"{difference(engine, ids, changes):.1g} nats"
    )


if __name__ == "__main__":
    main()
