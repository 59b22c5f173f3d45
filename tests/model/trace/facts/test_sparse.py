import dataclasses

import numpy as np
import pytest
import xarray as xr

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from model.trace.trace import Trace
from tests.model.trace.facts.hand_made import hand_made

# Each token keeps two keys. The third token leaves out the second, the fourth the second and the third.
KEPT = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], bool)
DENSE = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.6, 0.3, 0.1, 0], [0.1, 0.2, 0.3, 0.4]]


def sparse_trace(kept: np.ndarray = KEPT) -> Trace:
    trace = hand_made()
    attention = np.where(kept, np.tri(4), 0)
    attention = np.broadcast_to(attention / attention.sum(-1, keepdims=True), (2, 2, 4, 4))
    data = trace.data.assign_coords(indexer_layer=[0, 1]).assign(
        indexer_kept=(("indexer_layer", "query", "key"), np.stack([kept, np.tri(4, dtype=bool)])),
        attention=(("attention_layer", "head", "query", "key"), attention.astype("f4")),
    )
    return dataclasses.replace(trace, data=data, model=trace.model | {"config": {**trace.config, "index_topk": 2}})


def dense(layer: int) -> xr.DataArray:
    return xr.DataArray([DENSE], dims=("head", "query", "key"))


FACTS = facts_of(Sources(sparse_trace(), dense=dense))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("index_top_k", (), 2),
        ("keys_kept", (3, 0), 2),
        ("keeps", (3, 0, 1), False),
        ("keeps", (3, 0, 0), True),
        ("skipping_tokens", (0,), 2),
        ("skipping_tokens", (1,), 0),
        ("recall", (0,), (0.7 + 0.5) / 2),
        ("best_recall", (0,), (0.9 + 0.7) / 2),
        ("recent_recall", (0,), (0.4 + 0.7) / 2),
        ("random_recall", (0,), (2 / 3 + 2 / 4) / 2),
        ("attention_on_skipped", (0,), 0),
        ("old_share", (0,), 2 / 4),  # both tokens keep the first key, which is older than the latest two
        ("same_keys", (3, 0, 1), 2),
    ],
)
def test_sparse(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == pytest.approx(expected, abs=1e-6)


def test_a_text_that_is_read_whole_has_no_recall() -> None:
    with pytest.raises(FactError, match="needs more than 2 tokens"):
        FACTS["recall"](1)
