"""The widgets of the Doctor page: the audit of the weights, the texts to run, and a healthy run to compare with."""

from pathlib import Path

import streamlit as st

from model.trace.trace import Trace
from pages.audit.doctor import runs
from pages.audit.doctor.runs import Audit
from pages.common import files, limits, text

AT_ONCE_BYTES = 2_000_000_000  # bytes of weights that are audited without a click


def weights_audit(folder: Path) -> Audit | None:
    """Return the audit of the weights. Start it if it takes only seconds; else draw a button that starts it."""
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


def text_audit(folder: Path) -> Audit | None:
    """Draw the widgets for texts and for a healthy run, and the buttons; return this session's audit of texts."""
    audit = runs.text(folder)
    with st.expander("Texts to run", icon=":material/edit_note:"):
        lines = st.text_area(
            "One text per line", key="doctor-prompts", max_chars=limits.PROMPT_CHARACTERS, height=120,
            placeholder="If empty, the doctor runs its own sample: twenty short texts, in fifteen languages and code.",
        )  # fmt: skip
        reference = _reference()
    with st.container(horizontal=True):
        st.button(
            "Run the texts", key="run-texts", type="primary", disabled=audit is not None and audit.waiting,
            icon=":material/play_arrow:", on_click=runs.start_text, args=(folder, lines or "", reference),
            help="Runs each text twice, in fp32 and in bfloat16. Nothing leaves this machine.",
        )  # fmt: skip
        st.button(
            "Stop", key="stop-audits", disabled=not runs.going(), on_click=runs.stop,
            args=runs.STAGES, help="Ends the audits that you started, of the weights or of texts.",
        )  # fmt: skip
    return audit


def _reference() -> Trace | None:
    """Draw the upload of a healthy model's trace, whose tokens the audit runs too; return the trace, or None."""
    try:
        return files.choose_trace("doctor", "A healthy run of this model, to compare with")
    except ValueError as error:
        st.error(text.sentence(error))
        return None
