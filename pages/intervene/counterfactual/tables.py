"""An experiment in words and tables."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import effects, routing
from model.trace.trace import Trace
from pages.common import controls

if TYPE_CHECKING:
    from model.run.counterfactual import Counterfactual
    from pages.intervene.counterfactual.runs import Experiment

WANTED = 8  # draws of a control


def verdict(found: "Counterfactual") -> str:
    """The effect in a sentence or two, beside the control."""
    assert found.effect is not None
    kl, change = float(found.effect["kl"].mean()), float(found.effect["logprob_change"].mean())
    number = found.effect.sizes["token"]
    said = f"The next token's distribution moved by **{kl:.3g} nats** a token (mean KL, n = {number:,} tokens)" + (
        f"; the text became {'likelier' if change > 0 else 'less likely'} by {abs(change):.3g} nats a token."
        if np.isfinite(change)
        else "."
    )
    if found.draws is None:
        return said
    draws = found.draws["kl"].mean("token").values
    low, high = float(draws.min()), float(draws.max())
    did = "more than any of them" if kl > high else "less than any of them" if kl < low else "as much as some of them"
    count = f"{len(draws)} draw{'s'[: len(draws) > 1]} of as many random experts of equal load"
    return f"{said} The control, {count}, moved it by {low:.3g} to {high:.3g}; this change did {did}."


def draws_run(found: "Counterfactual") -> str:
    """How many of the control's draws there are."""
    number, of = 0 if found.draws is None else found.draws.sizes["draw"], WANTED
    of = len(found.control.draws) if found.control is not None else of
    return f"{number} of {of} draws"


def remarks(found: "Counterfactual") -> list[str]:
    """Where the control is less than it should be."""
    control = found.control
    if control is None:
        return []
    if not control.draws:
        return [
            "There is no control: no expert came or went, only weights changed, or no other expert can take the place."
        ]
    said = []
    if len(control.draws) < WANTED:
        said.append(f"Only {len(control.draws)} draws exist; fewer than {WANTED} say little.")
    if control.share_beyond:
        said.append(
            f"Few experts have an equal load: for {control.share_beyond:.1%} of those drawn it is more than 20% off, "
            f"by {control.farthest:.0%} at most."
        )
    return said


def summary(found: "Counterfactual") -> pd.DataFrame:
    """A row for the change and for each draw."""
    assert found.effect is not None
    rows = [("this change", found.effect)]
    if found.draws is not None:
        rows += [(f"control {i + 1}", found.draws.isel(draw=i)) for i in range(found.draws.sizes["draw"])]
    return pd.DataFrame(
        {
            "run": [name for name, _ in rows],
            "mean KL (nat)": [float(one["kl"].mean()) for _, one in rows],
            "mean change of log-probability (nat)": [float(one["logprob_change"].mean()) for _, one in rows],
            "same experts, all layers": [float(one["equal_sets"].mean()) for _, one in rows],
        }
    )


def in_words(effect: xr.Dataset) -> list[str]:
    """What every token says when it is pointed at."""
    values = zip(effect["kl"].values.tolist(), effect["logprob_change"].values.tolist(), strict=True)
    return [
        f"token {index}: KL after it {kl:.3g} nats, its log-probability {change:+.3g} nats (derived)"
        for index, (kl, change) in enumerate(values)
    ]


def by_token(experiment: "Experiment") -> pd.DataFrame:
    """A row per token."""
    found = experiment.found
    assert found is not None
    assert found.effect is not None
    columns = {"token": range(experiment.trace.num_tokens), "text": controls.token_names(experiment.trace)}
    for variable, name in (("kl", "KL after it (nat)"), ("logprob_change", "change of log-probability (nat)")):
        columns[name] = found.effect[variable].values
        columns |= _control(found, variable)
    return pd.DataFrame(columns)


def by_layer(experiment: "Experiment") -> pd.DataFrame:
    """A row per mixture layer."""
    found = experiment.found
    assert found is not None
    assert found.effect is not None
    columns = {"layer": found.effect["moe_layer"].values}
    for variable, name in (("equal_sets", "same experts"), ("jaccard", "Jaccard")):
        columns[name] = found.effect[variable].values
        columns |= _control(found, variable)
    return pd.DataFrame(columns)


def _control(found: "Counterfactual", variable: str) -> dict[str, np.ndarray]:
    """The control's lowest and highest draw as columns."""
    if found.draws is None:
        return {}
    low, high = effects.band(found.draws[variable])
    return {f"{variable}, control from": low.values, f"{variable}, control to": high.values}


def touched(experiment: "Experiment") -> list[int]:
    """Layers that the change itself touches."""
    found = experiment.found
    assert found is not None
    assert found.changed is not None
    layers = found.changed.data["moe_layer"]
    kept = routing.untouched_layers(found.changed.interventions, layers)
    return layers.values[~kept.values].tolist()


def parts(trace: Trace, original: Trace, parting: int | None) -> tuple[str, str, str]:
    """A text as the prompt, what both wrote, and what it wrote alone."""
    ends = [token.end for token in trace.tokens]
    begin = int(original.prompt_mask.sum())
    split = trace.num_tokens if parting is None else min(parting, trace.num_tokens)
    given, common = ends[begin - 1], ends[split - 1]
    while given < common < len(trace.text) and trace.text[common] & 0xC0 == 0x80:
        common -= 1  # a character that several tokens share is not divided
    pieces = trace.text[:given], trace.text[given:common], trace.text[common:]
    return tuple(piece.decode("utf-8", errors="replace") for piece in pieces)  # type: ignore[return-value]
