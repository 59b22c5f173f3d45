"""The overview above the tabs: the size of the text, remarks, the text itself, and the chosen token."""

import numpy as np
import streamlit as st

from model.trace import token_counts
from model.trace.imports import origin
from model.trace.trace import Trace
from pages.common import controls, text
from viz import boundaries
from viz.boundaries import describe
from viz.tokens import chips, inside_characters, special_lookalikes, visible

MAX_CHIPS = 2_000  # tokens shown at a time: with more, the browser becomes slow


def verdict(trace: Trace) -> None:
    """Show the size of the text in one sentence, and the remarks below."""
    if trace.text:
        st.markdown(summary(trace), help=f"Measured; n = {trace.num_tokens:,} tokens.")
        for remark in remarks(trace):
            st.caption(remark)
    elif all(token.id < 0 for token in trace.tokens):
        st.info("This trace holds the number of tokens, but neither their ids nor their text.")
    else:
        st.info("This trace was made from token ids, without a tokenizer: it holds ids, but no text.")


def summary(trace: Trace) -> str:
    """Return one sentence on the size of the whole text."""
    counts = token_counts.count(trace, np.full(trace.num_tokens, True), inside_characters(trace.text))
    special = f" ({counts.special} special)" if counts.special else ""
    return (
        f"**{counts.tokens:,} tokens**{special} spell {counts.bytes:,} bytes: {counts.bytes_per_token:.3g} bytes per "
        "token with text."
    )


def remarks(trace: Trace) -> list[str]:
    """Return remarks on split characters, bytes that are no valid UTF-8, and text that looks like a special token."""
    shared = sum(first < last for first, last, _ in chips(trace.tokens, trace.text))
    broken = sum("\udc80" <= character <= "\udcff" for character in trace.text.decode(errors="surrogateescape"))
    sentences = []
    if shared:
        characters = _number(shared, "character is", "characters are")
        sentences.append(f"{characters} made of several tokens and shown in one chip.")
    if broken:
        sentences.append(f"{_number(broken, 'byte is', 'bytes are')} not part of any character, and written `\\xNN`.")
    return [*_of_tokenizer(trace), *sentences, *_lookalikes(trace)]


def _of_tokenizer(trace: Trace) -> list[str]:
    """Return the notes on the first tokens, and a remark if the tokens of the prompt spell another text."""
    if origin.is_imported(trace):
        return []
    return [*map(text.sentence, origin.notes(trace)), *_changed_text(trace)]


def _changed_text(trace: Trace) -> list[str]:
    prompt = trace.request.get("prompt")
    if not isinstance(prompt, str) or trace.request.get("chat"):
        return []
    typed = prompt.encode(errors="surrogatepass")
    spelled = trace.text[: max((token.end for token in trace.tokens if not token.generated), default=0)]
    if spelled == b" " + typed:
        return ["The tokenizer puts a space before the text, which the first token with text holds."]
    if spelled != typed:
        return ["The tokenizer changes the prompt before it is cut into tokens. This page shows what the model reads."]
    return []


def _lookalikes(trace: Trace, most: int = 3) -> list[str]:
    # An added token may look special although `tokenizer.json` does not mark it as special.
    whole = {(token.start, token.end) for token in trace.tokens}
    spans, sentences = [span for span in special_lookalikes(trace.text) if span not in whole], []
    for start, end in spans[:most]:
        tokens = [index for index, token in enumerate(trace.tokens) if max(start, token.start) < min(end, token.end)]
        where = f"tokens {tokens[0]} to {tokens[-1]}" if len(tokens) > 1 else f"token {tokens[0]}"
        spelled = text.as_code(visible(trace.text[start:end]))
        sentences.append(f"{spelled} in {where} is text that looks like a special token, but is none.")
    return sentences + ([f"{len(spans) - most} more texts look like special tokens."] if len(spans) > most else [])


def _number(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def strip(trace: Trace) -> int | None:
    """Draw the text with the boundaries of its tokens; return the chosen token."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        under = st.segmented_control(
            "Below each token", boundaries.UNDER, default=boundaries.NOTHING, required=True, key="under",
            bind="query-params", help="Id: the token's number in the vocabulary. Bytes: its bytes, two digits each.",
        )  # fmt: skip
        token = controls.locked_token(trace)
        shown = _window(trace, token)
    figure = boundaries.text_with_boundaries(trace.tokens, trace.text, under or boundaries.NOTHING, token, shown)
    st.html(f"<style>{boundaries.CSS}</style>{figure}{boundaries.LEGEND}")
    st.caption(
        "Each shade is one token. Point at a token for its number, id and bytes. A character that several tokens spell "
        "stays in one piece."
    )
    return token


def _window(trace: Trace, token: int | None) -> range:
    """Return the range of tokens to show: all tokens of a short text, or the part of a long text chosen from a list.

    At first, the part that holds the chosen token is shown.
    """
    starts = list(range(0, trace.num_tokens, MAX_CHIPS))
    if len(starts) == 1:
        return range(trace.num_tokens)
    ends = {start: min(start + MAX_CHIPS, trace.num_tokens) for start in starts}
    index = (token or 0) // MAX_CHIPS
    start = st.selectbox(
        "Tokens shown",
        starts,
        index=index,
        key=f"shown-{index}",
        bind="query-params",
        format_func=lambda start: f"{start:,} to {ends[start] - 1:,} of {trace.num_tokens:,}",
    )
    return range(start, ends[start])


def about(trace: Trace, token: int) -> str:
    """Return a description of one token in words, with the code points of its text."""
    first, last, display = next(chip for chip in chips(trace.tokens, trace.text) if chip[0] <= token <= chip[1])
    words = f"{text.as_code(text.token(trace, token))} {text.plain(describe(trace.tokens, trace.text, token, token))}"
    if first < last:
        part, parts = token - first + 1, last - first + 1
        words += f"; part {part} of {parts} of {text.as_code(display)}, tokens {first} to {last}"
    spelled = trace.text[trace.tokens[first].start : trace.tokens[last].end]
    points = [f"U+{ord(c):04X}" for c in spelled.decode(errors="surrogateescape") if not "\udc80" <= c <= "\udcff"]
    return f"{words}; code points {' '.join(points)}" if points else words
