"""Draft tokens of a run: the predictions of the multi-token-prediction module, two tokens ahead.

The module runs at a position once the token after it is known. `Drafter` keeps the states of new positions until
`catch_up` drafts at all of them. A run that only records drafts catches up once, at its end: one pass over many
positions takes a fraction of the time of many passes. A run that verifies drafts catches up after each pass. `Decoding`
then feeds the latest draft before its token is sampled, and marks the draft as verified.

Shape suffixes: B batch (always 1), T new positions, D model width, V vocabulary, L MoE layers, K rank.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from model.network.cache import LatentCache
from model.network.transformer import Transformer
from model.run.predictions import rows_at_once

NONE = -1


@dataclasses.dataclass(slots=True)
class Draft:
    """The draft of one token."""

    token_id: int = NONE  # the first two tokens have no draft, because a draft is made two positions ahead
    logprob: float = float("nan")  # log-probability that the module gives the draft
    verified: bool = False  # the draft was fed before its token was sampled
    expert_ids_LK: np.ndarray | None = None  # experts that the model selected for the verified draft


class Drafter:
    """The multi-token-prediction module of a run, its cache, and the draft of each token."""

    def __init__(self, model: Transformer, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self._cache = LatentCache(model.config, capacity, device, dtype, layers=(model.config.num_layers,))
        self._drafts = [Draft(), Draft()]  # of each token, in order
        self._states: list[Tensor] = []  # the residual stream [B, T, D] of the positions without a draft
        self._next_ids: list[int] = []  # the token after each of these positions

    @property
    def ahead(self) -> Draft:
        """The latest draft; after `catch_up`, it predicts the token after the next token to feed."""
        return self._drafts[-1]

    @property
    def is_behind(self) -> bool:
        """Whether there are positions without a draft."""
        return bool(self._states)

    def add(self, x_BTD: Tensor, next_ids: list[int]) -> None:
        """Add positions to draft at.

        Args:
            x_BTD: the residual stream after the last layer at the new positions.
            next_ids: the token after each new position.
        """
        self._states.append(x_BTD)
        self._next_ids += next_ids

    def catch_up(self) -> None:
        """Draft at all positions that were added since the last call."""
        x_BTD = self._states[0] if len(self._states) == 1 else torch.cat(self._states, dim=1)
        next_ids_BT = torch.tensor([self._next_ids], device=x_BTD.device)
        self._states, self._next_ids = [], []
        rows = rows_at_once(self._model.config.vocab_size)
        for states_BTD, ids_BT in zip(x_BTD.split(rows, 1), next_ids_BT.split(rows, 1), strict=True):
            logits_TV = self._model.draft_logits(states_BTD, ids_BT, self._cache)[0].float()
            best = logits_TV.max(-1)
            logprobs_T = best.values - logits_TV.logsumexp(-1)
            self._drafts += [Draft(*each) for each in zip(best.indices.tolist(), logprobs_T.tolist(), strict=True)]

    def arrays(self, num_tokens: int, shape_LK: tuple[int, int] | None) -> dict[str, np.ndarray]:
        """Return the trace variables of the drafts of the first `num_tokens` tokens, by name.

        With `shape_LK`, they include the experts of verified drafts.
        """
        of_tokens = self._drafts[:num_tokens]
        arrays = {
            "draft_id": np.array([draft.token_id for draft in of_tokens], np.int32),
            "draft_logprob": np.array([draft.logprob for draft in of_tokens], np.float32),
            "draft_tried": np.array([draft.verified for draft in of_tokens]),
        }
        if shape_LK is not None:
            nowhere_LK = np.full(shape_LK, NONE, np.int16)
            experts = [nowhere_LK if draft.expert_ids_LK is None else draft.expert_ids_LK for draft in of_tokens]
            arrays["draft_expert_id"] = np.stack(experts)
        return arrays
