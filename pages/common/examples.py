"""The example prompts, by domain and language; the recorded example is the first of them."""

import json

from pages.common.models import PRESETS

PROMPTS: dict[str, str] = json.loads((PRESETS / "recorded" / "prompts.json").read_text(encoding="utf-8"))
FIRST = next(iter(PROMPTS.values()))
