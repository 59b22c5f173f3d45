"""The tabs of the Training page."""

from collections.abc import Iterable

import streamlit as st

from model.trace.training_log import TrainingLog
from pages.common import controls, session
from pages.learn.training import tables
from viz import training as figures

_REINFORCEMENT = {
    "reward": "mean reward",
    "signal": "share of groups whose rewards differ",
    "kl": "distance to the model it began with, nats per token",
}


def heldout(log: TrainingLog, layer: int) -> None:
    """Show bits per byte of held-out texts."""
    curves = log.at_evaluations("heldout")
    if not curves:
        st.info("Held-out text was not evaluated in this run.")
        return
    meaning = "Texts that the model never trained on, named by kind and language."
    names = st.multiselect(
        "Texts", list(curves), one_of_each(curves), key="heldout-texts", bind="query-params", help=meaning
    )
    chosen = {name: curves[name] for name in names or list(curves)[:1]}
    figure = figures.curves(chosen, "bits per byte", session.theme(), log.stages)
    how_to_read = (
        "Measured on the first 2 kB of each held-out text, which was never trained on. Bits per byte: how uncertain "
        "the model is about the next byte; lower is better. A text is named by its kind and its language; cli "
        "stands for short help pages of commands, techdocs for manuals."
    )
    controls.chart(figure, "training-heldout", tables.by_step(curves), how_to_read)
    _positions(log)


def one_of_each(names: Iterable[str]) -> list[str]:
    """Return one text name per kind, of an English text if there is one; at most eight, to have distinct colours."""
    ordered = sorted(names, key=lambda name: not name.endswith(".en"))
    kinds = {name.split(".")[0]: name for name in reversed(ordered)}
    return [kinds[kind] for kind in sorted(kinds)][:8]


def _positions(log: TrainingLog) -> None:
    """Show bits per byte of long texts by position, for a run with an extended context."""
    curves = log.at_evaluations("positions")
    if curves:
        figure = figures.curves(curves, "bits per byte by position", session.theme(), log.stages)
        how_to_read = (
            "Measured on the beginnings of six long held-out texts, by position. In pieces: the same tokens, read in "
            "pieces as long as the context that the model was first trained with. The longer context helps where "
            "the whole text gives the lower number."
        )
        controls.chart(figure, "training-positions", tables.by_step(curves), how_to_read)


def answers(log: TrainingLog, layer: int) -> None:
    """Show the share of correct answers to held-out prompts, and the curves of reinforcement learning."""
    kinds = list(log.values.get("answers", {}))
    if not kinds:
        st.info("Answers were not compared in this run.")
        return
    controls.keep_within("answer-kind", kinds)
    kind = st.selectbox("Prompts", kinds, key="answer-kind", bind="query-params") if len(kinds) > 1 else kinds[0]
    counts = log.answers(str(kind))
    curves = {"right": counts["share"], "at least": counts["low"], "at most": counts["high"]}
    figure = figures.curves(curves, f"share of right answers, {kind}", session.theme(), log.stages)
    how_to_read = (
        f"Measured: of {int(counts['of'][-1])} held-out prompts, the share whose greedy answer ends with the right "
        "result; the thin lines are its 95 % interval (Wilson). The first point is before the first step. In the "
        "table, an exact answer equals the expected one letter by letter, including the working."
    )
    controls.chart(figure, "training-answers", counts.to_dataframe().reset_index(), how_to_read)
    for name, title in _REINFORCEMENT.items():
        if name in log.values:
            curve = {name: log.curve(name)}
            figure = figures.curves(curve, title, session.theme(), log.stages, height=250)
            how_to_read = (
                f"Measured while training, on training prompts: {title}, mean over spans of steps. A group is all "
                "answers drawn for one prompt; if all get the same reward, the group teaches nothing."
            )
            controls.chart(figure, f"training-{name}", tables.by_step(curve), how_to_read)


def load(log: TrainingLog, layer: int) -> None:
    """Show the load of every expert: in one layer over all steps, and in all layers at one step."""
    of_all = log.load()
    of_layer = of_all.sel(moe_layer=layer, drop=True)
    how_to_read = (
        f"Layer {layer}: a row is an expert, a column is a span of steps. Orange is more than a fair share, blue less. "
        "Measured, summed over the span."
    )
    figure = figures.load_over_steps(of_layer, session.theme())
    controls.chart(figure, "training-load", tables.by_expert(of_layer), how_to_read, layer=layer)
    figure = figures.load_that_plays(of_all.dropna("moe_layer"), session.theme())
    how_to_read = "All layers at one span of steps: press Play, or move the slider."
    table = of_all.to_series().rename("load").reset_index()
    controls.chart(figure, "training-load-plays", table, how_to_read)


# Measure of balance -> help text.
_MEANINGS = {
    "MaxVio": "By how much the busiest expert exceeds a fair share, in units of that share; 0 is perfect balance.",
    "normalised entropy": "Entropy of the experts' shares over its maximum; 1 is perfect balance.",
    "share of dead experts": "Experts that no token reached in the span.",
}


def balance(log: TrainingLog, layer: int) -> None:
    """Show MaxVio, entropy and dead experts of every layer."""
    for name, values in log.balance().items():
        curves = {f"L{number}": values.sel(moe_layer=number, drop=True) for number in log.layers}
        figure = figures.curves(curves, name, session.theme(), log.stages, height=250)
        how_to_read = f"The {name} of every layer. {_MEANINGS[name]} Derived from the load."
        controls.chart(figure, f"training-{name}", tables.by_step(curves), how_to_read)


def bias(log: TrainingLog, layer: int) -> None:
    """Show the selection bias of every expert of the layer."""
    values = log.bias(layer)
    if values is None:
        st.info("The biases of this layer were not logged in this run.")
        return
    figure = figures.bias_over_steps(values, session.theme())
    how_to_read = (
        f"Layer {layer}: each expert's selection bias minus the layer's mean bias; the mean changes no selection. "
        "Purple helps an expert to be chosen, green holds it back. Measured."
    )
    controls.chart(figure, "training-bias", tables.by_expert(values), how_to_read, layer=layer)


def saturation(log: TrainingLog, layer: int) -> None:
    """Show how far the routing of a fixed text at each evaluation agrees with its routing at the last one."""
    values = log.at_evaluations("saturation")
    if not values:
        st.info("The routing of a fixed text was not logged in this run.")
        return
    curves = {f"L{number}": by_step for number, by_step in values.items()}
    figure = figures.curves(curves, "share of the final routing", session.theme(), log.stages)
    how_to_read = (
        "For the tokens of a fixed text: of the experts that the router chose at a step, the share that it also "
        "chooses at the end of training. Derived. A curve ends at 1; the earlier it comes near 1, the earlier the "
        "routing of its layer settled."
    )
    controls.chart(figure, "training-saturation", tables.by_step(curves), how_to_read)


TABS = {
    "Held-out text": heldout,
    "Answers": answers,
    "Load": load,
    "Balance": balance,
    "Bias": bias,
    "Saturation": saturation,
}
