"""The curation reports that come with the app."""

import json
from pathlib import Path
from typing import Any

import streamlit as st

from model.checkpoint.embedded import PRESETS

REPORTS = PRESETS / "curation"
TRAINING, DAMAGED = FILES = ("Training text", "Damaged texts")


def reports() -> dict[str, Any]:
    """Return the two reports by name, as the command `curate` wrote them."""
    return _read(REPORTS)


@st.cache_data(show_spinner=False)
def _read(folder: Path) -> dict[str, Any]:
    names = dict(zip(FILES, ("report.json", "noisy.json"), strict=True))
    return {name: json.loads((folder / file).read_text(encoding="utf-8")) for name, file in names.items()}
