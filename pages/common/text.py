"""Words on a page: tokens, named the same way in every table and choice, and text that must not be read as Markdown.

An image in Markdown makes the browser fetch it. What comes from a file, a trace, a checkpoint or the address therefore
passes `plain`, `sentence` or `as_code` on its way to `st.markdown`, a caption, a message or a label.
"""

import re
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.trace.trace import Trace
from viz import tokens
from viz.tokens import short_name, visible

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in string.punctuation if mark not in ".,;'"})


def token(trace: Trace, index: int) -> str:
    """A token of a trace as it is named in tables; `?` where a recording does not say which it is."""
    entry = trace.tokens[index]
    if entry.start < entry.end:
        return visible(trace.text[entry.start : entry.end])
    return entry.piece or (f"#{entry.id}" if entry.id >= 0 else "?")


def token_labels(trace: Trace) -> list[str]:
    """Return all tokens of a trace as the axes of a figure name them."""
    return tokens.token_labels(trace.tokens, trace.text)


def boxed(trace: Trace, index: int) -> str:
    """The same where a box tells special tokens from text: those go by their short name."""
    found = trace.tokens[index]
    return short_name(found) if found.special else token(trace, index)


def entry(token_id: int, vocabulary: "Tokenizer | None") -> str:
    """An entry of the vocabulary as it is named in tables; its number when the vocabulary is not at hand."""
    if vocabulary is None:
        return f"#{token_id}"
    return visible(vocabulary.token_bytes(token_id)) or vocabulary.piece(token_id) or f"#{token_id}"


def plain(said: object, most: int | None = None) -> str:
    r"""Foreign text as one line of Markdown that says only itself; what cannot be seen is spelled out.

    Args:
        said: the text, or what is to be written as one.
        most: characters that are shown; the rest is left out.

    >>> plain("![x](y)\n<b>")
    '\\!\\[x\\]\\(y\\) \\<b\\>'
    """
    return _visible(str(said)[:most]).translate(_ESCAPES)


def message(said: object) -> str:
    r"""What was refused, and why: as `plain`, but what stands between backticks stays a code span, which is as inert.

    >>> message("record it with `--capture inputs`, ![x](y)")
    'record it with `--capture inputs`, \\!\\[x\\]\\(y\\)'
    """
    parts = re.split("((?<!`)`[^`]+`(?!`))", _visible(str(said)))
    return "".join(part if place % 2 else part.translate(_ESCAPES) for place, part in enumerate(parts))


def _visible(said: str) -> str:
    """On one line, with what cannot be seen spelled out."""
    return " ".join(visible(word.encode("utf-8", "surrogatepass")) for word in said.split())


def sentence(said: object) -> str:
    """A message that begins with a capital and ends with a full stop."""
    spelled = message(said)
    return f"{spelled[:1].upper()}{spelled[1:].rstrip('.')}."


def as_code(said: str) -> str:
    """Text as a code span of Markdown, which says only itself."""
    fence = "`" * (1 + max(map(len, re.findall("`+", said)), default=0))
    return f"{fence} {said} {fence}" if len(fence) > 1 else f"`{said}`"


def edits(trace: Trace) -> list[str]:
    """Return a run's interventions in words, as Markdown: a trace file may name anything."""
    return [plain(_edit(change), 120) for change in trace.interventions]


def _edit(change: Mapping[str, Any]) -> str:
    layer, where = change.get("layer"), "" if change.get("layer") is None else f" in L{change['layer']}"
    words = {
        "KnockOut": f"L{layer}E{change.get('expert')} knocked out",
        "ForceExpert": f"L{layer}E{change.get('expert')} forced",
        "TopK": f"{change.get('k')} experts per token",
        "BiasOff": f"bias off{where}",
        "GroupLimitOff": f"group limit off{where}",
        "GateTemperature": f"gate temperature {change.get('temperature')}{where}",
        "ScoreThreshold": f"no weight below affinity {change.get('threshold')}{where}",
        "Replay": f"routing of the first {change.get('num_tokens')} tokens replayed",
    }
    return words.get(str(change.get("kind")), "an unknown change")
