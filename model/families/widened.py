"""Casts a decoded model to another dtype, as transformers casts a model that is stored unquantised.

transformers leaves tensors beside quantised ones in their stored dtype, whatever dtype it is asked for.
"""

import copy
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import build_glob_alternation

from model.families.default_dtype import default_dtype


@torch.no_grad()
def cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast parameters and saved buffers in place; those that the family computes in float32 become float32.

    Buffers that are not saved, such as the frequencies of RoPE, have their dtype since the model was built.

    Args:
        model: the model; parts may be on the meta device.
        dtype: the dtype that was asked for when the model was built.
    """
    with torch.device("meta"), default_dtype(dtype):
        plain: Any = type(model)(copy.deepcopy(model.config))
    plan = plain._get_dtype_plan(dtype)
    pattern, names, _ = build_glob_alternation(list(plan)) if plan else (None, {}, None)
    targets = {name: tensor.dtype for name, tensor in plain.state_dict().items()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        match = pattern.search(name) if pattern is not None else None
        target = targets.get(name, tensor.dtype) if match is None else plan[names[str(match.lastgroup)]]
        if tensor.is_floating_point() and tensor.dtype != target:
            tensor.data = tensor.data.to(target)
