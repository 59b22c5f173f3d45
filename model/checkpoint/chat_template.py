"""Find the chat template of a model folder, the sign that the model was tuned to answer. Without torch."""

import json
from pathlib import Path

_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"
_MOST_BYTES = 100_000_000


def template_file(folder: Path) -> str:
    """Return the name of the file that holds the chat template of a model folder; empty if there is none.

    transformers 5 writes a file of its own, earlier versions a key of the settings.
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
