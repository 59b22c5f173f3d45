"""Measure a trained model on held-out text: `python -m model.train.evaluate MODEL --heldout FOLDER`.

*Bits per byte* of each `domain.lang`: every record is scored on its own, cut into pieces that fit the window, each
after a BOS that is not counted itself. *Load*: how evenly the experts of each layer were used. *Mutual information* of
expert and `domain.lang`, in nats, next to the same with the pieces' labels shuffled: that control is what chance alone
gives.

Shape suffixes: B pieces, T positions, L mixture layers, E experts, P pieces of the whole evaluation, S streams.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.5.3 (load by domain).
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from tqdm import tqdm

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.transformer import Transformer
from model.trace import metrics
from model.train.corpus import corpus_files, read_stream
from model.train.memory import choose_device, keep_freed_memory
from model.train.tapes import RoutingTape

SHUFFLES = 20
BATCH = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Part of a record, after BOS."""

    stream: int
    token_ids: list[int]
    num_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """What was measured, piece by piece."""

    streams: tuple[str, ...]
    stream_P: np.ndarray
    bytes_P: np.ndarray
    tokens_P: np.ndarray
    nats_P: np.ndarray
    counts_PLE: np.ndarray  # tokens each expert took, BOS not among them
    moe_layers: tuple[int, ...]

    def bits_per_byte(self) -> dict[str, float]:
        """Of every stream."""
        nats_S, bytes_S = (np.bincount(self.stream_P, weights) for weights in (self.nats_P, self.bytes_P))
        return {name: float(bits) for name, bits in zip(self.streams, nats_S / bytes_S / math.log(2), strict=True)}

    def load(self, stream_P: np.ndarray) -> xr.DataArray:
        """Tokens per expert, [stream, moe_layer, expert], with the pieces labelled as given."""
        counts_SLE = np.zeros((len(self.streams), *self.counts_PLE.shape[1:]), np.int64)
        np.add.at(counts_SLE, stream_P, self.counts_PLE)
        coords = {"domain": list(self.streams), "moe_layer": list(self.moe_layers)}
        return xr.DataArray(counts_SLE, dims=("domain", "moe_layer", "expert"), coords=coords)

    def mutual_information(self) -> np.ndarray:
        """Of expert and stream in each layer, nats."""
        return self._information(self.stream_P)

    def shuffled_information(self, seed: int = 0) -> np.ndarray:
        """The same with labels shuffled over pieces, mean of `SHUFFLES` draws."""
        generator = np.random.default_rng(seed)
        draws = [self._information(generator.permutation(self.stream_P)) for _ in range(SHUFFLES)]
        return np.mean(draws, axis=0)

    def _information(self, stream_P: np.ndarray) -> np.ndarray:
        counts = self.load(stream_P)
        return np.array(
            [float(metrics.mutual_information(counts.sel(moe_layer=layer).values)) for layer in self.moe_layers]
        )


def cut(text: str, stream: int, tokenizer: Tokenizer, window: int) -> Iterator[Piece]:
    """A record's tokens in pieces of at most `window` tokens, the BOS before each included."""
    token_ids = tokenizer.encode(text)
    for start in range(0, len(token_ids), window - 1):
        part = token_ids[start : start + window - 1]
        yield Piece(stream, [tokenizer.bos_id or 0, *part], len(tokenizer.decode(part)))


def read_pieces(
    heldout: Path, tokenizer: Tokenizer, window: int, max_bytes: int | None
) -> tuple[list[str], list[Piece]]:
    """Streams of a held-out folder and their pieces; of each stream the first `max_bytes`, to whole records."""
    streams = corpus_files(heldout)
    pieces: list[Piece] = []
    for number, paths in enumerate(streams.values()):
        used = 0
        for record in read_stream(paths):
            if max_bytes is not None and used >= max_bytes:
                break
            used += len(record.text.encode())
            pieces.extend(cut(record.text, number, tokenizer, window))
    return list(streams), pieces


