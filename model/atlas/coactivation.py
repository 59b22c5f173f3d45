"""Which experts are selected together, beyond what the router's shape forces, and which follow each other.

PMI is log2 of the tokens that select both experts, over the number expected if each were selected independently. Even a
fair router has other values than 0: it selects exactly top-k experts, within the kept groups. `forced` gives these.
`excess` is the difference. Errors are over documents, by the influence of each document on the PMI.

Shape suffixes: D documents, L MoE layers, E experts, P pairs.
"""

from collections.abc import Mapping

import networkx as nx
import numpy as np
import pandas as pd
import xarray as xr
from networkx.algorithms.community import greedy_modularity_communities

from model.atlas.discovery import FLOOR, LEVEL, adjusted
from model.atlas.folder import Sweep
from model.atlas.rule import rule_of
from model.atlas.sums import Sums, of_all
from model.trace.documents import FEWEST, t_quantile, two_sided_p
from model.trace.router_rule import RouterRule


def forced(rule: RouterRule) -> tuple[float, float]:
    """Return the PMI of two experts of a fair router, in bits: of one group, and of two groups.

    NaN if no token can select the two. Without groups both values are equal.
    """
    groups, kept, k = rule.num_groups, rule.num_kept_groups, rule.top_k
    reach = kept * rule.num_experts // groups
    both = k * (k - 1) / (reach * (reach - 1)) if reach > 1 else 0.0
    independent = (k / rule.num_experts) ** 2
    same = kept / groups * both / independent
    other = kept * (kept - 1) / (groups * (groups - 1)) * both / independent if groups > 1 else same
    return (np.log2(same) if same else np.nan), (np.log2(other) if other else np.nan)


