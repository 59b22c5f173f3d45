"""Checks a folder's tokenizer: its file must be readable, and the embedding must have a row for each token id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint.header import CheckpointError, printable
from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from model.checkpoint.vocabulary import OTHER_FILES
from model.doctor.findings import ERROR, WARNING, Check, Finding

NAME, STAGE, FILE = "tokenizer", "weights", "tokenizer.json"


def stated_ids(published: Mapping[str, Any]) -> tuple[object, object]:
    """Return `vocab_size` and `bos_token_id` of the language model, also within a multimodal configuration."""
    text = published.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, Mapping) else {}
    size, bos = (published.get(key, inner.get(key)) for key in ("vocab_size", "bos_token_id"))
    return size, bos


def check_tokenizer(folder: Path, vocab_size: Any, bos_id: Any = None) -> tuple[Check, list[Finding]]:
    """Return the check of a folder's tokenizer, and the findings on it.

    Args:
        folder: the model folder.
        vocab_size: the value in config.json, which may be of any type.
        bos_id: `bos_token_id` in config.json, which may be of any type.
    """
    if not (folder / FILE).is_file():
        return Check(NAME, STAGE, "", skipped=missing(folder)), []
    try:
        tokenizer = Tokenizer.load(folder)
    except (TokenizerError, CheckpointError) as problem:
        return Check(NAME, STAGE, f"whether {FILE} can be read"), [_unusable(folder, problem)]
    looked_at = f"{tokenizer.size:,} ids of {FILE} against vocab_size"
    return Check(NAME, STAGE, looked_at), [*_beyond(tokenizer, vocab_size), *_first_token(tokenizer, bos_id)]


def missing(folder: Path) -> str:
    """Return the message that a folder has no tokenizer.json, with the name of another vocabulary file in it."""
    other = next((name for name in OTHER_FILES if (folder / name).is_file()), "")
    instead = f", only {other}, which is not read" if other else ""
    return f'the folder has no {FILE}{instead}; give --prompts with "ids"'


def _unusable(folder: Path, problem: Exception) -> Finding:
    reason = printable(str(problem).removeprefix(f"{folder / FILE} ").removeprefix("is ").strip())
    meaning = (
        "No text can be run. A file that was cut off or not downloaded, such as a Git-LFS pointer; or a tokenizer of a "
        "kind that is not read here."
    )
    return Finding(WARNING, NAME, f"{FILE} is {reason}", meaning, {}, tensor="")


def _beyond(tokenizer: Tokenizer, vocab_size: Any) -> list[Finding]:
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or tokenizer.size <= vocab_size:
        return []
    what = f"{FILE} has {tokenizer.size:,} ids, the model has rows for {vocab_size:,}"
    meaning = (
        "Text whose tokens lie beyond the last row cannot be run. A tokenizer of another model, or tokens that were "
        "added without a row in the embedding."
    )
    return [Finding(ERROR, NAME, what, meaning, {"ids": tokenizer.size, "vocab_size": vocab_size})]


def _first_token(tokenizer: Tokenizer, bos_id: Any) -> list[Finding]:
    """Return a finding if config.json and the tokenizer state different first tokens of a text."""
    if type(bos_id) is not int or not tokenizer.first_ids or bos_id in tokenizer.first_ids:
        return []
    first = " ".join(map(str, tokenizer.first_ids))
    what = f"config.json states bos_token_id {bos_id}, {FILE} begins a text with id {first}"
    meaning = (
        "Runs here begin with the tokenizer's token; programs that follow config.json begin with another, which shifts "
        "the predictions of every text. One of the files belongs to another model."
    )
    return [Finding(WARNING, NAME, what, meaning, {"bos_token_id": bos_id, "of the tokenizer": tokenizer.first_ids[0]})]
