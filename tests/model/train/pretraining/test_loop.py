"""Training a tiny model: it learns, it resumes bit for bit, it stops when told to, and its result can be loaded."""

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import inspect, load_model
from model.network.attention import attention_weights
from model.network.transformer import Transformer
from model.train.config import ContinueConfig, TrainConfig
from model.train.data.windows import Windows
from model.train.evaluation.heldout import evaluate, read_pieces
from model.train.evaluation.progress import PROBE_TOKENS
from model.train.log import LOG, read_log
from model.train.optimiser import make_optimiser
from model.train.pretraining.initial_model import initial_model
from model.train.pretraining.loop import train
from model.train.pretraining.trainer import Trainer
from model.train.state import STATE, StateError, load_state
from model.train.tapes import TrainingTape
from tests.model.train.corpora import write_corpus, write_tiny_shards
from tests.models import random_model, tiny_config

SHAPE = tiny_config(num_layers=3, tie_embeddings=True)


def config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = dict(
        total_steps=6,
        warmup_steps=2,
        decay_steps=2,
        learning_rate=5e-3,
        sequence_length=16,
        batch_size=4,
        accumulation=2,
        bias_speed=0.01,
        checkpoint_steps=3,
        threads=1,
        device="cpu",
    )
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_shards(tmp_path_factory.mktemp("loop"))


def weights(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one: Transformer, other: Transformer) -> None:
    for name, tensor in weights(one).items():
        assert tensor.equal(weights(other)[name]), name


def test_loss_falls_and_biases_move(shards: Path, tmp_path: Path) -> None:
    trainer = train(SHAPE, config(total_steps=40), shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    assert all(router.get_buffer("expert_bias").abs().max() > 0 for router in trainer.model.routers())
    assert [line["step"] for line in lines] == list(range(1, 41))


def test_load_sums_to_tokens_times_top_k(shards: Path, tmp_path: Path) -> None:
    train(SHAPE, config(total_steps=4, decay_steps=0), shards, tmp_path)
    for line in read_log(tmp_path / LOG):
        assert list(line["load"]) == ["1", "2"]
        assert all(sum(counts) == line["tokens"] * SHAPE.top_k for counts in line["load"].values())


@pytest.mark.parametrize(("dtype", "optimiser"), [("float32", "adamw"), ("float32", "muon"), ("bfloat16", "adamw")])
def test_stopped_and_resumed_equals_uninterrupted(shards: Path, tmp_path: Path, dtype: str, optimiser: str) -> None:
    settings = config(dtype=dtype, optimiser=optimiser)
    whole = train(SHAPE, settings, shards, tmp_path / "whole")

    def stop(line: dict[str, object]) -> None:
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    part = train(SHAPE, settings, shards, tmp_path / "part", report=stop)
    assert part.steps_done == 2
    assert not (tmp_path / "part" / "model").exists()
    resumed = train(SHAPE, settings, shards, tmp_path / "part", resume=True)
    assert resumed.steps_done == 6
    assert_equal(whole.model, resumed.model)
    losses = [[line["loss"] for line in read_log(tmp_path / run / LOG)] for run in ("whole", "part")]
    assert losses[0] == losses[1]
    assert (tmp_path / "whole" / STATE).read_bytes() == (tmp_path / "part" / STATE).read_bytes()


def test_passes_side_by_side_give_the_same_as_one_after_the_other(shards: Path, tmp_path: Path) -> None:
    alone = train(SHAPE, config(total_steps=4), shards, tmp_path / "alone")
    beside = train(SHAPE, config(total_steps=4, workers=2), shards, tmp_path / "beside")
    assert_equal(alone.model, beside.model)


def test_accumulation_gives_the_mean_gradient(shards: Path, tmp_path: Path) -> None:
    settings = {"dtype": "float32", "total_steps": 3, "decay_steps": 0, "balance_weight": 0.0}
    train(SHAPE, config(**settings), shards, tmp_path / "two")
    train(SHAPE, config(**settings, batch_size=8, accumulation=1), shards, tmp_path / "one")
    two, one = (list(read_log(tmp_path / run / LOG)) for run in ("two", "one"))
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-5)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-4)
    assert two[-1]["loss"] == pytest.approx(one[-1]["loss"], abs=1e-3)


def test_finished_run_leaves_a_model_that_loads(shards: Path, tmp_path: Path) -> None:
    trainer = train(SHAPE, config(total_steps=4), shards, tmp_path)
    model = load_model(tmp_path / "model", "cpu", torch.float32)
    torch.testing.assert_close(model.norm.weight, trainer.model.norm.weight, atol=1e-2, rtol=0, check_dtype=False)
    assert Tokenizer.load(tmp_path / "model").bos_id == 0


