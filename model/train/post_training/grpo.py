"""Group relative policy optimisation (GRPO): right answers become likelier.

The current model samples a group of answers to each prompt. The reward of an answer is 1 if it ends and is right
(correctness.py), else 0. Its advantage is (reward - mean of the group) / standard deviation of the group. The objective
is the clipped ratio of new to old token probability, times the advantage, minus the weighted KL divergence from the
base model; the loss is its negative. A group with equal rewards has zero advantages; it is left out, with its KL term.

Two of V3.2's changes apply here. The KL estimate is unbiased (weighted by the ratio), and an answer with negative
advantage is masked once the model differs too much from the model that sampled it. *Keep sampling mask* has no effect,
because answers are sampled from the whole vocabulary at temperature 1. *Keep routing* corrects a mismatch between two
engines; here the same code samples and trains, so routing differs only by rounding.

Shape suffixes: B answers, T positions.

Source: DeepSeekMath (arXiv 2402.03300), section 4.1; DeepSeek-V3 report (arXiv 2412.19437), section 5.2.2;
DeepSeek-V3.2 report (2025), section 3.1.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.network.transformer import Transformer
from model.train.config import GrpoConfig, TrainConfig, TrainConfigError
from model.train.minimise import Report
from model.train.post_training.draws import Group, Prompts, draw
from model.train.post_training.pairs import Batch, Framing, Pair, fill_up, read_pairs
from model.train.post_training.tuning import answer_shares, load_base_model, response_logprobs, row_facts, run_stage
from model.train.tapes import RoutingTape


def advantages(rewards: list[float]) -> list[float]:
    """Return (reward - mean) / standard deviation for each reward of a group; zeros if all rewards are equal."""
    values = np.array(rewards)
    spread = values.std()
    return ((values - values.mean()) / spread).tolist() if spread > 0 else [0.0] * len(rewards)


def policy_loss(
    logprob_BT: Tensor, old_BT: Tensor, reference_BT: Tensor, advantage_B: Tensor, counted_BT: Tensor, grpo: GrpoConfig
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss (the mean over answers of the mean over each answer's tokens) and values for the log.

    Args:
        logprob_BT: log-probabilities of the answers' tokens, with a gradient.
        old_BT: log-probabilities of the same tokens under the model that sampled them.
        reference_BT: log-probabilities of the same tokens under the base model.
        advantage_B: advantage of each answer.
        counted_BT: mask of the answers' tokens.
        grpo: limits and weights.
    """
    length_B = counted_BT.sum(1)

    def mean_B(values_BT: Tensor) -> Tensor:
        return values_BT.masked_fill(~counted_BT, 0.0).sum(1) / length_B

    log_ratio_BT, advantage_B1 = logprob_BT - old_BT, advantage_B[:, None]
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - grpo.ratio_clip, 1 + grpo.ratio_clip)
    gain_BT = torch.minimum(ratio_BT * advantage_B1, clipped_BT * advantage_B1)
    used_B = (advantage_B >= 0) | (-mean_B(log_ratio_BT.detach()) <= grpo.stale_limit)
    distance_BT = reference_distance(logprob_BT, old_BT, reference_BT)
    loss = -(mean_B(gain_BT) * used_B - grpo.kl_weight * mean_B(distance_BT)).mean()
    is_clipped_BT = (ratio_BT * advantage_B1 > clipped_BT * advantage_B1) & counted_BT
    return loss, {
        "loss": float(loss.detach()),
        "kl": float(mean_B(distance_BT.detach()).mean()),
        "clipped": float(is_clipped_BT.sum() / counted_BT.sum()),
        "stale": float((~used_B).float().mean()),
    }


