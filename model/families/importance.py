"""The importance of each expert for a text, by one plain run per knocked-out expert.

`model.run.importance` computes the same numbers for the own network and shares work between knock-outs; no model of
transformers can run from a later layer on.
"""

import dataclasses
import threading
from collections.abc import Generator, Sequence

import numpy as np
import xarray as xr

from model.families.engine import TransformersEngine
from model.run import importance as own
from model.run.engine import Engine
from model.run.importance import Importance
from model.run.interventions import KnockOut
from model.run.request import Capture, RequestError, RunRequest
from model.trace.effects import effect
from model.trace.importance import consequential
from model.trace.metrics import tokens_per_expert
from model.trace.routing import by_expert
from model.trace.trace import Trace


def importance(
    engine: Engine | TransformersEngine, token_ids: Sequence[int], cancel: threading.Event | None = None
) -> Generator[Importance, None, None]:
    """Knock out each expert of each MoE layer, one at a time; yield the effects so far after each.

    If `cancel` is set, the generator ends before the next knock-out.

    Raises:
        RequestError: the weights stay on the disk, there are fewer than two tokens, or they do not fit the model.
    """
    if isinstance(engine, Engine):
        yield from own.importance(engine, token_ids, cancel)
        return
    if engine.offloaded:
        raise RequestError(f"the weights of {engine.name} wait on the disk; each knock-out would read them again")
    if len(token_ids) < 2:
        raise RequestError("a prediction to compare needs at least 2 tokens")
    request = RunRequest(token_ids=tuple(token_ids), capture=Capture(frozenset({"router", "logits"})))
    original = engine.run(request)
    to_run = [KnockOut(layer, expert) for layer, expert in consequential(original)]
    effects = _untouched(original, to_run)
    total = effects["kl"].size
    for done, change in enumerate(to_run, total - len(to_run)):
        yield Importance(effects.copy(deep=True), done, total, len(token_ids))
        if cancel is not None and cancel.is_set():
            return
        changed = engine.run(dataclasses.replace(request, interventions=(change,)))
        _fill(effects, change, original, changed)
    yield Importance(effects, total, total, len(token_ids))


def _untouched(original: Trace, to_run: Sequence[KnockOut]) -> xr.Dataset:
    """Return the effects before any knock-out: 0 for those that change nothing, NaN for those to run."""
    counts = tokens_per_expert(original.data["expert_id"], original.shape.num_experts or 0)
    values = xr.zeros_like(counts, dtype=np.float64)
    for change in to_run:
        values.loc[{"moe_layer": change.layer, "expert": change.expert}] = np.nan
    return xr.Dataset(
        {"logprob_change": values, "kl": values.copy(), "chosen_by": counts, "rerouted": xr.zeros_like(counts)}
    )


def _fill(effects: xr.Dataset, change: KnockOut, original: Trace, changed: Trace) -> None:
    """Write the effect of one knock-out into its cell."""
    num_experts = original.shape.num_experts or 0
    at = {"moe_layer": change.layer, "expert": change.expert}
    before, after = (_weights(trace, change.layer, num_experts) for trace in (original, changed))
    measured = effect(original, changed)
    effects["logprob_change"].loc[at] = float(measured["logprob_change"].mean())
    effects["kl"].loc[at] = float(measured["kl"].mean())
    effects["rerouted"].loc[at] = int((before != after).any(-1).sum())


def _weights(trace: Trace, layer: int, num_experts: int) -> np.ndarray:
    """Return the gate weights of a layer, 0 for other experts, [token, expert]."""
    at = trace.data.sel(moe_layer=layer)
    return by_expert(at["expert_id"].values, at["gate_weight"].values, num_experts, 0)
