"""Finds the chat template of a model folder: a model with a template was tuned to answer.

A template is a program, so it is never run. A question is put only to a model whose template has the turns of
DeepSeek-V3, which `Tokenizer.encode_turn` writes. This module does not import torch.
"""

import json
from pathlib import Path

from model.trace.limits import SETTINGS, check_json
from model.trace.ordinary import read_ordinary

USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"  # begin a question and an answer, in DeepSeek-V3
_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"


def template_file(folder: Path) -> str:
    """Return the name of the file that holds the chat template of a model folder; empty if there is none.

    transformers 5 writes the template to its own file, earlier versions to a key of `tokenizer_config.json`.
    """
    return _found(folder)[0]


def takes_questions(folder: Path) -> bool:
    """Return whether a model folder has a chat template with the turns of DeepSeek-V3."""
    _, template = _found(folder)
    return USER in template and ASSISTANT in template


def _found(folder: Path) -> tuple[str, str]:
    """Return the name of the file with the chat template, and the template; two empty texts if there is none."""
    try:
        if (folder / _FILE).is_file():
            return _FILE, read_ordinary(folder / _FILE, SETTINGS.num_bytes).decode(errors="replace")
        content = read_ordinary(folder / _SETTINGS, SETTINGS.num_bytes)
        check_json(content, SETTINGS)
        settings = json.loads(content.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return "", ""
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    return (_SETTINGS, str(template)) if template else ("", "")  # a list, where there are several templates