def pmi(
    pair: Mapping[str, np.ndarray],
    experts: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    sums: Sums,
    top_k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the PMI of pairs in bits and its standard error over documents, [P] each.

    Document d moves ln PMI by a_d / a - c_d,i / c_i - c_d,j / c_j + n_d / n; the error sums the squares of these.

    Args:
        pair: sums `a`, `a2`, `a_ci`, `a_cj`, `a_n` and `ci_cj` of each pair.
        experts: sums `c`, `c2` and `cn` of the first and of the second expert of each pair.
        sums: sums over all documents.
        top_k: selected experts per token.
    """
    i, j = experts
    n, documents = float(sums.n), int(sums.documents)
    a, c_i, c_j = pair["a"].astype(float), i["c"].astype(float), j["c"].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log2(n / top_k * a / (c_i * c_j))
        squares = pair["a2"] / a**2 + i["c2"] / c_i**2 + j["c2"] / c_j**2 + sums.n2 / n**2
        apart = pair["a_ci"] / (a * c_i) + pair["a_cj"] / (a * c_j) + i["cn"] / (c_i * n) + j["cn"] / (c_j * n)
        together = pair["a_n"] / (a * n) + pair["ci_cj"] / (c_i * c_j)
        variance = documents / max(documents - 1, 1) * np.maximum(squares - 2 * apart + 2 * together, 0)
        return value, np.sqrt(variance) / np.log(2)


def coactivation(sweep: Sweep, level: float = LEVEL, floor: float = FLOOR) -> xr.Dataset | None:
    """Return the co-activation of the experts of each layer, or None if the sweep has no pairs.

    Variables [moe_layer, expert, other_expert], symmetric, NaN on the diagonal: `pmi`, `forced`, `excess` (`pmi` less
    `forced`), `error`, `low` and `high` of the excess, `p`, `q` (adjusted over all pairs of all layers), `tokens` (that
    select both) and `survives`: q up to `level`, and |excess| of `floor` or more. Attribute `documents`. Error, bounds,
    p and q are NaN below 20 documents, or where the tokens of a pair come from fewer than 20 documents: (sum a)^2 / sum
    a^2 is their effective number.
    """
    if sweep.pairs is None:
        return None
    same, other = forced(rule := rule_of(sweep))
    group_E = np.arange(sweep.num_experts) // (sweep.num_experts // rule.num_groups)
    expected_EE = np.where(group_E[:, None] == group_E, same, other)
    pairs, layers = sweep.pairs, pd.Index(sweep.layers)
    places = layers.get_indexer(pd.Index(pairs["layer"])), pairs["i"].to_numpy(), pairs["j"].to_numpy()
    sums = of_all(sweep)
    found = _tested(pairs, sums, places, places[0], expected_EE[places[1:]], sweep.top_k, level, floor)
    shape = (len(layers), sweep.num_experts, sweep.num_experts)
    arrays = {name: _filled(shape, places, values, symmetric=True) for name, values in found.items()}
    axes = ("moe_layer", "expert", "other_expert")
    return _dataset(arrays, axes, {"moe_layer": list(sweep.layers)}, sums, level, floor)


def clusters(pairs: xr.Dataset) -> xr.DataArray:
    """Return the cluster of each expert, [moe_layer, expert]; -1 for an expert that belongs to none.

    Two experts are linked if their excess survives and is above 0; the excess is the weight of the link. Clusters are
    merged greedily while the modularity rises.

    Source: Clauset, Newman and Moore, Finding community structure in very large networks (arXiv cond-mat/0408187).

    Args:
        pairs: result of `coactivation`.
    """
    weights_LEE = np.where(pairs["survives"].values & (pairs["excess"].values > 0), pairs["excess"].values, 0)
    numbers = np.array([_communities(weights_EE) for weights_EE in weights_LEE])
    return xr.DataArray(numbers, {name: pairs[name] for name in ("moe_layer", "expert")}, ("moe_layer", "expert"))


def _communities(weights_EE: np.ndarray) -> np.ndarray:
    """Return the number of each expert's community, the largest community first; -1 without a link."""
    numbers_E = np.full(len(weights_EE), -1)
    graph = nx.from_numpy_array(np.triu(weights_EE))
    if graph.number_of_edges():
        linked = [list(members) for members in greedy_modularity_communities(graph, "weight") if len(members) > 1]
        for number, members in enumerate(sorted(linked, key=lambda members: (-len(members), min(members)))):
            numbers_E[members] = number
    return numbers_E


def transitions(sweep: Sweep, level: float = LEVEL, floor: float = FLOOR) -> xr.Dataset | None:
    """Return how often experts of a layer precede experts of the next MoE layer, or None if the sweep does not say.

    The variables are those of `coactivation`, [moe_layer, expert, next_expert]; `moe_layer` is the first of the two.
    Nothing is forced between layers, so `forced` is 0.
    """
    if sweep.transitions is None or len(sweep.layers) < 2:
        return None
    table, layers = sweep.transitions, pd.Index(sweep.layers)
    places = layers.get_indexer(pd.Index(table["layer"])), table["i"].to_numpy(), table["j"].to_numpy()
    products = np.stack([
        before.T.astype(float) @ after
        for before, after in zip(*(np.moveaxis(sweep.counts_DLE, 1, 0)[part] for part in (slice(-1), slice(1, None))),
                                 strict=True)
    ])  # fmt: skip
    table = table.assign(ci_cj=products[places])
    sums = of_all(sweep)
    found = _tested(table, sums, places, places[0] + 1, np.zeros(len(table)), sweep.top_k, level, floor)
    shape = (len(layers) - 1, sweep.num_experts, sweep.num_experts)
    arrays = {name: _filled(shape, places, values) for name, values in found.items()}
    axes = ("moe_layer", "expert", "next_expert")
    return _dataset(arrays, axes, {"moe_layer": list(sweep.layers[:-1])}, sums, level, floor)


def _tested(
    table: pd.DataFrame,
    sums: Sums,
    places: tuple[np.ndarray, ...],
    layer_of_j: np.ndarray,
    expected: np.ndarray,
    top_k: int,
    level: float,
    floor: float,
) -> dict[str, np.ndarray]:
    """Return the variables of each row of a table of pairs, [P] each."""
    layer, i, j = places
    columns = ("c", "c2", "cn")
    first, second = ({name: getattr(sums, name)[at] for name in columns} for at in ((layer, i), (layer_of_j, j)))
    pair = {name: table[name].to_numpy() for name in ("a", "a2", "a_ci", "a_cj", "a_n", "ci_cj")}
    documents = int(sums.documents)
    value, error = pmi(pair, (first, second), sums, top_k)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = pair["a"].astype(float) ** 2 / pair["a2"]
    degrees = np.maximum(effective, 2) - 1
    error = np.where((effective >= FEWEST) & (documents >= FEWEST), error, np.nan)
    excess = value - expected
    with np.errstate(divide="ignore", invalid="ignore"):
        p = two_sided_p(excess / error, degrees)
    reach, q = t_quantile(0.975, degrees) * error, adjusted(p)
    survives = (q <= level) & (np.abs(excess) >= floor)
    return {
        "pmi": value, "forced": expected, "excess": excess, "error": error,
        "low": excess - reach, "high": excess + reach, "p": p, "q": q, "tokens": pair["a"], "survives": survives,
    }  # fmt: skip


def _filled(
    shape: tuple[int, ...], places: tuple[np.ndarray, ...], values: np.ndarray, symmetric: bool = False
) -> np.ndarray:
    """Return an array with the values at their places, and elsewhere 0, False or NaN."""
    filled = np.full(shape, np.nan if values.dtype.kind == "f" else 0, values.dtype)
    filled[places] = values
    if symmetric:
        layer, i, j = places
        filled[layer, j, i] = values
    return filled


def _dataset(
    arrays: dict[str, np.ndarray], axes: tuple[str, ...], coordinates: dict[str, list[int]], sums: Sums,
    level: float, floor: float,
) -> xr.Dataset:  # fmt: skip
    experts = np.arange(arrays["pmi"].shape[-1])
    attributes = {"documents": int(sums.documents), "level": level, "floor": floor}
    return xr.Dataset(
        {name: (axes, values) for name, values in arrays.items()},
        coordinates | {axes[1]: experts, axes[2]: experts},
        attributes,
    )
