"""Sums of a curation report: the share that was dropped, and the bytes left after each rule.

A report is what `report.Tally.report` returns, or the JSON file of the command `curate`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from model.train.data.curation.rules import RULES

# The rule of a step that has only one -> the step.
STEPS = {
    "other language": "language",
    "exact duplicate": "exact duplicates",
    "near duplicate": "near duplicates",
    "held-out text": "held-out text",
}


class Passage(NamedTuple):
    """The bytes that one rule let pass, and the bytes and records that it dropped."""

    step: str
    rule: str
    kept: int  # bytes
    dropped: int  # bytes
    records: int  # dropped


def passages(report: Mapping[str, Any]) -> list[Passage]:
    """Return one entry per rule, in the order in which a text meets them, those that dropped nothing too."""
    entries = []
    for step in report["steps"]:
        left = step["out"]["bytes"] + sum(rule["bytes"] for rule in step["dropped"])
        dropped = {rule["rule"]: rule for rule in step["dropped"]}
        for name in _rules_of(step["name"], list(dropped)):
            count = dropped.get(name, {"bytes": 0, "records": 0})
            left -= count["bytes"]
            entries.append(Passage(step["name"], name, left, count["bytes"], count["records"]))
    return entries


def _rules_of(step: str, dropping: Sequence[str]) -> Sequence[str]:
    """Return the rules of a step in order; a step without rules goes by its own name."""
    own = [rule for rule, name in STEPS.items() if name == step]
    return [rule.name for rule in RULES] if step == "quality" else dropping or own or [step]


def share_dropped(counts: Mapping[str, Any]) -> float:
    """Return the share of records that were dropped, of a report or of one of its streams; 0 without records."""
    records = counts["in"]["records"]
    return (records - counts["out"]["records"]) / records if records else 0.0


def reason_of(report: Mapping[str, Any], rule: str) -> str:
    """Return why a rule drops a text, in one line; the reason of its step where it is the only rule."""
    reasons = {step["name"]: step["reason"] for step in report["steps"]} | {each.name: each.reason for each in RULES}
    return reasons.get(STEPS.get(rule, rule), "")
