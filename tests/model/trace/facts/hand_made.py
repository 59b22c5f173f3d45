"""A trace whose numbers were chosen and worked out by hand: BOS and three tokens, one layer with eight experts."""

import dataclasses

import numpy as np

from model.trace.router_rule import RouterRule
from model.trace.trace import Token, Trace
from tests.traces import random_trace

BIAS = [0, 0, 0, 0, -0.3, 0, 0.4, 0.25]
RULE = RouterRule(num_experts=8, top_k=3, num_groups=4, num_kept_groups=2, routed_scale=2.5)
AFFINITIES = [
    [0.8, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1, 0.05],
    [0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2],  # the first example of the gate in the published code
    [0.1, 0.1, 0.1, 0.1, 0.9, 0.7, 0.4, 0.36],
    [0.8, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1, 0.05],
]
EXPERTS = [[0, 1, 6], [2, 3, 6], [5, 6, 7], [0, 1, 6]]  # the largest weight first
KEPT = [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1]]
GROUP_SCORES = [[1.5, 0.7, -0.1, 0.8], [1.0, 1.1, 0.55, 1.15], [0.2, 0.2, 1.3, 1.41], [1.5, 0.7, -0.1, 0.8]]
# The heads of layer 0 look at the token before, and at themselves; those of layer 1 at the first token, and at all.
BEFORE = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
ALL = [[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4]
FIRST = [[1, 0, 0, 0]] * 4


def hand_made() -> Trace:
    """The trace; its text is "ab", a line break, and "c"."""
    trace = random_trace(num_prompt=4, num_new=0, num_layers=2, num_experts=8, top_k=3)
    tokens, text = [trace.tokens[0]], b""
    for token, piece in zip(trace.tokens[1:], (b"a", b"b\n", b"c"), strict=True):
        tokens.append(Token(token.id, piece.decode(), len(text), len(text) + len(piece), False))
        text += piece
    affinities = np.array(AFFINITIES)
    weights = RULE.weights(np.take_along_axis(affinities, np.array(EXPERTS), -1))
    attention = np.array([[BEFORE, np.eye(4)], [FIRST, ALL]])
    data = trace.data.assign(
        logprob=(("token",), np.log(np.array([np.nan, 1 / 8, 1 / 2, 1 / 32])).astype("f4")),
        router_score=(("token", "moe_layer", "expert"), affinities[:, None].astype("f4")),
        expert_bias=(("moe_layer", "expert"), np.array([BIAS], "f4")),
        group_score=(("token", "moe_layer", "group"), np.array(GROUP_SCORES)[:, None].astype("f4")),
        group_kept=(("token", "moe_layer", "group"), np.array(KEPT, bool)[:, None]),
        expert_id=(("token", "moe_layer", "rank"), np.array(EXPERTS, "i2")[:, None]),
        gate_weight=(("token", "moe_layer", "rank"), weights[:, None].astype("f4")),
        attention=(("attention_layer", "head", "query", "key"), attention.astype("f4")),
    )
    return dataclasses.replace(trace, data=data, tokens=tuple(tokens), text=text)
