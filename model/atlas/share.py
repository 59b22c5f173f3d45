"""The load share of each expert with its interval over documents.

Source: ratio estimator, Cochran, Sampling Techniques (1977), chapter 6.
"""

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.sums import Sums, by_label, of_all, of_classes
from model.trace.documents import FEW, FEWEST, t_quantile

DEAD = 0.1  # an unused expert is dead if its load is surely below this part of the mean load
CELL = ("moe_layer", "expert")


def shares(sums: Sums, confidence: float = 0.95) -> dict[str, np.ndarray]:
    """Return load shares with their intervals, each [..., L, E]: `share`, `error`, `low`, `high` and `dead`.

    Error and bounds are NaN below 20 documents, and for an expert that fewer than 20 documents select. An expert
    without a selection is dead if the upper bound of its share, 3 / D at 95 %, is below a tenth of the mean share. D is
    the effective number of documents, (sum n)^2 / sum n^2, because documents differ in length.

    Args:
        sums: the sums over documents.
        confidence: probability that an interval contains the share.
    """
    share, documents = sums.share(), sums.documents[..., None, None]
    judged = (documents >= FEWEST) & (sums.hit >= FEWEST)
    error = np.where(judged, share * np.sqrt(sums.relative_variance()), np.nan)
    reach = t_quantile((1 + confidence) / 2, sums.degrees()) * error
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = (sums.n.astype(float) ** 2 / sums.n2)[..., None, None]
        bound = 3 / effective
    dead = (sums.c == 0) & (bound < DEAD / sums.c.shape[-1])
    return {"share": share, "error": error, "low": np.maximum(share - reach, 0), "high": share + reach, "dead": dead}


def share(sweep: Sweep, kind: str | None = None, token_class: str = "all") -> xr.Dataset:
    """Return the load share of each expert, over all documents or by label.

    Variables [label, moe_layer, expert]: `share`, `error`, `low`, `high`, `ratio` (share x experts, 1 for the mean
    load), `dead`, `selections`, and `hit`, the documents that select the expert. Variables [label]: `documents`, and
    `few` (below 60 documents, where intervals are too narrow). Without `kind` there is no axis of labels.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source"; None: all documents together.
        token_class: the class of tokens to count.
    """
    if kind is None:
        return _dataset(sweep, of_all(sweep, token_class))
    labels, sums = by_label(sweep, kind, token_class)
    return _dataset(sweep, sums, label=labels)


def _dataset(sweep: Sweep, sums: Sums, **names: list[str]) -> xr.Dataset:
    """Return the variables of `share`; `names` are those of the groups, by the name of their axis."""
    arrays = shares(sums) | {"selections": sums.c, "hit": sums.hit}
    arrays["ratio"] = arrays["share"] * sweep.num_experts
    variables = {name: ((*names, *CELL), values) for name, values in arrays.items()}
    variables |= {"documents": (tuple(names), sums.documents), "few": (tuple(names), sums.documents < FEW)}
    return xr.Dataset(variables, coordinates(sweep) | names)


def by_class(sweep: Sweep) -> xr.Dataset:
    """Return the load share of each expert among the tokens of each class.

    Variables [token_class, moe_layer, expert] are those of `share`; `documents` and `few` are [token_class]. Classes
    without a token are left out.
    """
    names, sums = of_classes(sweep)
    return _dataset(sweep, sums, token_class=names)


def by_position(sweep: Sweep) -> xr.Dataset | None:
    """Return the load share of each expert by position in the document, or None if the sweep has no such table.

    Variables [bucket, moe_layer, expert]: `share`, `error`, `low`, `high`, `ratio` as in `share`. Variables [bucket]:
    `documents` that reach the bucket, `first` and `last` position, `few`. Bounds are NaN below 20 documents, and where
    the selections come from fewer than 20 documents: (sum c)^2 / sum c^2 is their effective number.
    """
    if (table := sweep.positions) is None:
        return None
    bucket_R = table["bucket"].to_numpy()
    number = int(bucket_R.max()) + 1
    places = bucket_R, pd.Index(sweep.layers).get_indexer(pd.Index(table["layer"])), table["expert"].to_numpy()
    sums = {name: np.zeros((number, len(sweep.layers), sweep.num_experts), np.int64) for name in ("c", "c2", "cn")}
    for name, values in sums.items():
        values[places] = table[name].to_numpy()
    n, n2 = np.zeros((2, number), np.int64)
    n[bucket_R], n2[bucket_R] = table["n"].to_numpy(), table["n2"].to_numpy()  # equal in all rows of a bucket
    first = np.array([0, *(1 << np.arange(number - 1))])
    documents = (sweep.documents["tokens"].to_numpy()[:, None] > first).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = np.where(sums["c"] > 0, sums["c"].astype(float) ** 2 / sums["c2"], 0)
    result = shares(Sums(**sums, hit=hit, n=n, n2=n2, documents=documents))
    arrays = {name: result[name] for name in ("share", "error", "low", "high")}
    arrays["ratio"] = arrays["share"] * sweep.num_experts
    columns = {"documents": documents, "first": first, "last": np.maximum(2 * first - 1, 0), "few": documents < FEW}
    return xr.Dataset(
        {name: (("bucket", *CELL), values) for name, values in arrays.items()}
        | {name: (("bucket",), values) for name, values in columns.items()},
        coordinates(sweep) | {"bucket": np.arange(number)},
    )


def coordinates(sweep: Sweep) -> dict[str, object]:
    """Return the coordinates of the axes `moe_layer` (numbers of the layers in the model) and `expert`."""
    return {"moe_layer": list(sweep.layers), "expert": np.arange(sweep.num_experts)}
