"""Detect and read files that hold counts of experts, and no tokens."""

import io
from pathlib import Path

from model.trace import limits
from model.trace.imports import colibri, imatrix, sglang_stat
from model.trace.imports.building import Named
from model.trace.imports.counts import Counts
from model.trace.imports.reading import parse_json
from model.trace.ordinary import open_ordinary, read_ordinary
from model.trace.trace import TraceError

ONLY_COUNTS = (
    "the file holds counts of experts and no tokens, so no page can show a run of it; `python -m model place` and the "
    "Imports page read counts"
)


def holds_counts(content: bytes) -> bool:
    """Return whether a file holds counts of experts, in one of the formats that `read_counts` reads."""
    return colibri.is_usage(content) or imatrix.is_imatrix(content) or _is_json(content)


def read_counts(content: bytes, named: Named) -> Counts:
    """Return the counts in a file.

    Args:
        content: bytes of the file.
        named: the model that was run.

    Raises:
        TraceError: the file holds no counts, is damaged, or does not fit the model.
    """
    if not content:
        raise TraceError("the file is empty: nothing was counted")
    if imatrix.is_legacy(content):
        raise TraceError(imatrix.LEGACY)
    if colibri.is_usage(content):
        return colibri.read_usage(content, named)
    if imatrix.is_imatrix(content):
        return imatrix.read(io.BytesIO(content), named)
    if not _is_json(content):
        raise TraceError(
            "the file holds no counts of experts; known are colibri's usage history, llama.cpp's imatrix as GGUF, and "
            "SGLang's recorder in mode stat, as JSON"
        )
    return sglang_stat.read(parse_json(content), named)


def read_counts_file(path: Path, named: Named) -> Counts:
    """Return the counts in a file; of an importance matrix, only the part with counts is read.

    Raises:
        TraceError: the file cannot be read, or `read_counts` refuses it; the message names the file.
    """
    try:
        with open_ordinary(path) as file:
            if imatrix.is_imatrix(file.read(1 << 20)):
                return imatrix.read(file, named)
        return read_counts(read_ordinary(path, limits.MOST_IMPORT_BYTES), named)
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _is_json(content: bytes) -> bool:
    begins = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return begins.startswith(b"{") and f'"{sglang_stat.FIELD}"'.encode() in content and b'"topk_ids_of' not in content
