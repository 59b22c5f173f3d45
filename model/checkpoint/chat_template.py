"""Finds the chat template of a model folder: a model with a template was tuned to answer. No import of torch."""

import json
from pathlib import Path

_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"
_MOST_BYTES = 100_000_000


def template_file(folder: Path) -> str:
    """Return the name of the file that holds the chat template of a model folder; empty if there is none.

    transformers 5 writes the template to its own file, earlier versions to a key of `tokenizer_config.json`.
    """
    if (folder / _FILE).is_file():
        return _FILE
    try:
        if (folder / _SETTINGS).stat().st_size > _MOST_BYTES:
            return ""
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ""
    return _SETTINGS if isinstance(settings, dict) and settings.get("chat_template") else ""
