"""The reports that come with the app, and the tables of a page."""

import json
from typing import Any

from streamlit.testing.v1 import AppTest

from pages.learn.data.reports import DAMAGED, REPORTS, TRAINING

NAMES = {TRAINING: "report.json", DAMAGED: "noisy.json"}


def report(name: str) -> dict[str, Any]:
    return json.loads((REPORTS / NAMES[name]).read_text(encoding="utf-8"))


def tables(app: AppTest) -> list[Any]:
    assert not app.exception
    return [frame.value for frame in app.dataframe]
