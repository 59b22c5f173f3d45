"""Preference alignment without a reward model (DPO): a model learns to prefer one of two responses to a prompt.

The loss is -log sigmoid(beta * (gain of the chosen response - gain of the rejected one)), where a response's gain is
its log-probability under the model less that under the model as it was at the start, summed over its tokens.

Shape suffixes: P pairs, B rows (chosen responses first, then rejected ones), T positions.

Source: Direct Preference Optimization (arXiv 2305.18290), equation 7.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.transformer import Transformer
from model.train.config import PreferenceConfig, TrainConfig
from model.train.data.corpus import CorpusError
from model.train.minimise import Report
from model.train.post_training.correctness import Share, share
from model.train.post_training.pairs import Batch, Framing, fill_up, read_fields, read_pairs
from model.train.post_training.tuning import answer_shares, load_start, response_logprobs, row_facts, run_stage
from model.train.tapes import RoutingTape

AT_ONCE = 16  # pairs that are scored together


class Choice(NamedTuple):
    """A prompt with the response that is preferred and the one that is not."""

    prompt: str
    chosen: str
    rejected: str
    kind: str  # what is wrong with the rejected one


def read_choices(path: Path) -> list[Choice]:
    """Choices of a gzipped JSON-lines file.

    Raises:
        CorpusError: it is missing or damaged, or a line is no choice.
    """
    rows = read_fields(path, Choice._fields, "prompts with a chosen and a rejected response")
    return [Choice(*fields) for fields in rows]


class Choices:
    """Choices as tokens; what a step gets depends on the seed and the step's number alone."""

    def __init__(self, choices: list[Choice], framing: Framing, length: int) -> None:
        """Encode the choices and keep those of which both responses fit.

        Raises:
            CorpusError: none fits.
        """
        self.kinds: list[str] = []
        self._pairs: list[tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]] = []
        for choice in choices:
            given = framing.given(choice.prompt)
            chosen, rejected = framing.wanted(choice.chosen), framing.wanted(choice.rejected)
            if len(given) + max(len(chosen), len(rejected)) <= length + 1:
                self._pairs.append(((given, chosen), (given, rejected)))
                self.kinds.append(choice.kind)
        if not self._pairs:
            raise CorpusError(f"no pair of responses fits {length} tokens")

    def rows(self, picks: np.ndarray) -> Batch:
        """Chosen responses of some pairs, then their rejected ones."""
        pairs = [self._pairs[pick] for pick in picks.tolist()]
        return fill_up([chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs])

    def batch(self, seed: int, step: int, num_pairs: int) -> Batch:
        """Rows of a step's pairs."""
        return self.rows(np.random.default_rng([seed, step]).integers(len(self._pairs), size=num_pairs))

    @torch.no_grad()
    def preferred(self, score: Callable[[Batch], Tensor]) -> dict[str, Share]:
        """How often the chosen response scores higher than the rejected one, by kind and in `all`.

        Args:
            score: of each row, [B].
        """
        by_length = np.argsort([sum(map(len, chosen)) for chosen, _ in self._pairs], kind="stable")
        higher: dict[str, list[bool]] = {"all": []}
        for picks in np.array_split(by_length, -(-len(by_length) // AT_ONCE)):
            chosen_P, rejected_P = score(self.rows(picks)).chunk(2)
            for pick, verdict in zip(picks.tolist(), (chosen_P > rejected_P).tolist(), strict=True):
                higher["all"].append(verdict)
                higher.setdefault(self.kinds[pick], []).append(verdict)
        return {kind: share(sum(verdicts), len(verdicts)) for kind, verdicts in higher.items()}


def both_choices(folder: Path, framing: Framing, length: int) -> tuple[Choices, Choices]:
    """Those to learn from and those that are held out, of a folder.

    Raises:
        CorpusError: a file is missing or damaged, or none of its choices fits.
    """
    read = (read_choices(folder / f"{name}.jsonl.gz") for name in ("train", "heldout"))
    train, heldout = (Choices(choices, framing, length) for choices in read)
    return train, heldout


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


def align(
    preference: PreferenceConfig,
    config: TrainConfig,
    choices: Path,
    out: Path,
    report: Report = lambda line: None,
    heldout: Path | None = None,
    resume: bool = False,
) -> None:
    """Align the model that the run starts from on `choices/train.jsonl.gz`, and write it to `out/model`.

    Measured are how often the chosen response of `choices/heldout.jsonl.gz` is the likelier one and, where `heldout` is
    given, answers to the prompts of its `heldout.jsonl.gz`.
    """
    folder, framing, model = load_start(preference.start, config)
    data, compared = both_choices(choices, framing, config.sequence_length)
    asked = read_pairs(heldout / "heldout.jsonl.gz", preference.kinds) if heldout else []
    reference = copy.deepcopy(model).eval()

    def loss(batch: Batch, step: int) -> tuple[Tensor, dict[str, Any]]:
        with torch.no_grad():
            before_B = response_logprobs(reference, batch).sum(1)
        tape = RoutingTape()
        value, gained_P = preference_loss(response_logprobs(model, batch, tape).sum(1), before_B, preference.beta)
        facts = {"loss": float(value.detach()), "gained": float(gained_P.float().mean())}
        return value, facts | row_facts(model, tape, batch)

    def measure(model: Transformer) -> dict[str, Any]:
        preferred = compared.preferred(lambda batch: response_logprobs(model, batch).sum(1))
        return {"preferred": preferred} | ({"answers": answer_shares(model, framing, asked)} if asked else {})

    run_stage(model, folder, loss, config, data, out, measure, report, resume)
