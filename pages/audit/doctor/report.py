"""What the page of the doctor says and shows."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from model.doctor.findings import SEVERITIES, Finding, Report, overview
from model.trace.trace import Trace
from pages.audit.doctor import runs
from pages.audit.doctor.runs import Audit
from pages.common import controls, limits, session, tables, text, uploads
from pages.common.menu import page_path, title
from viz import doctor as pictures

SECONDS_BETWEEN_LOOKS = 0.7
AT_ONCE_BYTES = 2_000_000_000  # of weights that are read without being asked
SHOWN_FINDINGS = 40
_BADGE = {"error": ":red-badge[error]", "warning": ":orange-badge[warning]", "note": ":blue-badge[note]"}
# What a finding's check is seen on.
_VIEWS = {
    "bias": "routing",
    "gate rows": "routing",
    "near ties": "routing",
    "affinities": "routing",
    "bf16 against fp32": "routing",
    "experts": "expert_load",
    "load": "expert_load",
    "groups": "expert_load",
}


def begin(folder: Path) -> Audit | None:
    """The audit of the weights; it begins by itself where that is a matter of seconds, else at a button."""
    audit = runs.weights(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if audit is None and size <= AT_ONCE_BYTES:
        runs.start_weights(folder)
        audit = runs.weights(folder)
    elif audit is None or audit.error:
        st.button(
            f"Read the weights ({size / 1e9:.3g} GB)", key="read-weights", type="primary",
            on_click=runs.start_weights, args=(folder,),
        )  # fmt: skip
    return audit


def ask(folder: Path) -> Audit | None:
    """The controls of the second stage, and this session's audit of it."""
    audit = runs.text(folder)
    going = audit is not None and audit.waiting
    with st.expander("Texts to run", icon=":material/edit_note:"):
        written = st.text_area(
            "One text to a line", key="doctor-prompts", max_chars=limits.PROMPT_CHARACTERS, height=120,
            placeholder="Empty: the doctor's own sample, twenty short texts in fifteen languages, code, mathematics.",
        )  # fmt: skip
        healthy = _reference()
    with st.container(horizontal=True):
        st.button(
            "Run the texts", key="run-texts", type="primary", disabled=going, icon=":material/play_arrow:",
            on_click=runs.start_text, args=(folder, written or "", healthy),
            help="Each text is run twice, in fp32 and in bfloat16. Nothing leaves this machine.",
        )  # fmt: skip
        st.button(
            "Stop", key="stop-audits", disabled=not runs.going(), on_click=runs.stop,
            args=runs.STAGES, help="Ends the audits that you started, of the weights or of texts.",
        )  # fmt: skip
    return audit


def _reference() -> Trace | None:
    """A trace of the same model in health, from a file; its tokens are run, too."""
    try:
        return uploads.choose_trace("doctor", "A healthy run of this model, to compare with")
    except ValueError as problem:
        st.error(text.sentence(problem))
        return None


def watch(folder: Path, *audits: Audit | None) -> None:
    """How far the audits are that go on; the page is drawn again when one ends."""
    going = [audit for audit in audits if audit is not None and audit.waiting]
    with st.container(key="status"):  # as high without a bar as with one
        if going:
            st.fragment(_progress, run_every=SECONDS_BETWEEN_LOOKS)(going)
        else:
            st.caption(
                "Weights are audited once for all visitors, until the files change; texts whenever you run them."
            )
    for audit, name in zip(audits, runs.STAGES, strict=True):
        if audit is not None and audit.error:
            st.error(f"The audit of the {name} ended: {text.plain(audit.error)}.")


def _progress(audits: list[Audit]) -> None:
    if any(not audit.waiting for audit in audits):
        st.rerun()
    for audit in audits:
        st.progress(audit.share, f"Auditing: {text.plain(audit.doing)}")


def together(*audits: Audit | None) -> Report | None:
    """What was found so far, in one report; None before anything is done."""
    reports = [audit.report for audit in audits if audit is not None and audit.report is not None]
    if not reports:
        return None
    return reports[0] if len(reports) == 1 else reports[0].joined(reports[1])


# --- words -----------------------------------------------------------------------------------------------------------


