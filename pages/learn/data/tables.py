"""The tables of the page on the data."""

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from model.train.data.curation.rules import Verdict


STEPS = {  # the rule of a step that has only one
    "other language": "language",
    "exact duplicate": "exact duplicates",
    "near duplicate": "near duplicates",
    "held-out text": "held-out text",
}


def share_dropped(report: dict[str, Any]) -> float:
    """Share of the records that were dropped."""
    came = report["in"]["records"]
    return (came - report["out"]["records"]) / came if came else 0.0


def by_rule(report: dict[str, Any]) -> pd.DataFrame:
    """A row for each rule, in the order in which a text meets them: bytes that went on, and what was dropped."""
    rows = []
    for step in report["steps"]:
        left = step["out"]["bytes"] + sum(rule["bytes"] for rule in step["dropped"])
        dropped = {rule["rule"]: rule for rule in step["dropped"]}
        for name in _rules_of(step["name"], list(dropped)):
            count = dropped.get(name, {"bytes": 0, "records": 0})
            left -= count["bytes"]
            row = {"step": step["name"], "rule": name, "kept": left, "dropped": count["bytes"]}
            rows.append(row | {"records": count["records"]})
    return pd.DataFrame(rows)


def _rules_of(step: str, found: list[str]) -> list[str]:
    """Rules of a step in order, also those that dropped nothing; a step without any goes by its own name."""
    from model.train.data.curation.rules import RULES

    own = [rule for rule, where in STEPS.items() if where == step]
    return [rule.name for rule in RULES] if step == "quality" else found or own or [step]


def by_stream(report: dict[str, Any]) -> pd.DataFrame:
    """Streams with their sizes, the share of records dropped, the rules that did it, and the sampling weight."""
    rows = [
        {
            "stream": name.removeprefix("noisy."),
            "records": stream["in"]["records"],
            "records kept": stream["out"]["records"],
            "bytes kept": stream["out"]["bytes"],
            "dropped": 1 - stream["out"]["records"] / max(1, stream["in"]["records"]),
            "sampling weight": stream["weight"],
            "dropped by": ", ".join(f"{rule} {number}" for rule, number in stream["dropped"].items()),
        }
        for name, stream in report["streams"].items()
    ]
    return pd.DataFrame(rows)


def labelled(report: dict[str, Any]) -> pd.DataFrame:
    """Safety labels: in how many kept records, how often in all, and what they mean."""
    from model.train.data.curation.safety import LABELS

    reasons = {label.name: label.reason for label in LABELS}
    return pd.DataFrame(
        [
            {"label": name, "records": count["records"], "found": count["found"], "meaning": reasons.get(name, "")}
            for name, count in report["safety"].items()
        ]
    )


def rules_with_examples(report: dict[str, Any]) -> dict[str, Any]:
    """Rules that dropped something, by name."""
    return {rule["rule"]: rule for step in report["steps"] for rule in step["dropped"]}


def reason_of(report: dict[str, Any], rule: str) -> str:
    """Why a rule drops, in one line; that of its step where it is the only one."""
    from model.train.data.curation.rules import RULES

    reasons = {step["name"]: step["reason"] for step in report["steps"]} | {each.name: each.reason for each in RULES}
    return reasons.get(STEPS.get(rule, rule), "")


def sources(report: dict[str, Any]) -> pd.DataFrame:
    """Sources with their licence and sizes, largest first."""
    rows = [
        {
            "source": row["source"],
            "licence": row["license"],
            "records": row["in"]["records"],
            "records kept": row["out"]["records"],
            "bytes": row["in"]["bytes"],
            "bytes kept": row["out"]["bytes"],
        }
        for row in report["sources"]
    ]
    return pd.DataFrame(rows).sort_values("bytes", ascending=False)


def verdicts(text: str, is_code: bool, lang: str) -> tuple[pd.DataFrame, str, str]:
    """What every rule says of a text, the outcome in words, and its safety labels in words."""
    from model.train.data.curation import language
    from model.train.data.curation.features import Text
    from model.train.data.curation.normalise import normalise
    from model.train.data.curation.rules import verdicts
    from model.train.data.curation.safety import labels

    looked_at = Text(normalise(text), is_code)
    rows = [_row(verdict, bool(text.strip())) for verdict in verdicts(looked_at)]
    against = language.foreign(looked_at, lang)
    if lang in language.known():
        does = "keeps" if against <= language.LIMIT else "drops"
        row = {
            "rule": "other language",
            "says": does,
            "measured": f"{against:.3g}",
            "limit": f"at most {language.LIMIT}",
        }
        rows.insert(0, row | {"of": "share of evidence", "reason": "It is plainly not in that language."})
    dropping = [row["rule"] for row in rows if row["says"] == "drops"]
    outcome = f"**Dropped**, by {', '.join(dropping)}." if dropping else "**Kept** by every rule."
    found = ", ".join(f"{name} ({count})" for name, count in labels(looked_at.text).items())
    return pd.DataFrame(rows), outcome, f"Safety labels, which drop nothing: {found or 'none'}."


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _row(verdict: "Verdict", is_measured: bool) -> dict[str, str]:
    rule = verdict.rule
    if not is_measured:
        says, measured = "", ""
    elif verdict.value is None:
        says, measured = "not for code", ""
    else:
        says, measured = "keeps" if verdict.keeps else "drops", _spelled(verdict.value)
    limit = f"at {'least' if rule.at_least else 'most'} {rule.limit:g}"
    return {
        "rule": rule.name,
        "says": says,
        "measured": measured,
        "limit": limit,
        "of": rule.unit,
        "reason": rule.reason,
    }
