"""Group relative policy optimisation: right answers become likelier, judged within groups of answers to one prompt.

Several answers to each prompt are drawn from the model as it is. An answer's reward is 1 if it ends and its result is
right (correctness.py), else 0; its advantage is the reward less the group's mean over its standard deviation. The
loss takes the clipped ratio of the new to the old probability of each token, times the advantage, less the distance to
the model at the start. A group whose answers are all right or all wrong teaches nothing and is left out, distance
included.

Of V3.2's changes: the estimate of the distance is unbiased (weighed by the ratio), and answers that are to become rarer
are left out once the model has moved too far from the one that drew them. *Keep sampling mask* has nothing to keep,
because answers are drawn from the whole vocabulary at temperature 1. *Keep routing* answers a mismatch of two engines:
here one code draws and learns, with equal log-probabilities but for rounding, so experts are chosen afresh.

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
from model.train.post_training.tuning import answer_shares, load_start, response_logprobs, row_facts, run_stage
from model.train.tapes import RoutingTape


def advantages(rewards: list[float]) -> list[float]:
    """Each reward less the mean, over the standard deviation of all of them; zeros where they are all equal."""
    values = np.array(rewards)
    spread = values.std()
    return ((values - values.mean()) / spread).tolist() if spread > 0 else [0.0] * len(rewards)


def policy_loss(
    logprob_BT: Tensor, old_BT: Tensor, reference_BT: Tensor, advantage_B: Tensor, counted_BT: Tensor, grpo: GrpoConfig
) -> tuple[Tensor, dict[str, float]]:
    """The loss, mean over answers of the mean over their tokens, and what the log keeps of it.

    Args:
        logprob_BT: of the answers' tokens, with a gradient.
        old_BT: the same under the model that drew them.
        reference_BT: the same under the model at the start.
        advantage_B: of each answer.
        counted_BT: true where there is a token of the answer.
        grpo: limits and weights.
    """
    length_B = counted_BT.sum(1)

    def mean_B(values_BT: Tensor) -> Tensor:
        return values_BT.masked_fill(~counted_BT, 0.0).sum(1) / length_B

    log_ratio_BT, advantage_B1 = logprob_BT - old_BT, advantage_B[:, None]
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - grpo.ratio_clip, 1 + grpo.ratio_clip)
    gain_BT = torch.minimum(ratio_BT * advantage_B1, clipped_BT * advantage_B1)
    kept_B = (advantage_B >= 0) | (-mean_B(log_ratio_BT.detach()) <= grpo.stale_limit)
    distance_BT = reference_distance(logprob_BT, old_BT, reference_BT)
    loss = -(mean_B(gain_BT) * kept_B - grpo.kl_weight * mean_B(distance_BT)).mean()
    held_BT = (ratio_BT * advantage_B1 > clipped_BT * advantage_B1) & counted_BT
    return loss, {
        "loss": float(loss.detach()),
        "kl": float(mean_B(distance_BT.detach()).mean()),
        "clipped": float(held_BT.sum() / counted_BT.sum()),
        "stale": float((~kept_B).float().mean()),
    }


def reference_distance(logprob_BT: Tensor, old_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """Estimate of KL(model || reference) at each token, from tokens that the old model drew, nats.

    exp(d) - d - 1 with d = log(reference / model), which is never negative, weighed by model / old.
    """
    difference_BT = reference_BT - logprob_BT
    return (logprob_BT - old_BT).exp() * (difference_BT.exp() - difference_BT - 1)


def rows_of(groups: list[Group]) -> tuple[Batch, Tensor, Tensor]:
    """Rows of all answers, the log-probabilities with which they were drawn [B, T], and their advantages [B]."""
    batch = fill_up([(group.given, answer.ids) for group in groups for answer in group.answers])
    old = [logprob for group in groups for answer in group.answers for logprob in answer.logprobs]
    old_BT = torch.zeros(batch.goals_BT.shape).masked_scatter(batch.counted_BT, torch.tensor(old))
    return batch, old_BT, torch.tensor([value for group in groups for value in advantages(group.rewards)])


def reinforce(
    grpo: GrpoConfig,
    config: TrainConfig,
    pairs: Path,
    out: Path,
    report: Report = lambda line: None,
    heldout: Path | None = None,
) -> None:
    """Reinforce right answers to the prompts of `pairs/train.jsonl.gz`, and write the model to `out/model`.

    Args:
        grpo: the model, and how answers are drawn and learned from.
        config: everything else; `batch_size` is the number of prompts of one step.
        pairs: folder of `train.jsonl.gz` and `heldout.jsonl.gz`.
        out: folder of the run.
        report: called with each step's log line.
        heldout: another folder whose `heldout.jsonl.gz` has the prompts that answers are compared on.

    Raises:
        TrainConfigError: answers would be learned from in another precision than they are drawn in, or in parts.
    """
    if config.dtype != "float32" or config.accumulation != 1:
        raise TrainConfigError('[grpo] needs dtype = "float32" and accumulation = 1: answers are drawn so')
    folder, framing, model = load_start(grpo.start, config)
    train, held = (
        read_pairs(path, grpo.kinds) for path in (pairs / "train.jsonl.gz", (heldout or pairs) / "heldout.jsonl.gz")
    )
    prompts = Prompts(train, framing, config.sequence_length, grpo.new_tokens)
    loss = GrpoLoss(model, framing, prompts, grpo, config)

    def measure(model: Transformer) -> dict[str, Any]:
        return {"answers": answer_shares(model, framing, held)}

    run_stage(model, folder, loss, config, prompts, out, measure, report)


class GrpoLoss:
    """Loss of a step; draws new answers every `updates` steps and keeps the model at the start as reference."""

    def __init__(
        self, model: Transformer, framing: Framing, prompts: Prompts, grpo: GrpoConfig, config: TrainConfig
    ) -> None:
        self._model, self._framing, self._prompts = model, framing, prompts
        self._grpo, self._config = grpo, config
        self._reference = copy.deepcopy(model).eval()
        self._drawn: list[Group] = []

    def __call__(self, batch: list[tuple[list[int], Pair]], step: int) -> tuple[Tensor, dict[str, Any]]:
        """The loss of a step's prompts, and what the log keeps of it."""
        groups = self._groups(batch, step)
        with_signal = [group for group in groups if group.has_signal]
        rows, old_BT, advantage_B = rows_of(with_signal or groups[:1])  # one at least, so that there is a graph
        tape = RoutingTape()
        logprob_BT = response_logprobs(self._model, rows, tape)
        with torch.no_grad():
            reference_BT = response_logprobs(self._reference, rows)
        value, facts = policy_loss(logprob_BT, old_BT, reference_BT, advantage_B, rows.counted_BT, self._grpo)
        if not with_signal:
            value = value * 0.0  # Adam would make full steps of what rounding leaves of the distance
        facts |= {
            "reward": float(np.mean([group.rewards for group in groups])),
            "signal": len(with_signal) / len(groups),
            "length": float(np.mean([len(answer.ids) for group in groups for answer in group.answers])),
        }
        return value, facts | row_facts(self._model, tape, rows)

    def _groups(self, batch: list[tuple[list[int], Pair]], step: int) -> list[Group]:
        """Answers to a step's prompts, drawn with those of the next `updates` - 1 steps."""
        grpo, config = self._grpo, self._config
        if step % grpo.updates == 0:
            later = range(step + 1, step + grpo.updates)
            prompts = sum((self._prompts.batch(config.seed, number, config.batch_size) for number in later), batch)
            seed = config.seed * 1_000_003 + step
            self._drawn = draw(self._model, self._framing, prompts, grpo.group_size, grpo.new_tokens, seed)
        first = step % grpo.updates * config.batch_size
        return self._drawn[first : first + config.batch_size]
