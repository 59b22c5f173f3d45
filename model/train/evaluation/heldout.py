"""Scores of a model on held-out text.

A record is scored in pieces that fit the window. Each piece starts with a BOS, which is not counted.
heldout_report.py turns the scores into the tables of a model card.

Shape suffixes: B pieces of a batch, T positions, L MoE layers, E experts, P pieces of the whole evaluation, S streams.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.5.3 (load by domain).
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from model.checkpoint.tokenizer import Tokenizer
from model.network.transformer import Transformer
from model.train.data.corpus import CorpusError, corpus_files, read_stream
from model.train.tapes import RoutingTape

BATCH = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Part of a document; the token ids start with BOS."""

    stream: int
    document: int
    token_ids: list[int]
    num_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """The scores of all pieces; `stream_P` and `document_P` number the stream and the document of each piece."""

    streams: tuple[str, ...]
    stream_P: np.ndarray
    document_P: np.ndarray
    bytes_P: np.ndarray
    tokens_P: np.ndarray
    nats_P: np.ndarray
    counts_PLE: np.ndarray  # tokens of each expert, without BOS
    moe_layers: tuple[int, ...]

    @property
    def by_document(self) -> "Scores":
        """The same scores with one entry per document: the sums over its pieces."""
        _, first, document_P = np.unique(self.document_P, return_index=True, return_inverse=True)
        counts_DLE = np.zeros((len(first), *self.counts_PLE.shape[1:]), np.int64)
        np.add.at(counts_DLE, document_P, self.counts_PLE)
        sums = {name: np.bincount(document_P, getattr(self, name)) for name in ("bytes_P", "tokens_P", "nats_P")}
        own = {"stream_P": self.stream_P[first], "document_P": self.document_P[first], "counts_PLE": counts_DLE}
        return dataclasses.replace(self, **own, **sums)

    def bits_per_byte(self) -> dict[str, float]:
        """Return the bits per byte of every stream."""
        nats_S, bytes_S = (np.bincount(self.stream_P, weights) for weights in (self.nats_P, self.bytes_P))
        return {name: float(bits) for name, bits in zip(self.streams, nats_S / bytes_S / math.log(2), strict=True)}


def cut(text: str, stream: int, document: int, tokenizer: Tokenizer, window: int) -> Iterator[Piece]:
    """Yield a document in pieces of at most `window` tokens, including the BOS of each piece."""
    token_ids = tokenizer.encode(text)
    for start in range(0, len(token_ids), window - 1):
        part = token_ids[start : start + window - 1]
        yield Piece(stream, document, [tokenizer.bos_id or 0, *part], len(tokenizer.decode(part)))


def read_pieces(
    heldout: Path, tokenizer: Tokenizer, window: int, max_bytes: int | None
) -> tuple[list[str], list[Piece]]:
    """Return the streams of a held-out folder, and the pieces of their records.

    Records of a stream are read until they hold at least `max_bytes` bytes of text. None: all records are read.

    Raises:
        CorpusError: a stream holds no text.
    """
    streams = corpus_files(heldout)
    pieces: list[Piece] = []
    document = 0
    for number, (name, paths) in enumerate(streams.items()):
        used = 0
        for record in read_stream(paths):
            if max_bytes is not None and used >= max_bytes:
                break
            used += len(record.text.encode())
            pieces.extend(cut(record.text, number, document, tokenizer, window))
            document += 1
        if not used:
            raise CorpusError(f"{name} of {heldout} holds no text; remove its file")
    return list(streams), pieces


@torch.inference_mode()
def score_batch(
    model: Transformer, pieces: list[Piece], dtype: torch.dtype = torch.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nats of each piece, [B], and its number of tokens at each expert, [B, L, E], without padding."""
    device = model.embedding.weight.device
    length = max(len(piece.token_ids) for piece in pieces)
    ids_BT = torch.tensor([piece.token_ids + [0] * (length - len(piece.token_ids)) for piece in pieces], device=device)
    sizes_B = torch.tensor([len(piece.token_ids) for piece in pieces], device=device)
    counted_BT = torch.arange(length, device=device) < sizes_B[:, None]
    counted_BT[:, 0] = False
    tape = RoutingTape()
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits_BTV = model.logits(model.hidden(ids_BT, tape=tape)[:, :-1])
    nats_N = F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    nats_B = (nats_N.view(len(pieces), -1) * counted_BT[:, 1:]).sum(1)
    counts = []
    for routing in tape.routings:
        selected_BTE = F.one_hot(routing.expert_ids_TK, model.config.num_experts).sum(1).unflatten(0, ids_BT.shape)
        counts.append((selected_BTE * counted_BT[..., None]).sum(1))
    none_BLE = torch.zeros(
        len(pieces), 0, max(1, model.config.num_experts), dtype=torch.long
    )  # if all layers are dense
    counts_BLE = torch.stack(counts, 1).cpu() if counts else none_BLE
    return nats_B.double().cpu().numpy(), counts_BLE.numpy()


def evaluate(
    model: Transformer,
    streams: Iterable[str],
    pieces: list[Piece],
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Scores:
    """Return the scores of all pieces, computed in batches of similar length.

    Args:
        model: the model; it is set to training mode, whose kernels are faster for batches; as no layer is random, the
            mode does not change the results.
        streams: names of the streams, in the order of `Piece.stream`.
        pieces: pieces of all streams.
        dtype: dtype of matrix products; the router and the softmax are always fp32.
        progress: show a progress bar.
    """
    model.train()
    pieces = sorted(pieces, key=lambda piece: len(piece.token_ids))
    nats, counts = [], []
    remaining = iter(tqdm(pieces, desc="evaluating", unit="piece", disable=not progress))
    while batch := list(islice(remaining, BATCH)):
        nats_B, counts_BLE = score_batch(model, batch, dtype)
        nats.append(nats_B)
        counts.append(counts_BLE)
    return Scores(
        streams=tuple(streams),
        stream_P=np.array([piece.stream for piece in pieces]),
        document_P=np.array([piece.document for piece in pieces]),
        bytes_P=np.array([piece.num_bytes for piece in pieces]),
        tokens_P=np.array([len(piece.token_ids) - 1 for piece in pieces]),
        nats_P=np.concatenate(nats),
        counts_PLE=np.concatenate(counts),
        moe_layers=model.config.moe_layers,
    )
