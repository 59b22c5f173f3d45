"""The example prompts, by domain and language, and the example questions; the recorded example is the first prompt."""

import json

from pages.common.models import PRESETS

PROMPTS, QUESTIONS = (
    json.loads((PRESETS / "recorded" / f"{name}.json").read_text(encoding="utf-8")) for name in ("prompts", "questions")
)
FIRST: str = next(iter(PROMPTS.values()))


def offered(chat: bool) -> dict[str, str]:
    """Return the texts to continue, or the questions to a model that answers."""
    return QUESTIONS if chat else PROMPTS
