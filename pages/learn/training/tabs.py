"""What the Training page shows of a run's log."""

from collections.abc import Iterable, Mapping

import pandas as pd
import streamlit as st
import xarray as xr

from pages.common import controls, session
from pages.learn.training.logs import Log
from viz import training as pictures

TABS = ["Held-out text", "Answers", "Load", "Balance", "Bias", "Saturation"]
_PARTS = {"mtp_loss": "token after the next one", "indexer_loss": "indexers, sum over layers"}
_REINFORCEMENT = {
    "reward": "mean reward",
    "signal": "share of groups that teach something",
    "kl": "distance to the start, nats per token",
}


def choose(logs: Mapping[str, Log]) -> tuple[Log, list[Log]]:
    """Choose a run, and others to draw beside it."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    name = left.selectbox("Run", list(logs), key="log", bind="query-params")
    others = [other for other in logs if other != name]
    same = [other for other in others if other.split()[0] == str(name).split()[0]]
    beside = right.multiselect("Beside it", others, same[:3], key=f"beside-{name}", bind="query-params")
    return logs[name], [logs[other] for other in beside]


def choose_layer(log: Log) -> int:
    """Choose a layer with a router."""
    return controls.layer(None, options=log.layers)


def table_of(series: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Curves as columns, a row per step."""
    parts = [values.rename(name).to_series() for name, values in series.items()]
    return pd.concat(parts, axis=1).rename_axis("step").reset_index()


def loss(log: Log, beside: list[Log]) -> None:
    """The main figure."""
    series = {one.name: one.curve("loss") for one in (log, *beside)}
    series |= {said: log.curve(part) for part, said in _PARTS.items() if part in log.values}
    figure = pictures.curves(series, "loss, nats per token", session.theme(), log.stages, log.alarms, log.roll_backs)
    said = (
        "Measured while training: mean loss over spans of steps. Upright lines mark where the stages of the first run "
        "begin, triangles at the foot its alarms, arrows its returns to a saved state; point at one to read it. Runs "
        "of bytes and of tokens do not compare, nor does the loss of examples with that of preferences or rewards."
    )
    controls.chart(figure, "training-loss", table_of(series), said)


def alarms(log: Log) -> None:
    """What the watch said, or that it said nothing."""
    if not log.alarms:
        st.caption("No alarm was raised in this run, as far as its log tells.")
        return
    said = "; ".join(f"step {step:,}, {alarm}" for step, alarm in log.alarms[:4])
    more = f"; and {len(log.alarms) - 4} more" if len(log.alarms) > 4 else ""
    st.markdown(f":material/warning: Alarms: {said}{more}.")


def about(name: str, log: Log, layer: int) -> None:
    """Fill the tab of that name."""
    tabs = (heldout, held_out_answers, load, balance, bias, saturation)
    dict(zip(TABS, tabs, strict=True))[name](log, layer)


def heldout(log: Log, layer: int) -> None:
    """Bits per byte by domain."""
    series = log.at_looks("heldout")
    if not series:
        st.info("Held-out text was not looked at in this run.")
        return
    names = st.multiselect("Texts", list(series), one_of_each(series), key="heldout-texts", bind="query-params")
    chosen = {name: series[name] for name in names or list(series)[:1]}
    figure = pictures.curves(chosen, "bits per byte", session.theme(), log.stages)
    said = (
        "Measured: bits per byte of the first 2 kB of each held-out text, which was never trained on. Lower is better. "
        "A text is named by its kind and its language; cli is short help pages of commands, techdocs manuals."
    )
    controls.chart(figure, "training-heldout", table_of(series), said)
    positions(log)


def one_of_each(names: Iterable[str]) -> list[str]:
    """The first text of each kind, English before other languages; at most eight, so that colours differ."""
    ordered = sorted(names, key=lambda name: not name.endswith(".en"))
    kinds = {name.split(".")[0]: name for name in reversed(ordered)}
    return [kinds[kind] for kind in sorted(kinds)][:8]


