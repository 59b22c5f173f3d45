"""The tables of a part, made from the sums of a shard.

Rows of zeros are left out, except in `positions`, whose rows also hold the sums of their bucket.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from model.atlas.schema import LABELS, MARGIN_COLUMNS, TOKEN_CLASSES
from model.sweep.parts import PART_TABLES
from model.sweep.sums import Sums

Labels = tuple[str | None, str | None, str | None]


def sum_tables(
    sums: Sums, strata: Sequence[Labels], layers: Sequence[int], token_ids: np.ndarray
) -> dict[str, pa.Table]:
    """Return the tables of sums.

    Args:
        sums: the finished sums.
        strata: labels of each stratum of the shard.
        layers: numbers of the MoE layers.
        token_ids: token of each column of the table of tokens.
    """
    number = np.array(layers, np.int16)
    tables = {
        "strata": _strata(sums, strata),
        "counts": _counts(sums, strata, number),
        "tokens": _sparse("tokens", sums.tokens, {"token_id": token_ids}, number, "expert"),
        "positions": _positions(sums, number),
    }
    if sums.pairs:
        tables["pairs"] = _sparse("pairs", sums.pairs, {"j": None}, number, "i", by="ci_cj", above=True)
    if sums.transitions:
        tables["transitions"] = _sparse("transitions", sums.transitions, {"j": None}, number, "i", by="a")
    return tables


def table_of(name: str, columns: Mapping[str, object]) -> pa.Table:
    """Return a table of a part from its columns, typed by the schema."""
    schema = pa.schema([field for field in PART_TABLES[name] if field.name in columns])
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema)


def _strata(sums: Sums, strata: Sequence[Labels]) -> pa.Table:
    stratum, token_class = np.nonzero(sums.strata["docs"])
    columns = {name: values[stratum, token_class] for name, values in sums.strata.items()}
    return table_of("strata", columns | _names(strata, stratum, token_class))


def _counts(sums: Sums, strata: Sequence[Labels], number: np.ndarray) -> pa.Table:
    stratum, token_class, layer, expert = cells = np.nonzero(sums.whole["c"])
    columns = {name: values[cells] for name, values in (sums.whole | sums.real).items() if name != "margins"}
    if "margins" in sums.whole:
        columns |= dict(zip(MARGIN_COLUMNS, sums.whole["margins"][cells].T, strict=True))
    columns |= {"layer": number[layer], "expert": expert}
    return table_of("counts", columns | _names(strata, stratum, token_class))


def _names(strata: Sequence[Labels], stratum: np.ndarray, token_class: np.ndarray) -> dict[str, Sequence[object]]:
    labels: dict[str, Sequence[object]] = {
        label: [strata[index][place] for index in stratum] for place, label in enumerate(LABELS)
    }
    return labels | {"token_class": [TOKEN_CLASSES[index] for index in token_class]}


def _positions(sums: Sums, number: np.ndarray) -> pa.Table:
    bucket, layer, expert = np.nonzero(np.broadcast_to(sums.positions["n"][:, None, None], sums.positions["c"].shape))
    columns = {name: sums.positions[name][bucket, layer, expert] for name in ("c", "c2", "cn")}
    columns |= {name: sums.positions[name][bucket] for name in ("n", "n2")}
    return table_of("positions", columns | {"bucket": bucket, "layer": number[layer], "expert": expert})


def _sparse(
    name: str,
    sums: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray | None],
    number: np.ndarray,
    middle: str,
    by: str = "c",
    above: bool = False,
) -> pa.Table:
    """Return the rows of sums [L, E, X] where the sum `by` is not zero, or only those with expert < X."""
    present = sums[by] != 0
    if above:
        present = np.triu(present, 1)
    layer, expert, other = np.nonzero(present)
    columns: dict[str, object] = {key: values[layer, expert, other] for key, values in sums.items()}
    columns |= {key: other if values is None else values[other] for key, values in last.items()}
    return table_of(name, columns | {"layer": number[layer], middle: expert})
