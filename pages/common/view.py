"""The lens (linked views of a run) with the same choices as the widgets; the status line of the trace on show."""

from collections.abc import Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.trace.chance import LoadBand
from model.trace.imports import origin
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from pages.common import controls, files, jobs, live, session, text
from pages.common.menu import FIRST
from pages.common.runs import Run
from viz.layout import Layout

# Choices that only the lens offers, the default first. The URL holds a choice that differs from the default.
LENS_ONLY = {"colour": ("expert", "group", "surprisal", "none"), "map": ("experts", "layers"), "alone": ("no", "yes")}
DRAWN_BY = {"run": FIRST, "engine": "imports"}  # kind of a run -> the page that follows it with the lens
SECONDS_BETWEEN_LOOKS = 0.5  # at a run that another page follows
HOW_TO_READ = (
    "**Strip**: the text as tokens, generated ones underlined, special ones boxed; coloured by the expert with the "
    "token's largest weight in the layer, by that expert's group, or by surprisal (how unexpected the token was). "
    "**Map**: a row per token, a column per expert, with gaps between groups. Grey is affinity, the router's score. A "
    "coloured cell is a chosen expert; a stronger colour is a larger weight. **Attention**: a row is a token that "
    "looks, a column a token that it looks at. **Load**: each expert's number of tokens divided by a fair share, "
    "which is the dashed line. After a run, the faint band is the range of chance: if a router chose at random, the "
    "loads of all experts would lie in it in 95 % of layers. Point at a token or an expert to see it in every view, "
    "click to lock it, double-click an expert to see it alone. **Keys**: arrows or J and K go from token to token, [ "
    "and ] from layer to layer, space replays, Esc releases, ? lists them all."
)


def lens(snapshot: bytes, layout: Layout, band: LoadBand | None = None) -> None:
    """Mount the lens with the current choices; the widgets take over a choice that the visitor makes in the lens.

    Args:
        snapshot: message for the lens, from `live.snapshot_of` or `live.announce`.
        layout: layout of the router.
        band: range of an expert's load ratio that chance explains in a finished run; None: unknown.
    """
    chosen = {name: st.session_state.get(name) for name in controls.SHARED} | _lens_choices()
    palette, bounds = live.palettes(layout), None if band is None else (band.low, band.high)
    live.lens(
        snapshot, key="lens", palette=palette, view=chosen, band=bounds, saved=files.of_map(), on_view_change=_take
    )
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(HOW_TO_READ)


def follow(run: Run, placeholder: DeltaGenerator, container: DeltaGenerator) -> None:
    """Show the progress of a run and its tokens in the lens until it ends, then rerun the page.

    Args:
        run: the run, which has been started.
        placeholder: placeholder that shows the progress.
        container: container of the lens.
    """
    if run.header is None:
        shown = session.shown()
        if shown is not None and shown.trace is not None:
            with container:
                lens(shown.snapshot(), rule_of(shown.trace))
        jobs.PAGES.release()
        while run.header is None and not run.done.wait(1 / jobs.POLLS_PER_SECOND):
            placeholder.progress(*run.progress)
    else:
        with container:
            lens(live.announce(run.header), run.header.layout)
        jobs.follow(run, placeholder, live.Feed(run.header, run.blocks).send)
    st.rerun()


def going(page: str) -> None:
    """Show the progress of the session's run, with a Stop button; for pages that do not follow the run in the lens.

    When the run ends, the page is drawn anew and shows it.

    Args:
        page: name of the open page in the menu.
    """
    run = session.own_run()
    if run is None or not run.waiting or DRAWN_BY.get(run.kind) == page:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="going"):
        st.button("Stop", key="going-stop", on_click=session.stop, help="Keeps the tokens so far")
        st.fragment(_progress, run_every=SECONDS_BETWEEN_LOOKS)(run)


