"""Draft tokens of a run: the predictions of the multi-token-prediction module, two tokens ahead.

The module runs at a position once the token after it is known. `Drafter` keeps each draft until the token that it
predicts is sampled. `Decoding` can verify the latest draft: it feeds the draft before that token is sampled, and marks
the draft as verified.

Shape suffixes: B batch (always 1), T new positions, D model width, V vocabulary, L MoE layers, K rank.
"""

import collections
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
    """The multi-token-prediction module, its cache, and the drafts of tokens that are not sampled yet."""

    def __init__(self, model: Transformer, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self._cache = LatentCache(model.config, capacity, device, dtype, layers=(model.config.num_layers,))
        self._shape = (len(model.config.moe_layers), model.config.top_k)
        self._waiting = collections.deque([Draft(), Draft()])

    @property
    def ahead(self) -> Draft:
        """The latest draft: it predicts the token after the next token to feed."""
        return self._waiting[-1]

    def extend(self, x_BTD: Tensor, next_ids: list[int], with_experts: bool) -> dict[str, np.ndarray]:
        """Draft a token at each new position, and return trace variables for these positions.

        The variables hold, for the token at each position, the draft that was made two positions earlier.

        Args:
            x_BTD: the residual stream after the last layer at the new positions.
            next_ids: the token after each new position.
            with_experts: also return the experts of verified drafts.
        """
        next_ids_BT = torch.tensor([next_ids], device=x_BTD.device)
        rows = rows_at_once(self._model.config.vocab_size)
        for states_BTD, ids_BT in zip(x_BTD.split(rows, 1), next_ids_BT.split(rows, 1), strict=True):
            logits_TV = self._model.draft_logits(states_BTD, ids_BT, self._cache)[0].float()
            best = logits_TV.log_softmax(-1).max(-1)
            for token_id, logprob in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                self._waiting.append(Draft(token_id, logprob))
        own = [self._waiting.popleft() for _ in next_ids]
        arrays = {
            "draft_id": np.array([draft.token_id for draft in own], np.int32),
            "draft_logprob": np.array([draft.logprob for draft in own], np.float32),
            "draft_tried": np.array([draft.verified for draft in own]),
        }
        if with_experts:
            nowhere_LK = np.full(self._shape, NONE, np.int16)
            sent = [nowhere_LK if draft.expert_ids_LK is None else draft.expert_ids_LK for draft in own]
            arrays["draft_expert_id"] = np.stack(sent)
        return arrays
