"""Pairs of a prompt and a response, as the rows of a step.

A sample is [BOS, User, prompt, Assistant, response, EOS]. Each sample has its own row, padded at the end, so samples do
not attend to each other. Only the response and EOS count in the loss. Samples that do not fit a row are left out.

Rows of one step have similar lengths, so that the padding is short: the samples of `POOL` steps are drawn together and
sorted by length; each step gets samples of similar length; then the steps are shuffled.

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

from model.checkpoint.chat_template import ASSISTANT, USER
from model.checkpoint.tokenizer import BOS, EOS, Tokenizer
from model.train.data.corpus import CorpusError

IGNORED = -1
POOL = 8  # steps whose samples are drawn together


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its reference response."""

    prompt: str
    response: str
    kind: str


class Batch(NamedTuple):
    """The rows of one step."""

    ids_BT: Tensor
    targets_BT: Tensor  # the next token at each position, or `IGNORED`

    @property
    def counted_BT(self) -> Tensor:
        """Mask [B, T], True where the next token belongs to the response."""
        return self.targets_BT != IGNORED

    @property
    def real_BT(self) -> Tensor:
        """Mask [B, T], True up to the last position with a target, False at padding."""
        return self.counted_BT.flip(1).cumsum(1).flip(1) > 0


def read_pairs(path: Path, kinds: Collection[str] | None = None) -> list[Pair]:
    """Return the pairs of a gzipped JSON-lines file, or only those of the given kinds.

    Raises:
        CorpusError: the file is missing or damaged, or a line is not a pair.
    """
    rows = read_fields(path, ("prompt", "response", "kind"), "pairs of prompt and response")
    pairs = [Pair(*fields) for fields in rows]
    return pairs if kinds is None else [pair for pair in pairs if pair.kind in kinds]


def read_fields(path: Path, names: tuple[str, ...], what: str) -> list[tuple[str, ...]]:
    """Return the values of the fields `names` in every line of a gzipped JSON-lines file.

    Raises:
        CorpusError: the file is missing or damaged, or a line lacks a field; `what` names the lines in the message.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [tuple(row[name] for name in names) for row in rows]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} holds no {what} ({error!r})") from error


class Framing:
    """Converts prompts and responses between text and token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Look up the special tokens in the tokenizer.

        Raises:
            CorpusError: the vocabulary lacks a special token.
        """
        if tokenizer.turn_ids is None or tokenizer.bos_id is None or tokenizer.eos_id is None:
            raise CorpusError(f"the vocabulary lacks {USER}, {ASSISTANT}, {BOS} or {EOS}; use another tokenizer")
        self.tokenizer, self._bos, self._eos = tokenizer, tokenizer.bos_id, tokenizer.eos_id

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, from BOS to the token that begins the answer."""
        return [self._bos, *self.tokenizer.encode_turn(prompt)]

    def response_ids(self, response: str) -> list[int]:
        """Return the token ids of a response, including EOS."""
        return [*self.tokenizer.encode(response), self._eos]

    def text(self, ids: list[int]) -> str:
        """Return the text of an answer, without EOS."""
        return self.tokenizer.decode(ids).decode(errors="replace")


def write_template(folder: Path) -> None:
    """Write the chat template to a model folder's tokenizer_config.json.

    Other programs read the template there. The app treats a model with a template as tuned to answer.
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
    """Pairs as token ids; the batch of a step depends only on the seed and the number of the step."""

    def __init__(
        self, pairs: Sequence[Pair], framing: Framing, length: int, kind_shares: Mapping[str, float] | None = None
    ) -> None:
        """Encode the pairs, and keep those that fit a row.

        Args:
            pairs: training pairs.
            framing: framing with the model's tokenizer.
            length: number of positions per row.
            kind_shares: kind -> its mean share of the samples. All samples of other kinds are equally likely.

        Raises:
            CorpusError: no pair fits a row, or no pair of a kind in `kind_shares` does.
        """
        rows = [(framing.prompt_ids(pair.prompt), framing.response_ids(pair.response)) for pair in pairs]
        fits = [len(prompt) + len(response) <= length + 1 for prompt, response in rows]
        self.rows = [row for row, fit in zip(rows, fits, strict=True) if fit]
        if not self.rows:
            raise CorpusError(f"no sample fits {length} tokens; raise sequence_length")
        kinds = np.array([pair.kind for pair, fit in zip(pairs, fits, strict=True) if fit])
        self.probabilities = _probabilities(kinds, kind_shares or {})
        self._lengths = np.array([len(prompt) + len(response) for prompt, response in self.rows])

    def batch(self, seed: int, step: int, num_samples: int) -> Batch:
        """Return the rows of one step."""
        pool, index = divmod(step, POOL)
        generator = np.random.default_rng([seed, pool])
        picks = generator.choice(len(self.rows), num_samples * POOL, p=self.probabilities)
        ordered = picks[self._lengths[picks].argsort(kind="stable")].reshape(POOL, num_samples)
        return fill_up([self.rows[pick] for pick in ordered[generator.permutation(POOL)[index]]])


def _probabilities(kinds: np.ndarray, kind_shares: Mapping[str, float]) -> np.ndarray:
    """Return the probability of each sample, [sample]."""
    probabilities = np.zeros(len(kinds))
    for kind, share in kind_shares.items():
        of_kind = kinds == kind
        if not of_kind.any():
            raise CorpusError(f"no sample that fits is of the kind {kind!r}; there are {', '.join(sorted(set(kinds)))}")
        probabilities[of_kind] = share / of_kind.sum()
    others = ~np.isin(kinds, list(kind_shares))
    if others.any():
        probabilities[others] = max(0.0, 1 - sum(kind_shares.values())) / others.sum()
    return probabilities / probabilities.sum()


def fill_up(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Return samples (token ids of prompt and of response) as rows, padded to the length of the longest."""
    width = max(len(prompt) + len(response) for prompt, response in rows) - 1
    ids_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    targets_BT = torch.full((len(rows), width), IGNORED)
    for row, (prompt, response) in enumerate(rows):
        whole = [*prompt, *response]
        ids_BT[row, : len(whole) - 1] = torch.tensor(whole[:-1])
        targets_BT[row, len(prompt) - 1 : len(whole) - 1] = torch.tensor(response)
    return Batch(ids_BT, targets_BT)
