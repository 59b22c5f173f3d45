"""Where a run of a transformers model ends: at the end of its context, or at an end-of-sequence token."""

from pathlib import Path
from typing import Any

from model.checkpoint.files import ModelFolder
from model.families.sizes import CONTEXT, whole


def context_of(text_config: Any) -> int:
    """Return the largest number of tokens of a run; a model that states none has a limit far beyond its memory."""
    return whole(text_config, *CONTEXT) or 1 << 20


def eos_ids(folder: Path, text_config: Any) -> frozenset[int]:
    """Return the tokens that end a text, by config.json and generation_config.json.

    Raises:
        CheckpointError: the two files contradict each other.
    """
    with ModelFolder(folder, needs_weights=False) as files:
        stated = (getattr(text_config, "eos_token_id", None), files.generation_tokens().get("eos_token_id"))
    ids = [value for entry in stated for value in (entry if isinstance(entry, list | tuple) else [entry])]
    return frozenset(value for value in ids if isinstance(value, int))
