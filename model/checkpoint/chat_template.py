"""Finds the chat template of a model folder: a model with a template was tuned to answer.

This module does not import torch.
"""

import json
from pathlib import Path

from model.trace.limits import SETTINGS, check_json
from model.trace.ordinary import read_ordinary

_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"


def template_file(folder: Path) -> str:
    """Return the name of the file that holds the chat template of a model folder; empty if there is none.

    transformers 5 writes the template to its own file, earlier versions to a key of `tokenizer_config.json`.
    """
    if (folder / _FILE).is_file():
        return _FILE
    try:
        content = read_ordinary(folder / _SETTINGS, SETTINGS.num_bytes)
        check_json(content, SETTINGS)
        settings = json.loads(content.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ""
    return _SETTINGS if isinstance(settings, dict) and settings.get("chat_template") else ""
