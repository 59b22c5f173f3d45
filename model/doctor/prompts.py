"""The prompts that an audit runs: the doctor's own sample, or the prompts in a user's file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from model.trace.limits import MOST_TEXT_BYTES
from model.trace.ordinary import read_ordinary

_SAMPLE = Path(__file__).parent / "sample.jsonl"
_MOST_PROMPTS = 10_000


class PromptsError(ValueError):
    """A file of prompts is unusable; the message names the line and says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """A text, or token ids that the run feeds unchanged; one of the two fields is None."""

    text: str | None = None
    ids: tuple[int, ...] | None = None


def own_prompts() -> tuple[Prompt, ...]:
    """Return the doctor's sample: fifteen languages, three programs, a proof and a dialogue, one short text each."""
    return read_prompts(_SAMPLE)


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Return the prompts of a file, one prompt per line.

    A line is a text. If the first non-empty line begins with a brace, every line is a JSON object with `text` (or
    `prompt`), or with `ids`.

    Raises:
        PromptsError: the file is not UTF-8, or empty, or a line is no prompt.
        OSError: the file cannot be read, is no ordinary file, or is larger than 50 MB.
    """
    try:
        content = read_ordinary(path, MOST_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptsError(f"{path} is not UTF-8 text (byte {error.start})") from None
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    if not lines:
        raise PromptsError(f"{path} holds no prompt; write one to a line")
    if len(lines) > _MOST_PROMPTS:
        raise PromptsError(f"{path} holds {len(lines):,} prompts; at most {_MOST_PROMPTS:,} are run")
    if not lines[0][1].lstrip().startswith("{"):
        return tuple(Prompt(line.rstrip("\r")) for _, line in lines)
    return tuple(_read(path, number, line) for number, line in lines)


def _read(path: Path, number: int, line: str) -> Prompt:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise PromptsError(f"{path}, line {number} is not JSON, as the first line is") from None
    if isinstance(entry, dict):
        text, ids = entry.get("text", entry.get("prompt")), entry.get("ids")
        if isinstance(text, str) and text:
            return Prompt(text)
        if isinstance(ids, list) and ids and all(type(value) is int and value >= 0 for value in ids):
            return Prompt(ids=tuple(ids))
    raise PromptsError(f'{path}, line {number} must be an object with "text" or "ids"')
