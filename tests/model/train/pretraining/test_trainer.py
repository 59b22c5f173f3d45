"""One step: the sum of losses that it descends, against one put together by hand, and the biases after it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.transformer import Transformer
from model.train.config import TrainConfig
from model.train.data.windows import Windows
from model.train.losses import sequence_balance_loss, switch_balance_loss
from model.train.pretraining.trainer import Trainer
from model.train.tapes import RoutingTape, TrainingTape
from tests.model.train.corpora import write_tiny_shards
from tests.models import random_model, tiny_config

SETTINGS = TrainConfig(
    total_steps=4, warmup_steps=0, decay_steps=0, learning_rate=1e-3, sequence_length=16, batch_size=2, bias_speed=0.01,
    clip=1e9, balance_weight=0.5, switch_weight=0.25, mtp_weight=0.7, threads=1, device="cpu", dtype="float32",
)  # fmt: skip
SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 6}


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    return Windows(write_tiny_shards(tmp_path_factory.mktemp("trainer")), SETTINGS.sequence_length, 0)


def trainer(windows: Windows, **changes: object) -> Trainer:
    shape = tiny_config(num_layers=3, **changes)
    return Trainer(random_model(shape), SETTINGS, windows, torch.device("cpu"))


def losses_by_hand(model: Transformer, batch_BT: Tensor) -> dict[str, Tensor]:
    """Return the losses from all logits: position i predicts token i + 1, the module at position i token i + 2."""
    tape, top_k = TrainingTape() if model.config.is_sparse else RoutingTape(), model.config.top_k
    x_BTD = model.hidden(batch_BT[:, :-1], tape=tape)
    losses = {"loss": F.cross_entropy(model.logits(x_BTD).mT, batch_BT[:, 1:])}
    if model.config.has_mtp:
        states_BTD = model.draft_states(x_BTD[:, :-1], batch_BT[:, 1:-1], tape=tape)
        losses["mtp_loss"] = F.cross_entropy(F.linear(states_BTD, model.head_weight).mT, batch_BT[:, 2:])
    if isinstance(tape, TrainingTape):
        losses["indexer_loss"] = torch.stack(tape.losses).sum()
    scores = [routing.scores_TE for routing in tape.routings]
    by_sequence = [sequence_balance_loss(each.view(2, -1, each.shape[-1]), top_k) for each in scores]
    losses["balance_loss"] = torch.stack(by_sequence).mean()
    losses["switch"] = torch.stack([switch_balance_loss(s / s.sum(-1, keepdim=True), top_k) for s in scores]).mean()
    return losses


def one_step(made: Trainer) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as executor:
        return made.step(executor)


@pytest.mark.parametrize("changes", [{"has_mtp": True}, SPARSE], ids=["V3 with module", "V3.2"])
def test_a_step_descends_the_weighted_sum_of_its_losses(windows: Windows, changes: dict[str, object]) -> None:
    made = trainer(windows, **changes)
    expected = losses_by_hand(made.model, windows.batch(0, 0, 2))
    weights = {"loss": 1.0, "mtp_loss": 0.7, "indexer_loss": 1.0, "balance_loss": 0.5, "switch": 0.25}
    total = torch.stack([weights[name] * value for name, value in expected.items()]).sum()
    gradients = torch.autograd.grad(total, made.parameters)
    line = one_step(made)
    for name in expected.keys() - {"switch"}:
        assert line[name] == pytest.approx(expected[name].item(), rel=1e-5)
    for parameter, wanted in zip(made.parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, atol=2e-5, rtol=1e-3)


def test_biases_move_by_the_speed_against_the_load_of_the_step(windows: Windows) -> None:
    made = trainer(windows, has_mtp=True)
    before = [router.expert_bias.clone() for router in made.routers]
    line = one_step(made)
    for router, was_E, counts in zip(made.routers, before, line["load"].values(), strict=True):
        counts_E = torch.tensor(counts, dtype=torch.float32)
        torch.testing.assert_close(router.expert_bias - was_E, 0.01 * (counts_E.mean() - counts_E).sign())
