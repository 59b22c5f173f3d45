"""Tables of a curation report, and of the verdicts of the rules on one text."""

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from model.train.data.curation.rules import Verdict

REASON = "why it drops"  # column; empty for a rule that keeps the text


def by_rule(report: dict[str, Any]) -> pd.DataFrame:
    """Return a table with a row per rule, in the order they run: kept bytes, dropped bytes and dropped records."""
    from model.train.data.curation.funnel import passages

    return pd.DataFrame(passages(report))


def by_stream(report: dict[str, Any]) -> pd.DataFrame:
    """Return a table with a row per stream: size, dropped share, sampling weight, and dropped records per rule."""
    from model.train.data.curation.funnel import share_dropped

    rows = [
        {
            "stream": name.removeprefix("noisy."),
            "records": stream["in"]["records"],
            "records kept": stream["out"]["records"],
            "bytes kept": stream["out"]["bytes"],
            "dropped": share_dropped(stream),
            "sampling weight": stream["weight"],
            "dropped by": ", ".join(f"{rule} {number}" for rule, number in stream["dropped"].items()),
        }
        for name, stream in report["streams"].items()
    ]
    return pd.DataFrame(rows)


def labelled(report: dict[str, Any]) -> pd.DataFrame:
    """Return a table with a row per safety label: number of kept records, number of matches in them, and meaning."""
    from model.train.data.curation.safety import LABELS

    reasons = {label.name: label.reason for label in LABELS}
    return pd.DataFrame(
        [
            {"label": name, "records": count["records"], "found": count["found"], "meaning": reasons.get(name, "")}
            for name, count in report["safety"].items()
        ]
    )


def rules_with_examples(report: dict[str, Any]) -> dict[str, Any]:
    """Return the rules that dropped something, by name."""
    return {rule["rule"]: rule for step in report["steps"] for rule in step["dropped"]}


def sources(report: dict[str, Any]) -> pd.DataFrame:
    """Return a table with a row per source with its licence and size, the largest first."""
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
    """Return a table of every rule's verdict on a text, a sentence on the outcome, and one on the safety labels."""
    from model.train.data.curation.features import Text
    from model.train.data.curation.normalise import normalise
    from model.train.data.curation.rules import verdicts
    from model.train.data.curation.safety import labels

    judged, is_measured = Text(normalise(text), is_code), bool(text.strip())
    rows = [*_language(judged, lang, is_measured), *(_row(verdict, is_measured) for verdict in verdicts(judged))]
    dropping = [row["rule"] for row in rows if row["says"] == "drops"]
    outcome = f"**Dropped**, by {', '.join(dropping)}." if dropping else "**Kept** by every rule."
    matches = ", ".join(f"{name} ({count})" for name, count in labels(judged.text).items())
    return pd.DataFrame(rows), outcome, f"Safety labels, which drop nothing: {matches or 'none'}."


def _language(judged: Any, lang: str, is_measured: bool) -> list[dict[str, str]]:
    """Return a row with the verdict on a text's language; no row if the rule does not know the language."""
    from model.train.data.curation import language

    if lang not in language.known():
        return []
    against = language.foreign(judged, lang)
    keeps = against <= language.LIMIT
    return [
        {
            "rule": "other language",
            "says": ("keeps" if keeps else "drops") if is_measured else "",
            "measured": f"{against:.3g}" if is_measured else "",
            "limit": f"at most {language.LIMIT}",
            "of": "share of letters or words of another language",
            REASON: "" if is_measured and keeps else "It is plainly not in that language.",
        }
    ]


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
        REASON: rule.reason if says in ("", "drops") else "",
    }


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
