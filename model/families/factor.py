"""Measures the factor that a block puts on the sum of its experts: DeepSeek-style scaling after the experts.

The experts receive weights; some blocks multiply the sum by a constant afterwards, so that the weight as applied is
the weight times that constant. A block may also put a norm or a projection on the sum: then no constant exists.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from model.families.blocks import Block
from model.families.tape import RawRouting, Tape

_GAIN = 9.0  # far from 1, so that the change stands out of bf16's rounding


def measure_factors(blocks: Iterable[Block], forward: Callable[[], Any]) -> dict[str, float | None]:
    """Return by the block's path the factor of its experts' sum; None if there is no factor.

    Each block runs twice more during `forward`, with its gate weights times 1 and times 9; both the experts' sum and
    the block's output must change in proportion. The result is within 1e-3 in fp32 and 0.06 in bf16 of the factor; a
    result that near to 1, 1/2 or a number that the block holds is replaced by that number. Blocks that did not run,
    and those whose experts do not receive weights, give None.

    Args:
        blocks: blocks of an instrumented model that no other thread runs meanwhile.
        forward: runs the model once, without a cache.
    """
    probes = {block.path: _Probe(block) for block in blocks}
    try:
        with torch.inference_mode():
            forward()
    finally:
        for probe in probes.values():
            probe.remove()
    return {path: probe.factor for path, probe in probes.items()}


class _Probe:
    """Hooks that run a block again, and the factor that they find."""

    def __init__(self, block: Block) -> None:
        self.factor: float | None = None
        self._path = block.path
        self._total: Tensor | None = None
        self._is_inner = False
        self._handles = []
        if block.takes_routing:
            self._handles = [
                block.experts[0].register_forward_hook(self._after_experts),
                block.module.register_forward_hook(self._after_block, with_kwargs=True),
            ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _after_experts(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        self._total = output

    def _after_block(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], _output: Any) -> None:
        if self._is_inner:
            return
        self._is_inner = True
        (one, total), (other, other_total) = (self._run(module, args, kwargs, gain) for gain in (1.0, _GAIN))
        self._is_inner = False
        tolerance = max(1e-3, 8 * torch.finfo(one.dtype).eps)
        rise = _ratio(other_total - total, total, tolerance)
        if rise is None or abs(rise / (_GAIN - 1) - 1) > tolerance:
            return  # the experts do not multiply their outputs by the weights
        factor = _ratio((other - one) / (_GAIN - 1), total, tolerance)
        self.factor = None if factor is None else _nearest(factor, module, tolerance)

    def _run(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], gain: float) -> tuple[Tensor, Tensor]:
        def scaled(raw: RawRouting, _start: int) -> RawRouting:
            return raw._replace(weights_TK=raw.weights_TK * gain)

        with Tape({self._path: scaled}, routing=False, norms=False).running():
            output = module.forward(*args, **kwargs)
        assert self._total is not None
        return (output[0] if isinstance(output, tuple) else output), self._total


def _ratio(part: Tensor, whole: Tensor, tolerance: float) -> float | None:
    """Return the number that times `whole` gives `part`; None if no number does."""
    if part.numel() != whole.numel():
        return None
    part, whole = part.flatten().float(), whole.flatten().float()
    square = float(whole.square().sum())
    ratio = float(part @ whole) / square if square else 0.0
    return ratio if ratio and float((part - ratio * whole).abs().max()) <= tolerance * float(part.abs().max()) else None


def _nearest(factor: float, module: nn.Module, tolerance: float) -> float:
    numbers = [1.0, 0.5, *(value for value in vars(module).values() if isinstance(value, float))]
    nearest = min(numbers, key=lambda number: abs(number - factor))
    return nearest if abs(nearest - factor) <= tolerance * abs(factor) else factor