def reference_distance(logprob_BT: Tensor, old_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """Return an estimate of KL(model || reference) at each token, [B, T], nats; the old model sampled the tokens.

    The arguments are log-probabilities. The estimate is (exp(d) - d - 1) * model / old with d = log(reference / model),
    in probabilities of the token; it is never negative.
    """
    difference_BT = reference_BT - logprob_BT
    return (logprob_BT - old_BT).exp() * (difference_BT.exp() - difference_BT - 1)


def rows_of(groups: list[Group]) -> tuple[Batch, Tensor, Tensor]:
    """Return the rows of all answers, the log-probabilities with which they were sampled [B, T], and advantages [B]."""
    batch = fill_up([(group.prompt_ids, answer.ids) for group in groups for answer in group.answers])
    old = [logprob for group in groups for answer in group.answers for logprob in answer.logprobs]
    old_BT = torch.zeros(batch.targets_BT.shape).masked_scatter(batch.counted_BT, torch.tensor(old))
    return batch, old_BT, torch.tensor([value for group in groups for value in advantages(group.rewards)])


def reinforce(
    grpo: GrpoConfig,
    config: TrainConfig,
    pairs: Path,
    out: Path,
    report: Report = lambda line: None,
    heldout: Path | None = None,
) -> None:
    """Train on sampled answers to the prompts of `pairs/train.jsonl.gz`, and write the model to `out/model`.

    Args:
        grpo: base model, and settings of sampling and loss.
        config: all other settings; `batch_size` is the number of prompts per step.
        pairs: folder of `train.jsonl.gz` and `heldout.jsonl.gz`.
        out: folder of the run.
        report: called with each step's log line.
        heldout: folder whose `heldout.jsonl.gz` is answered at evaluations; None: `pairs`.

    Raises:
        TrainConfigError: the dtype is not float32, or accumulation is not 1.
    """
    if config.dtype != "float32" or config.accumulation != 1:
        raise TrainConfigError(
            '[grpo] needs dtype = "float32" and accumulation = 1, because answers are sampled this way'
        )
    folder, framing, model = load_base_model(grpo.start, config)
    train, compared = (
        read_pairs(path, grpo.kinds) for path in (pairs / "train.jsonl.gz", (heldout or pairs) / "heldout.jsonl.gz")
    )
    prompts = Prompts(train, framing, config.sequence_length, grpo.new_tokens)
    loss = GrpoLoss(model, framing, prompts, grpo, config)

    def measure(model: Transformer) -> dict[str, Any]:
        return {"answers": answer_shares(model, framing, compared)}

    run_stage(model, folder, loss, config, prompts, out, measure, report)


class GrpoLoss:
    """The loss of a step. It samples new answers every `updates` steps, and keeps a copy of the base model."""

    def __init__(
        self, model: Transformer, framing: Framing, prompts: Prompts, grpo: GrpoConfig, config: TrainConfig
    ) -> None:
        self._model, self._framing, self._prompts = model, framing, prompts
        self._grpo, self._config = grpo, config
        self._reference = copy.deepcopy(model).eval()
        self._drawn: list[Group] = []

    def __call__(self, batch: list[tuple[list[int], Pair]], step: int) -> tuple[Tensor, dict[str, Any]]:
        """Return the loss on a step's prompts, and values for the log."""
        groups = self._groups(batch, step)
        with_signal = [group for group in groups if group.has_signal]
        rows, old_BT, advantage_B = rows_of(with_signal or groups[:1])  # at least one group, so that there is a graph
        tape = RoutingTape()
        logprob_BT = response_logprobs(self._model, rows, tape)
        with torch.no_grad():
            reference_BT = response_logprobs(self._reference, rows)
        value, facts = policy_loss(logprob_BT, old_BT, reference_BT, advantage_B, rows.counted_BT, self._grpo)
        if not with_signal:
            value = value * 0.0  # else Adam would scale the rounding error of the KL term to full steps
        facts |= {
            "reward": float(np.mean([group.rewards for group in groups])),
            "signal": len(with_signal) / len(groups),
            "length": float(np.mean([len(answer.ids) for group in groups for answer in group.answers])),
        }
        return value, facts | row_facts(self._model, tape, rows)

    def _groups(self, batch: list[tuple[list[int], Pair]], step: int) -> list[Group]:
        """Return answers to the prompts of a step; one draw samples the answers for `updates` steps."""
        grpo, config = self._grpo, self._config
        if step % grpo.updates == 0:
            later = range(step + 1, step + grpo.updates)
            prompts = sum((self._prompts.batch(config.seed, number, config.batch_size) for number in later), batch)
            seed = config.seed * 1_000_003 + step
            self._drawn = draw(self._model, self._framing, prompts, grpo.group_size, grpo.new_tokens, seed)
        first = step % grpo.updates * config.batch_size
        return self._drawn[first : first + config.batch_size]
