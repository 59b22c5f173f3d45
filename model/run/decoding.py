"""The forward passes of one run.

With `RunRequest.verify_drafts`, the pass over token t also feeds the draft of token t + 1. Token t + 1 is then sampled
as without drafts, with the same random draw. If the sample equals the draft, the draft is accepted, and token t + 1
needs no pass of its own. Otherwise the draft is rejected, and removed from the cache and the recorder. The text
therefore equals that of decoding without drafts at any temperature, and the trace holds only tokens of the sequence.
A run that records drafts without verifying them makes them all after its last pass.

Shape suffixes: B batch (1), T new positions, D model width, V vocabulary, L MoE layers, K selected experts.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

import numpy as np
import torch

from model.network.block import Block
from model.network.cache import LatentCache
from model.network.edit import RoutingEdit
from model.network.transformer import Transformer
from model.run.drafts import Drafter
from model.run.predictions import rows_at_once
from model.run.recorder import Recorder
from model.run.request import RunRequest
from model.run.sampling import choose
from model.run.turns import PASSES

Part = TypeVar("Part")


class Decoding:
    """The state of a run.

    Attributes:
        length: number of tokens of the sequence that have been fed.
        next_id: the token to feed next; -1 before the first pass.
    """

    def __init__(
        self,
        model: Transformer,
        request: RunRequest,
        capacity: int,
        edit: RoutingEdit | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.recorder = Recorder(model.config, request.capture)
        self.next_id = -1
        self._model, self._request, self._edit, self._device = model, request, edit, device
        self._cache = LatentCache(model.config, capacity, device, dtype)
        self._generator = torch.Generator().manual_seed(request.seed)
        self._verifies = request.verify_drafts and request.max_new_tokens > 0
        drafts = self._verifies or "drafts" in request.capture.variables
        self._drafter = Drafter(model, capacity, device, dtype) if drafts else None

    @property
    def length(self) -> int:
        return self._cache.length

    def advance(
        self, new_ids: list[int], blocks: Iterable[Block] | None = None
    ) -> tuple[list[int], dict[str, np.ndarray]]:
        """Feed the next tokens of the sequence; return them and their trace variables.

        If a draft is accepted, the returned tokens include the draft.
        """
        drafted = self._draft_to_verify(new_ids)
        fed = torch.tensor([new_ids + drafted], device=self._device)
        blocks = cast("Iterable[Block]", self._model.blocks) if blocks is None else blocks
        x_BTD = self._model.hidden(fed, self._cache, self.recorder, self._edit, _pausing(blocks))
        # A long prompt's logits do not fit in memory: the last block's are computed now, those of others when recorded.
        *earlier, last_BTD = x_BTD.split(rows_at_once(self._model.config.vocab_size), dim=1)
        logits_TV, before = self._model.logits(last_BTD)[0], x_BTD.shape[1] - last_BTD.shape[1]
        self.next_id = self._choose(logits_TV[len(new_ids) - 1 - before])
        if drafted:
            self._mark_verified()
        if drafted == [self.next_id]:
            new_ids = new_ids + drafted
            self.next_id = self._choose(logits_TV[-1])
        elif drafted:
            self._cache.take_back(1)
            self.recorder.drop_last()
        logits = (self._model.logits(part_BTD)[0] for part_BTD in _pausing(earlier))
        arrays = self.recorder.take(new_ids, itertools.chain(logits, [logits_TV[: len(new_ids) - before]]))
        if self._drafter is not None:
            self._drafter.add(x_BTD[:, : len(new_ids)], [*new_ids[1:], self.next_id])
            # The last pass catches up too, because only now a run from disk has the module's weights.
            if self._verifies or self.length == self._cache.capacity:
                self._drafter.catch_up()
        return new_ids, arrays

    @property
    def is_behind(self) -> bool:
        """Whether `catch_up` has drafts to make, because the run ended early."""
        return self._drafter is not None and self._drafter.is_behind

    def catch_up(self) -> None:
        """Make the drafts that the passes left out."""
        assert self._drafter is not None
        self._drafter.catch_up()

    def draft_arrays(self) -> dict[str, np.ndarray]:
        """Return the trace variables of the drafts of all tokens, by name; empty unless drafts are captured."""
        variables, config = self._request.capture.variables, self._model.config
        if self._drafter is None or "drafts" not in variables:
            return {}
        with_experts = self._verifies and "router" in variables
        return self._drafter.arrays(self.length, (len(config.moe_layers), config.top_k) if with_experts else None)

    def _draft_to_verify(self, new_ids: list[int]) -> list[int]:
        """Return the draft to feed after `new_ids`, in a list; the list is empty if there is no draft to verify.

        A draft is fed neither with the prompt, nor after an end-of-sequence token, nor into a full cache.
        """
        has_room = self.length + 2 <= self._cache.capacity
        if (
            self._drafter is None
            or not self._verifies
            or not self.length
            or not has_room
            or new_ids[-1] == self._model.config.eos_id
        ):
            return []
        return [self._drafter.ahead.token_id]

    def _mark_verified(self) -> None:
        assert self._drafter is not None
        self._drafter.ahead.verified = True
        self._drafter.ahead.expert_ids_LK = self.recorder.last_experts()

    def _choose(self, logits_V: torch.Tensor) -> int:
        return choose(logits_V, self._request, self._generator)


def _pausing(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts of a pass; after each, others go first if the pass takes long."""
    for part in parts:
        yield part
        PASSES.pause()
