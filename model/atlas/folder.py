"""Open the folder of a sweep. The tables are read when they are first needed.

Shape suffixes: D documents, L MoE layers, E experts.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.errors import AtlasError
from model.atlas.manifest import Manifest
from model.atlas.schema import LABELS, REQUIRED, TABLES

_ARRAYS = ("counts", "ids", "margins", "token_ids")  # columns of documents that hold an array each


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep: its manifest and its tables; `model/atlas/schema.py` says what the tables hold.

    Attributes:
        folder: the folder.
        manifest: its manifest.
    """

    folder: Path
    manifest: Manifest

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the MoE layers in the model."""
        return self.manifest.layers

    @property
    def num_experts(self) -> int:
        """Number of experts of a layer."""
        return self.manifest.model["num_experts"]

    @property
    def top_k(self) -> int:
        """Number of selected experts per token and layer."""
        return self.manifest.model["top_k"]

    @functools.cached_property
    def documents(self) -> pd.DataFrame:
        """A row per document in the order of the corpus, without the columns that hold arrays."""
        return _read(self.folder, "documents", without=_ARRAYS)

    @functools.cached_property
    def counts_DLE(self) -> np.ndarray:
        """Selections of each expert in each document, read-only, int64 [D, L, E].

        Raises:
            AtlasError: the rows do not fit the layers and experts of the manifest.
        """
        rows = pq.read_table(self.folder / "documents.parquet", columns=["counts"])["counts"].to_pylist()
        cells = len(self.layers) * self.num_experts
        counts = np.zeros((len(rows), cells), np.int64)
        for document, row in enumerate(rows):
            if row is None or len(row) not in (2 * cells, 4 * cells):
                raise AtlasError(f"{self.folder}: the counts of document {document} do not fit the model's experts")
            counts[document] = np.frombuffer(row, "<u2" if len(row) == 2 * cells else "<u4")
        counts.flags.writeable = False
        return counts.reshape(len(rows), len(self.layers), self.num_experts)

    @functools.cached_property
    def selections_D(self) -> np.ndarray:
        """Selections in each document and layer: its tokens times top-k, int64 [D]."""
        return self.documents["tokens"].to_numpy(np.int64) * self.top_k

    def labels(self, kind: str) -> np.ndarray:
        """Return the label of each document, [D] of str; "" if the document has none.

        Args:
            kind: "domain", "language" or "source".
        """
        if kind not in LABELS:
            raise AtlasError(f"documents have no label {kind!r}; choose from {', '.join(LABELS)}")
        return self.documents[kind].fillna("").to_numpy(dtype=np.str_)

    def label_names(self, kind: str) -> list[str]:
        """Return the labels of a kind that documents have, sorted."""
        return sorted(set(self.labels(kind).tolist()) - {""})

    @functools.cached_property
    def strata(self) -> pd.DataFrame:
        """The strata: a row per combination of labels and token class."""
        return _read(self.folder, "strata")

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """The sums of counts.parquet; rows of the class "all" hold every token."""
        return _read(self.folder, "counts")

    @functools.cached_property
    def tokens(self) -> pd.DataFrame | None:
        """Per expert the tokens that selected it most; None if the sweep has no such table."""
        return self._optional("tokens")

    @functools.cached_property
    def positions(self) -> pd.DataFrame | None:
        """The sums by bucket of positions; None if the sweep has no such table."""
        return self._optional("positions")

    @functools.cached_property
    def pairs(self) -> pd.DataFrame | None:
        """The sums of pairs of experts in a layer; None if the sweep has no such table."""
        return self._optional("pairs")

    @functools.cached_property
    def transitions(self) -> pd.DataFrame | None:
        """The sums of pairs of experts in consecutive MoE layers; None if the sweep has no such table."""
        return self._optional("transitions")

    @functools.cached_property
    def examples(self) -> pd.DataFrame | None:
        """Per expert short texts around tokens that selected it; None if the sweep has no such table."""
        return self._optional("examples")

    def _optional(self, table: str) -> pd.DataFrame | None:
        return _read(self.folder, table) if (self.folder / f"{table}.parquet").is_file() else None


def open_sweep(folder: Path | str) -> Sweep:
    """Return the sweep in a folder.

    Raises:
        AtlasError: the folder holds no finished sweep, or a table is damaged or lacks a column.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    if missing := [name for name in REQUIRED if not (folder / f"{name}.parquet").is_file()]:
        names = " and ".join(f"{name}.parquet" for name in missing)
        raise AtlasError(f"{folder} holds an unfinished sweep without {names}; run the same command again")
    for name in TABLES:
        if (path := folder / f"{name}.parquet").is_file():
            _check(path, name)
    return Sweep(folder, manifest)


def _check(path: Path, table: str) -> None:
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        raise AtlasError(f"{path} is damaged; remove it and run the same command again") from None
    if missing := [name for name in TABLES[table].names if name not in names and name not in _MAY_LACK]:
        raise AtlasError(f"{path} lacks the columns {', '.join(missing)}")


_MAY_LACK = {
    *("bits", "bytes", "ids", "margins", "token_ids", "weight", "weight_sum"),
    *("norm_sum", "weighted_norm_sum", "weighted_norm2_sum"),
    *(name for name in TABLES["counts"].names if name.startswith("m") and name[1:].isdigit()),
}


def _read(folder: Path, table: str, without: tuple[str, ...] = ()) -> pd.DataFrame:
    path = folder / f"{table}.parquet"
    try:
        file = pq.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if name not in without]
        return file.read(columns=names).to_pandas()
    except (pa.ArrowException, OSError):
        raise AtlasError(f"{path} is damaged; remove it and run the same command again") from None