def verdict(report: Report) -> str:
    """What the audit comes to, in two sentences."""
    numbers = [_counted(report.count(name), name) for name in reversed(SEVERITIES) if report.count(name)]
    healthy = [check.name for check in report.made if all(found.check != check.name for found in report.findings)]
    found = ", ".join(numbers) if numbers else "no finding"
    said = {"error": "Something is broken", "warning": "Something is unusual"}.get(report.worst, "Looks healthy")
    quiet = f" Nothing was found by {', '.join(healthy)}." if healthy else ""
    return f"**{said}: {found} in {len(report.made)} checks.**{quiet}"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def findings(report: Report) -> None:
    """Every finding, gravest first, with its numbers, what it means, and where to look."""
    for number, found in enumerate(report.findings[:SHOWN_FINDINGS]):
        with st.container(border=True):
            _one(found, number)
    if len(report.findings) > SHOWN_FINDINGS:
        st.caption(f"{len(report.findings) - SHOWN_FINDINGS:,} more are in the table and in the report.")


def _one(found: Finding, number: int) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    with left:
        st.markdown(f"{_BADGE[found.severity]} {text.plain(found.what)}  \n:gray[{text.plain(found.meaning)}]")
        from model.doctor.report import evidence_line

        st.caption(text.plain(evidence_line(found)))
    page = _VIEWS.get(found.check)
    if page and found.layer is not None:
        chosen = {"layer": str(found.layer)} | ({} if found.expert is None else {"expert": str(found.expert)})
        with right.container(key=f"doctor-link-{number}"):
            label = f"{title(page)} {found.place}"
            st.page_link(page_path(page), label=label, icon=":material/arrow_forward:", query_params=chosen)


# --- figures ---------------------------------------------------------------------------------------------------------


def layers(report: Report) -> None:
    """The main figure: which checks looked at which layers, and what they found."""
    marks = overview(report)
    if not marks.size:
        return
    said = (
        "A row per layer, a column per check. A dot: looked at, nothing found; n a note, w a warning, e an error; an "
        "empty cell was not looked at. What concerns several layers is marked where it is largest. Click a cell to "
        "choose the layer. Derived from the weights as stored and, where texts were run, from what was measured."
    )
    controls.chart(pictures.overview(marks, session.theme()), "doctor", table(report), said, chooses=("layer",))


def table(report: Report) -> pd.DataFrame:
    """All findings as a table."""
    from model.doctor.report import evidence_line

    columns = ["severity", "check", "where", "what", "evidence", "tensor"]
    rows = [
        (found.severity, found.check, found.place, found.what, evidence_line(found), found.tensor)
        for found in report.findings
    ]
    return pd.DataFrame(rows, columns=columns)


def looked_at(report: Report) -> None:
    """What was looked at, the healthy things too, and the figures of the text stage."""
    rows: list[dict[str, Any]] = [
        {
            "check": check.name,
            "stage": check.stage,
            "looked at": f"left out: {check.skipped}" if check.skipped else check.looked_at,
            "found": "" if check.skipped else _found_by(report, check.name),
        }
        for check in report.checks
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
    for subject, measured in report.measures.items():
        st.markdown(f"**{text.plain(subject)}**")
        frame = pd.DataFrame(measured)
        three = {name: tables.THREE for name in frame.columns if frame[name].dtype == float}
        st.dataframe(frame, hide_index=True, height="content" if len(frame) < 16 else 560, column_config=three)


def _found_by(report: Report, name: str) -> str:
    number = sum(found.check == name for found in report.findings)
    return "nothing" if number == 0 else str(number)


def download(report: Report) -> None:
    """The report as files, with or without the texts."""
    from model.doctor.report import to_html, to_json

    bare = st.toggle("Without texts", key="doctor-bare", help="Leave every word of a prompt out of the files.")
    kept = report.without_text() if bare else report
    with st.container(horizontal=True):
        st.download_button(
            "JSON", data=lambda: to_json(kept).encode(), file_name=f"{report.model}-audit.json",
            mime="application/json", key="doctor-json", on_click="ignore", icon=":material/download:",
        )  # fmt: skip
        st.download_button(
            "HTML", data=lambda: to_html(kept).encode(errors="backslashreplace"),
            file_name=f"{report.model}-audit.html", mime="text/html", key="doctor-html", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip
