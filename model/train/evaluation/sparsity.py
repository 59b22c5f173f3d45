"""Measures the cost of selecting keys: recall of the attention, and bits per byte.

`python -m model.train.evaluation.sparsity MODEL --heldout FOLDER [--dense V3-MODEL]`

Recall is the share of a layer's dense attention, averaged over its heads, that lies on the keys selected by the
indexer. Two baselines select as many keys: the keys with the most attention (the oracle), or the last keys. Only
queries that must leave out a key count. The bits per byte of the same texts are measured for the model as it is, for
the model with every key selected, and for another model, for example the base model.

Shape suffixes: B sequences, T positions, S keys, H heads, Q query head width.

Source: DeepSeek-V3.2-Exp report (2025), section 2; the oracle is ours.
"""

import dataclasses
import math
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.attention import attention_weights
from model.network.decision import Selection
from model.network.tape import Tape
from model.network.transformer import Transformer
from model.train.allocator import keep_freed_memory
from model.train.data.corpus import CorpusError
from model.train.evaluation.context import LongText, read_long, token_nats
from model.train.parts.indexer_warm_up import with_top_k


@dataclasses.dataclass
class Recall(Tape):
    """Adds up, by layer, the dense attention on the keys that the indexer selects, and on those of two baselines."""

    layers: dict[int, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # layer -> [sum for the indexer, for the oracle, for the last keys, number of queries]
    _selection: Selection | None = None

    def selection(self, layer: int, selection: Selection) -> None:
        """Keep the selection of a layer until its attention is computed."""
        self._selection = selection

    def attention(
        self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
    ) -> None:
        """Add the dense attention on the selected keys, on the best keys and on the last keys."""
        assert self._selection is not None
        selected_TS = self._selection.kept_BTS[0]
        top_k = self._selection.key_ids_BTK.shape[-1]
        queries = slice(top_k, len(selected_TS))  # earlier queries see at most `top_k` keys
        attention_TS = attention_weights(query_BHTQ, key_BHSQ, scale).mean(1)[0, queries]
        last_TS = torch.ones_like(selected_TS).tril().triu(1 - top_k)[queries]
        recalled = (
            attention_TS * selected_TS[queries],
            attention_TS.topk(top_k, dim=-1).values,
            attention_TS * last_TS,
        )
        sums = [float(each.sum(dtype=torch.float64)) for each in recalled]
        self.layers[layer] = self.layers.get(layer, np.zeros(4)) + [*sums, len(attention_TS)]


@torch.inference_mode()
def measure_recall(model: Transformer, texts: list[LongText], progress: bool = False) -> dict[int, list[float]]:
    """Return for each layer the recall of indexer, oracle and last keys; NaN if no query leaves out a key."""
    tape, device = Recall(), model.embedding.weight.device
    for text in tqdm(texts, desc="recall", unit="text", disable=not progress):
        model.hidden(torch.tensor([[model.config.bos_id or 0, *text.token_ids]], device=device), tape=tape)
    return {
        layer: (sums[:3] / sums[3] if sums[3] else np.full(3, math.nan)).tolist() for layer, sums in tape.layers.items()
    }


def bits_per_byte(model: Transformer, texts: list[LongText], progress: bool = False) -> float:
    """Return the bits per byte of the texts, each read whole."""
    model.train()  # its kernels are faster for whole windows; no layer is random
    window = max(len(text.token_ids) for text in texts) + 1
    shown = tqdm(texts, desc="reading", unit="text", disable=not progress)
    nats = sum(token_nats(model, text.token_ids, window).sum() for text in shown)
    return float(nats / sum(text.bytes_N.sum() for text in texts) / math.log(2))


@click.command("sparsity")
@click.argument("model")
@click.option("--heldout", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--dense", help="Baseline model with the same vocabulary.")
@click.option("--window", type=click.IntRange(4), help="Tokens read at once; default: the model's context.")
@click.option("--per-stream", type=click.IntRange(1), default=2, show_default=True, help="Records of each stream.")
def sparsity_command(model: str, heldout: Path, dense: str | None, window: int | None, per_stream: int) -> None:
    """Measure the attention on MODEL's selected keys, and the cost of the selection in bits per byte."""
    keep_freed_memory()
    sparse = load_model(find_model(model), "cpu", torch.float32)
    if not sparse.config.is_sparse:
        raise click.UsageError(f"{model} has no indexers; name a model with sparse attention")
    window = window or sparse.config.max_positions
    texts = read_long(heldout, Tokenizer.load(find_model(model)), window, per_stream)
    if not texts:
        raise CorpusError(f"{heldout} holds no record of more than {window // 2} tokens; use a smaller --window")
    click.echo(f"{len(texts)} records, {sparse.config.index_topk} keys selected of at most {window}")
    click.echo("| layer | recall of the indexer | of the best keys | of the last keys |\n|---:|---:|---:|---:|")
    for layer, shares in measure_recall(sparse, texts, progress=True).items():
        click.echo(f"| {layer} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    own = bits_per_byte(sparse, texts, progress=True)
    baselines = {"every key selected": bits_per_byte(with_top_k(sparse, window), texts, progress=True)}
    if dense is not None:
        baselines[dense] = bits_per_byte(load_model(find_model(dense), "cpu", torch.float32), texts, progress=True)
    click.echo(f"\n| model | bits per byte | {model} relative to it |\n|---|---:|---:|\n| {model} | {own:.4f} | |")
    for name, bits in baselines.items():
        click.echo(f"| {name} | {bits:.4f} | {own / bits - 1:+.2%} |")


if __name__ == "__main__":
    sparsity_command()
