"""How good a run's drafts were: how often right, and whether the model sent a wrong one where it sent the right token.

A draft names the token two places after the position it was made at; it is right when that is the token that came. It
was *tried* when it was fed to the model before the token was chosen, as speculative decoding does. Token by token, on
text that was given as well as on text that was generated.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import routing
from model.trace.trace import Trace


@dataclasses.dataclass(frozen=True, slots=True)
class Acceptance:
    """Right drafts of so many, with Wilson's 95 % interval of the share."""

    right: int
    total: int

    @property
    def share(self) -> float:
        """NaN where there are none."""
        return self.right / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """As if the tokens were independent of each other, which those of a text are not quite."""
        return routing.share_interval(self.right, self.total)


def right(trace: Trace) -> xr.DataArray:
    """Whether each token is the one that was drafted for it, [token] bool."""
    return trace.data["draft_id"] == trace.data["token_id"]


def acceptance(trace: Trace) -> Acceptance:
    """Of the drafts that were tried."""
    tried = trace.data["draft_tried"]
    return Acceptance(int((right(trace) & tried).sum()), int(tried.sum()))


def agreement(trace: Trace, counted: xr.DataArray) -> Acceptance:
    """Of all drafts for the counted tokens, [token] bool, tried or not."""
    drafted = (trace.data["draft_id"] >= 0) & counted
    return Acceptance(int((right(trace) & drafted).sum()), int(drafted.sum()))


def shared_experts(trace: Trace) -> xr.DataArray:
    """Share of a token's experts that the draft tried in its place took too, [token, moe_layer]; NaN where none was."""
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
    """The mean of `shared_experts` over wrong drafts, [moe_layer]; right ones are the token itself and share all."""
    return shared_experts(trace).where(trace.data["draft_tried"] & ~right(trace)).mean("token")


def shared_by_chance(trace: Trace) -> xr.DataArray:
    """Mean share of its experts that a token has in common with another generated token of the trace, [moe_layer].

    NaN where there are fewer than two. From the experts' loads: two tokens drawn without replacement.
    """
    ids = trace.data["expert_id"].isel(token=~trace.prompt_mask.values).values
    num_tokens, num_layers, top_k = ids.shape
    shares = np.full(num_layers, np.nan)
    for layer in range(num_layers):
        taken = np.bincount(ids[:, layer][ids[:, layer] >= 0]).astype(float)
        if num_tokens > 1:
            shares[layer] = (taken * (taken - 1)).sum() / (num_tokens * (num_tokens - 1) * top_k)
    return xr.DataArray(shares, dims=("moe_layer",), coords={"moe_layer": trace.data["moe_layer"]})


def passes_saved(trace: Trace) -> tuple[int, int]:
    """Forward passes that right drafts made needless, and generated tokens."""
    return acceptance(trace).right, int((~trace.prompt_mask).sum())