def test_state_of_another_shape_is_refused(shards: Path, tmp_path: Path) -> None:
    train(SHAPE, config(total_steps=4), shards, tmp_path)
    other = Transformer(tiny_config(num_layers=3, tie_embeddings=True, expert_width=16))
    with pytest.raises(StateError, match="cannot be resumed"):
        load_state(tmp_path, other, make_optimiser(other, config()))


def test_damaged_state_is_refused(shards: Path, tmp_path: Path) -> None:
    train(SHAPE, config(total_steps=4), shards, tmp_path)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    with pytest.raises(StateError, match="cannot be resumed"):
        train(SHAPE, config(), shards, tmp_path, resume=True)


@pytest.mark.gpu
def test_loss_falls_on_a_gpu(shards: Path, tmp_path: Path) -> None:
    train(SHAPE, config(total_steps=40, device="cuda"), shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert lines[-1]["loss"] < lines[0]["loss"] - 1


def test_prediction_module_learns_beside_the_model_and_gets_a_file_of_its_own(shards: Path, tmp_path: Path) -> None:
    shape = tiny_config(num_layers=3, tie_embeddings=True, has_mtp=True)
    trainer = train(shape, config(total_steps=30, mtp_late_steps=5), shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert lines[-1]["mtp_loss"] < lines[0]["mtp_loss"] - 0.5
    assert list(lines[0]["load"]) == ["1", "2", "3"]
    assert trainer.routers[-1].expert_bias.abs().max() > 0
    made = load_model(tmp_path / "model", "cpu", torch.float32)
    assert made.mtp is not None
    assert len(list((tmp_path / "model").glob("*.safetensors"))) == 2


def test_prediction_module_rests_without_a_weight(shards: Path, tmp_path: Path) -> None:
    """It stays as it was to the bit; all else moves."""
    shape = tiny_config(num_layers=3, tie_embeddings=True, has_mtp=True)
    trainer = train(shape, config(mtp_weight=0.0), shards, tmp_path / "with")
    lines = list(read_log(tmp_path / "with" / LOG))
    assert "mtp_loss" not in lines[0]
    assert list(lines[0]["load"]) == ["1", "2"]
    before = initial_model(shape).state_dict()
    for name, tensor in trainer.model.state_dict().items():
        assert tensor.equal(before[name]) == name.startswith("mtp."), name


def test_weight_of_the_prediction_loss_falls_late() -> None:
    settings = config(total_steps=10, mtp_late_steps=3)
    assert [settings.mtp_weight_at(step) for step in (0, 6, 7, 9)] == [0.3, 0.3, 0.1, 0.1]


def test_run_goes_on_from_the_weights_of_a_model(shards: Path, tmp_path: Path) -> None:
    train(tiny_config(num_layers=3, tie_embeddings=True, has_mtp=True), config(), shards, tmp_path / "first")
    folder = tmp_path / "first" / "model"
    still = config(total_steps=1, decay_steps=0, learning_rate=0.0, warmup_steps=0, bias_speed=0.0, weight_decay=0.0)
    trainer = train(ContinueConfig(start=str(folder)), still, shards, tmp_path / "next")
    for name, tensor in load_model(folder, "cpu", torch.float32).state_dict().items():
        wanted = tensor - tensor.mean() if name.endswith("expert_bias") else tensor
        assert trainer.model.state_dict()[name].equal(wanted), name


def test_finished_model_can_be_taken_part_of_the_way_back_to_its_start(shards: Path, tmp_path: Path) -> None:
    """The state of the run stays what the steps made of it."""
    train(SHAPE, config(store="float32"), shards, tmp_path / "first")
    start = ContinueConfig(start=str(tmp_path / "first" / "model"))
    settings = config(store="float32", seed=1)
    for name, share in (("whole", 0.0), ("part", 0.25)):
        train(start, dataclasses.replace(settings, start_share=share), shards, tmp_path / name)
    first, whole, part = (
        load_model(tmp_path / name / "model", "cpu", torch.float32).state_dict() for name in ("first", "whole", "part")
    )
    for name, tensor in part.items():
        began = first[name] - first[name].mean() if name.endswith("expert_bias") else first[name]
        torch.testing.assert_close(tensor, 0.25 * began + 0.75 * whole[name], atol=1e-6, rtol=0)
    assert (tmp_path / "whole" / STATE).read_bytes() == (tmp_path / "part" / STATE).read_bytes()


def test_looks_at_heldout_text_are_in_the_log(shards: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "heldout")
    trainer = train(SHAPE, config(total_steps=5, look_steps=2), shards, tmp_path / "run", heldout=corpus)
    lines = list(read_log(tmp_path / "run" / LOG))
    assert [line["step"] for line in lines if "heldout" in line] == [1, 2, 4, 5]
    last = lines[-1]
    streams, pieces = read_pieces(corpus, Tokenizer.load(shards), 16, 2_000)
    expected = evaluate(trainer.model, streams, pieces, progress=False).bits_per_byte()
    assert last["heldout"] == pytest.approx(expected, abs=1e-4)
    assert list(last["probe"]) == ["1", "2"]
    assert all(len(ids) == SHAPE.top_k for ids in last["probe"]["1"])
    assert len(last["probe"]["1"]) <= PROBE_TOKENS * len(streams)
    assert np.allclose(last["bias"]["2"], trainer.routers[-1].expert_bias, atol=1e-4)


def test_alarm_is_logged_and_can_end_a_run(shards: Path, tmp_path: Path) -> None:
    """Without balancing, with one expert a token and at a wild rate, 50 steps suffice for experts to go without any."""
    shape = tiny_config(num_layers=2, tie_embeddings=True, top_k=1)
    wild = config(total_steps=120, bias_speed=0.0, balance_weight=0.0, learning_rate=0.1, stop_on_alarm=True)
    trainer = train(shape, wild, shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert "alarms" in lines[-1]
    assert not any("alarms" in line for line in lines[:-1])
    assert trainer.steps_done == len(lines) < 120
    assert (tmp_path / STATE).exists()


SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 6}


def test_sparse_model_learns_with_its_selection_on(shards: Path, tmp_path: Path) -> None:
    """From a dense model's weights with indexers: text and indexers learn, and it is stored in block FP8."""
    shape = tiny_config(num_layers=3, tie_embeddings=True, **SPARSE)
    trainer = train(shape, config(total_steps=40), shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    assert lines[-1]["indexer_loss"] > 0
    made = load_model(tmp_path / "model", "cpu", torch.float32)
    assert made.config == trainer.model.config
    assert "F8_E4M3" in {tensor.dtype for tensor in inspect(tmp_path / "model").stored.values()}


def test_indexers_learn_by_their_own_loss_and_by_nothing_else(shards: Path) -> None:
    shape = tiny_config(num_layers=3, tie_embeddings=True, **SPARSE)
    trainer = Trainer(initial_model(shape), config(accumulation=1), Windows(shards, 16, 0), torch.device("cpu"))
    batch = trainer.windows.batch(0, 0, 4)
    tape = TrainingTape()
    loss = trainer.model.hidden(batch[:, :-1], tape=tape).square().mean()
    own = {name for name, _ in trainer.model.named_parameters() if ".indexer." in name}
    for value, learns in ((loss, False), (torch.stack(tape.losses).sum(), True)):
        found = torch.autograd.grad(value, trainer.parameters, retain_graph=True, allow_unused=True)
        for (name, _), gradient in zip(trainer.model.named_parameters(), found, strict=True):
            reached = gradient is not None and bool(gradient.abs().sum())
            assert reached == (name in own) if learns else not (reached and name in own), name


def test_tape_compares_kept_keys_only() -> None:
    model = random_model(tiny_config(num_layers=1, num_dense_layers=1, **SPARSE))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Spy(TrainingTape):
        def attention(self, layer, query_BHTQ, key_BHSQ, scale, selection) -> None:  # noqa: ANN001
            super().attention(layer, query_BHTQ, key_BHSQ, scale, selection)
            weights = attention_weights(query_BHTQ, key_BHSQ, scale, selection).mean(1)
            seen.append((selection.scores_BTS.masked_fill(~selection.kept_BTS, -torch.inf).softmax(-1), weights))

    tape = Spy()
    with torch.no_grad():
        model.hidden(torch.arange(5, 25)[None], tape=tape)
    ((predicted, paid),) = seen
    assert (predicted[0, -1] > 0).sum() == (paid[0, -1] > 0).sum() == 6
    expected = torch.special.xlogy(paid, paid / predicted.clamp_min(1e-30)).sum(-1).mean()
    torch.testing.assert_close(tape.losses[0], expected, atol=1e-5, rtol=1e-4)
