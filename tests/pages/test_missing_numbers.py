"""No table, number or chart of any page and tab says `None` or `nan`, and no table shows more than three digits."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from model.trace.trace import Trace
from pages.common.menu import MENU, page_path
from tests.traces import random_trace

NAMES = [name for names in MENU.values() for name in names]
MISSING = re.compile(r"(?<![\w.-])(?:None|nan|NaN|NaT|<NA>)(?![\w.-])")
# Arrays of a figure whose strings are shown.
TEXTS = ("text", "hovertext", "customdata", "ticktext", "name", "hovertemplate", "texttemplate")


def lacking(*names: str) -> Trace:
    """A random trace without some variables, as a file of another engine may be."""
    trace = random_trace()
    return Trace(trace.data.drop_vars(names), trace.tokens, trace.text, trace.request, trace.model, trace.origin)


TRACES = {
    "whole": random_trace(drafts=True),
    "imported": lacking("gate_weight", "router_score", "group_kept", "group_score", "logprob", "attention"),
}


def tab_key(name: str) -> str | None:
    """The address parameter of a page's tabs."""
    found = re.search(r'open_tabs\([\w.]+, "(\w+)"\)', page_path(name).read_text(encoding="utf-8"))
    return found and found.group(1)


def strings(value: Any, key: str = "") -> Iterator[str]:
    """The strings of a figure that a visitor reads."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from strings(part, name if name in TEXTS or not key else key)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part, key)
    elif isinstance(value, str) and key in TEXTS:
        yield value


def shown(app: AppTest) -> Iterator[str]:
    """What a page shows in tables, numbers, text and charts, one string each."""
    for table in [*app.dataframe, *app.table]:
        frame = table.value
        yield from (str(cell) for column in frame for cell in frame[column].dropna())
    for number in app.metric:
        yield from (str(number.value), str(number.delta or ""), number.help or "")
    for element in [*app.markdown, *app.caption, *app.info, *app.success]:
        yield element.value
    for chart in app.get("plotly_chart"):
        yield from strings(json.loads(chart.proto.spec))


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("name", NAMES)
def test_no_page_says_none_or_nan_or_shows_all_digits(
    open_app: Callable[..., AppTest], recorded: Path, name: str, trace: str
) -> None:
    save(TRACES[trace], recorded / "story.safetensors")
    app = open_app()
    if name != "explore":
        app.switch_page(str(page_path(name))).run()
    key, labels = tab_key(name), [tab.label for tab in app.tabs]
    found = {("", text) for text in shown(app) if MISSING.search(text)} | {("", column) for column in bare(app)}
    for label in labels if key else []:
        app.query_params[key] = label
        app.run()
        assert not app.exception
        found |= {(label, text[:200]) for text in shown(app) if MISSING.search(text)}
        found |= {(label, column) for column in bare(app)}
    assert found == set()


def bare(app: AppTest) -> Iterator[str]:
    """The columns of fractions that a table would show with all digits."""
    for table in app.dataframe:
        config, frame = json.loads(table.proto.columns or "{}"), table.value
        for name in frame:
            fractions = frame[name].dtype.kind == "f" and (frame[name].dropna() % 1 != 0).any()
            if fractions and not (config.get(str(name)) or {}).get("type_config", {}).get("format"):
                yield f"{name} beside {list(frame)[:2]}"


def test_every_table_leaves_a_cell_without_a_value_empty() -> None:
    pages = Path(page_path("explore")).parent.parent.parent
    calls = [
        (path.name, call.lineno)
        for path in pages.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "dataframe"
        if not any(word.arg == "placeholder" for word in call.keywords)
    ]
    assert calls == []
