"""Direct preference optimisation (DPO): a model learns to prefer one of two responses to a prompt.

The loss is -log sigmoid(beta * (gain of the chosen response - gain of the rejected response)). The gain of a response
is its log-probability under the model minus its log-probability under the base model, each summed over its tokens.

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
from model.train.post_training.tuning import answer_shares, load_base_model, response_logprobs, row_facts, run_stage
from model.train.tapes import RoutingTape

PAIRS_PER_BATCH = 16  # in evaluations


class Choice(NamedTuple):
    """A prompt with a chosen and a rejected response."""

    prompt: str
    chosen: str
    rejected: str
    kind: str  # error of the rejected response


def read_choices(path: Path) -> list[Choice]:
    """Return the choices in a gzipped JSON-lines file.

    Raises:
        CorpusError: the file is missing or damaged, or a line is not a choice.
    """
    rows = read_fields(path, Choice._fields, "prompts with a chosen and a rejected response")
    return [Choice(*fields) for fields in rows]


class Choices:
    """Choices as token ids; the batch of a step depends only on the seed and the number of the step."""

    def __init__(self, choices: list[Choice], framing: Framing, length: int) -> None:
        """Encode the choices, and keep those whose two responses both fit a row.

        Raises:
            CorpusError: no choice fits.
        """
        self.kinds: list[str] = []
        self._pairs: list[tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]] = []
        for choice in choices:
            prompt_ids = framing.prompt_ids(choice.prompt)
            chosen, rejected = framing.response_ids(choice.chosen), framing.response_ids(choice.rejected)
            if len(prompt_ids) + max(len(chosen), len(rejected)) <= length + 1:
                self._pairs.append(((prompt_ids, chosen), (prompt_ids, rejected)))
                self.kinds.append(choice.kind)
        if not self._pairs:
            raise CorpusError(f"no pair of responses fits {length} tokens; raise sequence_length")

    def rows(self, picks: np.ndarray) -> Batch:
        """Return the rows of the pairs at the indices `picks`: all chosen responses, then all rejected responses."""
        pairs = [self._pairs[pick] for pick in picks.tolist()]
        return fill_up([chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs])

    def batch(self, seed: int, step: int, num_pairs: int) -> Batch:
        """Return the rows of the pairs of a step; see `rows`."""
        return self.rows(np.random.default_rng([seed, step]).integers(len(self._pairs), size=num_pairs))

    @torch.no_grad()
    def preferred(self, score: Callable[[Batch], Tensor]) -> dict[str, Share]:
        """Return the share of pairs whose chosen response has the higher score, by kind, and of all kinds as "all".

        Args:
            score: function that returns the score of each row of a batch, [B].
        """
        by_length = np.argsort([sum(map(len, chosen)) for chosen, _ in self._pairs], kind="stable")
        higher: dict[str, list[bool]] = {"all": []}
        for picks in np.array_split(by_length, -(-len(by_length) // PAIRS_PER_BATCH)):
            chosen_P, rejected_P = score(self.rows(picks)).chunk(2)
            for pick, verdict in zip(picks.tolist(), (chosen_P > rejected_P).tolist(), strict=True):
                higher["all"].append(verdict)
                higher.setdefault(self.kinds[pick], []).append(verdict)
        return {kind: share(sum(verdicts), len(verdicts)) for kind, verdicts in higher.items()}


def both_choices(folder: Path, framing: Framing, length: int) -> tuple[Choices, Choices]:
    """Return the training choices and the held-out choices of a folder.

    Raises:
        CorpusError: a file is missing or damaged, or none of its choices fits a row.
    """
    read = (read_choices(folder / f"{name}.jsonl.gz") for name in ("train", "heldout"))
    train, heldout = (Choices(choices, framing, length) for choices in read)
    return train, heldout


def preference_loss(logprob_B: Tensor, before_B: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return the mean loss, and a mask of the pairs whose chosen response gained more than the rejected one, [P].

    Args:
        logprob_B: log-probabilities of the responses, chosen responses first.
        before_B: log-probabilities of the same responses under the base model.
        beta: factor on the difference of gains; small values let the model move far from the base model.
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
    """Align the base model on `choices/train.jsonl.gz`, and write the aligned model to `out/model`.

    Evaluations measure how often the chosen response in `choices/heldout.jsonl.gz` is likelier than the rejected
    response. If the folder `heldout` is given, they also measure how many prompts of its `heldout.jsonl.gz` get a right
    answer.
    """
    folder, framing, model = load_base_model(preference.start, config)
    data, compared = both_choices(choices, framing, config.sequence_length)
    answered = read_pairs(heldout / "heldout.jsonl.gz", preference.kinds) if heldout else []
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
        return {"preferred": preferred} | ({"answers": answer_shares(model, framing, answered)} if answered else {})

    run_stage(model, folder, loss, config, data, out, measure, report, resume)
