"""The tables of an audit: its findings and its checks."""

from typing import Any

import pandas as pd

from model.doctor.findings import Report


def findings(report: Report) -> pd.DataFrame:
    """Return a table with a row per finding."""
    from model.doctor.report import evidence_line

    columns = ["severity", "check", "where", "what", "evidence", "tensor"]
    rows = [
        (finding.severity, finding.check, finding.place, finding.what, evidence_line(finding), finding.tensor)
        for finding in report.findings
    ]
    return pd.DataFrame(rows, columns=columns)


def checks(report: Report) -> pd.DataFrame:
    """Return a table with a row per check: what it examined or why it did not run, and its number of findings."""
    rows: list[dict[str, Any]] = [
        {
            "check": check.name,
            "stage": check.stage,
            "looked at": f"left out: {check.skipped}" if check.skipped else check.looked_at,
            "found": "" if check.skipped else _number_of_findings(report, check.name),
        }
        for check in report.checks
    ]
    return pd.DataFrame(rows)


def _number_of_findings(report: Report, check: str) -> str:
    number = sum(finding.check == check for finding in report.findings)
    return str(number) if number else "nothing"
