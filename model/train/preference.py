"""Preference alignment without a reward model (DPO): a model learns to prefer one of two responses to a prompt.

The loss is -log sigmoid(beta * (gain of the chosen response - gain of the rejected one)), where a response's gain is
its log-probability under the model less that under the model as it was at the start, summed over its tokens. The
starting model's are computed once, before the first step.

Shape suffixes: P pairs, B rows (chosen responses first, then rejected ones), T positions, V vocabulary.

Source: Direct Preference Optimization (arXiv 2305.18290), equation 7.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.transformer import Transformer
from model.train.config import PreferenceConfig, TrainConfig
from model.train.corpus import CorpusError
from model.train.instruct import IGNORED, Batch, Pair, Samples, read_fields
from model.train.loop import export
from model.train.part import Report, only, train_part


class Choice(NamedTuple):
    """A prompt with the response that is preferred and the one that is not."""

    prompt: str
    chosen: str
    rejected: str


def read_choices(path: Path) -> list[Choice]:
    """Choices of a gzipped JSON-lines file.

    Raises:
        CorpusError: it is missing or damaged, or a line is no choice.
    """
    rows = read_fields(path, Choice._fields, "prompts with a chosen and a rejected response")
    return [Choice(*fields) for fields in rows]


class Choices:
    """Choices as tokens: pair `i` is rows `2 i` (chosen) and `2 i + 1` (rejected) of `Samples`."""

    def __init__(self, choices: list[Choice], tokenizer: Tokenizer, length: int) -> None:
        """Encode the choices and keep those of which both responses fit.

        Raises:
            CorpusError: none fits.
        """
        framed = Samples([Pair(one.prompt, one.chosen, "") for one in choices], tokenizer, length)
        both = [(framed.encode(one.prompt, one.chosen), framed.encode(one.prompt, one.rejected)) for one in choices]
        fitting = [rows for rows in both if all(len(given) + len(wanted) <= length + 1 for given, wanted in rows)]
        if not fitting:
            raise CorpusError(f"no pair of responses fits {length} tokens")
        framed.rows = [row for rows in fitting for row in rows]
        self._samples, self.count = framed, len(fitting)

    def rows(self, picks: np.ndarray) -> Batch:
        """Chosen responses of some pairs, then their rejected ones."""
        return self._samples.rows_of([*(2 * picks).tolist(), *(2 * picks + 1).tolist()])

    def batch(self, seed: int, step: int, num_pairs: int) -> tuple[np.ndarray, Batch]:
        """Numbers of a step's pairs, and their rows."""
        picks = np.random.default_rng([seed, step]).integers(self.count, size=num_pairs)
        return picks, self.rows(picks)


def response_logprob(model: Transformer, batch: Batch) -> Tensor:
    """Log-probability of each row's response, summed over its tokens, [B]."""
    logprobs_BTV = model(batch.ids_BT).float().log_softmax(-1)
    counted_BT = batch.goals_BT != IGNORED
    of_goal_BT = logprobs_BTV.gather(-1, batch.goals_BT.clamp_min(0)[..., None])[..., 0]
    return (of_goal_BT * counted_BT).sum(1)


def preference_loss(logprob_B: Tensor, before_B: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The mean loss, and for each pair whether the chosen response gained more, [P] bool.

    Args:
        logprob_B: of the responses, chosen ones first.
        before_B: the same under the starting model.
        beta: how far the model may move from where it started; small is far.
    """
    chosen_P, rejected_P = (logprob_B - before_B).chunk(2)
    margin_P = beta * (chosen_P - rejected_P)
    return -F.logsigmoid(margin_P).mean(), margin_P > 0


@torch.no_grad()
def all_logprobs(model: Transformer, choices: Choices, size: int = 16) -> Tensor:
    """`response_logprob` of every pair, [P, 2]: chosen, rejected."""
    parts = np.array_split(np.arange(choices.count), -(-choices.count // size))
    return torch.cat([torch.stack(response_logprob(model, choices.rows(part)).chunk(2), 1) for part in parts])


def align(
    preference: PreferenceConfig, config: TrainConfig, folder: Path, out: Path, report: Report = lambda line: None
) -> None:
    """Align the model that the run starts from on `folder/train.jsonl.gz`, and write it to `out/model`.

    How often the chosen response of `heldout.jsonl.gz` is the likelier one is in `preferred.json`, before and after.
    """
    start = find_model(preference.start)
    tokenizer, model = Tokenizer.load(start), load_model(start, "cpu", torch.float32)
    choices, heldout = (
        Choices(read_choices(folder / f"{name}.jsonl.gz"), tokenizer, config.sequence_length)
        for name in ("train", "heldout")
    )
    before_P2, shares = all_logprobs(model, choices), {"before": preferred(model, heldout)}

    def loss(batch: tuple[np.ndarray, Batch], step: int) -> tuple[Tensor, dict[str, Any]]:
        picks, rows = batch
        value, gained_P = preference_loss(response_logprob(model, rows), before_P2[picks].T.flatten(), preference.beta)
        return value, {"loss": float(value.detach()), "gained": float(gained_P.float().mean())}

    only(model, "").train()
    train_part(model, loss, config, choices, out, report)
    shares["after"] = preferred(model.eval(), heldout)
    (out / "preferred.json").write_text(json.dumps(shares, indent=1) + "\n", encoding="utf-8")
    export(model, start / "tokenizer.json", out / "model")


def preferred(model: Transformer, choices: Choices) -> dict[str, int]:
    """Pairs whose chosen response is likelier than the rejected one, and all of them."""
    chosen_P, rejected_P = all_logprobs(model, choices).unbind(1)
    return {"preferred": int((chosen_P > rejected_P).sum()), "of": choices.count}
