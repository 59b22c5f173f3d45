"""Questions about the run on show: which token comes next, and which expert a token goes to."""

from typing import TYPE_CHECKING

from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from pages.common import text
from pages.frame.room.rooms import Question

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

NUM_OPTIONS = 5  # of a question about a token
CONTEXT_CHARACTERS = 600


def next_token(trace: Trace, token: int, vocabulary: "Tokenizer | None") -> Question:
    """Return the question which token comes after `token`.

    The options are the token that follows in the run, and those that the model held most probable, in alphabetical
    order. Without recorded probabilities or vocabulary, other tokens of the run stand in for them.
    """
    truth = text.token(trace, token + 1)
    if vocabulary is not None and trace.has("candidate_id"):
        names = [text.entry(each, vocabulary) for each in trace.data["candidate_id"].values[token].tolist()]
    else:
        names = [text.token(trace, index) for index in range(trace.num_tokens)]
    others = [name for name in dict.fromkeys(names) if name != truth]
    options = tuple(sorted([truth, *others[: NUM_OPTIONS - 1]]))
    return Question("", "token", "Which token comes next?", options, frozenset([truth]), _before(trace, token + 1))


def expert(trace: Trace, token: int, layer: int) -> Question:
    """Return the question to which expert the router of a layer sends a token; each selected expert is right."""
    chosen = trace.data["expert_id"].sel(moe_layer=layer).values[token].tolist()
    truth = frozenset(str(number) for number in chosen if number >= 0)
    number = rule_of(trace).num_experts
    words = (
        f"To which expert does layer {layer} send the token {text.token(trace, token)}? "
        f"{len(truth)} of {number} experts are right."
    )
    return Question("", "expert", words, tuple(map(str, range(number))), truth, _before(trace, token + 1))


def _before(trace: Trace, end: int) -> str:
    """Return the text before token number `end`, its last characters if it is long."""
    words = trace.text[: trace.tokens[end].start if end < trace.num_tokens else len(trace.text)]
    shown = words.decode("utf-8", "replace")
    return shown if len(shown) <= CONTEXT_CHARACTERS else f"\N{HORIZONTAL ELLIPSIS}{shown[-CONTEXT_CHARACTERS:]}"
