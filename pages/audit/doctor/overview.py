"""The parts of an audit on the Doctor page: progress, verdict, map of checks, findings, and files."""

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from model.doctor.findings import SEVERITIES, Finding, Report, left_out, overview
from pages.audit.doctor import runs, tables
from pages.audit.doctor.runs import Audit
from pages.common import controls, session, text
from pages.common.menu import page_path, title
from pages.common.tables import THREE
from viz import doctor as figures

SECONDS_BETWEEN_UPDATES = 0.7
SHOWN_FINDINGS = 40
_BADGE = {"error": ":red-badge[error]", "warning": ":orange-badge[warning]", "note": ":blue-badge[note]"}
# Name of a check -> the page that shows its findings.
_PAGES = {
    "bias": "routing",
    "gate rows": "routing",
    "near ties": "routing",
    "affinities": "routing",
    "bf16 ranking": "routing",
    "bf16 against fp32": "routing",
    "experts": "expert_load",
    "load": "expert_load",
    "groups": "expert_load",
}


def progress(*audits: Audit | None) -> None:
    """Show the progress of running audits and the errors of failed ones; rerun the page when an audit ends."""
    running = [audit for audit in audits if audit is not None and audit.waiting]
    with st.container(key="status"):  # equally high with and without a progress bar
        if running:
            st.fragment(_bars, run_every=SECONDS_BETWEEN_UPDATES)(running)
        else:
            st.caption(
                "The audit of the weights is shared by all visitors and repeated when the files change; texts run "
                "whenever you ask."
            )
    for audit, stage in zip(audits, runs.STAGES, strict=True):
        if audit is not None and audit.error:
            st.error(f"The audit of the {stage} ended: {text.plain(audit.error)}.")


def _bars(audits: list[Audit]) -> None:
    if any(not audit.waiting for audit in audits):
        st.rerun()
    for audit in audits:
        st.progress(audit.share, f"Auditing: {text.plain(audit.doing)}")


def joined(*audits: Audit | None) -> Report | None:
    """Merge the reports of both stages, weights and texts; a failed stage adds a line. None before the first report."""
    reports = [audit.report for audit in audits if audit is not None and audit.report is not None]
    if not reports:
        return None
    for audit, stage in zip(audits, runs.STAGES, strict=True):
        if audit is not None and audit.error:
            reports.append(left_out(reports[0].model, f"audit of the {stage}", stage, audit.error))
    return functools.reduce(Report.joined, reports)


# --- findings --------------------------------------------------------------------------------------------------------


def verdict(report: Report) -> str:
    """Return two sentences on the result of the audit."""
    counts = [_counted(report.count(name), name) for name in reversed(SEVERITIES) if report.count(name)]
    with_findings = {finding.check for finding in report.findings}
    healthy = [check.name for check in report.made if check.name not in with_findings]
    state = {"error": "Something is broken", "warning": "Something is unusual"}.get(report.worst, "Looks healthy")
    rest = f" Nothing was found by {', '.join(healthy)}." if healthy else ""
    return f"**{state}: {', '.join(counts) or 'no finding'} in {len(report.made)} checks.**{rest}"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def findings(report: Report, folder: Path) -> None:
    """Show every finding, the most severe first, with numbers, usual meaning and a link to a page that shows it."""
    for number, finding in enumerate(report.findings[:SHOWN_FINDINGS]):
        with st.container(border=True):
            _finding(finding, number, folder)
    if len(report.findings) > SHOWN_FINDINGS:
        st.caption(f"{len(report.findings) - SHOWN_FINDINGS:,} more are in the table and in the report.")


def _finding(finding: Finding, number: int, folder: Path) -> None:
    from model.doctor.report import evidence_line

    left, right = st.columns([5, 1], vertical_alignment="center")
    with left:
        badge = _BADGE[finding.severity]
        st.markdown(f"{badge} {text.plain(finding.what)}  \n:gray[{text.plain(finding.meaning)}]")
        st.caption(text.plain(evidence_line(finding)))
    page = _PAGES.get(finding.check)
    if page and finding.layer is not None:
        chosen = {"layer": str(finding.layer)} | ({} if finding.expert is None else {"expert": str(finding.expert)})
        with right.container(key=f"doctor-link-{number}"):
            label, opens = f"{title(page)} {finding.place}", "Shows a run of the audited model on that page."
            if st.button(
                label, key=f"doctor-open-{number}", icon=":material/arrow_forward:", type="tertiary", help=opens
            ):
                runs.open_audited(folder)
                st.switch_page(page_path(page), query_params=chosen)


def layers(report: Report) -> None:
    """Show the main figure: a map with the most severe finding of each check (column) in each layer (row)."""
    marks = overview(report)
    if not marks.size:
        return
    how_to_read = (
        "A row is a layer, a column is a check. A dot: checked, nothing found. n: a note, w: a warning, e: an error. "
        "An empty cell was not checked. A finding about several layers is marked where it is largest. Click a cell to "
        "choose its layer. Derived from the weights as stored and, where texts were run, from what was measured."
    )
    table = tables.findings(report)
    controls.chart(figures.overview(marks, session.theme()), "doctor", table, how_to_read, chooses=("layer",))


def checks(report: Report) -> None:
    """Show a table of all checks, including those without findings, and what was measured on the texts."""
    st.dataframe(tables.checks(report), hide_index=True, height="content", placeholder="")
    for subject, measures in report.measures.items():
        st.markdown(f"**{text.plain(subject)}**")
        table = pd.DataFrame(measures)
        formats: dict[str, Any] = {name: THREE for name in table.columns if table[name].dtype == float}
        st.dataframe(
            table, hide_index=True, height="content" if len(table) < 16 else 560, column_config=formats, placeholder=""
        )


def download(report: Report) -> None:
    """Show buttons that save the report as files, with or without the texts."""
    from model.doctor.report import to_html, to_json

    without = st.toggle(
        "Leave the texts out of the files", key="doctor-bare",
        help="The report then holds no word of the texts that were run; findings and numbers stay.",
    )  # fmt: skip
    written = report.without_text() if without else report
    with st.container(horizontal=True):
        st.download_button(
            "JSON", data=lambda: to_json(written).encode(), file_name=f"{report.model}-audit.json",
            mime="application/json", key="doctor-json", on_click="ignore", icon=":material/download:",
        )  # fmt: skip
        st.download_button(
            "HTML", data=lambda: to_html(written).encode(errors="backslashreplace"),
            file_name=f"{report.model}-audit.html", mime="text/html", key="doctor-html", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip
