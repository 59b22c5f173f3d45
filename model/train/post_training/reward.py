"""A reward model: the layers of a base model with a scalar head, which scores a response at its last token.

The loss on a pair is -log sigmoid(score of the chosen response - score of the rejected response). Evaluations measure
best-of-n on prompts with a known result. The base model samples several answers per prompt. The results are three
shares of prompts: the first answer is right, the answer with the best score is right, at least one answer is right.

Shape suffixes: P pairs, B rows (chosen responses first, then rejected ones), T positions, D model width.

Source: Bradley and Terry (1952) as in InstructGPT (arXiv 2203.02155), equation 1, one rejected response per prompt;
DeepSeek-V3 report (arXiv 2412.19437), section 5.2.1.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load, save_file
from torch import Tensor, nn

from model.checkpoint.weights import load_model
from model.network.tape import Tape
from model.network.transformer import Transformer
from model.trace.writing import replacing
from model.train.config import RewardConfig, TrainConfig
from model.train.export import export
from model.train.minimise import Report, minimise
from model.train.post_training.correctness import Share, share
from model.train.post_training.draws import Group, Prompts, draw
from model.train.post_training.pairs import Batch, Framing, fill_up, read_pairs
from model.train.post_training.preference import both_choices
from model.train.post_training.tuning import load_base_model, row_facts, write_measured
from model.train.tapes import RoutingTape

HEAD = "reward_head.safetensors"  # file in the model folder


class RewardModel(nn.Module):
    """Scores responses; only differences between responses to the same prompt have a meaning."""

    def __init__(self, trunk: Transformer, seed: int = 0) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Parameter(torch.empty(trunk.config.hidden_size))
        with torch.no_grad():
            self.head.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(seed))

    def forward(self, batch: Batch, tape: Tape | None = None) -> Tensor:
        """Return the score of each row's response, [B]."""
        last_B = batch.real_BT.sum(1) - 1
        x_BTD = self.trunk.hidden(batch.ids_BT, tape=tape)
        return self.trunk.norm(x_BTD[torch.arange(len(x_BTD)), last_B]) @ self.head

    def save(self, tokenizer: Path, folder: Path, store: str) -> None:
        """Write the layers as a model folder, and the head to a file in this folder."""
        export(self.trunk, tokenizer, folder, store)
        with replacing(folder / HEAD) as temporary:
            save_file({"head": self.head.detach()}, temporary)

    @classmethod
    def load(cls, folder: Path) -> "RewardModel":
        """Return the reward model that `save` wrote to a folder."""
        scorer = cls(load_model(folder, "cpu", torch.float32))
        scorer.head = nn.Parameter(load((folder / HEAD).read_bytes())["head"])
        return scorer


def reward_loss(score_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean loss, and a mask of the pairs whose chosen response scores higher than the rejected one, [P].

    Args:
        score_B: scores of the responses, chosen responses first.
    """
    chosen_P, rejected_P = score_B.chunk(2)
    return -F.logsigmoid(chosen_P - rejected_P).mean(), chosen_P > rejected_P


@torch.no_grad()
def best_of(scorer: RewardModel, groups: list[Group]) -> dict[str, Share]:
    """Return the shares of prompts whose `first` answer, `best`-scored answer, or `any` answer is right."""
    right_by_choice: dict[str, list[bool]] = {"first": [], "best": [], "any": []}
    for group in groups:
        scores = scorer(fill_up([(group.prompt_ids, answer.ids) for answer in group.answers]))
        right_by_choice["first"].append(group.rewards[0] > 0)
        right_by_choice["best"].append(group.rewards[int(scores.argmax())] > 0)
        right_by_choice["any"].append(any(reward > 0 for reward in group.rewards))
    return {name: share(sum(right), len(right)) for name, right in right_by_choice.items()}


def train_reward(
    reward: RewardConfig,
    config: TrainConfig,
    choices: Path,
    out: Path,
    report: Report = lambda line: None,
    heldout: Path | None = None,
    resume: bool = False,
) -> None:
    """Train a reward model on `choices/train.jsonl.gz`, and write the reward model to `out/model`.

    Evaluations measure how often the chosen response in `choices/heldout.jsonl.gz` scores higher than the rejected
    response. If the folder `heldout` is given, they also measure `best_of` on the prompts in its `heldout.jsonl.gz`.
    """
    folder, framing, model = load_base_model(reward.start, config)
    data, compared = both_choices(choices, framing, config.sequence_length)
    groups = _draw_heldout(model, framing, reward, config, heldout) if heldout else []
    scorer = RewardModel(model, config.seed)

    def loss(batch: Batch, step: int) -> tuple[Tensor, dict[str, Any]]:
        tape = RoutingTape()
        value, higher_P = reward_loss(scorer(batch, tape))
        facts = {"loss": float(value.detach()), "higher": float(higher_P.float().mean())}
        return value, facts | row_facts(model, tape, batch)

    def measure(scorer: RewardModel) -> dict[str, Any]:
        return {"preferred": compared.preferred(scorer)} | ({"best_of": best_of(scorer, groups)} if groups else {})

    before = minimise(scorer, loss, config, data, out, report, lambda: measure(scorer), resume)
    scorer.save(folder / "tokenizer.json", out / "model", config.store)
    write_measured(out, before, measure(RewardModel.load(out / "model")))


def _draw_heldout(
    model: Transformer, framing: Framing, reward: RewardConfig, config: TrainConfig, heldout: Path
) -> list[Group]:
    """Return answers to held-out prompts, sampled from the base model."""
    pairs = read_pairs(heldout / "heldout.jsonl.gz", reward.kinds)
    prompts = Prompts(pairs, framing, config.sequence_length, reward.new_tokens)
    return draw(model, framing, prompts.prompts, reward.answers, reward.new_tokens, config.seed)
