"""What a report shows of its run: a layer, a token and a head, and whether it holds the text."""

import dataclasses

from model.trace.attention import ALL_HEADS
from model.trace.expert_tokens import newest_token
from model.trace.trace import Trace
from viz.thumbnails import head_numbers


class ReportError(ValueError):
    """A report cannot show what was asked for; the message says what the trace holds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What a report shows of its run. Make one by `choose`, which checks it against the trace.

    Attributes:
        token: number of the token.
        layer: label of the MoE layer; None if the trace holds no routing.
        attention_layer: model layer number of the attention; None if the trace holds no attention.
        head: number of the head, or `ALL_HEADS`; None if the trace holds no attention.
        with_text: whether the report holds the text.
    """

    token: int
    layer: int | None
    attention_layer: int | None
    head: int | None
    with_text: bool = True


def choose(
    trace: Trace, layer: int | None = None, token: int | None = None, head: int | None = None, with_text: bool = True
) -> Choice:
    """Return a choice that the trace can show.

    Args:
        trace: the trace.
        layer: number of a layer, as pages list them; None: the first MoE layer. If it has experts or attention only,
            the other is of the first layer that has it.
        token: number of a token; None: the last token whose experts are known.
        head: number of a recorded head, or `ALL_HEADS`; None: the first.
        with_text: whether the report holds the text.

    Raises:
        ReportError: the trace holds no such layer, token or head.
    """
    moe, attention, heads = moe_layers(trace), attention_layers(trace), recorded_heads(trace)
    if layer is not None and layer not in (*moe, *attention):
        raise _missing("layer", layer, sorted({*moe, *attention}))
    if token is not None and not 0 <= token < trace.num_tokens:
        raise _missing("token", token, list(range(trace.num_tokens)))
    if head is not None and heads and head not in (*heads, ALL_HEADS):
        raise _missing("head", head, heads)
    if head is not None and not heads:
        raise ReportError(f"the trace holds no attention, so there is no head {head}; leave the head out")
    routed = layer if layer in moe else next(iter(moe), None)
    looking = routed if layer is None else layer
    return Choice(
        token=newest_token(trace) if token is None else token,
        layer=routed,
        attention_layer=looking if looking in attention else next(iter(attention), None),
        head=next(iter(heads), None) if head is None else head,
        with_text=with_text,
    )


def moe_layers(trace: Trace) -> list[int]:
    """Return the labels of the MoE layers whose experts the trace holds."""
    return trace.data["moe_layer"].values.tolist() if trace.has("expert_id") else []


def attention_layers(trace: Trace) -> list[int]:
    """Return the model layer numbers of the layers whose attention the trace holds."""
    return trace.data["attention_layer"].values.tolist() if trace.has("attention") else []


def recorded_heads(trace: Trace) -> list[int]:
    """Return the numbers of the recorded heads."""
    return head_numbers(trace.data["attention"]).tolist() if trace.has("attention") else []


def _missing(kind: str, number: int, numbers: list[int]) -> ReportError:
    if not numbers:
        return ReportError(f"{kind} {number} does not exist; the trace holds no {kind}s to show, so leave it out")
    return ReportError(f"{kind} {number} does not exist; the trace holds {kind}s {numbers[0]} to {numbers[-1]}")
