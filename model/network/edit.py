"""A change to the routing, as tensors: what an intervention becomes before a run, and what the router consumes.

Shape suffixes: E experts, R rows (the positions of one sequence) whose routing is given, K selected experts.

Minus infinity in the selection alone is no knock-out: when too few experts of the kept groups survive, masked ones are
selected all the same. `check_edit` refuses such an edit, and the router also gives a masked expert weight zero.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.config import ModelConfig


class EditError(ValueError):
    """An edit that names what the model lacks, or leaves the router too few experts."""


class GivenRouting(NamedTuple):
    """Experts and weights of the first rows that a router sees; the rows after them are routed by the router."""

    expert_ids_RK: Tensor  # int64, no expert twice in a row
    weights_RK: Tensor  # fp32, as applied

    def over(self, expert_ids_TK: Tensor, weights_TK: Tensor) -> tuple[Tensor, Tensor]:
        """What the router chose, with the first rows replaced."""
        ids_RK, weights_RK = self.expert_ids_RK[: len(expert_ids_TK)], self.weights_RK[: len(expert_ids_TK)]
        rest = slice(len(ids_RK), None)
        return torch.cat([ids_RK, expert_ids_TK[rest]]), torch.cat([weights_RK, weights_TK[rest]])


@dataclasses.dataclass(frozen=True, slots=True)
class LayerEdit:
    """The changed routing of one layer."""

    knocked_out_E: Tensor  # bool; never selected, weight zero
    forced_E: Tensor  # bool; always selected
    top_k: int
    use_bias: bool = True
    limit_groups: bool = True
    temperature: float = 1.0  # divides the logits before the sigmoid or softmax
    threshold: float = 0.0  # a selected expert of a lower affinity keeps its place and gets weight zero
    given: GivenRouting | None = None  # taken as it is, whatever the router would choose

    def on(self, device: torch.device) -> "LayerEdit":
        """The same edit where a router can use it."""
        if self.knocked_out_E.device == device:
            return self
        moved = {"knocked_out_E": self.knocked_out_E.to(device), "forced_E": self.forced_E.to(device)}
        given = self.given and GivenRouting(*(part.to(device) for part in self.given))
        return dataclasses.replace(self, **moved, given=given)

    def after(self, num_rows: int) -> "LayerEdit":
        """The edit for what follows so many rows."""
        if self.given is None:
            return self
        return dataclasses.replace(self, given=GivenRouting(*(part[num_rows:] for part in self.given)))


@dataclasses.dataclass(frozen=True, slots=True)
class RoutingEdit:
    """The edits of a run by model layer number; a layer that is absent routes as trained."""

    layers: Mapping[int, LayerEdit]

    def of(self, layer: int) -> LayerEdit | None:
        """The edit of a layer, None where the routing is untouched."""
        return self.layers.get(layer)

    def after(self, num_rows: int) -> "RoutingEdit":
        """The edit for a pass over the positions that follow so many."""
        if not num_rows or all(edit.given is None for edit in self.layers.values()):
            return self
        return RoutingEdit({layer: edit.after(num_rows) for layer, edit in self.layers.items()})


def check_edit(config: ModelConfig, layer: int, edit: LayerEdit) -> None:
    """Refuse an edit that contradicts itself, or some choice of kept groups holds fewer survivors than top-k.

    Raises:
        EditError: says which layer, and what is wrong, such as how many experts are left.
    """
    survivors_G = (~edit.knocked_out_E).view(config.num_groups, -1).sum(-1).sort().values
    kept = config.num_kept_groups if edit.limit_groups else config.num_groups
    fewest = int(survivors_G[:kept].sum())
    if fewest < edit.top_k:
        raise EditError(f"layer {layer}: {fewest} experts may be all that is left to choose {edit.top_k} from")
    if bool((edit.knocked_out_E & edit.forced_E).any()):
        raise EditError(f"layer {layer}: an expert is both knocked out and forced")
    forced_groups = int(edit.forced_E.view(config.num_groups, -1).any(-1).sum())
    if int(edit.forced_E.sum()) > edit.top_k or forced_groups > kept:
        raise EditError(f"layer {layer}: more experts are forced than the router may select")
    if edit.given is not None:
        _check_given(layer, edit, edit.given)


def _check_given(layer: int, edit: LayerEdit, given: GivenRouting) -> None:
    """A routing that is taken as it is leaves nothing to change, and must have as many experts as the rows after it."""
    told = bool((edit.knocked_out_E | edit.forced_E).any()) or not (edit.use_bias and edit.limit_groups)
    if told or edit.temperature != 1 or edit.threshold:
        raise EditError(f"layer {layer}: its routing is replayed; nothing else can be changed there but the top-k")
    top_k = given.expert_ids_RK.shape[-1]
    if top_k != edit.top_k:
        raise EditError(f"layer {layer}: the replayed routing has {top_k} experts per token, this run {edit.top_k}")
    sorted_RK = given.expert_ids_RK.sort(-1).values
    if bool((sorted_RK[:, 1:] == sorted_RK[:, :-1]).any()):
        raise EditError(f"layer {layer}: the replayed routing sends a token to the same expert twice")


def unchanged(config: ModelConfig, device: torch.device) -> LayerEdit:
    """An edit that changes nothing, to build others from."""
    none_E = torch.zeros(config.num_experts, dtype=torch.bool, device=device)
    return LayerEdit(knocked_out_E=none_E, forced_E=none_E.clone(), top_k=config.top_k)
