"""What the Collapse page shows: the settings of two runs, and both while they go."""

from typing import Any

import pandas as pd
import streamlit as st

from model.trace import metrics
from pages.common import controls, session, text
from pages.learn.collapse import runs
from pages.learn.collapse.runs import SIDES, STEPS, STRENGTHS, NanoRun
from viz import training as pictures

FIRST = {"A": "nothing", "B": "bias"}
SECONDS_BETWEEN_PICTURES = 1.5
_SAID = {
    "nothing": "Nothing balances the experts.",
    "bias": "After each step a busy expert's selection bias falls by the strength, an idle one's rises: V3's way.",
    "loss": "A loss punishes uneven load, weighed by the strength: the way before V3.",
}


def settings(side: str) -> dict[str, Any]:
    """The controls of a side."""
    first = FIRST[side]
    method = st.segmented_control(
        "Balanced by", list(STRENGTHS), default=first, required=True, key=f"method-{side}", bind="query-params"
    )
    choices, usual = STRENGTHS[method or first]
    strength = usual
    with st.container(key=f"how-{side}"):  # as high without a strength as with one, so that both sides stay level
        st.caption(_SAID[method or first])
        if len(choices) > 1:
            strength = st.select_slider(
                "Strength", choices, usual, key=f"strength-{side}-{method}", format_func="{:g}".format,
                bind="query-params",
            )  # fmt: skip
    with st.container(horizontal=True):
        softmax = st.toggle(
            "Softmax", key=f"softmax-{side}", bind="query-params",
            help="Affinities compete, in place of a sigmoid for each.",
        )  # fmt: skip
        limited = st.toggle(
            "Group limit", True, key=f"groups-{side}", bind="query-params", help="Experts of two of four groups only."
        )
    return {"method": method or first, "strength": strength, "softmax": softmax, "limit_groups": limited}


def side(name: str) -> None:
    """One side: its settings and its buttons."""
    st.markdown(f"**Run {name}**")
    chosen, run = settings(name), runs.runs().get(name)
    going = run is not None and run.waiting
    with st.container(horizontal=True):
        st.button(
            f"Train {name}", key=f"train-{name}", type="primary", on_click=runs.start, args=(name, chosen),
            disabled=going,
        )  # fmt: skip
        st.button(f"Stop {name}", key=f"stop-{name}", on_click=runs.stop, args=(name,), disabled=not going)


def watch() -> None:
    """Both runs; drawn again and again while one goes."""
    held = runs.runs()
    going = any(run.waiting for run in held.values())
    st.fragment(_draw, run_every=SECONDS_BETWEEN_PICTURES if going else None)(going)


def _draw(was_going: bool) -> None:
    held = {name: run for name, run in runs.runs().items() if run.lines or run.error}
    going = any(run.waiting for run in runs.runs().values())
    if was_going and not going:
        st.rerun()
    if not held:
        idle = f"Press Train on one side or both: {STEPS} steps take half a minute to a minute."
        st.info("It begins when its turn comes." if going else idle)
        return
    with st.container(key="live"):  # what is drawn again does not fade meanwhile
        if any(run.lines for run in held.values()):
            loss(held, going)
        for column, name in zip(st.columns(2, gap="large"), SIDES, strict=True):
            with column:
                if name in held:
                    one(name, held[name], going)


def _show(figure: Any, key: str, table: pd.DataFrame, said: str, going: bool) -> None:
    """A figure with its numbers; the bare figure while it grows."""
    if going:
        st.plotly_chart(figure, key=f"{key}-going", theme=None, config={"displayModeBar": False}, alt=said)
        st.caption(said)
    else:
        controls.chart(figure, key, table, said)


def loss(held: dict[str, NanoRun], going: bool) -> None:
    """The losses of both, with room for all steps from the start."""
    series = {f"{name}: {run.name}": run.loss() for name, run in held.items() if run.lines}
    figure = pictures.curves(series, "loss, nats per byte", session.theme(), height=300)
    figure.update_xaxes(range=[0, STEPS]).update_yaxes(range=[1.8, 5.7]).update_layout(showlegend=True)
    said = f"Measured: mean over the last {runs.WINDOW} steps. Both begin with the same weights and windows."
    table = pd.concat([values.rename(name).to_series() for name, values in series.items()], axis=1)
    _show(figure, "collapse-loss", table.reset_index(), said, going)


def one(name: str, run: NanoRun, going: bool) -> None:
    """One run: how far it is, its alarms, and the load of every expert."""
    if run.error:
        st.error(f"Run {name} ended: {text.plain(run.error)}.")
    if not run.lines:
        return
    load, last = run.load(), run.lines[-1]
    state = "training" if run.waiting else "done" if run.complete else "stopped"
    worst = float(metrics.max_violation(load.isel(step=-1)).max())
    dead = int(metrics.dead_experts(load.isel(step=-1)).sum())
    columns = st.columns(3)
    columns[0].metric(f"Step ({state})", f"{last['step']}")
    columns[1].metric("Worst MaxVio", f"{worst:.3g}", help="How far the busiest expert exceeds a fair share. Derived.")
    columns[2].metric("Idle experts", f"{dead} of {load.sizes['expert'] * load.sizes['moe_layer']}")
    for layer in load["moe_layer"].values.tolist():
        own = load.sel(moe_layer=layer, drop=True)
        figure = pictures.load_over_steps(own, session.theme(), height=250)
        figure.update_xaxes(range=[0, STEPS + runs.WINDOW / 2])
        said = f"Layer {layer}: a row per expert; orange is more than a fair share, blue less. Measured."
        _show(figure, f"collapse-load-{name}-{layer}", own.to_pandas().rename(columns=str).reset_index(), said, going)
    said = [f"step {step}, {alarm}" for step, alarm in run.alarms()]
    st.caption(
        f"Alarms: {'; '.join(said[:3])}{f'; and {len(said) - 3} more' if len(said) > 3 else ''}."
        if said
        else "No alarm."
    )
