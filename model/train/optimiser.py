"""Optimisers: AdamW, or Muon for matrices and AdamW for all other parameters.

Muon updates a matrix by its momentum, after making all singular values of the momentum nearly equal. Without this, a
few large directions of the gradient dominate the many small ones, and the model learns less from the same tokens.
PyTorch's Muon takes single matrices and computes in bf16, which many CPUs lack. This Muon computes in fp32 on stacks of
matrices, so that the experts of all layers take only a few batched products.

Shape suffixes: N matrices, X rows, Y columns, X <= Y.

Source: Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon); the size of an update and the decay follow
Moonlight (arXiv 2502.16982), section 2.2.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.train.config import TrainConfig

MOMENTUM = 0.95
ITERATIONS = 5
# 3.4445 x - 4.7750 x^3 + 2.0315 x^5, applied five times, maps singular values in [0.0015, 1] to [0.68, 1.2].
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
UPDATE_SIZE = 0.2  # root mean square of an update at rate 1, about as in AdamW, so both use the same learning rate


class Muon(torch.optim.AdamW):
    """AdamW, with Muon for parameter groups that have `pieces`: the number of matrices stacked in each tensor."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient, and clear the gradients of the matrices that Muon updates."""
        for group in self.param_groups:
            if "pieces" in group:
                self._move(group)
        super().step(closure)  # skips parameters without a gradient

    def _move(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"]
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            ahead = parameter.grad.lerp(momentum, MOMENTUM)  # Nesterov momentum
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            for piece, of_piece in zip(
                matrices(parameter, group["pieces"]), matrices(ahead, group["pieces"]), strict=True
            ):
                by_shape[piece.shape].append((piece, of_piece))
            parameter.grad = None
        for shape, pieces in by_shape.items():
            size = group["lr"] * UPDATE_SIZE * max(shape) ** 0.5
            for (piece, _), update in zip(
                pieces, orthogonalise(torch.stack([ahead for _, ahead in pieces])), strict=True
            ):
                piece.sub_(update, alpha=size)


def matrices(tensor: Tensor, pieces: int) -> list[Tensor]:
    """Return views [X, Y] of the matrices in a tensor [..., pieces * X, Y].

    >>> [tuple(each.shape) for each in matrices(torch.zeros(2, 6, 5), 2)]
    [(3, 5), (3, 5), (3, 5), (3, 5)]
    """
    return list(tensor.unflatten(-2, (pieces, -1)).flatten(0, -3))


def orthogonalise(matrices_NXY: Tensor) -> Tensor:
    """Return the matrices with their singular values made nearly 1, by a Newton-Schulz iteration; zeros stay zeros."""
    wide = matrices_NXY.shape[-2] <= matrices_NXY.shape[-1]
    x_NXY = matrices_NXY if wide else matrices_NXY.mT
    x_NXY = x_NXY / x_NXY.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)  # all singular values are now at most 1
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram_NXX = x_NXY @ x_NXY.mT
        x_NXY = torch.baddbmm(
            x_NXY, torch.baddbmm(gram_NXX, gram_NXX, gram_NXX, beta=third, alpha=fifth), x_NXY, beta=first
        )
    return x_NXY if wide else x_NXY.mT


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return the optimiser of a run over its trainable parameters; weight decay applies to matrices only."""
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    vectors = {"params": [p for p in learning.values() if p.ndim < 2], "weight_decay": 0.0}
    adam: dict[str, Any] = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2), "fused": True}
    if config.optimiser == "muon":
        groups = [*_muon_groups(learning, config.weight_decay), vectors]
        return Muon([group for group in groups if group["params"]], **adam)
    matrices = {"params": [p for p in learning.values() if p.ndim >= 2], "weight_decay": config.weight_decay}
    return torch.optim.AdamW([matrices, vectors], **adam)


def _muon_groups(learning: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups of all matrices: AdamW for embedding, head and routers, Muon for all others.

    A tensor that joins gate and up projection counts as two matrices.
    """
    outer = ("embedding.weight", "head.weight", "router.weight")
    tables = [p for name, p in learning.items() if p.ndim >= 2 and name.endswith(outer)]
    hidden = {name: p for name, p in learning.items() if p.ndim >= 2 and not name.endswith(outer)}
    joined = [p for name, p in hidden.items() if "gate_up" in name]
    single = [p for name, p in hidden.items() if "gate_up" not in name]
    return [
        {"params": joined, "pieces": 2, "weight_decay": weight_decay},
        {"params": single, "pieces": 1, "weight_decay": weight_decay},
        {"params": tables, "weight_decay": weight_decay},
    ]
