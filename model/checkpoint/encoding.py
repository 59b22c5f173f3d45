"""Encodes text with the `tokenizers` library, in this process or in a process that `encoding_worker.py` starts.

The library matches patterns and rewrites text as a tokenizer.json says, without a limit of time or memory. The
library can panic; Python then raises a `BaseException`. This module does not import torch, so that a worker process
starts quickly.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

import tokenizers

from model.checkpoint.vocabulary import SPACE

MOST_IDS = 1 << 22  # largest number of tokens of a text
# DeepSeek-V3's pre-tokenizer: up to three digits; runs of Han and Kana; words, punctuation with its line breaks, and
# white space.
SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)
# The pre-tokenizers of Llama 3, Qwen3, gpt-oss and Mistral Nemo, in this order.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = r"[^\r\n\p{L}\p{N}]?" + _UPPER
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
OF_FAMILIES = (
    rf"{_WORDS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    rf"{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    rf"{_CASED}*{_LOWER}+{_ENDING}|{_CASED}+{_LOWER}*{_ENDING}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    rf"{_CASED}*{_LOWER}+|{_CASED}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
)
_HARMLESS = ("ByteLevel", "Digits", "NFC", "NFD", "NFKC", "NFKD")
# The steps of SentencePiece vocabularies: each space becomes one sign, and one sign is put before a text or a word.
_OF_SENTENCEPIECE = (
    {"type": "Prepend", "prepend": SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
)
# A run adds no token except BOS, which the engine adds, and does not shorten or pad its text.
_UNUSED = {"post_processor": None, "truncation": None, "padding": None}
_PARTS = ("normalizer", "pre_tokenizer", "decoder", "added_tokens")
Result = TypeVar("Result")


class EncodingError(ValueError):
    """The library cannot read a tokenizer.json, or cannot encode a text."""


def is_harmless(published: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json encodes any text in time and memory proportional to the text's length.

    This holds if the model is a BPE, the only rewriting is Unicode normalisation and SentencePiece's spelling of
    spaces, and the only patterns are those of DeepSeek-V3, Llama 3, Qwen, gpt-oss and Mistral Nemo.
    """
    if published["model"].get("type", "BPE") != "BPE":
        return False
    steps = [*_steps(published.get("normalizer")), *_steps(published.get("pre_tokenizer"))]
    return all(isinstance(step, Mapping) and _is_harmless_step(step) for step in steps)


def _is_harmless_step(step: Mapping[str, Any]) -> bool:
    is_metaspace = step.get("type") == "Metaspace" and step.get("replacement") == SPACE
    return step.get("type") in _HARMLESS or is_metaspace or step in _OF_SENTENCEPIECE or _is_known_split(step)


def _steps(part: Any) -> Iterator[Any]:
    """Return the steps of a part: the part itself, the entries of a part of type Sequence, or nothing for None."""
    if not isinstance(part, Mapping) or part.get("type") != "Sequence":
        return iter([] if part is None else [part])
    steps = part.get("normalizers", part.get("pretokenizers"))
    return iter(steps if isinstance(steps, list) else [steps])


def _is_known_split(step: Mapping[str, Any]) -> bool:
    pattern, known = step.get("pattern"), (*SPLITS, *OF_FAMILIES)
    return step.get("type") == "Split" and isinstance(pattern, Mapping) and pattern.get("Regex") in known


class Encoding:
    """The library's tokenizer of one tokenizer.json."""

    def __init__(self, published: Mapping[str, Any]) -> None:
        """Build the tokenizer.

        Raises:
            EncodingError: the library cannot read the file; if a single part is the cause, the message names it.
        """
        self._published = dict(published) | _UNUSED
        self._tokenizers: dict[bool, tokenizers.Tokenizer] = {}
        tokenizer = self._named("read", self._of)
        for entry in published.get("added_tokens") or []:
            if (given := tokenizer.token_to_id(entry["content"])) != entry["id"]:
                ids = f"the id {entry['id']}, the tokenizers library gives it {given}"
                raise EncodingError(f"added_tokens states for {entry['content']!r:.80} {ids}; renumber them")

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Return the token ids of a text.

        Args:
            text: the text.
            parse_special: whether the spelling of a special token gives the id of this token, or is ordinary text.

        Raises:
            EncodingError: the library fails, or the text has more than `MOST_IDS` tokens.
        """

        def encode(published: Mapping[str, Any]) -> list[int]:
            return self._of(published, parse_special).encode(text, add_special_tokens=False).ids

        ids = self._named("run on this text", encode)
        if len(ids) > MOST_IDS:
            raise EncodingError(f"it makes {len(ids):,} tokens of {len(text):,} characters")
        return ids

    def _of(self, published: Mapping[str, Any], parse_special: bool = False) -> tokenizers.Tokenizer:
        if published is not self._published:
            return tokenizers.Tokenizer.from_str(json.dumps(published, ensure_ascii=False))
        if parse_special not in self._tokenizers:
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(published, ensure_ascii=False))
            tokenizer.encode_special_tokens = not parse_special  # True: encode their spelling as text
            self._tokenizers[parse_special] = tokenizer
        return self._tokenizers[parse_special]

    def _named(self, use: str, attempt: Callable[[Mapping[str, Any]], Result]) -> Result:
        """Return the result of `attempt` with all parts; if it fails, raise an error.

        The error names the first part without which `attempt` succeeds, if there is one.
        """
        try:
            return attempt(self._published)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library is no Exception
            reason = str(error).partition("\n")[0] or type(error).__name__
        for part in _PARTS:
            try:
                attempt(self._published | {part: None})
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # noqa: S112 - another part is at fault
                continue
            raise EncodingError(f"its {part} cannot be {use}: {reason}")
        raise EncodingError(reason)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests, one line of JSON each, until the input ends.

    The first request is a tokenizer.json, and each further request is a text.
    """
    encoding: Encoding | None = None
    for line in requests:
        request = json.loads(line)
        if hasattr(signal, "alarm"):  # ends this process even if the process that sent the request is gone
            signal.alarm(2 * request["seconds"])
        try:
            if encoding is None:
                _limit_memory(request["bytes"])
                encoding = Encoding(request["published"])
                answer: dict[str, Any] = {}
            else:
                answer = {"ids": encoding.encode(request["text"], request["parse_special"])}
        except EncodingError as error:
            answer = {"error": str(error)}
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _limit_memory(num_bytes: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
