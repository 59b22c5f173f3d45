"""Bounds on the files of other engines. The readers check them before they parse, and say which one a file exceeds.

Parsed JSON takes up to 30 times its bytes, so its parts are counted in the text first. The counts fit 30,000 tokens of
the released V3 as lists, and far more as .npy or base64. Nesting is bounded by Python's own limit.
"""

from model.trace.trace import TraceError

MOST_BYTES = 1 << 30  # of any file, on the command line; pages/common/limits.py bounds uploads
MOST_TOKENS = 1 << 20  # per run, more than any context; without a limit a few bytes could claim all memory
MOST_CHOICES = 1 << 27  # ids over all tokens and layers, 268 MB: 289,000 tokens of the released V3
MOST_JSON_BYTES = 1 << 28
MOST_JSON = {b"{": (1_000_000, "objects"), b"[": (4_000_000, "lists"), b",": (16_000_000, "values"),
             b'"': (8_000_000, "quotes")}  # fmt: skip
MOST_CSV_BYTES = 1 << 28
MOST_CSV_ROWS = 1 << 23  # 18,000 tokens of the released V3
MOST_BATCHES = 1 << 17  # of a CSV: one per generated token
MOST_RUNS = 1 << 10  # of a recorder dump
MOST_HEADER_BYTES = 1 << 20  # of safetensors: 10,000 tensors
_FEWER = "record fewer tokens at a time"


def check_json(content: bytes, what: str = "the file") -> None:
    """Refuse JSON text that is too large to parse.

    Raises:
        TraceError: it has too many bytes, objects, lists or values.
    """
    _check(len(content), MOST_JSON_BYTES, "bytes of JSON", what)
    for mark, (most, name) in MOST_JSON.items():
        _check(content.count(mark), most, name, what)


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


def check_ids(number: int, what: str) -> None:
    """Refuse more expert ids than a trace holds."""
    _check(number, MOST_CHOICES, "expert ids", what)


def check_batches(number: int) -> None:
    """Refuse more batches than a CSV of `moe-trace` has."""
    _check(number, MOST_BATCHES, "batches", "the file")


def check_runs(number: int) -> None:
    """Refuse more runs than are told apart in a recorder dump."""
    _check(number, MOST_RUNS, "runs", "the dump")


def _check(number: int, most: int, unit: str, what: str) -> None:
    if number > most:
        raise TraceError(f"{what} has {number:,} {unit}, more than the {most:,} that are read; {_FEWER}")
