"""All bounds on files that others made. Readers check them before they parse, and say which one a file exceeds.

Parsed JSON takes up to 30 times its bytes, so its parts are counted in the text first. Nesting is bounded by Python's
own limit. At its bounds a file takes at most about 10 s and 1 GB. `pages/common/limits.py` bounds visitors.
"""

import dataclasses

from model.trace.trace import TraceError


@dataclasses.dataclass(frozen=True, slots=True)
class JsonBounds:
    """Most bytes and parts of a JSON text; marks within its strings count too, so the bounds are wide."""

    num_bytes: int
    objects: int
    lists: int
    values: int
    quotes: int
    advice: str


_FEWER = "record fewer tokens at a time"
_NO_SUCH = "no such file needs that many"
# Answers of engines: 30,000 tokens of the released V3 as lists, and far more as .npy or base64.
ANSWER = JsonBounds(1 << 28, 1_000_000, 4_000_000, 16_000_000, 8_000_000, _FEWER)
TRACE_HEADER = JsonBounds(1 << 26, 200_000, 1_000_000, 4_000_000, 4_000_000, _FEWER)
# config.json and its like; the released ones have 2 kB, those with a chat template up to 1 MB.
SETTINGS = JsonBounds(1 << 24, 100_000, 100_000, 1_000_000, 1_000_000, _NO_SUCH)
# Index and headers of weights; the released V3 has 92,000 tensors, an index of 9 MB and headers under 1 MB.
WEIGHT_LIST = JsonBounds(100_000_000, 200_000, 500_000, 2_000_000, 4_000_000, _NO_SUCH)
# tokenizer.json; the largest published ones have 35 MB, 260,000 entries and 580,000 merges.
TOKENIZER = JsonBounds(100_000_000, 100_000, 2_000_000, 4_000_000, 8_000_000, _NO_SUCH)

MOST_IMPORT_BYTES = 1 << 30  # of any file on the command line; pages/common/limits.py bounds uploads
MOST_TRACE_BYTES = 1 << 32
MOST_TEXT_BYTES = 50_000_000  # of a file of prompts
MOST_TOKENS = 1 << 18  # per run; the released V3.2 has a context of 163,840
MOST_LABELS = 1 << 18  # of all axes of a trace
MOST_INTERVENTIONS = 1 << 15  # of a run; the released V3 has 14,848 experts to knock out
MOST_CHOICES = 1 << 27  # ids over all tokens and layers, 268 MB: 289,000 tokens of the released V3
MOST_CSV_BYTES = 1 << 28
MOST_CSV_ROWS = 1 << 23  # 18,000 tokens of the released V3
MOST_BATCHES = 1 << 17  # of a CSV: one per generated token
MOST_RUNS = 1 << 10  # of a recorder dump
MOST_HEADER_BYTES = 1 << 20  # of router logits in safetensors: 10,000 tensors


def check_json(
    content: bytes, bounds: JsonBounds, what: str = "the file", error: type[ValueError] = TraceError
) -> None:
    """Refuse JSON text that is too large to parse.

    Raises:
        TraceError, or `error`: it has too many bytes, objects, lists, values or quotes.
    """
    _check(len(content), bounds.num_bytes, "bytes of JSON", what, bounds.advice, error)
    for mark, name in ((b"{", "objects"), (b"[", "lists"), (b",", "values"), (b'"', "quotes")):
        _check(content.count(mark), getattr(bounds, name), name, what, bounds.advice, error)


def check_csv(content: bytes) -> None:
    """Refuse a CSV file that is too large to parse."""
    _check(len(content), MOST_CSV_BYTES, "bytes of CSV", "the file")
    _check(content.count(b"\n"), MOST_CSV_ROWS, "rows", "the file")


def check_header(content: bytes) -> None:
    """Refuse a safetensors file whose header is too large to parse."""
    _check(int.from_bytes(content[:8], "little"), MOST_HEADER_BYTES, "bytes of header", "the file")


def check_tokens(number: int, what: str = "the file") -> None:
    """Refuse more tokens than a run has."""
    _check(number, MOST_TOKENS, "tokens", what)


def check_labels(number: int) -> None:
    """Refuse more labels than the axes of a trace need."""
    _check(number, MOST_LABELS, "labels of axes", "the trace")


def check_interventions(number: int) -> None:
    """Refuse more interventions than a run has."""
    _check(number, MOST_INTERVENTIONS, "interventions", "the trace", "no run needs that many")


def check_ids(number: int, what: str) -> None:
    """Refuse more expert ids than a trace holds."""
    _check(number, MOST_CHOICES, "expert ids", what)


def check_batches(number: int) -> None:
    """Refuse more batches than a CSV of `moe-trace` has."""
    _check(number, MOST_BATCHES, "batches", "the file")


def check_runs(number: int) -> None:
    """Refuse more runs than are told apart in a recorder dump."""
    _check(number, MOST_RUNS, "runs", "the dump")


def _check(
    number: int, most: int, unit: str, what: str, advice: str = _FEWER, error: type[ValueError] = TraceError
) -> None:
    if number > most:
        raise error(f"{what} has {number:,} {unit}, more than the {most:,} that are read; {advice}")
