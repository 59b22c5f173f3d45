"""Reinforcement: advantages, loss and distance by hand, answers drawn by the seed, and a reward that rises."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.train.config import GrpoConfig, InstructConfig, TrainConfig, TrainConfigError
from model.train.data.corpus import CorpusError
from model.train.log import LOG, read_log
from model.train.post_training.generate import Answer
from model.train.post_training.grpo import (
    Group,
    Prompts,
    advantages,
    draw,
    policy_loss,
    reference_distance,
    reinforce,
    rows_of,
)
from model.train.post_training.instruct import tune
from model.train.post_training.pairs import Framing, Pair
from model.train.post_training.tuning import MEASURED, response_logprobs
from tests.model.train.corpora import write_rows, write_tuning_folder

PAIRS = [Pair(f"{a} plus {b}?", str(a + b), "arithmetic") for a in range(4) for b in range(4)]
SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 5}
GRPO = GrpoConfig(start="start", group_size=4, new_tokens=4, kl_weight=0.0)


def settings(**changes: object) -> TrainConfig:
    values: dict[str, object] = dict(
        total_steps=40, warmup_steps=2, decay_steps=10, learning_rate=1e-2, weight_decay=0.0, sequence_length=24,
        batch_size=8, bias_speed=0.0, threads=1, store="float32", dtype="float32",
    )  # fmt: skip
    return TrainConfig(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random model with sparse attention."""
    text = [f"{pair.prompt} {pair.response}" for pair in PAIRS]
    return write_tuning_folder(tmp_path, [dataclasses.asdict(pair) for pair in PAIRS], text, **SPARSE)


def test_advantages_by_hand() -> None:
    assert advantages([1.0, 0.0, 0.0, 1.0]) == pytest.approx([1, -1, -1, 1])
    assert advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx([math.sqrt(3), *[-1 / math.sqrt(3)] * 3])
    assert advantages([1.0, 1.0]) == advantages([0.0, 0.0]) == [0.0, 0.0]


def loss_of(ratios: list[list[float]], advantage: list[float], counted: list[list[bool]], **changes: float):  # noqa: ANN201
    """With every token's old probability 1/2, which is also the one at the start."""
    old = torch.full((len(ratios), len(ratios[0])), math.log(0.5))
    now = old + torch.tensor(ratios).log()
    grpo = dataclasses.replace(GRPO, **changes)
    return policy_loss(now, old, old, torch.tensor(advantage), torch.tensor(counted), grpo)


def test_ratio_counts_up_to_the_clip_and_only_where_it_is_too_good() -> None:
    """Ratio 1.5 at advantage 1 counts as 1.2, 0.5 at 1 as 0.5, 0.5 at -1 as 0.8, 1.5 at -1 as 1.5."""
    wide = {"stale_limit": 9.0}
    for ratio, advantage, gain in ((1.5, 1, 1.2), (0.5, 1, 0.5), (0.5, -1, -0.8), (1.5, -1, -1.5), (1.1, 2, 2.2)):
        loss, facts = loss_of([[ratio]], [advantage], [[True]], **wide)
        assert float(loss) == pytest.approx(-gain, abs=1e-6)
        assert facts["clipped"] == (gain != pytest.approx(ratio * advantage))


def test_answers_count_alike_whatever_their_length() -> None:
    """Means 1.1 and, at advantage -1, 0.9 of one token: the third place of the second row is no token."""
    loss, _ = loss_of([[1.0, 1.2], [0.9, 7.0]], [1.0, -1.0], [[True, True], [True, False]], stale_limit=9.0)
    assert float(loss) == pytest.approx(-(1.1 - 0.9) / 2, abs=1e-6)


def test_stale_answers_that_should_become_rarer_are_left_out() -> None:
    ratio = math.exp(-0.5)
    _, facts = loss_of([[ratio], [ratio]], [1.0, -1.0], [[True], [True]], stale_limit=0.4)
    assert facts["stale"] == 0.5
    loss, _ = loss_of([[ratio]], [-1.0], [[True]], stale_limit=0.4)
    assert float(loss) == 0.0
    loss, facts = loss_of([[ratio]], [-1.0], [[True]], stale_limit=0.6)
    assert float(loss) == pytest.approx(0.8, abs=1e-6)
    assert facts["stale"] == 0.0


def test_distance_by_hand() -> None:
    """Model 0.5, old 0.4, start 0.25: 1.25 * (0.5 - log 0.5 - 1)."""
    now, old, start = (torch.tensor([[math.log(p)]]) for p in (0.5, 0.4, 0.25))
    assert float(reference_distance(now, old, start)) == pytest.approx(1.25 * (0.5 + math.log(2) - 1), abs=1e-6)
    counted, grpo = torch.tensor([[True]]), dataclasses.replace(GRPO, kl_weight=2.0)
    loss, facts = policy_loss(now, old, start, torch.tensor([0.0]), counted, grpo)
    assert float(loss) == pytest.approx(2 * facts["kl"], abs=1e-6)


