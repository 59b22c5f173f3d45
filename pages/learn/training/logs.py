"""The logs of training runs that come with the app."""

import json
from pathlib import Path

import streamlit as st

from model.checkpoint.embedded import PRESETS
from model.trace.training_log import TrainingLog

FOLDER = PRESETS / "logs"


@st.cache_resource(show_spinner=False)
def logs() -> dict[str, TrainingLog]:
    """Return all logs by name, the log of the embedded model first."""
    return read(FOLDER)


def read(folder: Path) -> dict[str, TrainingLog]:
    """Return the logs of a folder by name."""
    by_name = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (not path.name.startswith("mini"), path.stem)):
        values = json.loads(path.read_text(encoding="utf-8"))
        by_name[values["name"]] = TrainingLog(values["name"], values["says"], values)
    return by_name
