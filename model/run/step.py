"""What a run yields on its way: the tokens of one forward pass. Without torch, for pages and engines elsewhere."""

import dataclasses

import numpy as np

from model.trace.trace import Token


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The whole prompt first, then a generated token, or two where a draft was right.

    Attributes:
        start: index of the first new token.
        tokens: the new ones.
        text: everything so far.
        arrays: trace variables of the new tokens; attention is [layer, head, new query, key so far]. Experts that an
            engine elsewhere has not named yet are -1.
    """

    start: int
    tokens: tuple[Token, ...]
    text: bytes
    arrays: dict[str, np.ndarray]
