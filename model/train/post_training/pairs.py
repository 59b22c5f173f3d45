"""Pairs of a prompt and a response, as the rows of a step.

A sample is [BOS, User, prompt, Assistant, response, EOS]. Each has a row of its own, filled up behind its end, so that
no sample sees another; the response and the end count only. Samples that do not fit a row are left out.

Rows of one step are about equally long, so that little is filled up: the samples of `POOL` steps are drawn together,
ordered by length, cut into steps, and the steps shuffled.

Shape suffixes: B samples, T positions.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 5.1 (samples masked from each other).
"""

import dataclasses
import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.tokenizer import ASSISTANT, BOS, EOS, USER, Tokenizer
from model.train.data.corpus import CorpusError

IGNORED = -1
POOL = 8  # steps whose samples are drawn together


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

    @property
    def counted_BT(self) -> Tensor:
        """True where the next token belongs to the response."""
        return self.goals_BT != IGNORED

    @property
    def real_BT(self) -> Tensor:
        """True up to the last token of the response, false where a row is filled up."""
        return self.counted_BT.flip(1).cumsum(1).flip(1) > 0


def read_pairs(path: Path, kinds: Collection[str] | None = None) -> list[Pair]:
    """Pairs of a gzipped JSON-lines file, all of them or those of some kinds.

    Raises:
        CorpusError: it is missing or damaged, or a line is no pair.
    """
    rows = read_fields(path, ("prompt", "response", "kind"), "pairs of prompt and response")
    pairs = [Pair(*fields) for fields in rows]
    return pairs if kinds is None else [pair for pair in pairs if pair.kind in kinds]


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


class Framing:
    """Turns a prompt and a response into tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Look up the marks.

        Raises:
            CorpusError: the vocabulary lacks the tokens that frame a turn.
        """
        if tokenizer.turn_ids is None or tokenizer.bos_id is None or tokenizer.eos_id is None:
            raise CorpusError(f"the vocabulary lacks {USER}, {ASSISTANT}, or the marks of beginning and end")
        self.tokenizer, self._bos, self._eos = tokenizer, tokenizer.bos_id, tokenizer.eos_id

    def given(self, prompt: str) -> list[int]:
        """What a model is given."""
        return [self._bos, *self.tokenizer.encode_turn(prompt)]

    def wanted(self, response: str) -> list[int]:
        """What it is to say."""
        return [*self.tokenizer.encode(response), self._eos]

    def said(self, ids: list[int]) -> str:
        """The text of an answer, without the mark of its end."""
        return self.tokenizer.decode(ids).decode(errors="replace")


def write_template(folder: Path) -> None:
    """Say in a model folder's tokenizer_config.json how a chat is framed, as other programs read it.

    It also tells the app that the model was tuned to answer.
    """
    template = (
        "{{ bos_token }}{% for message in messages %}"
        f"{{% if message['role'] == 'user' %}}{USER}{{{{ message['content'] }}}}"
        f"{{% else %}}{ASSISTANT}{{{{ message['content'] }}}}{{{{ eos_token }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
    )
    settings = {"bos_token": BOS, "eos_token": EOS, "chat_template": template}
    text = json.dumps(settings, ensure_ascii=False, indent=1)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


class Samples:
    """Pairs as tokens; what a step gets depends on the seed and the step's number alone."""

    def __init__(
        self, pairs: Sequence[Pair], framing: Framing, length: int, kind_shares: Mapping[str, float] | None = None
    ) -> None:
        """Encode the pairs and keep those that fit.

        Args:
            pairs: to learn from.
            framing: of the model's vocabulary.
            length: positions of a row.
            kind_shares: share of the samples that is to be of a kind, on average; what is left goes to the other kinds,
                all their samples alike.

        Raises:
            CorpusError: none fits, or none of a kind that is to have a share.
        """
        rows = [(framing.given(pair.prompt), framing.wanted(pair.response)) for pair in pairs]
        fits = [len(given) + len(wanted) <= length + 1 for given, wanted in rows]
        self.rows = [row for row, fit in zip(rows, fits, strict=True) if fit]
        if not self.rows:
            raise CorpusError(f"no sample fits {length} tokens")
        kinds = np.array([pair.kind for pair, fit in zip(pairs, fits, strict=True) if fit])
        self.probabilities = _probabilities(kinds, kind_shares or {})
        self._lengths = np.array([len(given) + len(wanted) for given, wanted in self.rows])

    def batch(self, seed: int, step: int, num_samples: int) -> Batch:
        """Samples of one step."""
        pool, place = divmod(step, POOL)
        generator = np.random.default_rng([seed, pool])
        picks = generator.choice(len(self.rows), num_samples * POOL, p=self.probabilities)
        ordered = picks[self._lengths[picks].argsort(kind="stable")].reshape(POOL, num_samples)
        return fill_up([self.rows[pick] for pick in ordered[generator.permutation(POOL)[place]]])


def _probabilities(kinds: np.ndarray, kind_shares: Mapping[str, float]) -> np.ndarray:
    """Of each sample to be drawn, [sample]."""
    found = np.zeros(len(kinds))
    for kind, share in kind_shares.items():
        of_kind = kinds == kind
        if not of_kind.any():
            raise CorpusError(f"no sample that fits is of the kind {kind!r}; there are {', '.join(sorted(set(kinds)))}")
        found[of_kind] = share / of_kind.sum()
    others = ~np.isin(kinds, list(kind_shares))
    if others.any():
        found[others] = max(0.0, 1 - sum(kind_shares.values())) / others.sum()
    return found / found.sum()


def fill_up(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Some samples, each what is given and what is wanted, filled up to the longest of them."""
    width = max(len(given) + len(wanted) for given, wanted in rows) - 1
    ids_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    goals_BT = torch.full((len(rows), width), IGNORED)
    for row, (given, wanted) in enumerate(rows):
        whole = [*given, *wanted]
        ids_BT[row, : len(whole) - 1] = torch.tensor(whole[:-1])
        goals_BT[row, len(given) - 1 : len(whole) - 1] = torch.tensor(wanted)
    return Batch(ids_BT, goals_BT)
