"""The tabs of the Counterfactual page."""

import streamlit as st

from model.trace import routing
from pages.common import controls, session
from pages.common.tables import NEXT_TOKENS
from pages.common.tables import next_tokens as next_tokens_table
from pages.intervene.counterfactual import importance, overview, tables
from pages.intervene.counterfactual.overview import MEANINGS, VARIABLES
from pages.intervene.counterfactual.runs import Experiment
from viz import effects as figures

_NOT_RUN = "Run an experiment to fill this tab."


def next_tokens(experiment: Experiment | None, token: int) -> None:
    """Show the most probable tokens after the chosen token, in both runs."""
    if experiment is None:
        st.caption(_NOT_RUN)
        return
    vocabulary = session.vocabulary(experiment.trace)
    runs = {"original": experiment.outcome.original, "changed": experiment.outcome.changed}
    for column, (name, trace) in zip(st.columns(2), runs.items(), strict=True):
        assert trace is not None
        table = next_tokens_table(trace, token, vocabulary)
        with column:
            st.caption(f"After token {token}, {name}: the model's own distribution (measured).")
            st.dataframe(
                table, hide_index=True, column_config=NEXT_TOKENS, height=300, key=f"next-{name}", placeholder=""
            )
            controls.download_table(table, f"next-tokens-{name}")


def token_by_token(experiment: Experiment | None, token: int) -> None:
    """Show two effects by token, with the range of the control: on the distribution and on the log-probability."""
    if experiment is None:
        st.caption(_NOT_RUN)
        return
    table, names = tables.by_token(experiment), controls.token_names(experiment.trace)
    for name, variable in VARIABLES.items():
        values, band = experiment.effect[variable].values, experiment.band(variable)
        figure = figures.by_token(values, band, names, "nats", session.theme(), token)
        st.caption(f"{name[0].upper()}{name[1:]}")
        how_to_read = f"{MEANINGS[name]} {overview.about_band(experiment)} Click a bar to choose its token."
        controls.chart(figure, f"counterfactual-{variable}", table, how_to_read, chooses=("token",))


def by_layer(experiment: Experiment | None, token: int) -> None:
    """Show by layer how far the routing stayed the same."""
    if experiment is None:
        st.caption(_NOT_RUN)
        return
    layers, table = experiment.effect["moe_layer"].values.tolist(), tables.by_layer(experiment)
    titles = {"equal_sets": "tokens with the same experts", "jaccard": "experts in common (Jaccard)"}
    for column, (variable, title) in zip(st.columns(2), titles.items(), strict=True):
        values, band = experiment.effect[variable].values, experiment.band(variable)
        figure = figures.by_layer(layers, values, band, title, session.theme(), _changed_layers(experiment))
        how_to_read = (
            f"By layer, {title}, compared with the original; 100 % is unchanged. Outlined are the layers that the "
            f"change edits; in later layers the routing changes as a consequence. {overview.about_band(experiment)} "
            f"An expert with weight 0 does not count. Derived; n = {experiment.trace.num_tokens:,} tokens."
        )
        with column:
            controls.chart(figure, f"counterfactual-{variable}", table, how_to_read)


def importance_map(experiment: Experiment | None, token: int) -> None:
    """Show the importance map, which needs no experiment."""
    importance.show()


def _changed_layers(experiment: Experiment) -> list[int]:
    """Return the model layer numbers of the layers that the change edits."""
    changed = experiment.outcome.changed
    assert changed is not None
    layers = changed.data["moe_layer"]
    untouched = routing.untouched_layers(changed.interventions, layers).values.tolist()
    return [layer for layer, same in zip(layers.values.tolist(), untouched, strict=True) if not same]


NEXT, TOKENS, LAYERS, IMPORTANCE = "Next tokens", "Token by token", "Routing by layer", "Importance map"
TABS = {NEXT: next_tokens, TOKENS: token_by_token, LAYERS: by_layer, IMPORTANCE: importance_map}
