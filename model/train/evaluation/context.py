"""Measures whether a model uses its extended context.

`python -m model.train.evaluation.context MODEL --heldout FOLDER`

The texts are held-out records that fill more than half a window. The model reads each text whole, and the bits per byte
are reported by position. The baseline reads the same tokens in pieces that fit the context before any extension, each
after a BOS. At positions with more bits per byte than the baseline, the longer context harms the model.

Shape suffixes: P pieces, T positions, V vocabulary, N tokens of a record.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from model.checkpoint.device import DeviceError, choose_device
from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.allocator import keep_freed_memory
from model.train.data.corpus import CorpusError, corpus_files, read_stream


@dataclasses.dataclass(frozen=True, slots=True)
class LongText:
    """The first tokens of a record, without BOS; a BOS and these tokens take at most one window."""

    token_ids: list[int]
    bytes_N: np.ndarray  # number of bytes of each token


def read_long(heldout: Path, tokenizer: Tokenizer, window: int, per_stream: int) -> list[LongText]:
    """Return the first `per_stream` records of each stream that fill more than half a window."""
    texts: list[LongText] = []
    for paths in corpus_files(heldout).values():
        remaining = per_stream
        for record in read_stream(paths):
            if remaining == 0:
                break
            token_ids = tokenizer.encode(record.text)[: window - 1]
            if len(token_ids) >= window // 2 + 1:
                sizes = [len(tokenizer.decode([token_id])) for token_id in token_ids]
                texts.append(LongText(token_ids, np.array(sizes)))
                remaining -= 1
    return texts


@torch.inference_mode()
def token_nats(model: Transformer, token_ids: list[int], window: int) -> np.ndarray:
    """Return the nats of each token of a text, [N]; the model reads pieces of `window` tokens, each with a BOS."""
    device, bos_id = model.embedding.weight.device, model.config.bos_id or 0
    pieces = [[bos_id, *token_ids[start : start + window - 1]] for start in range(0, len(token_ids), window - 1)]
    ids_PT = torch.zeros(len(pieces), max(map(len, pieces)), dtype=torch.long)
    for row_T, piece in zip(ids_PT, pieces, strict=True):
        row_T[: len(piece)] = torch.tensor(piece)
    logits_PTV = model(ids_PT.to(device))[:, :-1]
    nats_PT = F.cross_entropy(logits_PTV.float().mT, ids_PT[:, 1:].to(device), reduction="none")
    return nats_PT.flatten()[: len(token_ids)].double().cpu().numpy()


def spans(shape: ModelConfig, window: int) -> list[tuple[int, int]]:
    """Return spans of positions, (start, end), up to the end of the window.

    The first span is the context before any extension. Each later span is as long as all spans before it.
    """
    end = first_context(shape)
    edges = [1]
    while end < window:
        edges.append(end)
        end *= 2
    return list(zip(edges, [*edges[1:], window], strict=True))


def first_context(shape: ModelConfig) -> int:
    """Return the number of positions of the context before any extension."""
    return shape.yarn.original_max_positions if shape.yarn else shape.max_positions


def by_position(
    model: Transformer, texts: list[LongText], window: int, progress: bool = False
) -> list[dict[str, float]]:
    """Return the bits per byte of texts for each span of positions.

    Args:
        model: the model; it is set to training mode, whose kernels are faster for whole windows; as no layer is random,
            the mode does not change the results.
        texts: texts from `read_long`.
        window: number of tokens that the model reads at once, including BOS.
        progress: show a progress bar.

    Returns:
        For each span its `start` and `end`, the number of `tokens`, the `bits_per_byte` of the texts read whole, and
        the bits per byte `in_pieces` (the baseline). Both are NaN if no text reaches the span.
    """
    model.train()
    ranges = spans(model.config, window)
    sums = np.zeros((len(ranges), 4))  # nats, nats in pieces, bytes, tokens
    for text in tqdm(texts, desc="reading", unit="text", disable=not progress):
        whole_N = token_nats(model, text.token_ids, window)
        pieces_N = token_nats(model, text.token_ids, first_context(model.config))
        for row, (start, end) in zip(sums, ranges, strict=True):
            here = slice(start - 1, end - 1)  # the BOS is at position 0
            row += [whole_N[here].sum(), pieces_N[here].sum(), text.bytes_N[here].sum(), len(whole_N[here])]
    return [
        {
            "start": start,
            "end": end,
            "bits_per_byte": nats / num_bytes / math.log(2) if num_bytes else math.nan,
            "in_pieces": in_pieces / num_bytes / math.log(2) if num_bytes else math.nan,
            "tokens": int(tokens),
        }
        for (start, end), (nats, in_pieces, num_bytes, tokens) in zip(ranges, sums.tolist(), strict=True)
    ]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows of `by_position` as a Markdown table for a model card."""
    lines = ["| positions | bits per byte | the same text in pieces | tokens |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['start']:,} to {row['end'] - 1:,} | {row['bits_per_byte']:.3f} | {row['in_pieces']:.3f} |"
        f" {row['tokens']:,} |"
        for row in rows
    ]
    return "\n".join(lines)


@click.command("context")
@click.argument("model")
@click.option("--heldout", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--window", type=click.IntRange(4), help="Tokens read at once; default: the model's context.")
@click.option("--per-stream", type=click.IntRange(1), default=4, show_default=True, help="Records of each stream.")
@click.option("--device", default="auto", show_default=True)
def context_command(model: str, heldout: Path, window: int | None, per_stream: int, device: str) -> None:
    """Measure bits per byte of MODEL on long held-out records by position; --window may exceed MODEL's context."""
    keep_freed_memory()
    try:
        where = choose_device(device, for_training=True)
    except DeviceError as problem:
        raise click.UsageError(str(problem)) from None
    folder = find_model(model)
    loaded = load_model(folder, where, torch.float32)
    window = window or loaded.config.max_positions
    texts = read_long(heldout, Tokenizer.load(folder), window, per_stream)
    if not texts:
        raise CorpusError(f"{heldout} holds no record of more than {window // 2} tokens; use a smaller --window")
    click.echo(f"{len(texts)} records")
    click.echo(as_markdown(by_position(loaded, texts, window, progress=True)))


if __name__ == "__main__":
    context_command()