def test_distance_is_unbiased_and_so_is_its_gradient() -> None:
    """Averaged over draws of the old model, the estimate is KL(model || start), and its gradient that of the KL."""
    torch.manual_seed(0)
    logits, old, start = torch.randn(6, requires_grad=True), torch.randn(6).softmax(0), torch.randn(6).log_softmax(0)
    now = logits.log_softmax(0)
    estimate = (old * reference_distance(now, old.log(), start)).sum()
    exact = (now.exp() * (now - start)).sum()
    torch.testing.assert_close(estimate.detach(), exact.detach(), atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (estimate, exact)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_rows_hold_what_was_drawn(folder: Path) -> None:
    model, framing = load_model(folder / "start", "cpu", torch.float32), Framing(Tokenizer.load(folder / "start"))
    asked = Prompts(PAIRS, framing, 24, 4).batch(0, 3, 3)
    groups = draw(model, framing, asked, 4, 4, seed=7)
    assert groups == draw(model, framing, asked, 4, 4, seed=7)
    assert groups != draw(model, framing, asked, 4, 4, seed=8)
    rows, old_BT, advantage_B = rows_of(groups)
    assert advantage_B.shape == (12,)
    torch.testing.assert_close(old_BT, response_logprobs(model, rows).detach(), atol=2e-4, rtol=1e-4)
    spread = rows_of([Group([0, 3], [Answer([4], [-1.0]), Answer([5, 6], [-2.0, -3.0])], [1.0, 0.0])])
    assert spread[1][spread[0].counted_BT].tolist() == [-1.0, -2.0, -3.0]
    assert spread[2].tolist() == [1.0, -1.0]


def test_only_an_answer_that_ends_and_is_right_is_rewarded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, token = load_model(folder / "start", "cpu", torch.float32), Tokenizer.load(folder / "start")
    three, four, end = token.encode("3"), token.encode("4"), [token.eos_id]
    said = [three + end, three, four + end, three + four + end]
    answers = [Answer(ids, [0.0] * len(ids)) for ids in said]  # type: ignore[arg-type]
    monkeypatch.setattr("model.train.post_training.draws.generate", lambda *_: answers)
    (group,) = draw(model, Framing(token), [([0], Pair("1 plus 2?", "3", "arithmetic"))], 4, 4, seed=0)
    assert group.rewards == [1.0, 0.0, 0.0, 0.0]
    assert group.has_signal


def test_prompts_are_those_that_leave_room(folder: Path) -> None:
    framing = Framing(Tokenizer.load(folder / "start"))
    asked = Prompts([*PAIRS, Pair("word " * 60, "no", "arithmetic")], framing, 24, 4)
    assert len(asked.prompts) == len(PAIRS)
    with pytest.raises(CorpusError, match="no prompt leaves room for 24 tokens of 24"):
        Prompts(PAIRS, framing, 24, 24)


@pytest.mark.parametrize("changes", [{"group_size": 1}, {"updates": 0}, {"new_tokens": 0}])
def test_unusable_group_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(TrainConfigError, match="group_size must be at least 2"):
        GrpoConfig(start="start", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"accumulation": 2}])
def test_learning_otherwise_than_drawing_is_refused(folder: Path, changes: dict[str, object]) -> None:
    with pytest.raises(TrainConfigError, match="answers are sampled this way"):
        reinforce(GRPO, settings(**changes), folder, folder / "run")


def test_draws_that_are_all_wrong_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes even if the distance to the base model could become smaller."""
    monkeypatch.setattr("model.train.post_training.grpo.reference_distance", lambda now_BT, *_: now_BT)
    never = [dataclasses.asdict(Pair(pair.prompt, "none of these", pair.kind)) for pair in PAIRS]
    write_rows(folder / "pairs" / "train.jsonl.gz", never)
    write_rows(folder / "pairs" / "heldout.jsonl.gz", never)
    grpo = dataclasses.replace(GRPO, start=str(folder / "start"), kl_weight=1.0)
    reinforce(grpo, settings(total_steps=4, decay_steps=1), folder / "pairs", folder / "run")
    assert {line["signal"] for line in read_log(folder / "run" / LOG)} == {0.0}
    before, after = (load_model(path, "cpu", torch.float32) for path in (folder / "start", folder / "run" / "model"))
    assert all(torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))


def test_reward_rises_and_what_is_frozen_stays(folder: Path) -> None:
    """A model that was tuned a little; of the corpus only arithmetic is asked."""
    tune(InstructConfig(start=str(folder / "start")), settings(), folder, folder / "tuned")
    rows = [dataclasses.asdict(pair) for pair in (*PAIRS, Pair("why?", "so", "chat"))]
    write_rows(folder / "pairs" / "train.jsonl.gz", rows)
    write_rows(folder / "pairs" / "heldout.jsonl.gz", rows)
    grpo = dataclasses.replace(GRPO, start=str(folder / "tuned" / "model"), group_size=8, kl_weight=0.01)
    reinforce(grpo, settings(total_steps=30, learning_rate=2e-3, look_steps=10), folder / "pairs", folder / "run")
    lines = list(read_log(folder / "run" / LOG))
    rewards = [line["reward"] for line in lines]
    assert sum(rewards[-6:]) / 6 > sum(rewards[:4]) / 4 + 0.15
    assert all(line["kl"] >= 0 and 0 <= line["signal"] <= 1 and 1 <= line["length"] <= 4 for line in lines)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert [line["step"] for line in lines if "answers" in line] == [10, 20, 30]
    measured = json.loads((folder / "run" / MEASURED).read_text())
    assert set(measured["after"]["answers"]) == {"arithmetic"}
    assert measured["after"]["answers"]["arithmetic"]["right"] >= measured["before"]["answers"]["arithmetic"]["right"]
    before, after = (
        load_model(folder / name / "model", "cpu", torch.float32).state_dict() for name in ("tuned", "run")
    )
    frozen = [name for name in before if ".indexer." in name or name.endswith("expert_bias")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    learned = [name for name in before if name not in frozen]
    assert not any(torch.equal(before[name], after[name]) for name in learned)