def positions(log: Log) -> None:
    """Bits per byte of long texts by position, in a run that reads further than the model's first context."""
    series = log.at_looks("positions")
    if series:
        figure = pictures.curves(series, "bits per byte by position", session.theme(), log.stages)
        said = (
            "Measured on the beginnings of six long held-out texts, by position. In pieces: the same tokens, read "
            "without what lies before the model's first context. Lower when read whole means that the longer context "
            "helps."
        )
        controls.chart(figure, "training-positions", table_of(series), said)


def held_out_answers(log: Log, layer: int) -> None:
    """Share of right answers to held-out prompts, and what reinforcement did."""
    kinds = list(log.values.get("answers", {}))
    if not kinds:
        st.info("Answers were not compared in this run.")
        return
    controls.keep_within("answer-kind", kinds)
    kind = st.selectbox("Prompts", kinds, key="answer-kind", bind="query-params") if len(kinds) > 1 else kinds[0]
    found = log.answers(str(kind))
    series = {"right": found["share"], "at least": found["low"], "at most": found["high"]}
    figure = pictures.curves(series, f"share of right answers, {kind}", session.theme(), log.stages)
    said = (
        f"Measured: of {int(found['of'][-1])} held-out prompts, the share whose greedy answer ends with the right "
        "result; the thin lines are its 95 % interval (Wilson). The first point is before the first step. In the "
        "table, exact answers are those that are the wanted one to the letter, working included."
    )
    controls.chart(figure, "training-answers", found.to_dataframe().reset_index(), said)
    for name, title in _REINFORCEMENT.items():
        if name in log.values:
            series = {name: log.curve(name)}
            figure = pictures.curves(series, title, session.theme(), log.stages, height=250)
            said = (
                f"Measured while training, on prompts that are trained on: {title}, mean over spans of steps. A group "
                "is the answers drawn to one prompt; where all of them get the same reward, it teaches nothing."
            )
            controls.chart(figure, f"training-{name}", table_of(series), said)


def load(log: Log, layer: int) -> None:
    """The load of every expert: of the layer over all steps, and of all layers step by step."""
    whole = log.load()
    own = whole.sel(moe_layer=layer, drop=True)
    said = f"Layer {layer}: a row per expert, a column per span of steps. Orange is more than a fair share, blue less. "
    said += "Measured, summed over the span."
    table = own.to_pandas().rename(columns=str).reset_index()
    controls.chart(pictures.load_over_steps(own, session.theme()), "training-load", table, said)
    picture = pictures.load_that_plays(whole.dropna("moe_layer"), session.theme())
    said = "All layers at one span of steps: press Play, or move the slider."
    controls.chart(picture, "training-load-plays", whole.to_series().rename("load").reset_index(), said)


def balance(log: Log, layer: int) -> None:
    """MaxVio, entropy and dead experts of the layer."""
    for name, values in log.balance().items():
        series = {f"L{number}": values.sel(moe_layer=number, drop=True) for number in log.layers}
        figure = pictures.curves(series, name, session.theme(), log.stages, height=250)
        controls.chart(figure, f"training-{name}", table_of(series), f"{name} of every layer. Derived from the load.")


def bias(log: Log, layer: int) -> None:
    """The selection bias of every expert of the layer."""
    values = log.bias(layer)
    if values is None:
        st.info("The biases of this layer were not logged in this run.")
        return
    figure = pictures.bias_over_steps(values, session.theme())
    said = (
        f"Layer {layer}: the bias that enters the selection only, less the layer's mean, which changes no selection. "
    )
    said += "Purple helps an expert, green holds it back. Measured."
    controls.chart(figure, "training-bias", values.to_pandas().rename(columns=str).reset_index(), said)


def saturation(log: Log, layer: int) -> None:
    """How early routers sent a fixed text where they still send it in the end."""
    found = log.at_looks("saturation")
    if not found:
        st.info("The routing of a fixed text was not kept in this run.")
        return
    series = {f"L{number}": values for number, values in found.items()}
    figure = pictures.curves(series, "share of the final routing", session.theme(), log.stages)
    said = (
        "Derived: of a fixed text's tokens and places, the share sent to an expert that the last router sends the "
        "token to as well. It ends at 1; the earlier it comes near, the earlier that layer's routing had settled."
    )
    controls.chart(figure, "training-saturation", table_of(series), said)
