"""What routers return, read by its structure: tuples of matrices whose dtypes and widths say what they are.

Most routers return (logits, weights, ids) in some order, and the experts receive the ids and weights later. Two kinds
return a finished assignment that the experts use at once: scores of all experts, zero except for the selected ones
(Llama 4), and the tokens sorted by expert (JetMoe).

Shape suffixes: T tokens, E experts, C columns of the logits, K selected, A assignments (T * K).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.families.tape import RawRouting


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A finished assignment, and how to write a changed one in the form that the block expects."""

    raw: RawRouting
    write: Callable[[RawRouting], tuple]


def logits_in(output: Any, num_experts: int) -> Tensor | None:
    """Return the logits [T, C] of a router's tuple; None if the output is no such tuple.

    The tuple holds an integer matrix of ids, a float matrix of its shape, and a float matrix with at least
    `num_experts` columns.
    """
    if not isinstance(output, tuple):
        return None
    matrices = [part for part in output if isinstance(part, Tensor) and part.dim() == 2]
    ids = [part for part in matrices if not part.is_floating_point()]
    wide = [part for part in matrices if part.is_floating_point() and part.shape[-1] >= num_experts]
    if not ids or not any(part.is_floating_point() and part.shape == ids[0].shape for part in matrices):
        return None
    return wide[0] if wide else None


def lone_logits(output: Any, num_experts: int) -> Tensor | None:
    """Return the output if it is a matrix of one float per token and expert, as of a router whose block selects."""
    is_logits = isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point()
    return output if is_logits and output.shape[-1] == num_experts else None


def assignment_in(output: Any, num_experts: int, top_k: int | None) -> Assignment | None:
    """Return the finished assignment in a router's tuple; None if there is none.

    `top_k` is the number of selected experts. None: the largest number of scores that are not 0.
    """
    if not isinstance(output, tuple):
        return None
    if len(output) == 2 and all(lone_logits(part, num_experts) is not None for part in output):
        return _scattered(*output, top_k)
    if len(output) == 5 and isinstance(output[3], list) and len(output[3]) == num_experts:
        return _sorted_by_expert(*output)
    return None


def _scattered(scores_TE: Tensor, logits_TE: Tensor, top_k: int | None) -> Assignment:
    k = top_k or int((scores_TE != 0).sum(-1).max())
    ids_TK = logits_TE.topk(k).indices  # as the router does; scores of selected experts may round to 0

    def write(raw: RawRouting) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(scores_TE).scatter(-1, raw.ids_TK, raw.weights_TK), logits_TE

    return Assignment(RawRouting(logits_TE, ids_TK, scores_TE.gather(-1, ids_TK)), write)


def _sorted_by_expert(
    places_A: Tensor, _tokens_A: Tensor, weights_A: Tensor, loads: list[int], logits_TE: Tensor
) -> Assignment:
    """Read assignments sorted by expert; `places_A` are their positions in the flattened [T, K]."""
    loads_E = torch.tensor(loads, device=places_A.device)
    experts_A = torch.arange(len(loads), device=places_A.device).repeat_interleave(loads_E, output_size=len(places_A))
    ids_TK = torch.empty_like(places_A).scatter(0, places_A, experts_A).view(len(logits_TE), -1)
    weights_TK = torch.empty_like(weights_A).scatter(0, places_A, weights_A).view_as(ids_TK)

    def write(raw: RawRouting) -> tuple:
        if raw.ids_TK.shape != ids_TK.shape:  # the block divides by its own top-k to find the tokens again
            raise ValueError("its code has the number of experts per token built in")
        new_places_A = raw.ids_TK.flatten().sort(stable=True).indices
        new_loads = raw.ids_TK.flatten().bincount(minlength=len(loads)).tolist()
        tokens_A = new_places_A // raw.ids_TK.shape[-1]
        return new_places_A, tokens_A, raw.weights_TK.flatten()[new_places_A], new_loads, logits_TE

    return Assignment(RawRouting(logits_TE, ids_TK, weights_TK), write)
