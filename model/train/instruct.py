"""Instruction tuning: a model learns to answer, on pairs of a prompt and a response.

A sample is [BOS, User, prompt, Assistant, response, EOS]. Each has a row of its own, filled up behind its end, so that
no sample sees another; the loss counts the response and the end only. Samples that do not fit a row are left out.

Shape suffixes: B samples, T positions, D model width, N positions that count.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 5.1 (samples masked from each other).
"""

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.cache import LatentCache
from model.network.transformer import Transformer
from model.train.config import InstructConfig, TrainConfig
from model.train.corpus import CorpusError
from model.train.loop import export
from model.train.losses import cross_entropy
from model.train.part import Report, only, train_part

USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
IGNORED = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and the response that is wanted."""

    prompt: str
    response: str
    kind: str


class Batch(NamedTuple):
    """Rows of one step."""

    ids_BT: Tensor
    goals_BT: Tensor  # the token after each position, `IGNORED` where it does not count


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a gzipped JSON-lines file.

    Raises:
        CorpusError: it is missing or damaged, or a line is no pair.
    """
    rows = read_fields(path, ("prompt", "response", "kind"), "pairs of prompt and response")
    return [Pair(*fields) for fields in rows]


def read_fields(path: Path, names: tuple[str, ...], what: str) -> list[tuple[str, ...]]:
    """The named fields of every line of a gzipped JSON-lines file.

    Raises:
        CorpusError: it is missing or damaged, or a line lacks a field; the message says that it holds no `what`.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [tuple(row[name] for name in names) for row in rows]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} holds no {what} ({error!r})") from error


class Samples:
    """Pairs as tokens; what a step gets depends on the seed and the step's number alone."""

    def __init__(self, pairs: Sequence[Pair], tokenizer: Tokenizer, length: int) -> None:
        """Encode the pairs and keep those that fit.

        Raises:
            CorpusError: none fits, or the vocabulary lacks the tokens that frame a turn.
        """
        self._tokenizer, self._length = tokenizer, length
        rows = [self.encode(pair.prompt, pair.response) for pair in pairs]
        self.rows = [(prompt, response) for prompt, response in rows if len(prompt) + len(response) <= length + 1]
        if not self.rows:
            raise CorpusError(f"no sample fits {length} tokens")

    def encode(self, prompt: str, response: str) -> tuple[list[int], list[int]]:
        """What is given, and what is to be learned."""
        token = self._tokenizer
        names = {name: token.special_id(name) for name in (USER, ASSISTANT)}
        if None in (*names.values(), token.bos_id, token.eos_id):
            raise CorpusError(f"the vocabulary lacks {USER}, {ASSISTANT}, or the marks of beginning and end")
        given = [token.bos_id, names[USER], *token.encode(prompt), names[ASSISTANT]]
        return given, [*token.encode(response), token.eos_id]  # type: ignore[return-value]

    def batch(self, seed: int, step: int, num_samples: int) -> Batch:
        """Samples of one step, all alike likely, padded to the longest of them."""
        picks = np.random.default_rng([seed, step]).integers(len(self.rows), size=num_samples)
        return self.rows_of(picks.tolist())

    def rows_of(self, picks: Sequence[int]) -> Batch:
        """Some samples, padded to the longest of them."""
        rows, num_samples = [self.rows[pick] for pick in picks], len(picks)
        width = max(len(given) + len(wanted) for given, wanted in rows) - 1
        ids_BT = torch.zeros(num_samples, width, dtype=torch.int64)
        goals_BT = torch.full((num_samples, width), IGNORED)
        for row, (given, wanted) in enumerate(rows):
            whole = [*given, *wanted]
            ids_BT[row, : len(whole) - 1] = torch.tensor(whole[:-1])
            goals_BT[row, len(given) - 1 : len(whole) - 1] = torch.tensor(wanted)
        return Batch(ids_BT, goals_BT)


def response_loss(model: Transformer, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
    """Mean cross-entropy of the responses' tokens, and what the log keeps of it."""
    normed_BTD = model.norm(model.hidden(batch.ids_BT))
    counted_BT = batch.goals_BT != IGNORED
    loss = cross_entropy(normed_BTD[counted_BT][None], model.head_weight, batch.goals_BT[counted_BT], torch.float32)
    return loss, {"loss": float(loss.detach()), "counted": int(counted_BT.sum())}


def tune(
    instruct: InstructConfig, config: TrainConfig, pairs: Path, out: Path, report: Report = lambda line: None
) -> None:
    """Tune the model that the run starts from on `pairs/train.jsonl.gz`, and write it to `out/model`.

    The selection biases stay; the share of held-out answers of each kind that are exactly right is in the last line of
    the log's neighbour, `answers.json`, before and after.
    """
    folder = find_model(instruct.start)
    tokenizer, model = Tokenizer.load(folder), load_model(folder, "cpu", torch.float32)
    samples = Samples(read_pairs(pairs / "train.jsonl.gz"), tokenizer, config.sequence_length)
    heldout = [pair for pair in read_pairs(pairs / "heldout.jsonl.gz") if pair.kind in instruct.kinds]
    shares = {"before": exact_share(model, samples, tokenizer, heldout)}

    def loss(batch: Batch, step: int) -> tuple[Tensor, dict[str, Any]]:
        return response_loss(model, batch)

    only(model, "").train()
    train_part(model, loss, config, samples, out, report)
    shares["after"] = exact_share(model.eval(), samples, tokenizer, heldout)
    (out / "answers.json").write_text(json.dumps(shares, indent=1) + "\n", encoding="utf-8")
    export(model, folder / "tokenizer.json", out / "model")


def exact_share(model: Transformer, samples: Samples, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Answers that are the wanted response to the letter, by kind: how many, and of how many."""
    found: dict[str, list[int]] = {}
    for pair in pairs:
        said = answer(model, samples, tokenizer, pair.prompt, len(tokenizer.encode(pair.response)) + 4)
        right, total = found.setdefault(pair.kind, [0, 0])
        found[pair.kind] = [right + (said.strip() == pair.response.strip()), total + 1]
    return {kind: {"right": right, "of": total} for kind, (right, total) in found.items()}


@torch.inference_mode()
def answer(model: Transformer, samples: Samples, tokenizer: Tokenizer, prompt: str, most: int) -> str:
    """The model's greedy answer of at most so many tokens."""
    model.eval()
    weight, (given, _) = model.embedding.weight, samples.encode(prompt, "")
    room = min(len(given) + most, model.config.max_positions)
    if len(given) >= room:
        return ""
    cache, said, new = LatentCache(model.config, room, weight.device, weight.dtype), [], given
    while cache.length + len(new) <= room:
        logits_1V = model(torch.tensor([new], device=weight.device), cache, last_only=True)[0]
        token_id = int(logits_1V.argmax())
        if token_id == tokenizer.eos_id:
            break
        said.append(token_id)
        new = [token_id]
    return tokenizer.decode(said).decode(errors="replace")
