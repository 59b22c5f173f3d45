"""Files that a visitor opens and saves: uploaded traces, names of saved files, the note on a saved chart.

Uploads are read from memory; no path from an upload is opened.
"""

import datetime
import html
import re
import threading

import plotly.graph_objects as go
import streamlit as st

from model.trace import file
from model.trace.derived import derived
from model.trace.trace import Trace, TraceError
from pages.common import limits, session, text
from viz.enlarge import enlarge
from viz.finished import Finished

WIDTH_MM, WIDTH_PX = 170, 800  # of a chart on paper, and of its drawing
DOTS_PER_INCH = 300
NOTE_HEIGHT = 18  # pixels
_ANNOTATING = threading.Lock()


def choose_trace(key: str, label: str = "Trace file") -> Trace | None:
    """Draw an upload widget and return its trace, which is parsed once per file; None until a file is chosen.

    Args:
        key: prefix of the widget key, to which `-file` is added.
        label: label of the widget.

    Raises:
        TraceError: the file is too large, or not a trace.
    """
    uploaded = st.file_uploader(label, ["safetensors"], key=f"{key}-file", max_upload_size=limits.UPLOAD_BYTES // 2**20)
    if uploaded is None:
        return None
    cached = st.session_state.get(f"{key}-read")
    if cached is None or cached[0] != uploaded.file_id:
        if uploaded.size > limits.UPLOAD_BYTES:
            raise TraceError(f"the file is larger than {limits.UPLOAD_BYTES / 2**20:.0f} MB; choose a smaller one")
        cached = (uploaded.file_id, file.loads(uploaded.getvalue()))
        st.session_state[f"{key}-read"] = cached
    return cached[1]


def scale(picture: str) -> float:
    """Return the width of a saved chart (CSS pixels in `svg`, dots in `png`) divided by its width on the page."""
    return WIDTH_MM / 25.4 * (96 if picture == "svg" else DOTS_PER_INCH) / WIDTH_PX


def describe(about: str) -> None:
    """Set the subject that saved charts and tables name in place of the run on show; call it before drawing them."""
    st.session_state["about"] = about


def forget() -> None:
    """Drop the subject that `describe` set on another page; saved charts and tables name the run on show again."""
    st.session_state.pop("about", None)


def note(layer: int | None = None) -> str:
    """Return the note on a saved chart, in one line: model and first words of the run, layer, and today's date.

    Args:
        layer: model layer number; None: the chart shows no single layer.
    """
    return " · ".join([*_subject(), *([] if layer is None else [f"layer {layer}"]), _today()])


def annotated(figure: go.Figure, words: str, scale: float) -> Finished:
    """Return a figure with a note below it, as its title, `scale` times as large.

    Only saved files show the note: `style.CSS` hides it on the page. Sessions share figures, so each is finished once.
    """
    return derived(figure, (words, scale), lambda: _annotated(figure, words, scale))


def _annotated(figure: go.Figure, words: str, scale: float) -> Finished:
    with _ANNOTATING:
        if figure.layout.meta != words:  # pyright: ignore[reportAttributeAccessIssue] - Plotly adds it at run time
            _write_note(figure, words)
        return Finished(enlarge(figure, scale))


def _write_note(figure: go.Figure, words: str) -> None:
    look, layout = session.theme(), figure.layout
    height = int(layout.height) + (0 if layout.meta else NOTE_HEIGHT)  # pyright: ignore[reportAttributeAccessIssue]
    figure.update_layout(
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": look.muted, "activecolor": look.ink},
        paper_bgcolor=look.background,
        height=height,
        title={"text": html.escape(words, quote=False), "font": {"size": 11, "color": look.muted}, "automargin": True}
        | {"x": 0, "xanchor": "left", "xref": "container", "y": 0, "yanchor": "bottom", "yref": "container"}
        | {"pad": {"l": 8, "b": 4}},
    )
    if layout.legend.yref == "container":  # pyright: ignore[reportAttributeAccessIssue] - as above
        figure.update_layout(legend={"y": NOTE_HEIGHT / height})  # a legend at the bottom makes room for the note
    figure.update_layout(meta=words)


def file_name(key: str, layer: int | None = None, ending: str | None = None, subject: list[str] | None = None) -> str:
    """Return the name of a saved chart or table: the words of `note` without punctuation, and `key`.

    Args:
        key: widget key of the chart or table.
        layer: see `note`.
        ending: ending of the name, without a dot; None: no ending.
        subject: names for the beginning; None: those of `note`.
    """
    parts = [
        *map(_plain, _subject() if subject is None else subject),
        key,
        *([] if layer is None else [f"L{layer}"]),
        _today(),
    ]
    return "-".join(filter(None, parts)) + (f".{ending}" if ending else "")


def of_map() -> dict[str, str]:
    """Return settings of maps saved by the lens: the beginnings of `note` and `file` name, and the format `picture`."""
    words = of_run(session.current_trace())
    picture = st.session_state.get("picture") or "svg"
    return {"note": " · ".join(words), "file": "-".join(filter(None, map(_plain, words))), "picture": picture}


def _subject() -> list[str]:
    about = st.session_state.get("about")
    return [about] if about else of_run(session.current_trace())


def of_run(trace: Trace | None) -> list[str]:
    """Return the model and the first words of a run."""
    if trace is None:
        return []
    name, words = str(trace.model.get("name") or "a model")[:80], derived(trace, "words", lambda: text.beginning(trace))
    return [name, words or f"{trace.num_tokens} tokens"]


def _plain(words: str) -> str:
    """Return words without punctuation, for a file's name."""
    return re.sub(r"(?:(?<!\w)\.|\.(?!\w)|[^\w.])+", "-", words).strip("-_")[:40].rstrip("-_.").lower()


def _today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()
