"""Changes to the routing as tensors: the router applies them, `model/run/routing_edit.py` builds them.

Shape suffixes: E experts, R rows (positions of one sequence) with a given routing, K selected experts.

A score of minus infinity does not suffice to knock an expert out: if the kept groups hold fewer than K experts that are
not knocked out, top-k selects knocked-out experts too. `check_edit` refuses an edit that allows this, and the router
also sets the gate weight of a knocked-out expert to zero. In the score of its group, a knocked-out expert counts with
the token's lowest biased score: a constant added to all biases then changes no selection.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.config import ModelConfig


class EditError(ValueError):
    """An edit names a part that the model lacks, contradicts itself, or leaves the router too few experts."""


class GivenRouting(NamedTuple):
    """Experts and gate weights of the first R rows; the router decides the rows after them."""

    expert_ids_RK: Tensor  # int64, no expert twice in a row
    weights_RK: Tensor  # fp32, as applied

    def over(self, expert_ids_TK: Tensor, weights_TK: Tensor) -> tuple[Tensor, Tensor]:
        """Return the router's experts and gate weights with the first R rows replaced by the given ones."""
        ids_RK, weights_RK = self.expert_ids_RK[: len(expert_ids_TK)], self.weights_RK[: len(expert_ids_TK)]
        rest = slice(len(ids_RK), None)
        return torch.cat([ids_RK, expert_ids_TK[rest]]), torch.cat([weights_RK, weights_TK[rest]])


@dataclasses.dataclass(frozen=True, slots=True)
class LayerEdit:
    """The changes to the routing of one layer."""

    knocked_out_E: Tensor  # bool; never selected, gate weight zero
    forced_E: Tensor  # bool; always selected, also from a group that is not kept
    top_k: int
    use_bias: bool = True
    limit_groups: bool = True
    temperature: float = 1.0  # divides the logits before the sigmoid or softmax
    threshold: float = 0.0  # a selected expert with a lower affinity stays selected and gets gate weight zero
    given: GivenRouting | None = None  # replaces the decision of the router

    def on(self, device: torch.device) -> "LayerEdit":
        """Return the edit with its tensors on a device."""
        if self.knocked_out_E.device == device:
            return self
        moved = {"knocked_out_E": self.knocked_out_E.to(device), "forced_E": self.forced_E.to(device)}
        given = self.given and GivenRouting(*(part.to(device) for part in self.given))
        return dataclasses.replace(self, **moved, given=given)

    def after(self, num_rows: int) -> "LayerEdit":
        """Return the edit for a pass that starts at token `num_rows`; a given routing loses the rows before it."""
        if self.given is None:
            return self
        return dataclasses.replace(self, given=GivenRouting(*(part[num_rows:] for part in self.given)))


@dataclasses.dataclass(frozen=True, slots=True)
class RoutingEdit:
    """The edits of a run by model layer number; layers without an edit route as trained."""

    layers: Mapping[int, LayerEdit]

    def of(self, layer: int) -> LayerEdit | None:
        """Return the edit of a layer, or None if the layer routes as trained."""
        return self.layers.get(layer)

    def after(self, num_rows: int) -> "RoutingEdit":
        """Return the edits for a pass that starts at token `num_rows`; see `LayerEdit.after`."""
        if not num_rows or all(edit.given is None for edit in self.layers.values()):
            return self
        return RoutingEdit({layer: edit.after(num_rows) for layer, edit in self.layers.items()})


def check_edit(config: ModelConfig, layer: int, edit: LayerEdit) -> None:
    """Raise an error if an edit contradicts itself, or if its kept groups may hold fewer experts than top-k.

    Raises:
        EditError: the message names the layer and the contradiction, or the number of experts left.
    """
    survivors_G = (~edit.knocked_out_E).view(config.num_groups, -1).sum(-1).sort().values
    kept = config.num_kept_groups if edit.limit_groups else config.num_groups
    fewest = int(survivors_G[:kept].sum())
    if fewest < edit.top_k:
        raise EditError(f"layer {layer}: {fewest} experts may be all that is left to choose {edit.top_k} from")
    if bool((edit.knocked_out_E & edit.forced_E).any()):
        raise EditError(f"layer {layer}: an expert is both knocked out and forced")
    if int(edit.forced_E.sum()) > edit.top_k:
        raise EditError(f"layer {layer}: more experts are forced than the router may select")
    if edit.given is not None:
        _check_given(layer, edit, edit.given)


def _check_given(layer: int, edit: LayerEdit, given: GivenRouting) -> None:
    """Raise an error if a given routing comes with other changes, repeats an expert in a row, or has a wrong top-k."""
    has_changes = bool((edit.knocked_out_E | edit.forced_E).any()) or not (edit.use_bias and edit.limit_groups)
    if has_changes or edit.temperature != 1 or edit.threshold:
        raise EditError(f"layer {layer}: its routing is replayed; nothing else can be changed there but the top-k")
    top_k = given.expert_ids_RK.shape[-1]
    if top_k != edit.top_k:
        raise EditError(f"layer {layer}: the replayed routing has {top_k} experts per token, this run {edit.top_k}")
    sorted_RK = given.expert_ids_RK.sort(-1).values
    if bool((sorted_RK[:, 1:] == sorted_RK[:, :-1]).any()):
        raise EditError(f"layer {layer}: the replayed routing sends a token to the same expert twice")


def unchanged(config: ModelConfig, device: torch.device) -> LayerEdit:
    """Return an edit that changes nothing; `dataclasses.replace` makes other edits from it."""
    none_E = torch.zeros(config.num_experts, dtype=torch.bool, device=device)
    return LayerEdit(knocked_out_E=none_E, forced_E=none_E.clone(), top_k=config.top_k)
