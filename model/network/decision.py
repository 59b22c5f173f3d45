"""The decisions of a layer as tensors: the experts that its router selects, and the keys that its indexer selects.

Shape suffixes: T tokens (in `Routing`: batch and positions in one axis; in `Selection`: new positions), E experts,
G groups, K selected experts or keys, B batch, S positions so far.
"""

from typing import NamedTuple

from torch import Tensor


class Routing(NamedTuple):
    """The router's decision in one layer; fp32 except ids and masks."""

    scores_TE: Tensor  # affinity: sigmoid of the logit (V2: softmax of the logits), before the bias
    group_scores_TG: Tensor  # sum of a group's two best biased scores (V2: its best affinity)
    kept_groups_TG: Tensor  # bool
    expert_ids_TK: Tensor  # int64, best biased score first; rows of a `GivenRouting` keep their given order
    weights_TK: Tensor  # gate weights as applied: normalised and scaled


class Selection(NamedTuple):
    """The keys that each query may read, the same for all heads."""

    scores_BTS: Tensor  # fp32, minus infinity for keys after the query
    key_ids_BTK: Tensor  # best score first; a query with fewer than K keys before it also lists later ones
    kept_BTS: Tensor  # bool, never a key after the query

    @property
    def is_partial(self) -> bool:
        """Whether there are more keys than a query may read; if not, attention is dense."""
        return self.key_ids_BTK.shape[-1] < self.scores_BTS.shape[-1]
