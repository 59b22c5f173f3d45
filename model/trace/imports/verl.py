"""Read a batch of verl in a safetensors file.

Its tensors: `routed_experts` [batch, sequence, layer, slot], `input_ids` and `attention_mask` [batch, sequence], and
one of `LOGPROBS` [batch, response], which belong to the end of the sequence. The metadata may state
`logprob_temperature`. The last row of an answer is zero filler, because the last token was never fed; it is left out.
"""

import json

import numpy as np
import safetensors
import safetensors.numpy

from model.trace import limits
from model.trace.imports import placement
from model.trace.imports.building import Named
from model.trace.imports.reading import in_range
from model.trace.imports.table_rows import FIELD, Document, Logprobs, built
from model.trace.trace import TraceError

LOGPROBS = ("log_probs", "rollout_log_probs", "old_log_probs")


def read(content: bytes, named: Named | None) -> list[Document]:
    """Return the samples of a batch, without padding.

    Raises:
        TraceError: the file is damaged, lacks a tensor, or a sample cannot be read; the message names the sample.
    """
    arrays, temperature = _tensors(content)
    rows, ids, mask = arrays[FIELD], arrays["input_ids"], arrays["attention_mask"].astype(bool)
    if rows.ndim != 4 or rows.dtype.kind not in "iu" or not rows.shape[:2] == ids.shape == mask.shape:
        raise TraceError(f"{FIELD} must be whole numbers [batch, sequence, layer, slot] for each of input_ids")
    logprobs = _logprobs(arrays, ids)
    start = ids.shape[1] if logprobs is None else ids.shape[1] - logprobs.shape[1]
    documents = []
    for sample in range(len(ids)):
        kept = np.flatnonzero(mask[sample])
        answer = kept[kept >= start]
        own = None if logprobs is None else logprobs[sample, answer - start]
        try:
            one = rows[sample, kept], ids[sample, kept], len(kept) - len(answer)
            documents.append(_sample(*one, named, Logprobs(own, temperature)))
        except TraceError as error:
            raise TraceError(f"sample {sample}: {error}") from None
    return documents


def _tensors(content: bytes) -> tuple[dict[str, np.ndarray], str | float]:
    """Return the tensors by name, and the temperature that the metadata state, else 1."""
    limits.check_header(content)
    try:
        arrays = safetensors.numpy.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise TraceError(f"the safetensors file is damaged: {' '.join(str(error).split())[:200]}") from None
    if missing := [name for name in (FIELD, "input_ids", "attention_mask") if name not in arrays]:
        raise TraceError(f"the batch lacks {' and '.join(missing)}")
    return arrays, metadata.get("logprob_temperature", 1.0)


def _logprobs(arrays: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray | None:
    """Return the log-probabilities of the answers, [batch, response]; None if the batch has none."""
    stated = [name for name in LOGPROBS if name in arrays]
    if not stated:
        return None
    if len(stated) > 1:
        raise TraceError(f"the batch has {' and '.join(stated)}; keep those of the side that the table is about")
    logprobs = arrays[stated[0]]
    if (
        logprobs.ndim != 2
        or logprobs.dtype.kind != "f"
        or len(logprobs) != len(ids)
        or logprobs.shape[1] > ids.shape[1]
    ):
        raise TraceError(f"{stated[0]} must be floating-point numbers [batch, response]")
    return logprobs.astype(np.float64)


def _sample(rows: np.ndarray, ids: np.ndarray, num_prompt: int, named: Named | None, logprobs: Logprobs) -> Document:
    if not len(rows):
        raise TraceError("its attention_mask keeps no token")
    rows = in_range(rows, FIELD)
    if rows.shape[2] > 1 and (rows[-1] == rows[-1, :, :1]).all():
        rows = rows[:-1]
    placement.check_filler(rows, FIELD)
    return Document("", built(rows, 0, ids.tolist(), num_prompt, named, logprobs, "batch of verl"))
