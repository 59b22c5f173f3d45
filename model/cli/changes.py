"""The options of `trace` that change the routing of a run, and their conversion to interventions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from model.cli.options import LayerNumber, Numbers
from model.run.interventions import (
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
    """Return the command with the options that change the routing; a decorator."""
    options = [
        click.option("--knock-out", type=EXPERT, multiple=True, help="Run without this expert; can be repeated."),
        click.option(
            "--knock-out-group", type=GROUP, multiple=True, help="Run without this group of experts; can be repeated."
        ),
        click.option(
            "--force", type=EXPERT, multiple=True, help="Route every token to this expert too; can be repeated."
        ),
        click.option("--top-k-experts", type=int, help="Number of selected experts per token."),
        click.option("--bias-off", is_flag=True, help="Select experts by affinity alone, without the bias."),
        click.option("--group-limit-off", is_flag=True, help="Select experts from all groups."),
        click.option("--gate-temperature", type=float, help="Divide the router's logits by this."),
        click.option(
            "--score-threshold", type=float, help="Set the weight of selected experts below this affinity to zero."
        ),
        click.option("--replay", type=click.Path(path_type=Path), help="Replay the routing of this trace file."),
        click.option("--change-layers", type=Numbers(), help="Apply the last five options to these layers only."),
    ]

    for option in reversed(options):
        command = option(command)
    return command


def interventions(options: Mapping[str, Any], folder: Path) -> tuple[Intervention, ...]:
    """Return the interventions that the options of `change_options` request.

    Args:
        options: values by option name.
        folder: the model folder; its configuration gives the experts of a group.

    Raises:
        RequestError: a value is out of range, or the trace of --replay lacks the routing.
        TraceError: the trace of --replay cannot be read.
    """
    changes: list[Intervention] = [KnockOut(*one) for one in options["knock_out"]]
    changes += [
        KnockOut(layer, expert) for layer, group in options["knock_out_group"] for expert in _experts(group, folder)
    ]
    changes += [ForceExpert(*one) for one in options["force"]]
    changes += [] if options["top_k_experts"] is None else [TopK(options["top_k_experts"])]
    for layer in options["change_layers"] or (None,):
        changes += [BiasOff(layer)] if options["bias_off"] else []
        changes += [GroupLimitOff(layer)] if options["group_limit_off"] else []
        temperature, threshold = options["gate_temperature"], options["score_threshold"]
        changes += [] if temperature is None else [GateTemperature(temperature, layer)]
        changes += [] if threshold is None else [ScoreThreshold(threshold, layer)]
    return (
        tuple(changes)
        if options["replay"] is None
        else (*changes, _replay(options["replay"], options["change_layers"]))
    )


def _experts(group: int, folder: Path) -> tuple[int, ...]:
    from model.checkpoint.weights import inspect

    config = inspect(folder).config
    return experts_of_group(group, config.num_experts, config.num_groups)


def _replay(path: Path, layers: tuple[int, ...] | None) -> Replay:
    from model.trace.file import load

    return Replay.of(load(path), layers)
