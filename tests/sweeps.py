"""Small sweep folders for tests, written from counts that the test gives, without a model."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.manifest import Manifest
from model.atlas.schema import TABLES

POLICY = {"window": 64, "context": 32, "packed": False}


def write_sweep(
    folder: Path,
    counts_DLE: np.ndarray,
    top_k: int = 1,
    layers: Sequence[int] | None = None,
    domains: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
    sources: Sequence[str | None] | None = None,
    manifest: Mapping[str, Any] | None = None,
    **tables: pd.DataFrame,
) -> Path:
    """Write a sweep with these counts, and return its folder.

    The table `counts` has the class "all" only, unless `tables` gives another one.

    Args:
        folder: the folder, made if needed.
        counts_DLE: selections [document, layer, expert]; each document has the same sum in every layer.
        top_k: selected experts per token; divides each of these sums.
        layers: numbers of the MoE layers; default: from 1 on.
        domains: a label per document; None: no document has one. Also `languages` and `sources`.
        manifest: fields of the manifest to change, for example `{"request": {"policy": ...}}`.
        tables: optional tables by name, or columns to add to `documents`.
    """
    counts = np.asarray(counts_DLE)
    num_documents, num_layers, num_experts = counts.shape
    selections = counts.sum(-1)
    assert (selections == selections[:, :1]).all()
    assert (selections % top_k == 0).all()
    labels = pd.DataFrame(
        {
            name: list(values) if values is not None else [None] * num_documents
            for name, values in (("domain", domains), ("language", languages), ("source", sources))
        },
        dtype=object,
    )
    layers = list(layers or range(1, 1 + num_layers))
    documents = labels.assign(
        doc_id=[hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(num_documents)],
        tokens=selections[:, 0] // top_k,
        windows=1,
        truncated=False,
        counts=[row.astype("<u2").tobytes() for row in counts],
    )
    strata, cells = sums(labels, counts, layers)
    folder.mkdir(parents=True, exist_ok=True)
    extra = tables.pop("documents", None)
    documents = documents if extra is None else documents.assign(**{name: extra[name] for name in extra})
    for name, frame in ({"documents": documents, "strata": strata, "counts": cells} | tables).items():
        schema = pa.schema([field for field in TABLES[name] if field.name in frame])
        pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), folder / f"{name}.parquet")
    fields: dict[str, Any] = {
        "model": {
            "name": "hand-made", "config": {}, "weights_sha256": "0" * 64, "tokenizer_sha256": "0" * 64,
            "layers": layers, "num_experts": num_experts, "top_k": top_k,
        },
        "request": {"policy": POLICY, "batch_tokens": 2048, "device": "cpu", "dtype": "float32", "keep": []},
        "inputs": [{"name": "hand-made.jsonl", "sha256": "0" * 64, "bytes": 1, "documents": num_documents}],
        "capture": [name for name in tables if name not in ("strata", "counts")],
        "times": {"started": "2026-12-01T00:00:00Z", "finished": "2026-12-01T00:00:01Z"},
    }  # fmt: skip
    Manifest(**(fields | dict(manifest or {}))).write(folder)
    return folder


def sums(labels: pd.DataFrame, counts_DLE: np.ndarray, layers: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables `strata` and `counts` of the class "all", summed document by document."""
    keys = [tuple(row) for row in labels.fillna("").to_numpy()]
    strata, cells = [], []
    for stratum, key in enumerate(sorted(set(keys))):
        counts = counts_DLE[[key == other for other in keys]].astype(np.int64)
        n = counts.sum(-1)[:, 0]
        names = {name: label or None for name, label in zip(labels.columns, key, strict=True)}
        entry = {"stratum": stratum, **names, "token_class": "all", "docs": int((n > 0).sum())}
        strata.append(entry | {"sum_n": n.sum(), "sum_n2": (n**2).sum()})
        for layer, expert in np.argwhere(counts.sum(0) > 0):
            c = counts[:, layer, expert]
            cell = {"stratum": stratum, "token_class": "all", "layer": layers[layer], "expert": expert}
            cells.append(cell | {"docs_hit": (c > 0).sum(), "c": c.sum(), "c2": (c**2).sum(), "cn": (c * n).sum()})
    return pd.DataFrame(strata), pd.DataFrame(cells)
