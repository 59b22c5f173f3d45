"""The load share of each expert by the position of the token in its document."""

import numpy as np
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.share import CELL, coordinates, shares
from model.atlas.sums import Sums
from model.trace.documents import FEWEST


def position_share(sweep: Sweep) -> xr.Dataset | None:
    """Return the share of each expert by bucket of positions; None if the sweep has no such table.

    Variables `share`, `low`, `high` are [bucket, moe_layer, expert], `documents` and `first` (first position of the
    bucket) [bucket]. All are NaN below 20 documents. A document reaches a bucket if it is longer than `first`.
    """
    if sweep.positions is None:
        return None
    table, layers = sweep.positions, np.array(sweep.layers)
    buckets = np.arange(1 + table["bucket"].to_numpy(int).max())
    first = np.where(buckets == 0, 0, 2.0 ** (buckets - 1)).astype(np.int64)
    tokens = sweep.documents["tokens"].to_numpy()
    documents = (tokens[:, None] > first).sum(0)
    places = tuple(table[name].to_numpy() for name in ("bucket", "layer", "expert"))
    places = places[0], np.searchsorted(layers, places[1]), places[2]
    sums = {name: np.zeros((len(buckets), len(layers), sweep.num_experts), np.int64) for name in ("c", "c2", "cn")}
    for name, values in sums.items():
        values[places] = table[name].to_numpy()
    n, n2 = (np.zeros(len(buckets), np.int64) for _ in range(2))
    n[places[0]], n2[places[0]] = table["n"].to_numpy(), table["n2"].to_numpy()
    hit = np.broadcast_to(documents[:, None, None], sums["c"].shape)  # the table does not count these documents
    found = shares(Sums(**sums, hit=hit, n=n, n2=n2, documents=documents))
    enough = (documents >= FEWEST)[:, None, None]
    variables = {name: (("bucket", *CELL), np.where(enough, found[name], np.nan)) for name in ("share", "low", "high")}
    variables |= {"documents": ("bucket", documents), "first": ("bucket", first)}
    return xr.Dataset(variables, coordinates(sweep) | {"bucket": buckets})
