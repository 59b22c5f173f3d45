"""Draft tokens of a run: how many were accepted, and how far their experts were those of the token itself.

A draft made at a position predicts the token two positions later; it is accepted if that token follows. A draft was
*tried* if it was fed to the model before the token was sampled, as in speculative decoding. Drafts exist for prompt
tokens as well as for generated ones.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import routing
from model.trace.trace import Trace


@dataclasses.dataclass(frozen=True, slots=True)
class Acceptance:
    """Accepted drafts out of `total`, with Wilson's 95 % interval of the share."""

    right: int
    total: int

    @property
    def share(self) -> float:
        """Return the acceptance rate; NaN without drafts."""
        return self.right / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Return the interval of the share, as if the tokens were independent; those of a text are not quite."""
        return routing.share_interval(self.right, self.total)


def right(trace: Trace) -> xr.DataArray:
    """Return a mask of tokens that equal their draft, [token] bool."""
    return trace.data["draft_id"] == trace.data["token_id"]


def acceptance(trace: Trace) -> Acceptance:
    """Return the acceptance of the drafts that were tried."""
    tried = trace.data["draft_tried"]
    return Acceptance(int((right(trace) & tried).sum()), int(tried.sum()))


def agreement(trace: Trace, counted: xr.DataArray) -> Acceptance:
    """Return the acceptance of all drafts for the tokens of a [token] mask, tried or not."""
    drafted = (trace.data["draft_id"] >= 0) & counted
    return Acceptance(int((right(trace) & drafted).sum()), int(drafted.sum()))


def shared_experts(trace: Trace) -> xr.DataArray:
    """Return the share of a token's experts that its tried draft selected too, [token, moe_layer]; NaN without one."""
    of_draft, of_token = trace.data["draft_expert_id"].values, trace.data["expert_id"].values
    same = (of_draft[..., :, None] == of_token[..., None, :]).any(-1).mean(-1)
    known = (of_draft >= 0).all(-1) & (of_token >= 0).all(-1)
    return trace.data["expert_id"].isel(rank=0, drop=True).copy(data=np.where(known, same, np.nan))


def shared_by_token(trace: Trace) -> xr.DataArray:
    """Return the mean of `shared_experts` over layers, [token]; NaN where no draft was tried."""
    return shared_experts(trace).mean("moe_layer")


def num_rejected(trace: Trace) -> int:
    """Count the drafts that were tried and were wrong."""
    return int((trace.data["draft_tried"] & ~right(trace)).sum())


def shared_by_layer(trace: Trace) -> xr.DataArray:
    """Return the mean of `shared_experts` over rejected drafts, [moe_layer]; an accepted draft shares all experts."""
    return shared_experts(trace).where(trace.data["draft_tried"] & ~right(trace)).mean("token")


def shared_by_chance(trace: Trace) -> xr.DataArray:
    """Return the mean share of experts that two generated tokens have in common, [moe_layer].

    Computed from the experts' loads, for two tokens drawn without replacement; NaN with fewer than two tokens.
    """
    ids = trace.data["expert_id"].isel(token=~trace.prompt_mask.values).values
    num_tokens, num_layers, top_k = ids.shape
    shares = np.full(num_layers, np.nan)
    for layer in range(num_layers):
        load = np.bincount(ids[:, layer][ids[:, layer] >= 0]).astype(float)
        if num_tokens > 1:
            shares[layer] = (load * (load - 1)).sum() / (num_tokens * (num_tokens - 1) * top_k)
    return xr.DataArray(shares, dims=("moe_layer",), coords={"moe_layer": trace.data["moe_layer"]})


def passes_saved(trace: Trace) -> tuple[int, int]:
    """Return the forward passes that accepted drafts saved, and the number of generated tokens."""
    return acceptance(trace).right, int((~trace.prompt_mask).sum())
