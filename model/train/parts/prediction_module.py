"""Training of a multi-token-prediction module; the model itself is frozen.

An existing module is trained further. A new module starts with copies of the model's last layer and final norm, and
with a joining matrix that adds embedding and hidden state. The selection bias of the module's router is updated after
every step.

Shape suffixes: B sequences, T positions, D model width, E experts.

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 21 to 25 with depth 1.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint.embedded import find_model
from model.checkpoint.weights import load_model
from model.network.moe import MixtureOfExperts
from model.network.transformer import Transformer
from model.train.config import MtpConfig, TrainConfig
from model.train.data.windows import open_windows
from model.train.export import export
from model.train.freezing import freeze_all_but
from model.train.losses import cross_entropy, sequence_balance_loss, update_bias
from model.train.minimise import Report, minimise
from model.train.tapes import RoutingTape


def with_module(model: Transformer, reads_normed: bool, seed: int) -> Transformer:
    """Return the model with its multi-token-prediction module, or with a new one; all else is frozen."""
    grown = Transformer(dataclasses.replace(model.config, has_mtp=True, mtp_reads_normed=reads_normed))
    grown.initialise(torch.Generator().manual_seed(seed))
    grown.load_state_dict(model.state_dict(), strict=False)
    assert grown.mtp is not None
    if model.mtp is None:
        grown.mtp.block.load_state_dict(model.block(model.config.num_layers - 1).state_dict())
        grown.mtp.norm.load_state_dict(model.norm.state_dict())
        with torch.no_grad():
            grown.mtp.join.weight.copy_(torch.eye(model.config.hidden_size).repeat(1, 2))
    freeze_all_but(grown, "mtp.")
    grown.mtp.train()
    return grown


def draft_loss(model: Transformer, config: TrainConfig, batch_BT: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Return the loss on windows [B, T + 2], and values for the log.

    The loss is the cross-entropy of the token after the next, plus the weighted balance loss. The last two positions of
    a window have no target.
    """
    assert model.mtp is not None
    with torch.no_grad():
        x_BTD = model.hidden(batch_BT[:, :-2])
    tape = RoutingTape()
    states_BTD = model.draft_states(x_BTD, batch_BT[:, 1:-1], tape=tape)
    loss = cross_entropy(states_BTD.float(), model.head_weight, batch_BT[:, 2:], torch.float32)
    (routing,) = tape.routings
    shape = model.config
    balance_loss = sequence_balance_loss(routing.scores_TE.unflatten(0, (len(batch_BT), -1)), shape.top_k)
    counts_E = torch.bincount(routing.expert_ids_TK.flatten(), minlength=shape.num_experts)
    load = {str(shape.num_layers): counts_E.tolist()}
    facts = {"loss": float(loss.detach()), "balance_loss": float(balance_loss.detach()), "load": load}
    return loss + config.balance_weight * balance_loss, facts


def balance(model: Transformer, config: TrainConfig, facts: dict[str, Any], step: int) -> None:
    """Update the selection bias of the module's router, from the load that a step logged."""
    assert model.mtp is not None
    moe = model.mtp.block.ffn
    assert isinstance(moe, MixtureOfExperts)
    counts_E = torch.tensor(facts["load"][str(model.config.num_layers)])
    update_bias(moe.router.expert_bias, counts_E, config.bias_speed_at(step), config.bias_centred)


def train_module(
    mtp: MtpConfig,
    config: TrainConfig,
    shards: Path,
    out: Path,
    report: Report = lambda line: None,
    resume: bool = False,
) -> None:
    """Train the base model's module, or a new one if the model has none; write model and module to `out/model`."""
    folder = find_model(mtp.start)
    model = with_module(load_model(folder, "cpu", torch.float32), mtp.reads_normed, config.seed)
    windows = open_windows(shards, config, model.config)

    def loss(batch_BT: Tensor, step: int) -> tuple[Tensor, dict[str, Any]]:
        return draft_loss(model, config, batch_BT)

    def after_step(facts: dict[str, Any], step: int) -> None:
        balance(model, config, facts, step)

    minimise(model, loss, config, windows, out, report, resume=resume, after_step=after_step)
    export(model, folder / "tokenizer.json", out / "model", config.store)
