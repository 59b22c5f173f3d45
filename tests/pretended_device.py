"""A pretended GPU: tensors on the CPU that say they are on the device "pretended:0", and refuse what CUDA refuses.

An operation that mixes devices, reads a tensor of the GPU from numpy, or draws on it with a generator of the CPU raises
the error that CUDA raises. Kernels, memory and time of a GPU stay untested here: `pytest -m gpu` tests them.

`PretendedTensor` wraps a tensor on the CPU. It sees every operation on itself, in any thread, below autograd; composite
operations arrive in parts, as they do at CUDA's kernels. Operations without a tensor, such as `torch.zeros(2,
device="pretended")`, reach the kernels that `pretend` registers. A dispatch mode would see neither in the threads that
the model starts.

Source: PyTorch's notes on extending PyTorch (`__torch_dispatch__`) and on backends written in Python
(`torch/utils/backend_registration.py`); the rules by which its `FakeTensor` finds the device of a result.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME, NUM_GPUS = "pretended", 2
CPU = torch.device("cpu")
COPIES = {"copy_", "_to_copy"}  # their source may be on any device
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # indices may be on the CPU
# These accept a tensor of the CPU without axes as a number, as pointwise operations do.
TAKES_NUMBER = {"fill", "fill_", "index_fill", "index_fill_", "masked_fill", "masked_fill_", *INDEXING}
# Operations for which the CPU lacks a kernel that CUDA has.
CUDA_ONLY: dict[str, Callable] = {
    "aten::histc": lambda counted, *limits, **more: torch.histc(counted.double(), *limits, **more),  # integers
    "aten::mm.dtype": lambda one, other, dtype: one.to(dtype) @ other.to(dtype),
}


class PretendedTensor(torch.Tensor):
    """A tensor on a pretended GPU; `values` is the tensor on the CPU that holds its numbers."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor, device: torch.device) -> "PretendedTensor":
        number = device.index or 0
        if number >= NUM_GPUS:
            raise RuntimeError(f"invalid device ordinal {number}")
        values = values.resolve_conj().resolve_neg()  # the wrapper cannot carry these marks of a view
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        with torch.inference_mode(False):  # a view of a weight must not be an inference tensor
            made = torch.Tensor._make_wrapper_subclass(cls, values.shape, device=torch.device(NAME, number), **layout)
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"{self.values!r} on {self.device}"

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        if func == torch.Tensor.is_cuda.__get__:  # so that the model takes its branches for CUDA
            return True
        if func is torch.Tensor.tolist:  # PyTorch refuses it for wrappers; on CUDA, it copies to the CPU
            return args[0].cpu().tolist()
        if func in (torch.Tensor.untyped_storage, torch.Tensor.data_ptr):  # identify a tensor, as safetensors does
            return func(args[0].values)
        if func == torch.Tensor.data.__set__:
            args[0].values = args[1].values
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(f"can't convert {args[0].device} device type tensor to numpy. Use Tensor.cpu() first")
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if _is_composite(func):
            return func.decompose(*args, **kwargs)
        device = _common_device(func, args, kwargs)
        if kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            if device.type != NAME:
                kwargs["device"] = device
        kernel = CUDA_ONLY.get(func.name(), func)
        result = kernel(*_values(args), **{name: _values(value) for name, value in kwargs.items()})
        if device.type != NAME:
            return result
        return return_and_correct_aliasing(func, args, kwargs, _wrapped(result, device))


def _values(tree: Any) -> Any:
    """Return an argument of an operation with tensors on the CPU in place of those on pretended GPUs."""
    if isinstance(tree, list | tuple):
        return type(tree)(map(_values, tree))
    return tree.values if isinstance(tree, PretendedTensor) else tree


def _wrapped(result: Any, device: torch.device) -> Any:
    if isinstance(result, list | tuple):
        return type(result)(_wrapped(part, device) for part in result)
    return PretendedTensor(result, device) if isinstance(result, torch.Tensor) else result


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from _leaves(part)
    else:
        yield tree


@functools.cache
def _is_composite(func: Any) -> bool:
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


@functools.cache
def _takes_number(func: Any) -> bool:
    """Whether an operation on CUDA accepts a tensor of the CPU without axes as a number."""
    name = _name(func)
    return torch.Tag.pointwise in func.tags or name in TAKES_NUMBER or name.startswith("_foreach_")


@functools.cache
def _name(func: Any) -> str:
    return func._schema.name.removeprefix("aten::")


def _common_device(func: Any, args: tuple, kwargs: Mapping) -> torch.device:
    """Return the device on which an operation runs.

    Raises:
        RuntimeError: the operation would not run on CUDA, because its tensors or its generator are on another device.
    """
    name, leaves = _name(func), list(_leaves((args, tuple(kwargs.values()))))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if name in COPIES:
        return tensors[0].device
    if name in INDEXING:
        tensors = [args[0], *(index for index in args[1] if index is not None and index.device != CPU), *args[2:3]]
    device = next((tensor.device for tensor in tensors if tensor.dim() or tensor.device != CPU), CPU)
    for tensor in tensors:
        if tensor.device != device and (tensor.dim() or tensor.device != CPU or not _takes_number(func)):
            found = f"found at least two devices, {device} and {tensor.device}"
            raise RuntimeError(f"Expected all tensors to be on the same device, but {found}! (in {name})")
    _check_generators(name, leaves, device)
    return device


def _check_generators(name: str, leaves: list[Any], device: torch.device) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch.Generator) and leaf.device.type != device.type:
            found = f"found {leaf.device.type!r}"
            raise RuntimeError(f"Expected a {device.type!r} device type for generator but {found} (in {name})")


def _make(name: str, *args: Any, device: torch.device, **kwargs: Any) -> PretendedTensor:
    """Return the tensor that an operation without a tensor makes on a pretended GPU."""
    _check_generators(name, list(kwargs.values()), device)
    packet, _, overload = name.removeprefix("aten::").partition(".")
    make = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return PretendedTensor(make(*args, device=CPU, **kwargs), device)


def _copy(source: torch.Tensor, target: PretendedTensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy for `torch.tensor`, which bypasses `__torch_dispatch__`."""
    target.values.copy_(_values(source))
    return target


class _Gpus(_DummyBackendModule):
    """The module `torch.pretended`, which PyTorch asks what it asks `torch.cuda`."""

    def device_count(self) -> int:
        return NUM_GPUS

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@functools.cache
def pretend() -> None:
    """Add the pretended GPUs to this process, for good: PyTorch cannot remove a backend."""
    _setup_privateuseone_for_python_backend(NAME, _Gpus())
    pretend.kernels = torch.library.Library("aten", "IMPL")
    pretend.kernels.impl("_copy_from", _copy, "PrivateUse1")
    for name in _factories():
        pretend.kernels.impl(name, functools.partial(_make, name), "PrivateUse1")


def _factories() -> Iterator[str]:
    """Yield the operations that make a tensor on a given device from no other tensor."""
    for schema in torch._C._jit_get_all_schemas():
        name, arguments = f"{schema.name}.{schema.overload_name}".rstrip("."), schema.arguments
        makes = any(a.name == "device" for a in arguments) and not any("Tensor" in str(a.type) for a in arguments)
        if makes and name.startswith("aten::") and torch._C._dispatch_has_kernel(name):
            yield name
