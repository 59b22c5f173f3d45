"""A default dtype for one thread, which transformers uses while it builds a model.

transformers calls `torch.set_default_dtype`, which changes every thread: a run of another visitor would compute in
bfloat16 while a model is opened. Here a mode of the thread converts what torch would have made in the default dtype.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import modeling_utils

_EXPLICIT = {
    Tensor.float,
    Tensor.to,
    Tensor.type,
    Tensor.type_as,
    torch.from_numpy,
}  # their result has the dtype that the caller named


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype, _model_class: str | None = None) -> Iterator[None]:
    """Make `dtype` the default of this thread; the signature is that of transformers' `local_torch_dtype`."""
    with _Default(dtype):
        yield


class _Default(TorchFunctionMode):
    """Converts tensors of torch's default dtype that were made without a floating-point tensor."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        is_default = isinstance(result, Tensor) and result.dtype == torch.get_default_dtype()
        if not is_default or func in _EXPLICIT or kwargs.get("dtype") is not None:
            return result
        return result if _any_floats((*args, *kwargs.values())) else result.to(self._dtype)


def _any_floats(values: Iterable[Any]) -> bool:
    """Whether a tensor of floating-point numbers is among the values, or in a list among them."""
    for value in values:
        if isinstance(value, list | tuple) and _any_floats(value):
            return True
        if isinstance(value, Tensor) and value.is_floating_point():
            return True
    return False


def use_it() -> None:
    """Replace transformers' function by this one."""
    modeling_utils.local_torch_dtype = default_dtype
