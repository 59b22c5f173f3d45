"""The file of a finished counterfactual: a compressed safetensors file that holds its traces and effects.

The file holds only what a page shows: tokens, probabilities and experts of the traces, and the effects of the control's
draws. It does not hold the interventions of the draws.
"""

import dataclasses
import gzip
import json
from typing import Any

import numpy as np
import safetensors.numpy
import xarray as xr

from model.run.control import Control
from model.run.counterfactual import Counterfactual, Question
from model.run.request import RunRequest
from model.trace import file

VARIABLES = ("token_id", "logprob", "candidate_id", "candidate_logprob", "expert_id", "gate_weight")
TRACES, EFFECTS = ("original", "changed", "written"), ("effect", "draws", "matched")


def dumps(result: Counterfactual) -> bytes:
    """Return the bytes of the file.

    Args:
        result: a finished counterfactual with a control; only `written` may be None.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in TRACES:
        trace = getattr(result, name)
        if trace is not None:
            kept = [variable for variable in VARIABLES if trace.has(variable)]
            arrays[name] = np.frombuffer(file.dumps(dataclasses.replace(trace, data=trace.data[kept])), np.uint8)
    dims: dict[str, list[str]] = {}
    for name in EFFECTS:
        for variable, values in getattr(result, name).data_vars.items():
            arrays[f"{name}.{variable}"] = np.ascontiguousarray(values.values)
            dims[f"{name}.{variable}"] = list(map(str, values.dims))
    assert result.control is not None
    assert result.effect is not None
    control = dataclasses.asdict(dataclasses.replace(result.control, draws=(), repeated=None))
    about = {
        "dims": dims,
        "moe_layer": result.effect["moe_layer"].values.tolist(),
        "control": control | {"draws": len(result.control.draws), "repeated": result.control.repeated is not None},
    }
    return gzip.compress(safetensors.numpy.save(arrays, {"about": json.dumps(about)}), 9, mtime=0)


def loads(content: bytes) -> Counterfactual:
    """Return the counterfactual of a file that this program wrote; the control's draws hold no interventions."""
    raw = gzip.decompress(content)
    arrays = safetensors.numpy.load(raw)
    length = int.from_bytes(raw[:8], "little")
    about: dict[str, Any] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["about"])
    traces = {name: file.loads(arrays[name].tobytes()) for name in TRACES if name in arrays}
    fed = RunRequest.from_json(traces["changed"].request)
    written = RunRequest.from_json(traces["written"].request) if "written" in traces else None
    result = Counterfactual(Question(fed, written))
    result.original, result.changed, result.written = (traces.get(name) for name in TRACES)
    result.effect, result.draws, result.matched = (_dataset(name, arrays, about) for name in EFFECTS)
    control = about["control"]
    repeated = () if control["repeated"] else None
    result.control = Control(**control | {"draws": ((),) * control["draws"], "repeated": repeated})
    return result


def _dataset(name: str, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> xr.Dataset:
    variables = {
        key.removeprefix(f"{name}."): (dims, arrays[key])
        for key, dims in about["dims"].items()
        if key.startswith(f"{name}.")
    }
    return xr.Dataset(variables, {"moe_layer": about["moe_layer"]})
