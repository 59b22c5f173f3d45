"""Draft tokens of a run: how many were accepted, and how many experts they share with the tokens sampled instead.

A draft made at a position predicts the token two positions later. It is *verified* if the model processed it before
that token was sampled, as in speculative decoding; it is accepted if the same token was then sampled. Drafts for prompt
tokens exist too; they are not verified.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import routing
from model.trace.trace import Trace


@dataclasses.dataclass(frozen=True, slots=True)
class Acceptance:
    """The number of drafts that equal the token they predict, out of `total`."""

    matching: int
    total: int

    @property
    def share(self) -> float:
        """The share of matching drafts; NaN without drafts."""
        return self.matching / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, as if the tokens were independent."""
        return routing.share_interval(self.matching, self.total)


def matches(trace: Trace) -> xr.DataArray:
    """Return a mask of tokens that equal the draft made for their position, [token] bool."""
    return trace.data["draft_id"] == trace.data["token_id"]


def acceptance(trace: Trace) -> Acceptance:
    """Return how many verified drafts were accepted."""
    verified = trace.data["draft_tried"]
    return Acceptance(int((matches(trace) & verified).sum()), int(verified.sum()))


def agreement(trace: Trace, counted: xr.DataArray) -> Acceptance:
    """Return how many drafts for the tokens in the mask `counted`, verified or not, equal the token they predict."""
    drafted = (trace.data["draft_id"] >= 0) & counted
    return Acceptance(int((matches(trace) & drafted).sum()), int(drafted.sum()))


def shared_experts(trace: Trace) -> xr.DataArray:
    """Return the share of a token's experts that its verified draft selected too, [token, moe_layer].

    NaN for a token without a verified draft.
    """
    of_draft, of_token = trace.data["draft_expert_id"].values, trace.data["expert_id"].values
    same = (of_draft[..., :, None] == of_token[..., None, :]).any(-1).mean(-1)
    known = (of_draft >= 0).all(-1) & (of_token >= 0).all(-1)
    return trace.data["expert_id"].isel(rank=0, drop=True).copy(data=np.where(known, same, np.nan))


def shared_by_token(trace: Trace) -> xr.DataArray:
    """Return the mean of `shared_experts` over layers, [token]; NaN without a verified draft."""
    return shared_experts(trace).mean("moe_layer")


def num_rejected(trace: Trace) -> int:
    """Return the number of rejected drafts: verified drafts that differ from the token they predict."""
    return int((trace.data["draft_tried"] & ~matches(trace)).sum())


def shared_by_layer(trace: Trace) -> xr.DataArray:
    """Return the mean of `shared_experts` over rejected drafts, [moe_layer].

    Accepted drafts are left out: they share all experts.
    """
    return shared_experts(trace).where(trace.data["draft_tried"] & ~matches(trace)).mean("token")


def shared_by_chance(trace: Trace) -> xr.DataArray:
    """Return the mean share of experts that two generated tokens have in common, [moe_layer].

    It is computed from the experts' loads, for two tokens drawn without replacement. NaN with fewer than two tokens.
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
    """Return the number of forward passes saved by accepted drafts, and the number of generated tokens."""
    return acceptance(trace).matching, int((~trace.prompt_mask).sum())
