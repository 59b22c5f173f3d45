"""The tabs of the Routing page."""

from collections.abc import Callable

import streamlit as st
import xarray as xr

from model.trace.trace import Trace
from pages.common import controls
from pages.observe.routing import decision, expert, together


def _of_counted(
    show: Callable[[Trace, int, int, xr.DataArray], None],
) -> Callable[[Trace, int, int, int], None]:
    """Return the tab of a function that takes the tokens that count, chosen in the tab."""

    def tab(trace: Trace, token: int, layer: int, expert: int) -> None:
        mask = controls.population(trace)
        if mask.any():
            show(trace, layer, expert, mask)
        else:
            st.info("No token of this run is of that sort. Choose other tokens.")

    return tab


TABS: dict[str, Callable[[Trace, int, int, int], None]] = {
    "This layer's choice": decision.show,
    "Who works with whom": _of_counted(together.show),
    "One expert": _of_counted(expert.show),
}
<<<<<<< HEAD
DECISION, TOGETHER, EXPERT = TABS
=======


def remarks(trace: Trace) -> None:
    """What a reader must know of this run before looking at the figures."""
    edits = routing_tables.edits(trace)
    if edits:
        st.info(
            f"This run was changed: {', '.join(edits)}. In the layers concerned no loser is marked and no margin said: "
            "these describe how the model chooses as trained."
        )
    missing = [said for name, said in _SCORES.items() if not trace.has(name)]
    if missing:
        st.info(f"This trace does not hold {', '.join(missing)}. What needs them is left out.")


def path(trace: Trace, token: int, layer: int, expert: int | None) -> None:
    """The main figure: where the token went in every layer."""
    lost = routing_tables.losers(trace, token)
    groups = shape.num_groups(trace)
    figure = figures.token_path(
        routing_tables.at_token(trace, token), shape.num_experts(trace), groups, session.theme(),
        lost, (layer, expert), routing_tables.origin(trace),
    )  # fmt: skip
    said = (
        "A row per mixture layer, the first at the bottom; a column per expert, coloured by group. Squares were "
        "chosen, the stronger the larger their weight. Grey bands are the groups that were kept; blue is affinity. "
        "A triangle would have been chosen without the bias, a hatch without the group limit. Click a cell."
    )
    controls.chart(figure, "routing-path", routing_tables.path(trace, token, lost), said, chooses=("layer", "expert"))


def about(name: str, trace: Trace, token: int, layer: int, expert: int) -> None:
    """Fill the tab of that name."""
    if name == DECISION:
        decision.show(trace, token, layer, expert)
        return
    mask = controls.population(trace)
    if not mask.any():
        st.info("No token of this run is of that sort. Choose other tokens.")
    elif name == TOGETHER:
        together(trace, layer, expert, mask)
    else:
        one_expert(trace, layer, expert, mask)


# --- who works with whom ---------------------------------------------------------------------------------------------


