"""A change to the routing, as tensors: what an intervention becomes before a run, and what the router consumes.

Shape suffixes: E experts.

Minus infinity in the selection alone is no knock-out: when too few experts of the kept groups survive, masked ones are
selected all the same. `check_survivors` refuses such an edit, and the router also gives a masked expert weight zero.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from model.network.config import ModelConfig


class EditError(ValueError):
    """An edit that names what the model lacks, or leaves the router too few experts."""


@dataclasses.dataclass(frozen=True, slots=True)
class LayerEdit:
    """The changed routing of one layer."""

    knocked_out_E: Tensor  # bool; never selected, weight zero
    forced_E: Tensor  # bool; always selected
    top_k: int
    use_bias: bool = True
    limit_groups: bool = True

    def on(self, device: torch.device) -> "LayerEdit":
        """The same edit where a router can use it."""
        if self.knocked_out_E.device == device:
            return self
        moved = {"knocked_out_E": self.knocked_out_E.to(device), "forced_E": self.forced_E.to(device)}
        return dataclasses.replace(self, **moved)


@dataclasses.dataclass(frozen=True, slots=True)
class RoutingEdit:
    """The edits of a run by model layer number; a layer that is absent routes as trained."""

    layers: Mapping[int, LayerEdit]

    def of(self, layer: int) -> LayerEdit | None:
        """The edit of a layer, None where the routing is untouched."""
        return self.layers.get(layer)


def check_survivors(config: ModelConfig, layer: int, edit: LayerEdit) -> None:
    """Refuse an edit under which some choice of kept groups holds fewer selectable experts than top-k.

    Raises:
        EditError: says which layer, and how many experts are left.
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


def unchanged(config: ModelConfig, device: torch.device) -> LayerEdit:
    """An edit that changes nothing, to build others from."""
    none_E = torch.zeros(config.num_experts, dtype=torch.bool, device=device)
    return LayerEdit(knocked_out_E=none_E, forced_E=none_E.clone(), top_k=config.top_k)