def _progress(run: Run) -> None:
    if not run.waiting:
        st.rerun()
    share, message = run.progress
    st.progress(share, f"Your run goes on: {message}. Until it ends, this page shows the run before.")


def _lens_choices() -> dict[str, str]:
    """Return the choices that only the lens offers, and write them to the URL.

    In the first script run of a session they are read from the URL.
    """
    state, address = st.session_state, st.query_params
    for name, options in LENS_ONLY.items():
        choice = state.get(name, address.get(name))
        state[name] = choice if choice in options else options[0]
        if state[name] == options[0]:
            address.pop(name, None)
        elif address.get(name) != state[name]:
            address[name] = state[name]
    return {name: state[name] for name in LENS_ONLY}


def choose_in_lens(values: Mapping[str, str]) -> None:
    """Set the choices that only the lens offers from texts as in a URL; a missing one gets its default."""
    st.session_state.update({name: values.get(name, options[0]) for name, options in LENS_ONLY.items()})


def _take() -> None:
    chosen = (st.session_state.get("lens") or {}).get("view") or {}
    controls.choose(**{name: chosen[name] for name in (*controls.SHARED, *LENS_ONLY) if name in chosen})


def status(placeholder: DeltaGenerator, run: Run | None, shown: Run | None, pending: str | None = None) -> None:
    """Show the last error; without an error, show the model and origin of the trace on show, and `pending`.

    Args:
        placeholder: placeholder that receives the line.
        run: the session's last run, which may have failed.
        shown: the run on show.
        pending: sentence on how the widgets differ from the run on show; None if they do not.
    """
    refused = st.session_state.get("refused") or (run.error if run is not None else None)
    if refused:
        kept = "" if shown is None or shown.trace is None else f" On show: {named(shown)}."
        placeholder.error(f"{text.sentence(refused)} Your prompt and the run shown before are kept.{kept}")
    elif shown is None or shown.trace is None:
        placeholder.info("No example is installed. Press Generate to run the prompt.")
    else:
        mark = f"  \n:orange-badge[not run yet] {pending}" if pending else ""
        placeholder.markdown(_origin(shown) + mark, help=_lacks(shown.trace))


def named(run: Run) -> str:
    """Return the model and the first words of a run's text, as Markdown."""
    trace = run.trace
    assert trace is not None
    return f"{text.plain(trace.model.get('name', 'a model'), 80)}, {text.first_words(trace)}"


def _origin(shown: Run) -> str:
    trace = shown.trace
    assert trace is not None
    badge = {"recorded": ":gray-badge[recorded]", "opened": ":gray-badge[from a file]"}.get(shown.kind, "")
    if shown.stopped:
        badge = ":orange-badge[stopped]"
    missing = ""
    if origin.is_imported(trace):
        badge = f"{badge} :violet-badge[imported]"
        missing = f"; missing: {text.plain(', '.join(origin.missing(trace)), 200)}" if origin.missing(trace) else ""
    line = f"{badge} {named(shown)}, {made(trace)}{missing}"
    return f"{line}. {text.sentence(shown.note)}" if shown.note else line


def made(trace: Trace) -> str:
    """Return in a few words whether the run was measured, with device and dtype, or imported, with the engine."""
    stated = trace.origin
    if origin.is_imported(trace):
        where = f"from {stated.get('format') or stated.get('engine') or 'another engine'}"
    else:
        where = f"on {stated.get('device', '?')}, {stated.get('dtype', '?')}"
    return text.plain(f"{origin.kind(trace)} {where}", 80)


def _lacks(trace: Trace) -> str | None:
    """Return the reasons for an imported trace's missing parts, and its notes, as a list; None if it has neither."""
    reasons = [f"- {text.plain(what, 60)}: {text.plain(why, 200)}" for what, why in origin.missing(trace).items()]
    reasons += [f"- {text.plain(note, 300)}" for note in origin.notes(trace)]
    return "\n".join(reasons) if origin.is_imported(trace) and reasons else None
