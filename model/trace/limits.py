"""The bounds on files that others made. Readers check a file against its bounds before they parse it.

Parsed JSON takes up to 30 times the memory of its text, so objects, lists and values are counted in the text before it
is parsed. Python itself limits the nesting. A file at its bounds takes about 10 s and 1 GB of memory at most.
`pages/common/limits.py` has the limits on visitors.
"""

import dataclasses

from model.trace.trace import TraceError


@dataclasses.dataclass(frozen=True, slots=True)
class JsonBounds:
    """The largest numbers of bytes, objects, lists, values and quotes in a JSON text.

    The check counts the characters `{`, `[`, `,` and `"`, also inside strings, so the bounds are generous. `advice`
    says what to do about a text beyond them.
    """

    num_bytes: int
    objects: int
    lists: int
    values: int
    quotes: int
    advice: str


_FEWER = "record fewer tokens at a time"
_NO_SUCH = "no such file needs that many"
# Answers of engines: 30,000 tokens of the released V3 as lists, and far more tokens as .npy or base64.
ANSWER = JsonBounds(1 << 28, 1_000_000, 4_000_000, 16_000_000, 8_000_000, _FEWER)
TRACE_HEADER = JsonBounds(1 << 26, 200_000, 1_000_000, 4_000_000, 4_000_000, _FEWER)
# config.json and similar files; released files have 2 kB, or up to 1 MB with a chat template.
SETTINGS = JsonBounds(1 << 24, 100_000, 100_000, 1_000_000, 1_000_000, _NO_SUCH)
# Index and headers of weights; the released V3 has 92,000 tensors, an index of 9 MB and headers under 1 MB.
WEIGHT_LIST = JsonBounds(100_000_000, 200_000, 500_000, 2_000_000, 4_000_000, _NO_SUCH)
# tokenizer.json; the largest published files have 35 MB, 260,000 entries and 580,000 merges.
TOKENIZER = JsonBounds(100_000_000, 100_000, 2_000_000, 4_000_000, 8_000_000, _NO_SUCH)
# The manifest of a sweep: 100,000 shards and as many documents that failed.
SWEEP_MANIFEST = JsonBounds(1 << 27, 400_000, 400_000, 4_000_000, 8_000_000, _NO_SUCH)

MOST_IMPORT_BYTES = 1 << 30  # of an imported file on the command line; pages/common/limits.py bounds uploads
MOST_TRACE_BYTES = 1 << 32
MOST_TEXT_BYTES = 50_000_000  # of a file of prompts
MOST_TOKENS = 1 << 18  # in a run; the released V3.2 has a context of 163,840
MOST_LABELS = 1 << 18  # on all axes of a trace together
MOST_INTERVENTIONS = 1 << 15  # in a run; the released V3 has 14,848 experts to knock out
MOST_CHOICES = 1 << 27  # expert ids over all tokens and layers, 268 MB: 289,000 tokens of the released V3
MOST_CSV_BYTES = 1 << 28
MOST_CSV_ROWS = 1 << 23  # 18,000 tokens of the released V3
MOST_BATCHES = 1 << 17  # in a CSV, which has one batch per generated token
MOST_RUNS = 1 << 10  # in a recorder dump
MOST_COUNT_LINES = 1 << 20  # in a history of counts, a line per layer and expert; the released V3 has 14,848
MOST_GGUF_ENTRIES = 1 << 18  # tensors, values or texts of a list in a GGUF file
MOST_HEADER_BYTES = 1 << 20  # of router logits in safetensors: 10,000 tensors


def check_json(
    content: bytes, bounds: JsonBounds, what: str = "the file", error: type[ValueError] = TraceError
) -> None:
    """Check a JSON text against its bounds.

    Raises:
        TraceError, or `error` if given: the text has too many bytes, objects, lists, values or quotes.
    """
    _check(len(content), bounds.num_bytes, "bytes of JSON", what, bounds.advice, error)
    for mark, name in ((b"{", "objects"), (b"[", "lists"), (b",", "values"), (b'"', "quotes")):
        _check(content.count(mark), getattr(bounds, name), name, what, bounds.advice, error)


def check_csv(content: bytes) -> None:
    """Raise a TraceError if a CSV file has more bytes or rows than the bounds."""
    _check(len(content), MOST_CSV_BYTES, "bytes of CSV", "the file")
    _check(content.count(b"\n"), MOST_CSV_ROWS, "rows", "the file")


def check_count_lines(content: bytes) -> None:
    """Raise a TraceError if a history of counts has more bytes or lines than the bounds."""
    _check(len(content), MOST_CSV_BYTES, "bytes of text", "the file", _NO_SUCH)
    _check(content.count(b"\n"), MOST_COUNT_LINES, "lines", "the file", _NO_SUCH)


def check_gguf(num_tensors: int, num_values: int) -> None:
    """Raise a TraceError if a GGUF file has more tensors or values than `MOST_GGUF_ENTRIES`."""
    _check(max(num_tensors, num_values), MOST_GGUF_ENTRIES, "entries", "the GGUF file", _NO_SUCH)


def check_header(content: bytes) -> None:
    """Raise a TraceError if the header of a safetensors file has more bytes than `MOST_HEADER_BYTES`."""
    _check(int.from_bytes(content[:8], "little"), MOST_HEADER_BYTES, "bytes of header", "the file")


def check_tokens(number: int, what: str = "the file") -> None:
    """Raise a TraceError if a file has more tokens than `MOST_TOKENS`."""
    _check(number, MOST_TOKENS, "tokens", what)


def check_labels(number: int) -> None:
    """Raise a TraceError if the axes of a trace have more labels than `MOST_LABELS`."""
    _check(number, MOST_LABELS, "labels of axes", "the trace")


def check_interventions(number: int) -> None:
    """Raise a TraceError if a trace has more interventions than `MOST_INTERVENTIONS`."""
    _check(number, MOST_INTERVENTIONS, "interventions", "the trace", "no run needs that many")


def check_ids(number: int, what: str) -> None:
    """Raise a TraceError if a file has more expert ids than `MOST_CHOICES`."""
    _check(number, MOST_CHOICES, "expert ids", what)


def check_batches(number: int) -> None:
    """Raise a TraceError if a CSV of llama.cpp's `moe-trace` has more batches than `MOST_BATCHES`."""
    _check(number, MOST_BATCHES, "batches", "the file")


def check_runs(number: int) -> None:
    """Raise a TraceError if a dump of SGLang's recorder holds more runs than `MOST_RUNS`."""
    _check(number, MOST_RUNS, "runs", "the dump")


def _check(
    number: int, most: int, unit: str, what: str, advice: str = _FEWER, error: type[ValueError] = TraceError
) -> None:
    if number > most:
        raise error(f"{what} has {number:,} {unit}, more than the {most:,} that are read; {advice}")