@torch.inference_mode()
def score_batch(
    model: Transformer, pieces: list[Piece], dtype: torch.dtype = torch.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Nats of each piece, [B], and tokens that each layer's experts took of it, [B, L, E]; padding is not counted."""
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
        places_BTE = F.one_hot(routing.expert_ids_TK, model.config.num_experts).sum(1).unflatten(0, ids_BT.shape)
        counts.append((places_BTE * counted_BT[..., None]).sum(1))
    return nats_B.double().cpu().numpy(), torch.stack(counts, 1).cpu().numpy()


def evaluate(
    model: Transformer,
    streams: Iterable[str],
    pieces: list[Piece],
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Scores:
    """Score all pieces, pieces of similar length together.

    Args:
        model: put into training mode, whose kernels are made for batches; nothing in it is random.
        streams: names, in the order of the pieces' numbers.
        pieces: of all streams.
        dtype: of products; the router and the softmax are fp32.
        progress: whether to show a bar.
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
        bytes_P=np.array([piece.num_bytes for piece in pieces]),
        tokens_P=np.array([len(piece.token_ids) - 1 for piece in pieces]),
        nats_P=np.concatenate(nats),
        counts_PLE=np.concatenate(counts),
        moe_layers=model.config.moe_layers,
    )


def summarise(scores: Scores) -> dict[str, Any]:
    """All figures as JSON values: `streams`, `layers` and how much text they rest on."""
    bits = scores.bits_per_byte()
    sizes = {
        kind: np.bincount(scores.stream_P, weights=values, minlength=len(bits)).astype(int).tolist()
        for kind, values in (("bytes", scores.bytes_P), ("tokens", scores.tokens_P))
    }
    streams = {
        name: {"bits_per_byte": bits[name], "bytes": sizes["bytes"][place], "tokens": sizes["tokens"][place]}
        for place, name in enumerate(scores.streams)
    }
    counts = scores.load(scores.stream_P).sum("domain")
    columns = {
        "max_violation": metrics.max_violation(counts).values,
        "coefficient_of_variation": metrics.coefficient_of_variation(counts).values,
        "dead_experts": metrics.dead_experts(counts).sum("expert").values,
        "mutual_information": scores.mutual_information(),
        "mutual_information_shuffled": scores.shuffled_information(),
    }
    layers = {
        str(layer): {name: float(values[place]) for name, values in columns.items()}
        for place, layer in enumerate(scores.moe_layers)
    }
    return {"streams": streams, "layers": layers, "tokens": int(scores.tokens_P.sum())}


def as_markdown(summary: dict[str, Any]) -> str:
    """Two tables for a model card."""
    lines = ["| held-out text | bits per byte | kB | tokens |", "|---|---:|---:|---:|"]
    for name, row in summary["streams"].items():
        lines.append(f"| {name} | {row['bits_per_byte']:.3f} | {row['bytes'] / 1000:.0f} | {row['tokens']:,} |")
    lines += ["", "| layer | MaxVio | CV | dead experts | mutual information | labels shuffled |", "|" + "---:|" * 6]
    for layer, row in summary["layers"].items():
        lines.append(
            f"| {layer} | {row['max_violation']:.3f} | {row['coefficient_of_variation']:.3f} |"
            f" {row['dead_experts']:.0f} | {row['mutual_information']:.3f} | {row['mutual_information_shuffled']:.4f} |"
        )
    return "\n".join(lines)


@click.command("evaluate")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--heldout", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--window", type=click.IntRange(2), help="Tokens in a piece, BOS included; default: the model's context.")
@click.option("--max-bytes", type=click.IntRange(1), help="Only about the first so many bytes of each stream.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of products.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there as JSON.")
def evaluate_command(
    model: Path, heldout: Path, window: int | None, max_bytes: int | None, device: str, dtype: str, out: Path | None
) -> None:
    """Bits per byte, load balance and specialisation of MODEL on held-out text."""
    keep_freed_memory()
    loaded = load_model(model, choose_device(device), torch.float32)
    tokenizer = Tokenizer.load(model)
    streams, pieces = read_pieces(heldout, tokenizer, window or loaded.config.max_positions, max_bytes)
    summary = summarise(evaluate(loaded, streams, pieces, getattr(torch, dtype)))
    if out is not None:
        out.write_text(json.dumps(summary, indent=1))
    click.echo(as_markdown(summary))


if __name__ == "__main__":
    evaluate_command()