def together(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """Co-activation within the layer, and steps to the next."""
    counted = trace.data["expert_id"].isel(token=np.flatnonzero(mask.values))
    left, right = st.columns(2)
    with left:
        _coactivation(trace, counted.sel(moe_layer=[layer]))
    if counted.sizes["moe_layer"] < 2:
        right.info("The trace holds one mixture layer; there is no next one.")
        return
    counts = routing.transitions(counted, shape.num_experts(trace))
    with right:
        _transitions(trace, counts, layer)
    _graph(trace, counts, layer, expert)


def _coactivation(trace: Trace, counted: xr.DataArray) -> None:
    groups, kept = shape.num_groups(trace), shape.kept_groups(trace)
    counts = routing.shared_tokens(counted, shape.num_experts(trace)).isel(moe_layer=0)
    table = routing_tables.pairs(counts, counted.sizes["rank"], groups, kept)
    said = (
        "Rows are experts of this layer: of the tokens that went to one, the share that also went to the expert of the "
        "column. Derived. The table has each share's 95 % interval (Wilson, as if tokens were independent) beside what "
        "fair routing gives. Click a cell to choose the row's expert."
    )
    figure = pairs.coactivation(counts, counted.sizes["token"], groups, session.theme())
    controls.chart(figure, "routing-together", table, said, chooses=("expert",))


def _transitions(trace: Trace, counts: xr.DataArray, layer: int) -> None:
    earlier = layer if layer in counts["moe_layer"] else int(counts["moe_layer"][-1])
    onward = counts.sel(moe_layer=earlier)
    said = (
        "Rows are experts of one mixture layer, columns those of the next. Every token makes a pair of each expert it "
        "took here with each it took there; the row says where an expert's pairs lead. Derived."
    )
    figure = pairs.transitions(onward, shape.num_groups(trace), session.theme())
    controls.chart(figure, "routing-onward", routing_tables.steps(onward), said, chooses=("expert",))


def _graph(trace: Trace, counts: xr.DataArray, layer: int, expert: int) -> None:
    said = (
        "The commonest steps between all layers; a wider line is more tokens, and the steps of the chosen expert are "
        "dark. Many lines from or to one expert are a hub that the matrices hide. Derived. Click an expert."
    )
    figure = pairs.transition_graph(counts, shape.num_groups(trace), session.theme(), focus=(layer, expert))
    controls.chart(figure, "routing-graph", routing_tables.steps(counts, 2), said, chooses=("layer", "expert"))


# --- one expert ------------------------------------------------------------------------------------------------------


def one_expert(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """What an expert took."""
    taken, shares = (of(trace, layer, expert, mask) for of in (expert_tokens.taken_by, expert_tokens.shares))
    _expert_in_numbers(trace, layer, expert, mask)
    if taken.empty:
        _untaken(trace, layer, expert, mask)
        return
    color = expert_color(expert, shape.num_experts(trace), shape.num_groups(trace), session.theme())
    left, right = st.columns(2)
    with right:
        height = _kinds(trace, shares, color)
    with left:
        _weights(taken, color, height)
    st.caption(f"The {len(taken):,} tokens that went to L{layer}E{expert}, in context. A click on a row chooses it.")
    _contexts(taken, f"routing-tokens-L{layer}E{expert}")


def _expert_in_numbers(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    ids, num_experts = trace.data["expert_id"].sel(moe_layer=[layer]), shape.num_experts(trace)
    counts = metrics.tokens_per_expert(ids, num_experts, mask).isel(moe_layer=0)
    ratio, total = float(metrics.relative_load(counts)[expert]), int(mask.sum())
    columns = st.columns(4)
    columns[0].metric(f"Tokens of L{layer}E{expert}", f"{int(counts[expert]):,} of {total:,}", help="Measured.")
    columns[1].metric("Load", f"{ratio:.3g} × uniform", help=f"1 is a fair share. Derived; n = {total:,} tokens.")
    if trace.has("expert_bias"):
        bias = routing.relative_bias(trace.data["expert_bias"]).sel(moe_layer=layer)[expert]
        columns[2].metric("Bias - mean", f"{float(bias):+.2g}", help="Against the layer's mean bias. Derived.")
    if trace.has("group_kept"):
        group = shape.group_of(trace, expert)
        kept = int(trace.data["group_kept"].sel(moe_layer=layer).values[mask.values, group].sum())
        low, high = routing.share_interval(kept, total)
        said = f"Its group {group} was kept for {kept:,} of {total:,} tokens; in brackets the 95 % interval. Derived."
        columns[3].metric("Group kept", f"{kept / total:.0%} ({low:.0%} to {high:.0%})", help=said)


def _untaken(trace: Trace, layer: int, expert: int, mask: xr.DataArray) -> None:
    """An expert without a token: what chance says of it, and who came closest."""
    st.info(
        f"None of these {int(mask.sum()):,} tokens went to L{layer}E{expert}.{routing_tables.by_chance(trace, mask)}"
    )
    if trace.has("router_score"):
        closest = expert_tokens.closest_to(trace, layer, expert, mask)
        st.caption("The tokens with the highest affinity to it, which went elsewhere (measured).")
        _contexts(closest, f"routing-closest-L{layer}E{expert}")


def _kinds(trace: Trace, shares: pd.DataFrame, color: str) -> int:
    """The expert's share of each kind of token; returns the height of the figure."""
    taken, totals = np.asarray(shares["taken"]), np.asarray(shares["of"])
    fair = trace.data.sizes["rank"] / shape.num_experts(trace)
    bounds = np.asarray(shares[["low (95 %)", "high (95 %)"]])
    names = shares["tokens that are"].tolist()
    figure = expert_figures.shares_by_kind(names, taken, totals, bounds, fair, color, session.theme())
    said = (
        "Of the tokens of each kind, the share that went to this expert, with its 95 % interval; the dashed line is "
        "what a fair expert takes. Grey: too few tokens to tell. Derived. A trace does not say what domain its text is "
        "of, so the kinds are what the tokens' own text shows. One row in twenty strays by chance."
    )
    controls.chart(figure, "routing-kinds", shares, said)
    return int(figure.layout.height)  # pyright: ignore[reportAttributeAccessIssue] - Plotly adds it at run time


def _weights(taken: pd.DataFrame, color: str, height: int) -> None:
    if "weight" not in taken or not np.isfinite(taken["weight"].values).any():
        st.info("This trace holds which experts were chosen, but not their weights.")
        return
    weights = xr.DataArray(taken["weight"].values)
    figure = expert_figures.weight_distribution(weights, color, session.theme(), height=height)
    said = "How strongly the expert's output counted for the tokens that it took: a bar per range of weight. Measured."
    controls.chart(figure, "routing-weights", pd.DataFrame(taken, columns=["token", "text", "rank", "weight"]), said)


def _contexts(rows: pd.DataFrame, key: str) -> None:
    """Tokens in context; a row that is clicked becomes the token that is looked at."""
    columns = {
        "before": st.column_config.TextColumn(alignment="right"),
        "text": st.column_config.TextColumn(width="small"),
        "affinity": tables.THREE,
        "weight": tables.THREE,
    }

    def choose() -> None:
        chosen = st.session_state[key]["selection"]["rows"]
        if chosen:
            controls.choose(token=int(rows["token"].iloc[chosen[0]]))

    st.dataframe(
        rows, hide_index=True, column_config=columns, height="content" if len(rows) < 12 else 420, key=key,
        on_select=choose, selection_mode="single-row",
    )  # fmt: skip
    controls.download_table(rows, key)
>>>>>>> c830063 (Check arguments, attributes and calls of the pages by pyright)
