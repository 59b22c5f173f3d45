"""Example prompts by domain and language, and example questions. The first prompt is that of the recorded example."""

import json

from pages.common.models import PRESETS

PROMPTS, QUESTIONS = (
    json.loads((PRESETS / "recorded" / f"{name}.json").read_text(encoding="utf-8")) for name in ("prompts", "questions")
)
FIRST: str = next(iter(PROMPTS.values()))


def offered(chat: bool) -> dict[str, str]:
    """Return example prompts by name: with `chat` questions, otherwise texts that the model continues."""
    return QUESTIONS if chat else PROMPTS
