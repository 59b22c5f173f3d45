"""Decisions of a layer, as tensors: which experts the router selects and which keys the indexer selects.

Shape suffixes: T tokens (in `Routing`: batch and positions in one axis; in `Selection`: new positions), E experts,
G groups, K selected experts or keys, B batch, S positions so far.
"""

from typing import NamedTuple

from torch import Tensor


class Routing(NamedTuple):
    """One layer's routing decision, everything in fp32 but ids and masks."""

    scores_TE: Tensor  # affinity: sigmoid of the logit (V2: softmax of the logits), before the bias
    group_scores_TG: Tensor  # sum of a group's two best biased scores (V2: its best score)
    kept_groups_TG: Tensor  # bool
    expert_ids_TK: Tensor  # int64, best biased score first; rows that an edit gives come as given
    weights_TK: Tensor  # as applied: normalised and scaled


class Selection(NamedTuple):
    """Which keys each query may read, the same for all heads."""

    scores_BTS: Tensor  # fp32, minus infinity for keys after the query
    key_ids_BTK: Tensor  # best score first; a query with fewer keys before it than K is filled up with later ones
    kept_BTS: Tensor  # bool, never a key after the query

    @property
    def is_partial(self) -> bool:
        """Whether some query may have to leave out a key; if not, attention is dense."""
        return self.key_ids_BTK.shape[-1] < self.scores_BTS.shape[-1]
