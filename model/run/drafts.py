"""Drafts of a run: what the multi-token-prediction module says each token will be, two tokens ahead.

The module runs over tokens that are in the sequence for good, once it is known which token comes after each; its draft
for the token after that one waits here until that token is there to be compared. Whoever decodes may try the last draft
(feed it before it is chosen) and says so.

Shape suffixes: B batch (always 1), T new positions, D model width, V vocabulary, L mixture layers, K rank.
"""

import collections
import dataclasses

import numpy as np
import torch
from torch import Tensor

from model.network.cache import LatentCache
from model.network.transformer import Transformer
from model.run.recorder import rows_at_once

NONE = -1


@dataclasses.dataclass(slots=True)
class Draft:
    """Of one token."""

    token_id: int = NONE  # none for the first two tokens, which nothing comes two places before
    logprob: float = float("nan")  # that the module gives its draft
    tried: bool = False  # the draft was fed before the token was chosen
    expert_ids_LK: np.ndarray | None = None  # where the model itself sent the draft when it was tried


class Drafter:
    """The module, its cache, and the drafts of the tokens that are still to come."""

    def __init__(self, model: Transformer, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self._cache = LatentCache(model.config, capacity, device, dtype, layers=(model.config.num_layers,))
        self._shape = (len(model.config.moe_layers), model.config.top_k)
        self._waiting = collections.deque([Draft(), Draft()])

    @property
    def ahead(self) -> Draft:
        """Of the token after the one that is fed next."""
        return self._waiting[-1]

    def extend(self, x_BTD: Tensor, next_ids: list[int], with_experts: bool) -> dict[str, np.ndarray]:
        """Draft for the new positions, and return the Trace variables of the tokens at them.

        Args:
            x_BTD: the residual stream after the last layer at the new positions.
            next_ids: the token that follows each.
            with_experts: whether to return where tried drafts were sent, too.
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
            "draft_tried": np.array([draft.tried for draft in own]),
        }
        if with_experts:
            nowhere_LK = np.full(self._shape, NONE, np.int16)
            sent = [nowhere_LK if draft.expert_ids_LK is None else draft.expert_ids_LK for draft in own]
            arrays["draft_expert_id"] = np.stack(sent)
        return arrays
