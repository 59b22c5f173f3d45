"""The tables add up to their reports."""

import pytest

from model.train.data.curation import funnel
from pages.learn.data import tables as data_tables
from pages.learn.data.reports import DAMAGED, REPORTS, TRAINING
from tests.pages.learn.data.conftest import report

NAMES = {TRAINING: "report.json", DAMAGED: "noisy.json"}

LIMIT = 200_000


@pytest.mark.parametrize("name", NAMES)
def test_reports_that_come_along_add_up_and_are_small(name: str) -> None:
    path = REPORTS / NAMES[name]
    assert path.stat().st_size < LIMIT
    shipped = report(name)
    rows = data_tables.by_rule(shipped)
    assert rows["dropped"].sum() == rows["kept"].iloc[0] - shipped["out"]["bytes"]
    assert rows["records"].sum() == shipped["in"]["records"] - shipped["out"]["records"]
    assert rows["kept"].iloc[-1] == shipped["out"]["bytes"]
    assert all(rule in set(rows["rule"]) for rule in data_tables.rules_with_examples(shipped))
    assert all(funnel.reason_of(shipped, rule) for rule in rows["rule"])
    assert all(len(file["sha256"]) == 64 and "/" not in file["name"] for file in shipped["files"])
