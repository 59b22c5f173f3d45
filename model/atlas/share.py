"""The load share of each expert with its interval over documents.

Source: ratio estimator, Cochran, Sampling Techniques (1977), chapter 6.
"""

import numpy as np
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.sums import Sums, by_label, of_all
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
    names: dict[str, list[str]] = {}
    if kind is None:
        sums = of_all(sweep, token_class)
    else:
        names["label"], sums = by_label(sweep, kind, token_class)
    arrays = shares(sums) | {"selections": sums.c, "hit": sums.hit}
    arrays["ratio"] = arrays["share"] * sweep.num_experts
    variables = {name: ((*names, *CELL), values) for name, values in arrays.items()}
    variables |= {"documents": (tuple(names), sums.documents), "few": (tuple(names), sums.documents < FEW)}
    return xr.Dataset(variables, coordinates(sweep) | names)


def coordinates(sweep: Sweep) -> dict[str, object]:
    """Return the coordinates of the axes `moe_layer` (numbers of the layers in the model) and `expert`."""
    return {"moe_layer": list(sweep.layers), "expert": np.arange(sweep.num_experts)}
