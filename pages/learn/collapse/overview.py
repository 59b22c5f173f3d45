"""Both runs of the Collapse page while they train: their losses, alarms, and the load of every expert."""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from model.trace.training_log import last_balance
from pages.common import controls, results, session, tables, text
from pages.learn.collapse import runs
from pages.learn.collapse.runs import SIDES, NanoRun
from viz import training as figures
from viz.enlarge import enlarge

SECONDS_BETWEEN_FIGURES = 1.5
SHOWN_ALARMS = 3
_MAX_VIO = "By how much the busiest expert of any layer exceeds a fair share, in units of that share. Derived."
_IDLE = "Experts that no token reached in the last steps. Derived."
_COLLAPSE = (
    f"A run counts as collapsed if one expert of a layer gets more than half of the tokens in the last {runs.WINDOW} "
    f"steps. In each of the two layers a token gets {runs.TOP_K} of 16 experts, so a fair share is one token in eight. "
    "Derived."
)


def verdict() -> None:
    """Show how each run ended: whether it collapsed, its busiest expert, its idle experts, and its loss."""
    shown = runs.shown()
    if any(run.waiting for run in shown.values()):
        st.markdown("Training. The answer follows when the runs end.")
        return
    ends = {name: run.outcome() for name, run in shown.items() if run.lines}
    results.put("collapse", tuple(ends.items()), ends)
    answers = [_sentence(name, shown[name]) for name in SIDES if name in shown and shown[name].lines]
    if answers:
        st.markdown("  \n".join(answers), help=_COLLAPSE)


def _sentence(name: str, run: NanoRun) -> str:
    end = run.outcome()
    when = "" if run.complete else f", stopped at step {run.lines[-1]['step']}"
    idle = f"{end.idle} of {end.num_experts} experts {'is' if end.idle == 1 else 'are'} idle"
    ended = "collapsed" if end.collapsed else "did not collapse"
    return (
        f"**{name}, {run.name}{when}: {ended}.** Its busiest expert gets "
        f"{end.share:.0%} of the tokens ({end.busiest:.3g} times a fair share), {idle}; loss {end.loss:.3g} nats per "
        "byte."
    )


def watch() -> None:
    """Show both runs, and redraw them while one trains."""
    going = any(run.waiting for run in runs.runs().values())
    st.fragment(_draw, run_every=SECONDS_BETWEEN_FIGURES if going else None)(going)


def _draw(was_going: bool) -> None:
    begun = runs.shown()
    going = any(run.waiting for run in runs.runs().values())
    if was_going and not going:
        st.rerun()
    if not begun:
        st.info(f"Press Train on one side or both: {runs.STEPS} steps take half a minute to a minute.")
        return
    with st.container(key="live"):  # the CSS keeps elements in it from fading while they are redrawn
        if any(run.lines for run in begun.values()):
            _loss(begun, going)
        for column, name in zip(st.columns(2, gap="large"), SIDES, strict=True):
            with column:
                if name in begun:
                    _run(name, begun[name], going)


def _show(figure: go.Figure, key: str, table: pd.DataFrame, how_to_read: str, going: bool) -> None:
    """Show a figure, and its table when no run is training. `going`: a run is training."""
    if going:
        figure, config = enlarge(figure, session.text_scale()), {"displayModeBar": False}
        st.plotly_chart(figure, key=f"{key}-going", theme=None, config=config, alt=how_to_read)
        st.caption(how_to_read)
    else:
        controls.chart(figure, key, table, how_to_read)


def _loss(begun: dict[str, NanoRun], going: bool) -> None:
    """Show the losses of both runs; the step axis ends at the last planned step, also while a run trains."""
    curves = {f"{name}: {run.name}": run.loss() for name, run in begun.items() if run.lines}
    figure = figures.curves(curves, "loss, nats per byte", session.theme(), height=300)
    figure.update_xaxes(range=[0, runs.STEPS]).update_yaxes(range=[1.8, 5.7]).update_layout(showlegend=True)
    how_to_read = (
        f"Measured: mean over the last {runs.WINDOW} steps. Both begin with the same weights and read the same "
        "pieces of text."
    )
    table = pd.concat([values.rename(name).to_series() for name, values in curves.items()], axis=1)
    _show(figure, "collapse-loss", table.reset_index(), how_to_read, going)


def _run(name: str, run: NanoRun, going: bool) -> None:
    """Show one run: its progress, the load of every expert, and its alarms."""
    badge = " :gray-badge[recorded]" if run.recorded else ""
    st.markdown(f"**{name}**: {run.name}{badge}")
    if run.error:
        st.error(f"Run {name} ended: {text.plain(run.error)}.")
    if not run.lines:
        if run.waiting:
            st.info("The run begins when its turn comes.")
        return
    load = run.load()
    _numbers(run, load)
    for layer in load["moe_layer"].values.tolist():
        of_layer = load.sel(moe_layer=layer, drop=True)
        figure = figures.load_over_steps(of_layer, session.theme(), height=250)
        figure.update_xaxes(range=[0, runs.STEPS + runs.WINDOW / 2])
        how_to_read = f"Layer {layer}: a row is an expert; orange is more than a fair share, blue less. Measured."
        table = tables.matrix(of_layer)
        _show(figure, f"collapse-load-{name}-{layer}", table, how_to_read, going)
    alarms = [f"step {step}, {message}" for step, message in run.alarms()]
    more = f"; and {len(alarms) - SHOWN_ALARMS} more" if len(alarms) > SHOWN_ALARMS else ""
    st.caption(f"Alarms: {'; '.join(alarms[:SHOWN_ALARMS])}{more}." if alarms else "No alarm.")


def _numbers(run: NanoRun, load: xr.DataArray) -> None:
    """Show the step, the largest MaxVio of a layer and the number of idle experts."""
    state = "training" if run.waiting else "done" if run.complete else "stopped"
    worst, idle = last_balance(load)
    columns = st.columns(3)
    columns[0].metric(f"Step ({state})", f"{run.lines[-1]['step']}")
    columns[1].metric("Worst MaxVio", f"{worst:.3g}", help=_MAX_VIO)
    columns[2].metric("Idle experts", f"{idle} of {load.isel(step=-1).size}", help=_IDLE)
