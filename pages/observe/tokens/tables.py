"""The tokens of a run in numbers, tables and words."""

import numpy as np
import pandas as pd

from model.trace.trace import Trace
from pages.common import tables, text
from pages.common.text import as_code
from viz.boundaries import describe, spelled_bytes
from viz.tokens import chips, inside_characters, inside_lookalikes, special_lookalikes, visible

SPECIAL, LOOKALIKE, TEXT = "special", "looks special", "text"


def sizes(trace: Trace) -> np.ndarray:
    """Bytes of every token, [token]; 0 where it stands for no text."""
    return np.array([token.end - token.start for token in trace.tokens])


def by_token(trace: Trace) -> pd.DataFrame:
    """One row per token: its text, bytes and kind."""
    table = tables.tokens(trace).rename(columns={"special": "kind"})
    spelled = [trace.text[token.start : token.end] for token in trace.tokens]
    table.insert(4, "as bytes", [spelled_bytes(part) for part in spelled])
    table["kind"] = kinds(trace)
    table["vocabulary"] = [token.piece for token in trace.tokens]
    return table


def kinds(trace: Trace) -> list[str]:
    """Of every token, whether it is a special one, or text that looks like one."""
    looks = inside_lookalikes(trace.text)
    return [
        SPECIAL if token.special else LOOKALIKE if looks[token.start : token.end].any() else TEXT
        for token in trace.tokens
    ]


def by_part(trace: Trace) -> pd.DataFrame:
    """Counts and bytes per token, of the whole text and of its parts."""
    generated = ~trace.prompt_mask.values
    masks = {"whole text": np.ones_like(generated), "prompt": ~generated, "generated": generated}
    return pd.DataFrame([{"part": name} | _counts(trace, mask) for name, mask in masks.items()])


def _counts(trace: Trace, mask: np.ndarray) -> dict[str, float]:
    lengths, special = sizes(trace)[mask], trace.special_mask.values[mask]
    begins = ~inside_characters(trace.text)
    owners = np.repeat(mask, sizes(trace))  # which bytes of the text belong to the part
    with_text, characters = int((lengths > 0).sum()), int(begins[:-1][owners].sum())
    return {
        "tokens": int(mask.sum()),
        "special": int(special.sum()),
        "bytes": int(lengths.sum()),
        "characters": characters,
        "bytes per token": lengths.sum() / with_text if with_text else np.nan,
        "characters per token": characters / with_text if with_text else np.nan,
    }


def summary(trace: Trace) -> str:
    """The whole text in one sentence."""
    counts = _counts(trace, np.ones(trace.num_tokens, dtype=bool))
    special = f" ({counts['special']} special)" if counts["special"] else ""
    said = f"**{counts['tokens']:,} tokens**{special} spell {counts['bytes']:,} bytes"
    return f"{said}: {counts['bytes per token']:.3g} bytes per token with text."


def remarks(trace: Trace) -> list[str]:
    """What a reader could mistake: characters of several tokens, bytes of no character, text that looks special."""
    shared = sum(first < last for first, last, _ in chips(trace.tokens, trace.text))
    broken = sum("\udc80" <= character <= "\udcff" for character in trace.text.decode(errors="surrogateescape"))
    said = []
    if shared:
        said.append(
            f"{_number(shared, 'character is', 'characters are')} made of several tokens and shown in one chip."
        )
    if broken:
        said.append(f"{_number(broken, 'byte is', 'bytes are')} not part of any character, and written `\\xNN`.")
    return said + _lookalike_remarks(trace)


def _lookalike_remarks(trace: Trace, most: int = 3) -> list[str]:
    spans, said = special_lookalikes(trace.text), []
    for start, end in spans[:most]:
        tokens = [place for place, token in enumerate(trace.tokens) if max(start, token.start) < min(end, token.end)]
        where = f"tokens {tokens[0]} to {tokens[-1]}" if len(tokens) > 1 else f"token {tokens[0]}"
        spelled = as_code(visible(trace.text[start:end]))
        said.append(f"{spelled} in {where} is text that looks like a special token; it is none.")
    return said + ([f"There are {len(spans) - most} more such places."] if len(spans) > most else [])


def _number(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def about(trace: Trace, token: int) -> str:
    """One token in words, with the code points of its text."""
    first, last, display = next(chip for chip in chips(trace.tokens, trace.text) if chip[0] <= token <= chip[1])
    said = f"{as_code(text.token(trace, token))} {text.plain(describe(trace.tokens, trace.text, token, token))}"
    if first < last:
        said += f"; part {token - first + 1} of {last - first + 1} of {as_code(display)}, tokens {first} to {last}"
    spelled = trace.text[trace.tokens[first].start : trace.tokens[last].end]
    points = [f"U+{ord(c):04X}" for c in spelled.decode(errors="surrogateescape") if not "\udc80" <= c <= "\udcff"]
    return f"{said}; code points {' '.join(points)}" if points else said


def histogram(lengths: np.ndarray) -> pd.DataFrame:
    """How many tokens span so many bytes; those without text are left out."""
    counts = np.bincount(lengths[lengths > 0])
    return pd.DataFrame({"bytes in a token": range(1, len(counts)), "tokens": counts[1:]})
