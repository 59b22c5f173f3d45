"""Sums of a curation report: the share of records that was dropped, and the bytes left after each rule.

`tally.Tally.report` returns a report, and the command `curate` writes it as JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from model.train.data.curation.rules import RULES

# Rule -> step, for the steps that have only one rule.
STEPS = {
    "other language": "language",
    "exact duplicate": "exact duplicates",
    "near duplicate": "near duplicates",
    "held-out text": "held-out text",
}


class Passage(NamedTuple):
    """The bytes that one rule kept, and the bytes and records that it dropped."""

    step: str
    rule: str
    kept: int  # bytes
    dropped: int  # bytes
    records: int  # dropped records


def passages(report: Mapping[str, Any]) -> list[Passage]:
    """Return one entry per rule, also for rules that dropped nothing, in the order in which rules are applied."""
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
    """Return the names of the rules of a step, in order; for a step without rules, the name of the step."""
    own = [rule for rule, name in STEPS.items() if name == step]
    return [rule.name for rule in RULES] if step == "quality" else dropping or own or [step]


def share_dropped(counts: Mapping[str, Any]) -> float:
    """Return the share of dropped records, from the counts of a report or of one of its streams; 0 without records."""
    records = counts["in"]["records"]
    return (records - counts["out"]["records"]) / records if records else 0.0


def reason_of(report: Mapping[str, Any], rule: str) -> str:
    """Return why a rule drops a text, in one line; a rule that is not a quality rule has the reason of its step."""
    reasons = {step["name"]: step["reason"] for step in report["steps"]} | {each.name: each.reason for each in RULES}
    return reasons.get(STEPS.get(rule, rule), "")
