"""Writes a report as JSON, as one self-contained HTML file, or as lines for a terminal.

Names of tensors and models, and texts of prompts, come from files and are escaped. The HTML has no script and loads no
other file; a content security policy in the file forbids both.
"""

import dataclasses
import html
import json
from collections.abc import Iterable, Sequence

from model.checkpoint.header import printable
from model.doctor.findings import SEVERITIES, Check, Finding, Number, Report, overview
from model.trace.writing import strict

_MARKS = {-1: ("", ""), 0: ("clear", "ok"), 1: ("note", "note"), 2: ("warning", "warning"), 3: ("error", "error")}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root{color-scheme:light dark;--ink:#24292f;--paper:#fff;--muted:#5e6771;--line:#d8dde3;--shade:#f4f6f8;
--error:#a33b08;--warning:#8a5a00;--note:#1f5fa0;--clear:#1b7837}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--paper:#0e1117;--muted:#9aa4b0;--line:#2a313b;--shade:#1b212a;
--error:#ff9d6b;--warning:#ffd08a;--note:#8ab9e6;--clear:#7fbf7b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;
border-bottom:1px solid var(--line)}th{color:var(--muted);font-weight:600}
.error{color:var(--error);font-weight:600}.warning{color:var(--warning);font-weight:600}.note{color:var(--note)}
.clear{color:var(--clear)}.muted{color:var(--muted)}.marks td,.marks th{text-align:center}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--shade);padding:.5rem;margin:.25rem 0}
"""


def to_json(report: Report) -> str:
    """Return the report as JSON text; NaN and infinity become strings, because JSON lacks them."""
    content = {
        "format": "moe-loupe-audit",
        "version": "1",
        "model": report.model,
        "time_utc": report.time_utc,
        "worst": report.worst or None,
        "findings": [dataclasses.asdict(finding) | {"place": finding.place} for finding in report.findings],
        "checks": [dataclasses.asdict(check) for check in report.checks],
        "measures": dict(report.measures),
        "prompts": list(report.prompts),
    }
    return json.dumps(strict(content), indent=2, allow_nan=False)  # ASCII: a header may hold half a surrogate pair


def to_lines(report: Report) -> list[str]:
    """Return the report as lines for a terminal: findings by severity, then the checks."""
    lines = [headline(report)]
    for finding in report.findings:
        lines += [f"{finding.severity.upper():<8} {printable(finding.what)}", f"         {printable(finding.meaning)}"]
        if finding.evidence:
            lines.append(f"         {printable(evidence_line(finding))}")
    lines.append("looked at:")
    for check in report.checks:
        lines.append(f"  {check.name:<16} {printable(check.skipped and f'not: {check.skipped}' or check.looked_at)}")
    return lines


def headline(report: Report) -> str:
    """Return the numbers of findings and checks in one line."""
    counts = [f"{report.count(name)} {name}{'s' if report.count(name) != 1 else ''}" for name in reversed(SEVERITIES)]
    return f"{printable(report.model)}: {', '.join(counts)}; {len(report.made)} checks were made"


def evidence_line(finding: Finding) -> str:
    """Return the numbers of a finding in one line."""
    return ", ".join(f"{name} {number(value)}" for name, value in finding.evidence.items())


def number(value: Number) -> str:
    """Return a float with three digits, an integer with all digits, or a string unchanged."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


# --- HTML ------------------------------------------------------------------------------------------------------------


def to_html(report: Report) -> str:
    """Return the report as one HTML file."""
    name = html.escape(report.model)
    body = [
        f"<h1>Audit of {name}</h1>",
        f"<p>{html.escape(headline(report))}. <span class=muted>{html.escape(report.time_utc)}</span></p>",
        *_section("Findings", _findings(report.findings)),
        *_section("Layer by layer", _layers(report)),
        *_section("What was looked at", _checks(report.checks)),
        *(part for title, table in report.measures.items() for part in _section(title, _measures(table))),
        *_section("Prompts", [f"<pre>{html.escape(prompt)}</pre>" for prompt in report.prompts]),
    ]
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head = f'<meta charset="utf-8">{policy}<title>Audit of {name}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"<h2>{html.escape(title)}</h2>", *parts] if parts else []


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Return an HTML table; the cells of `rows` are already HTML."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    content = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table{f' class={kind}' if kind else ''}><tr>{top}</tr>\n{content}</table>"


def _findings(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["<p class=clear>Nothing was found.</p>"]
    rows = [
        (
            f"<span class={finding.severity}>{finding.severity}</span>",
            html.escape(finding.place),
            html.escape(finding.what),
            html.escape(evidence_line(finding)),
            html.escape(finding.meaning),
        )
        for finding in findings
    ]
    return [_table(("severity", "where", "what", "evidence", "what it usually means"), rows)]


def _layers(report: Report) -> list[str]:
    marks = overview(report)
    if not marks.size:
        return []
    rows = [
        (f"L{layer}", *(f"<span class={_MARKS[mark][0]}>{_MARKS[mark][1]}</span>" if mark >= 0 else "" for mark in row))
        for layer, row in zip(marks["layer"].values.tolist(), marks.values.tolist(), strict=True)
    ]
    return [_table(("layer", *marks["check"].values.tolist()), rows, "marks")]


def _checks(checks: Sequence[Check]) -> list[str]:
    rows = [
        (html.escape(check.name), html.escape(check.stage), html.escape(check.looked_at), html.escape(check.skipped))
        for check in checks
    ]
    return [_table(("check", "stage", "looked at", "left out because"), rows)]


def _measures(table: Sequence[dict[str, Number]]) -> list[str]:
    """Return an HTML table of numbers, one row per dictionary; the dictionaries' keys are the columns."""
    if not table:
        return []
    return [_table(table[0], ([html.escape(number(value)) for value in row.values()] for row in table))]
