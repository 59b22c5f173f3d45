"""The lens on a page, kept in step with the choices of the widgets, and the line that says what is on show."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.trace.imports import origin
from model.trace.trace import Trace
from pages.common import controls, live, text
from pages.common.runs import Run


def lens(snapshot: bytes, num_experts: int, num_groups: int) -> None:
    """Mount the lens with the current choices; a choice made inside it becomes that of the widgets."""
    chosen = {name: st.session_state.get(name) for name in controls.SHARED}
    palette = live.palettes(num_experts, num_groups)
    live.lens(snapshot, key="lens", palette=palette, view=chosen, on_view_change=_take)


def _take() -> None:
    chosen = (st.session_state.get("lens") or {}).get("view") or {}
    controls.choose(**{name: chosen[name] for name in controls.SHARED if name in chosen})


def status(place: DeltaGenerator, run: Run | None, shown: Run | None) -> None:
    """One line: what went wrong, or what is on show and where it comes from."""
    refused = st.session_state.get("refused") or (run.error if run is not None else None)
    if refused:
        place.error(f"{text.sentence(refused)} The prompt and what was on show are kept.")
    elif shown is None or shown.trace is None:
        place.info("No example is installed. Press Generate to run the prompt.")
    else:
        place.markdown(_origin(shown), help=_lacks(shown.trace))


def _origin(shown: Run) -> str:
    trace = shown.trace
    assert trace is not None
    badge = {"recorded": ":gray-badge[recorded]", "opened": ":gray-badge[from a file]"}.get(shown.kind, "")
    if shown.stopped:
        badge = ":orange-badge[stopped]"
    kept = ""
    if origin.is_imported(trace):
        badge = f"{badge} :violet-badge[imported]"
        kept = f"; not in it: {text.plain(', '.join(origin.missing(trace)), 200)}" if origin.missing(trace) else ""
    said = f"{badge} {text.plain(trace.model.get('name', 'a model'), 80)}, {made(trace)}{kept}"
    return f"{said}. {text.sentence(shown.note)}" if shown.note else said


def made(trace: Trace) -> str:
    """Whether the run was measured or imported, and where it was made, as far as the trace says."""
    stated = trace.origin
    if origin.is_imported(trace):
        where = f"from {stated.get('format') or stated.get('engine') or 'another engine'}"
    else:
        where = f"on {stated.get('device', '?')}, {stated.get('dtype', '?')}"
    return text.plain(f"{origin.kind(trace)} {where}", 80)


def _lacks(trace: Trace) -> str | None:
    """Why an imported trace lacks what it lacks, and what else to know of it."""
    reasons = [f"- {text.plain(what, 60)}: {text.plain(why, 200)}" for what, why in origin.missing(trace).items()]
    reasons += [f"- {text.plain(note, 300)}" for note in origin.notes(trace)]
    return "\n".join(reasons) if origin.is_imported(trace) and reasons else None
