"""Measure the speed of a recorded run as ratios to transformers, on the same weights in the same process.

Both use two threads, fp32, batch 1, greedy decoding, and no compilation. Ours includes the usual recording (log-
probabilities, 20 candidates, residual norms). Theirs is the fastest of {eager, batched_mm, grouped_mm} experts with
{eager, sdpa} attention, cache on, logits for the same positions. Each result is the median of interleaved pairs,
because the ratio of two adjacent runs is less noisy than their times. Run it on an otherwise idle machine:

    python -m tests.benchmarks.speed [MODEL]
"""

import itertools
import statistics
import time
from collections.abc import Callable

import click
import numpy as np
import torch
from transformers import DeepseekV3ForCausalLM
from transformers.utils import logging

from model.families.passes import cache_argument
from model.run.engine import Engine
from model.run.request import Capture, RunRequest

PREFILL, DECODE_AFTER, DECODE = 256, 64, 64
NOTHING, ROUTER = Capture(frozenset()), Capture(frozenset({"router"}))
Timer = Callable[[], tuple[float, float]]


def ours(engine: Engine, capture: Capture) -> Timer:
    """Return the seconds for the prefill of one prompt and for decoding after another, through the engine."""
    long, short = prompts(engine.config.vocab_size)

    def run() -> tuple[float, float]:
        start = time.perf_counter()
        engine.run(RunRequest(token_ids=tuple(long), capture=capture))
        prefill = time.perf_counter() - start
        steps = engine.stream(RunRequest(token_ids=tuple(short), max_new_tokens=DECODE, capture=capture))
        next(steps)
        start = time.perf_counter()
        count = sum(1 for _ in steps)
        assert count == DECODE, f"{count} tokens were generated, not {DECODE}"
        return prefill, time.perf_counter() - start

    return run


def theirs(model: DeepseekV3ForCausalLM, vocab_size: int) -> Timer:
    """Return the seconds of prefill and decoding with transformers."""
    long, short = (torch.tensor([ids], device=model.device) for ids in prompts(vocab_size))

    @torch.inference_mode()
    def run() -> tuple[float, float]:
        start = time.perf_counter()
        model(long, use_cache=True)
        prefill = time.perf_counter() - start
        output = model(short, use_cache=True)
        start = time.perf_counter()
        for _ in range(DECODE):
            next_id = output.logits[:, -1:].argmax(-1)
            output = model(next_id, use_cache=True, **cache_argument(model, output.past_key_values))
        return prefill, time.perf_counter() - start

    return run


def prompts(vocab_size: int) -> tuple[list[int], list[int]]:
    """Return a prompt for the prefill and one to decode after, of ordinary ids only."""
    rng = np.random.default_rng(0)
    return tuple(rng.integers(16, vocab_size, length).tolist() for length in (PREFILL, DECODE_AFTER))  # type: ignore[return-value]


def variants(engine: Engine) -> dict[str, Timer]:
    """Return all six settings of transformers."""
    timers = {}
    for experts, attention in itertools.product(("eager", "batched_mm", "grouped_mm"), ("eager", "sdpa")):
        model = DeepseekV3ForCausalLM.from_pretrained(
            engine.folder, dtype=torch.float32, attn_implementation=attention, experts_implementation=experts
        )
        timers[f"{experts} + {attention}"] = theirs(model.to(engine.device).eval(), engine.config.vocab_size)
    return timers


def interleave(one: Timer, other: Timer, pairs: int) -> np.ndarray:
    """Return the seconds of alternating runs, [pair, side, prefill or decode]."""
    one(), other()
    return np.array([(one(), other()) for _ in range(pairs)])


def report(label: str, ratios: np.ndarray) -> None:
    """Print one line: median and quartiles of the paired ratios."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    click.echo(f"{label:46s} {middle:6.2f}x   (quartiles {low:.2f} to {high:.2f})")


@click.command()
@click.argument("model", default="mini-v3")
@click.option("--pairs", default=15, show_default=True, help="interleaved pairs per figure")
@click.option("--device", default="cpu", show_default=True)
def main(model: str, pairs: int, device: str) -> None:
    """Measure MODEL and print a table."""
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    engine = Engine.load(model, device=device)
    engine.config = engine.config.__class__.from_json(engine.config.to_json() | {"eos_token_id": None})
    reference = variants(engine)
    warm = {name: [timer() for _ in range(4)][1:] for name, timer in reference.items()}
    medians = {name: [statistics.median(part) for part in zip(*runs, strict=True)] for name, runs in warm.items()}
    for name, (prefill, decode) in medians.items():
        click.echo(
            f"transformers {name:24s} prefill {prefill * 1e3:8.1f} ms   decode {decode * 1e3 / DECODE:6.2f} ms/token"
        )
    plain = ours(engine, NOTHING)
    for part, label in ((0, f"prefill of {PREFILL}"), (1, f"decode of {DECODE} after {DECODE_AFTER}")):
        best = min(medians, key=lambda name: medians[name][part])
        seconds = interleave(plain, reference[best], pairs)
        mine = np.median(seconds[:, 0, part]) * 1e3
        report(f"{label}: ours {mine:.1f} ms, against {best}", seconds[:, 1, part] / seconds[:, 0, part])
    seconds = interleave(plain, ours(engine, ROUTER), pairs)
    report("router captured, prefill (1 is free)", seconds[:, 1, 0] / seconds[:, 0, 0])
    report("router captured, decode (1 is free)", seconds[:, 1, 1] / seconds[:, 0, 1])


if __name__ == "__main__":
    main()
