"""What a curation report adds up to, by hand."""

import pytest

from model.train.data.curation import funnel
from model.train.data.curation.rules import RULES

REPORT = {
    "in": {"records": 8, "bytes": 1000},
    "out": {"records": 6, "bytes": 700},
    "steps": [
        {"name": "normalise", "reason": "so", "out": {"records": 8, "bytes": 950}, "dropped": []},
        {
            "name": "quality", "reason": "why", "out": {"records": 7, "bytes": 900},
            "dropped": [{"rule": "markup", "records": 1, "bytes": 50}],
        },
        {
            "name": "exact duplicates", "reason": "It is there already.", "out": {"records": 6, "bytes": 700},
            "dropped": [{"rule": "exact duplicate", "records": 1, "bytes": 200}],
        },
    ],
}  # fmt: skip


def test_bytes_left_after_each_rule() -> None:
    entries = funnel.passages(REPORT)
    assert entries[0] == ("normalise", "normalise", 950, 0, 0)
    assert [entry.rule for entry in entries[1:-1]] == [rule.name for rule in RULES]
    by_rule = {entry.rule: entry for entry in entries}
    assert by_rule["too short"] == ("quality", "too short", 950, 0, 0)
    assert by_rule["markup"] == ("quality", "markup", 900, 50, 1)
    assert entries[-1] == ("exact duplicates", "exact duplicate", 700, 200, 1)


def test_share_dropped() -> None:
    assert funnel.share_dropped(REPORT) == pytest.approx(0.25)
    assert funnel.share_dropped({"in": {"records": 0}, "out": {"records": 0}}) == 0.0


def test_reason_of_a_rule_and_of_a_step_with_one_rule() -> None:
    assert funnel.reason_of(REPORT, "exact duplicate") == "It is there already."
    assert funnel.reason_of(REPORT, "lock file") == "The text lists versions and checksums of packages."
    assert funnel.reason_of(REPORT, "no such rule") == ""
