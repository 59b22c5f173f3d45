"""Names of tokens, the same in every table and list, and the escaping of foreign text for Markdown.

An image in Markdown makes the browser fetch a file. Text from a file, a trace, a checkpoint or the URL is therefore
escaped by `plain`, `message`, `sentence` or `as_code` before `st.markdown`, a caption, a message or a label shows it.
"""

import re
import string
import textwrap
from typing import TYPE_CHECKING

from model.trace import changes
from model.trace.trace import Trace
from viz import tokens
from viz.layout import Layout
from viz.tokens import bare_name, visible

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in string.punctuation if mark not in ".,;'"})


def fair(layout: Layout) -> str:
    """Return a sentence on what fair routing is for a router with this layout."""
    if layout.num_groups == 1:
        return "Fair routing: each token takes experts at random."
    return "Fair routing: each token keeps groups at random, then takes experts at random within them."


def token(trace: Trace, index: int) -> str:
    """Return the name of a token: its text, else the vocabulary's name without brackets, else its id, else `?`."""
    return tokens.name(trace.tokens[index], trace.text)


def first_words(trace: Trace, max_characters: int = 40) -> str:
    """Return the beginning of a trace's text in quotation marks, as Markdown; without text, the number of tokens."""
    words = beginning(trace, max_characters)
    return f"“{plain(words)}”" if words else f"{trace.num_tokens} tokens"


def beginning(trace: Trace, max_characters: int = 40) -> str:
    """Return the beginning of a trace's text as it is, on one line; empty if it has no text."""
    words = " ".join(trace.text[: 8 * max_characters].decode("utf-8", "ignore").split())
    short = textwrap.shorten(words, max_characters, placeholder="…") if len(words) > max_characters else words
    return short if len(short) > 1 or len(words) <= 1 else words[:max_characters] + "…"


def token_labels(trace: Trace) -> list[str]:
    """Return the axis labels of all tokens of a trace."""
    return tokens.token_labels(trace.tokens, trace.text)


def entry(token_id: int, vocabulary: "Tokenizer | None") -> str:
    """Return the name of a vocabulary entry in tables; its id if `vocabulary` is None."""
    if vocabulary is None:
        return f"#{token_id}"
    return visible(vocabulary.token_bytes(token_id)) or bare_name(vocabulary.piece(token_id)) or f"#{token_id}"


def plain(value: object, max_characters: int | None = None) -> str:
    r"""Return foreign text as one line of Markdown without markup; invisible characters become visible signs.

    Args:
        value: the text, or an object that `str` converts.
        max_characters: longer text is cut off here; None: no limit.

    >>> plain("![x](y)\n<b>")
    '\\!\\[x\\]\\(y\\) \\<b\\>'
    """
    return _visible(str(value)[:max_characters]).translate(_ESCAPES)


def message(value: object) -> str:
    r"""Return an error as one line of Markdown, escaped like `plain`, but with text between backticks as a code span.

    >>> message("record it with `--capture inputs`, ![x](y)")
    'record it with `--capture inputs`, \\!\\[x\\]\\(y\\)'
    """
    parts = re.split("((?<!`)`[^`]+`(?!`))", _visible(str(value)))
    return "".join(part if index % 2 else part.translate(_ESCAPES) for index, part in enumerate(parts))


def _visible(words: str) -> str:
    """Return text on one line, with signs for invisible characters."""
    return " ".join(visible(word.encode("utf-8", "surrogatepass")) for word in words.split())


def sentence(value: object) -> str:
    r"""Return an error as a sentence, with a capital letter and a full stop; a name at the beginning keeps its case.

    >>> sentence("config.json: a_b is empty")
    'config.json\\: a\\_b is empty.'
    """
    spelled = message(value)
    if not re.match(r"[a-z]+[ ,;']", spelled):
        return f"{spelled.rstrip('.')}."
    return f"{spelled[:1].upper()}{spelled[1:].rstrip('.')}."


def as_code(words: str) -> str:
    """Return text as a code span of Markdown, in which markup has no effect."""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    return f"{fence} {words} {fence}" if len(fence) > 1 else f"`{words}`"


def edits(trace: Trace) -> list[str]:
    """Return a run's interventions in words, as escaped Markdown: a trace file may hold any name."""
    return [plain(words, 120) for words in changes.in_words(trace)]
