"""Options of `trace` that change the routing of a run, and the interventions that they stand for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from model.cli.options import LayerNumber, Numbers
from model.run.request import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
    experts_of_group,
)

EXPERT, GROUP = LayerNumber("expert"), LayerNumber("group")


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, as a decorator."""
    options = [
        click.option("--knock-out", type=EXPERT, multiple=True, help="Run without this expert; can be repeated."),
        click.option("--knock-out-group", type=GROUP, multiple=True, help="Run without a group; can be repeated."),
        click.option("--force", type=EXPERT, multiple=True, help="Every token takes this expert; can be repeated."),
        click.option("--top-k-experts", type=int, help="Another number of experts per token."),
        click.option("--bias-off", is_flag=True, help="Choose experts by affinity alone."),
        click.option("--group-limit-off", is_flag=True, help="Choose experts from all groups."),
        click.option("--gate-temperature", type=float, help="Divide the router's logits by it."),
        click.option("--score-threshold", type=float, help="No weight for chosen experts of a lower affinity."),
        click.option("--replay", type=click.Path(path_type=Path), help="Take the routing of this trace, exactly."),
        click.option("--change-layers", type=Numbers(), help="Limit the last five to these layers."),
    ]

    for option in reversed(options):
        command = option(command)
    return command


def interventions(options: Mapping[str, Any], folder: Path) -> tuple[Intervention, ...]:
    """What the options of `change_options` ask for, of a model's folder.

    Raises:
        RequestError, TraceError: a value that no run can have, or a trace that cannot be read or replayed.
    """
    found: list[Intervention] = [KnockOut(*one) for one in options["knock_out"]]
    found += [KnockOut(layer, expert) for layer, group in options["knock_out_group"] for expert in _of(group, folder)]
    found += [ForceExpert(*one) for one in options["force"]]
    found += [] if options["top_k_experts"] is None else [TopK(options["top_k_experts"])]
    for layer in options["change_layers"] or (None,):
        found += [BiasOff(layer)] if options["bias_off"] else []
        found += [GroupLimitOff(layer)] if options["group_limit_off"] else []
        temperature, threshold = options["gate_temperature"], options["score_threshold"]
        found += [] if temperature is None else [GateTemperature(temperature, layer)]
        found += [] if threshold is None else [ScoreThreshold(threshold, layer)]
    return tuple(found) if options["replay"] is None else (*found, _replay(options["replay"], options["change_layers"]))


def _of(group: int, folder: Path) -> tuple[int, ...]:
    from model.checkpoint.weights import inspect

    config = inspect(folder).config
    return experts_of_group(group, config.num_experts, config.num_groups)


def _replay(path: Path, layers: tuple[int, ...] | None) -> Replay:
    from model.trace.file import load

    return Replay.of(load(path), layers)
