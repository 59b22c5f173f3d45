"""Measure what the hooks and the tape cost a model that transformers runs: a Qwen3-MoE of 32 M random parameters.

One thread, CPU seconds: other programs disturb them less than wall time. Each round runs all ways in turn. The table
has each way's time divided by that of the untouched model: the median over the rounds, and quartiles.

    python -m tests.benchmarks.families [--rounds 24]
"""

import copy
import time
from collections.abc import Callable

import click
import numpy as np
import torch
from transformers import PreTrainedModel

from model.families.seam import instrument
from model.families.tape import Tape
from tests.families import VOCAB, build

PROMPT, GENERATED, LIMIT = 256, 64, 1.05
SHAPE = {
    "hidden_size": 384, "num_hidden_layers": 8, "num_local_experts": 32, "num_experts_per_tok": 4, "head_dim": 48,
    "num_attention_heads": 8, "num_key_value_heads": 4, "moe_intermediate_size": 96, "sliding_window": None,
}  # fmt: skip


def prefill(model: PreTrainedModel, tape: Tape | None) -> None:
    """Feed the prompt at once."""
    _pass(model, torch.arange(PROMPT) % VOCAB, 0, None, tape)


def decode(model: PreTrainedModel, tape: Tape | None) -> None:
    """Feed a short prompt, then one token at a time."""
    cache = None
    for position in range(GENERATED):
        cache = _pass(model, torch.tensor([3 + position]), position, cache, tape)


def _pass(model: PreTrainedModel, ids_T: torch.Tensor, start: int, cache: object, tape: Tape | None) -> object:
    arguments = {"position_ids": torch.arange(start, start + len(ids_T))[None], "past_key_values": cache}
    with torch.inference_mode():
        if tape is None:
            return model(input_ids=ids_T[None], use_cache=True, **arguments).past_key_values
        with tape.running():
            output = model(input_ids=ids_T[None], use_cache=True, **arguments)
        tape.take()
        return output.past_key_values


def seconds(work: Callable[[], None]) -> float:
    """Return the CPU seconds of this process for one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


@click.command()
@click.option("--rounds", default=24, show_default=True)
def main(rounds: int) -> None:
    """Print the table; exit with an error if recording the router costs more than 5 %."""
    torch.set_num_threads(1)
    untouched = build("qwen3_moe", **SHAPE)
    hooked = copy.deepcopy(untouched)
    seam = instrument(hooked)
    tapes: dict[str, Callable[[], Tape | None]] = {
        "hooks, no tape": lambda: None,
        "router not recorded": lambda: Tape(routing=False),
        "router recorded": Tape,
        "router, attention of all layers": lambda: Tape(attention=seam.attention.keys()),
    }
    click.echo(f"{untouched.num_parameters() / 1e6:.1f} M parameters, {len(seam.blocks)} blocks")
    costs = []
    for name, run, num_tokens in (("prefill", prefill, PROMPT), ("decode", decode, GENERATED)):
        plain, others = [], {way: [] for way in tapes}
        for _ in range(rounds):
            plain.append(seconds(lambda run=run: run(untouched, None)))
            for way, tape in tapes.items():
                others[way].append(seconds(lambda run=run, tape=tape: run(hooked, tape())))
        click.echo(f"{name} of {num_tokens}: {num_tokens / np.median(plain):,.0f} tokens/s untouched")
        for way, times in others.items():
            low, median, high = np.quantile(np.array(times) / np.array(plain), [0.25, 0.5, 0.75])
            click.echo(f"  {way:32s} {median:.3f} ({low:.2f} to {high:.2f}) of the untouched time")
        cost = np.median(np.array(others["router recorded"]) / np.array(others["router not recorded"]))
        click.echo(f"  {'recorded against not':32s} {cost:.3f}   (limit {LIMIT})")
        costs.append(cost)
    if max(costs) > LIMIT:
        raise SystemExit("recording the router costs more than its limit")


if __name__ == "__main__":
    main()
