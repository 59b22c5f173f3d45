"""The first stage from V3 to V3.2: attention stays dense, all is frozen, and only new indexers learn.

Each layer's indexer learns the attention that its layer really pays: the weights of all heads together, as one
distribution over the keys of a query. What is frozen needs no gradient, and a layer's selection does not reach the
next layer here, so each indexer learns by its own loss alone.

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
    """A V3.2 model with a V3 model's weights and new indexers, which keep every key; all but them is frozen.

    A multi-token-prediction module is left behind: its layer would need an indexer of its own.
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
    """The same weights in a model that keeps `top_k` keys of each query."""
    other = Transformer(dataclasses.replace(model.config, index_topk=top_k))
    other.load_state_dict(model.state_dict())
    return other.eval()


def warm_up_loss(model: Transformer, batch_BT: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Sum over layers of the indexers' losses on windows, [B, T + 1], and what the log keeps of it."""
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
    """Add indexers to the model that the run starts from, train them, and write the V3.2 model to `out/model`."""
    folder = find_model(indexer.start)
    model = add_indexers(load_model(folder, "cpu", torch.float32), indexer.heads, indexer.head_dim, config.seed)
    windows = open_windows(shards, config, model.config)

    def loss(batch_BT: Tensor, step: int) -> tuple[Tensor, dict[str, Any]]:
        return warm_up_loss(model, batch_BT)

    minimise(model, loss, config, windows, out, report, resume=resume)
    export(with_top_k(model, indexer.top_k), folder / "tokenizer.json", out / "model", config.store)
