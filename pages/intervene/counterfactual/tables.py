"""The tables of an experiment: the effects of the change and of its control, in all, by token and by layer."""

import pandas as pd

from model.trace import effects
from pages.common import controls
from pages.intervene.counterfactual.runs import Experiment


def summary(experiment: Experiment) -> pd.DataFrame:
    """Return a table of effects, with a row for the change and a row per control run.

    If the control reroutes fewer tokens than the change, a second row has the change for as many tokens as the control.
    """
    outcome = experiment.outcome
    rows, draws = [("this change", effects.means(experiment.effect))], outcome.draws
    if outcome.control is not None and outcome.control.repeated is not None and outcome.matched is not None:
        rows.append((f"this change, {outcome.control.num_matched:,} tokens", effects.means(outcome.matched)))
    if draws is not None:
        means = effects.means(draws)
        rows += [(f"control {draw + 1}", means.isel(draw=draw)) for draw in range(draws.sizes["draw"])]
    return pd.DataFrame(
        {
            "run": [name for name, _ in rows],
            "mean KL (nat)": [row["kl"].item() for _, row in rows],
            "mean change of log-probability (nat)": [row["logprob_change"].item() for _, row in rows],
            "same experts, all layers": [row["equal_sets"].item() for _, row in rows],
        }
    )


def by_token(experiment: Experiment) -> pd.DataFrame:
    """Return a table with a row per token."""
    columns = {"token": range(experiment.trace.num_tokens), "text": controls.token_names(experiment.trace)}
    return _with_control(
        experiment, columns, {"kl": "KL after it (nat)", "logprob_change": "change of log-probability (nat)"}
    )


def by_layer(experiment: Experiment) -> pd.DataFrame:
    """Return a table with a row per MoE layer."""
    columns: dict[str, object] = {"layer": experiment.effect["moe_layer"].values}
    return _with_control(experiment, columns, {"equal_sets": "same experts", "jaccard": "Jaccard"})


def _with_control(experiment: Experiment, columns: dict[str, object], variables: dict[str, str]) -> pd.DataFrame:
    """Return a table of `columns` and, for each variable, the value of the change and the range of the control.

    `variables` maps each variable of the effect to the name of its column.
    """
    for variable, name in variables.items():
        columns[name] = experiment.effect[variable].values
        if (band := experiment.band(variable)) is not None:
            columns |= {f"{variable}, control from": band[0], f"{variable}, control to": band[1]}
    return pd.DataFrame(columns)
