"""The plain layers: rotary position embedding with YaRN, and the SwiGLU feed-forward block.

Shape suffixes: B batch, T position, H heads, R rope head width, D model width, F feed-forward width.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.1; YaRN (arXiv 2309.00071).
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import ModelConfig
from model.network.rope import Yarn


class RotaryTable(nn.Module):
    """Rotations of the position part of queries and keys."""

    frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = config.yarn.rotation_scale if config.yarn else 1.0
        frequencies = rotary_frequencies(config.rope_head_dim, config.rope_theta, config.yarn)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, start: int, end: int) -> Tensor:
        """Return the rotations of the positions from `start` up to but not including `end`, complex, [T, R / 2]."""
        positions_T = torch.arange(start, end, device=self.frequencies.device, dtype=torch.float32)
        angles_TR = torch.outer(positions_T, self.frequencies)
        return torch.polar(torch.full_like(angles_TR, self.scale), angles_TR)


def rotary_frequencies(rope_head_dim: int, theta: float, yarn: Yarn | None) -> Tensor:
    """Return the radians per position of each pair of channels, [R / 2], fp32.

    With YaRN, pairs that turn more than `beta_fast` times over the original context keep their frequency. Pairs that
    turn less than `beta_slow` times have their frequency divided by `factor`. A linear ramp joins the two ranges.
    """
    exponents = torch.arange(0, rope_head_dim, 2, dtype=torch.float64) / rope_head_dim
    frequencies = theta**-exponents
    if yarn is None:
        return frequencies.float()

    def pair_turning(turns: float) -> float:
        return rope_head_dim * math.log(yarn.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_turning(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_turning(yarn.beta_slow)), rope_head_dim - 1)
    pairs = torch.arange(rope_head_dim // 2, dtype=torch.float64)
    ramp = ((pairs - low) / max(high - low, 1e-3)).clamp(0, 1)
    return (frequencies * (1 - ramp) + frequencies / yarn.factor * ramp).float()


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context manager that turns autocast off on the device of `x`, so that products keep their dtype."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def rotate(x_BTHR: Tensor, rotations_TR: Tensor) -> Tensor:
    """Return `x_BTHR` with the adjacent channel pairs (0, 1), (2, 3), ... rotated in fp32."""
    pairs = torch.view_as_complex(x_BTHR.float().unflatten(-1, (-1, 2)))
    turned = pairs * rotations_TR[:, None]
    return torch.view_as_real(turned).flatten(-2).to(x_BTHR.dtype)


def rotate_halves(x_BTHR: Tensor, rotations_TR: Tensor) -> Tensor:
    """Return `x_BTHR` with the channel pairs (0, R/2), (1, R/2 + 1), ... rotated in fp32."""
    pairs = torch.complex(*x_BTHR.float().chunk(2, dim=-1))
    turned = pairs * rotations_TR[:, None]
    return torch.cat([turned.real, turned.imag], dim=-1).to(x_BTHR.dtype)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) * up x). One matrix holds gate and up, gate rows first, which saves one product."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * width, bias=False)
        self.down = nn.Linear(width, hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(swiglu(self.gate_up(x_BTD)))


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(first half) * second half along the last axis."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
