"""Write a small copy of a sweep, to ship or to send: `python -m model.atlas.compact SWEEP OUT`.

The copy gives the same lifts, shares, pairs and intervals. It holds classes of tokens over all documents together, and
not by label; of each expert the tokens that selected it most; and no parts, so it cannot be gone on with or merged.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.folder import Sweep, open_sweep
from model.atlas.schema import LABELS, TABLES

TOKENS = 24  # of each expert


def compact(sweep: Sweep, out: Path, num_tokens: int = TOKENS) -> None:
    """Write the copy into a folder, which is made.

    Args:
        sweep: the sweep.
        out: the folder.
        num_tokens: tokens of each expert to keep.

    Raises:
        OSError: the folder exists, or cannot be written.
    """
    out.mkdir(parents=True)
    strata, cells = merged_classes(sweep.strata, sweep.cells)
    frames = {"strata": strata, "counts": cells, "tokens": sweep.tokens, "examples": sweep.examples}
    frames |= {"pairs": sweep.pairs, "transitions": sweep.transitions, "positions": sweep.positions}
    if sweep.tokens is not None:
        most = sweep.tokens.sort_values(["layer", "expert", "c"], ascending=[True, True, False], kind="stable")
        frames["tokens"] = most.groupby(["layer", "expert"]).head(num_tokens)
    for name, frame in frames.items():
        if frame is not None:
            _write(pa.Table.from_pandas(frame, _schema(name, frame), preserve_index=False), out / f"{name}.parquet")
    _write(pq.read_table(sweep.folder / "documents.parquet"), out / "documents.parquet")
    bounds = {**sweep.manifest.bounds, "tokens_per_expert": num_tokens, "classes": "over all documents together"}
    dataclasses.replace(sweep.manifest, bounds=bounds).write(out)


def merged_classes(strata: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with one stratum without labels for each class of tokens; the class "all" keeps its strata."""
    whole, parts = strata["token_class"] == "all", cells["token_class"] == "all"
    added = _summed(strata.loc[~whole], ["token_class"], ["docs", "sum_n", "sum_n2"])
    numbers = strata["stratum"].to_numpy(int).max() + 1 + np.arange(len(added))
    added = added.assign(**dict.fromkeys(LABELS), stratum=numbers)
    keys = ["token_class", "layer", "expert"]
    merged = _summed(cells.loc[~parts], keys, [name for name in cells if name not in ("stratum", *keys)])
    of_class = dict(zip(added["token_class"].tolist(), numbers.tolist(), strict=True))
    merged = merged.assign(stratum=[of_class[name] for name in merged["token_class"]])
    return (
        pd.concat([strata.loc[whole], added], ignore_index=True),
        pd.concat([cells.loc[parts], merged], ignore_index=True),
    )


def _summed(frame: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Return the sums of columns over the rows of equal keys, in the order of the first rows."""
    table = pa.Table.from_pandas(frame[[*keys, *columns]], preserve_index=False)
    sums = table.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in columns]).to_pandas()
    return sums.rename(columns={f"{name}_sum": name for name in columns})


def _schema(name: str, frame: pd.DataFrame) -> pa.Schema:
    return pa.schema([field for field in TABLES[name] if field.name in frame])


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    compact(open_sweep(sys.argv[1]), Path(sys.argv[2]))
