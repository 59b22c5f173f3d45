"""The first stage from V3 to V3.2: new indexers learn while attention stays dense and all other weights are frozen.

The target of each indexer is the attention of its layer, summed over the heads, as one distribution over the keys of a
query. Attention is dense in this stage, so an indexer affects only its own loss.

Shape suffixes: B sequences, T positions, S keys (as many as positions), H heads, Q query head width, L layers.

Source: DeepSeek-V3.2-Exp report (2025), section 2.1, dense warm-up.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint.embedded import find_model
from model.checkpoint.weights import load_model
from model.network.transformer import Transformer
from model.train.config import IndexerConfig, TrainConfig
from model.train.data.windows import open_windows
from model.train.export import export
from model.train.freezing import freeze_all_but
from model.train.minimise import Report, minimise
from model.train.tapes import IndexerTape


def add_indexers(model: Transformer, heads: int, head_dim: int, seed: int) -> Transformer:
    """Return a V3.2 model with a V3 model's weights, and new indexers that select every key.

    All parameters except those of the indexers are frozen. The new model has no multi-token-prediction module, because
    the layer of this module would need an indexer too.
    """
    shape = dataclasses.replace(
        model.config,
        model_type="deepseek_v32",
        index_heads=heads,
        index_head_dim=head_dim,
        index_topk=model.config.max_positions,
        has_mtp=False,
    )
    grown = Transformer(shape)
    grown.initialise(torch.Generator().manual_seed(seed))
    grown.load_state_dict(model.state_dict(), strict=False)
    return freeze_all_but(grown, ".indexer.")


def with_top_k(model: Transformer, top_k: int) -> Transformer:
    """Return a model with the same weights, whose indexers select `top_k` keys per query."""
    sparse = Transformer(dataclasses.replace(model.config, index_topk=top_k))
    sparse.load_state_dict(model.state_dict())
    return sparse.eval()


def warm_up_loss(model: Transformer, batch_BT: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Return the loss on windows [B, T + 1] (the sum of all indexers' losses) and values for the log."""
    tape = IndexerTape()
    model.hidden(batch_BT[:, :-1], tape=tape)
    losses_L = torch.stack(tape.losses)
    layer_loss = [round(loss, 4) for loss in losses_L.tolist()]
    return losses_L.sum(), {"loss": float(losses_L.detach().mean()), "layer_loss": layer_loss}


def train_indexers(
    indexer: IndexerConfig,
    config: TrainConfig,
    shards: Path,
    out: Path,
    report: Report = lambda line: None,
    resume: bool = False,
) -> None:
    """Add indexers to the base model, train them, and write the V3.2 model to `out/model`."""
    folder = find_model(indexer.start)
    model = add_indexers(load_model(folder, "cpu", torch.float32), indexer.heads, indexer.head_dim, config.seed)
    windows = open_windows(shards, config, model.config)

    def loss(batch_BT: Tensor, step: int) -> tuple[Tensor, dict[str, Any]]:
        return warm_up_loss(model, batch_BT)

    minimise(model, loss, config, windows, out, report, resume=resume)
    export(with_top_k(model, indexer.top_k), folder / "tokenizer.json", out / "model", config.store)
