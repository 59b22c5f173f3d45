"""Print our differences from transformers, beside the differences between transformers' own settings.

Run: python -m tests.benchmarks.parity
"""

import tempfile
from pathlib import Path

import click
import torch
from transformers.utils import logging

from tests.parity import (
    VARIANTS,
    Figures,
    compare,
    example_ids,
    load_ours,
    make_reference,
    observe_ours,
    observe_reference,
    save_reference,
)

_WAYS: dict[str, tuple[int, ...] | None] = {"prefill": None, "token by token": (1,)}


def main() -> None:
    """Print a row per checkpoint variant and way of running: largest absolute differences in fp32."""
    torch.set_num_threads(2)
    logging.disable_progress_bar()
    click.echo("| checkpoint | run | pair | logits | scores | weights | attention | other ids | near ties |")
    click.echo("|---|---|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        for way, sizes in _WAYS.items():
            for pair, figures in _measure(variant, sizes).items():
                click.echo(f"| {variant} | {way} | {pair} | {_row(figures)} |")


def _measure(variant: str, sizes: tuple[int, ...] | None) -> dict[str, Figures]:
    reference = make_reference(variant)
    with tempfile.TemporaryDirectory() as folder:
        save_reference(reference, Path(folder), variant)
        ours = observe_ours(load_ours(Path(folder)), example_ids(), sizes)
    eager = observe_reference(reference, example_ids(), sizes)
    reference.set_attn_implementation("sdpa")
    sdpa = observe_reference(reference, example_ids(), sizes)
    return {
        "ours, transformers eager": compare(reference, eager, ours),
        "transformers eager, its sdpa": compare(reference, eager, sdpa),
    }


def _row(figures: Figures) -> str:
    attention = "not returned" if figures.attention is None else f"{figures.attention:.1e}"
    parts = f"{figures.logits:.1e} | {figures.scores:.1e} | {figures.weights:.1e} | {attention}"
    return f"{parts} | {figures.ids_differ} | {figures.near_ties}"


if __name__ == "__main__":
    main()
