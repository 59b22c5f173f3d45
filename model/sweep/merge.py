"""Merge the parts of a sweep into its tables. Few parts are in memory at a time; every sum is added in shard order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.schema import LABELS, TABLES
from model.checkpoint.tokenizer import Tokenizer
from model.sweep.examples import PER_EXPERT
from model.sweep.parts import PART_TABLES, read_part
from model.trace.writing import replacing

TOKENS_PER_EXPERT = 512  # rows of the table `tokens`
_LABELLED = (*LABELS, "token_class")
_KEYS = {
    "strata": _LABELLED,
    "counts": (*_LABELLED, "layer", "expert"),
    "positions": ("layer", "expert", "bucket"),
    "pairs": ("layer", "i", "j"),
    "transitions": ("layer", "i", "j"),
    "tokens": ("layer", "expert", "token_id"),
}
_PENDING = 1 << 20  # rows that wait until they are added


def merge(parts: Sequence[Path], folder: Path, tokenizer: Tokenizer, top_k: int, num_layers: int) -> list[str]:
    """Write the tables of a sweep into its folder, and return their names; a table without rows is not written.

    Args:
        parts: the parts in the order of the corpus.
        folder: folder of the sweep.
        tokenizer: gives the text of tokens.
        top_k: selected experts per token and layer.
        num_layers: number of MoE layers.

    Raises:
        OSError: a table cannot be written, as on a full disk; the parts stay.
    """
    tables = {name: _summed(parts, name) for name in ("positions", "pairs", "transitions")}
    tables["tokens"] = _most_used(_summed(parts, "tokens"), tokenizer, top_k * num_layers)
    tables["examples"] = _examples(parts)
    strata = _summed(parts, "strata")
    tables["counts"] = _numbered(_summed(parts, "counts"), strata)
    tables["strata"] = _numbered(strata, strata)
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        if not len(table):
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    with replacing(folder / "documents.parquet") as temporary:
        _write_documents(parts, temporary)
    return [name for name, table in tables.items() if len(table)]


def _summed(parts: Sequence[Path], name: str) -> pa.Table:
    """Return the sum of a table over all parts, sorted by its keys, without columns that no part has."""
    keys = _KEYS[name]
    total, pending, waiting = PART_TABLES[name].empty_table(), list[pa.Table](), 0
    for part in parts:
        pending.append(read_part(part, name))
        waiting += len(pending[-1])
        if waiting > max(_PENDING, len(total)):
            total, pending, waiting = _added([total, *pending], keys), [], 0
    total = _added([total, *pending], keys)
    return _without_null_columns(total.sort_by([(key, "ascending") for key in keys]), keys)


def _added(tables: list[pa.Table], keys: Sequence[str]) -> pa.Table:
    schema, table = tables[0].schema, pa.concat_tables(tables)
    values = [name for name in schema.names if name not in keys]
    summed = table.group_by(list(keys), use_threads=False).aggregate([(name, "sum") for name in values])
    plain = [name if name in keys else name.removesuffix("_sum") for name in summed.column_names]
    return summed.rename_columns(plain).select(schema.names).cast(schema)


def _without_null_columns(table: pa.Table, keys: Sequence[str] = ()) -> pa.Table:
    """Return the table without columns whose values are all null: the source could not give them."""
    return table.select(
        [name for name in table.column_names if name in keys or table[name].null_count < max(1, len(table))]
    )


def _numbered(table: pa.Table, strata: pa.Table) -> pa.Table:
    """Return the table with the number of its stratum in place of the labels; strata also keep their labels."""
    key_of_strata, key = (pd.MultiIndex.from_frame(_labels(each)) for each in (strata, table))
    column = pa.array(key_of_strata.unique().get_indexer(key), pa.int32())
    if table is strata:
        return table.add_column(0, "stratum", column)
    return table.drop_columns(list(LABELS)).add_column(0, "stratum", column)


def _labels(table: pa.Table) -> pd.DataFrame:
    return table.select(list(LABELS)).to_pandas().fillna("")


def _most_used(table: pa.Table, tokenizer: Tokenizer, choices: int) -> pa.Table:
    """Return per expert the tokens that selected it most, with their text and their number in the corpus."""
    totals = table.group_by("token_id").aggregate([("c", "sum")])
    total_of = dict(zip(totals["token_id"].to_pylist(), totals["c_sum"].to_pylist(), strict=True))
    table = table.sort_by(
        [("layer", "ascending"), ("expert", "ascending"), ("c", "descending"), ("token_id", "ascending")]
    )
    cell = table["layer"].to_numpy().astype(np.int64) << 16 | table["expert"].to_numpy()
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    rank = np.arange(len(cell)) - np.repeat(starts, np.diff(np.append(starts, len(cell))))
    table = table.filter(pa.array(rank < TOKENS_PER_EXPERT))
    ids = table["token_id"].to_pylist()
    text_of = {each: token_text(tokenizer, each) for each in set(ids)}
    table = table.append_column("text", pa.array([text_of[each] for each in ids], pa.string()))
    table = table.append_column("total", pa.array([total_of[each] // choices for each in ids], pa.int64()))
    return table.select([name for name in TABLES["tokens"].names if name in table.column_names])


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """Return the text of a token; of a special token, or a part of a character, its entry of the vocabulary."""
    content = tokenizer.token_bytes(token_id)
    try:
        return content.decode() or tokenizer.piece(token_id)
    except UnicodeDecodeError:
        return tokenizer.piece(token_id)


def _examples(parts: Sequence[Path]) -> pa.Table:
    """Return the best examples of each expert, at most one per document."""
    best = PART_TABLES["examples"].empty_table()
    keys = [("layer", "ascending"), ("expert", "ascending"), ("weight", "descending")]
    for part in parts:
        table = pa.concat_tables([best, read_part(part, "examples")])
        table = table.sort_by(keys)  # stable: of equal weights the earlier part comes first
        kept: dict[tuple[int, int], set[str]] = {}
        chosen = []
        rows = zip(*(table[name].to_pylist() for name in ("layer", "expert", "doc_id")), strict=True)
        for index, (layer, expert, document) in enumerate(rows):
            documents = kept.setdefault((layer, expert), set())
            if len(documents) < PER_EXPERT and document not in documents:
                documents.add(document)
                chosen.append(index)
        best = table.take(pa.array(chosen, pa.int64()))
    return best


def _write_documents(parts: Sequence[Path], path: Path) -> None:
    present = _columns_of_documents(parts)
    schema = pa.schema([field for field in TABLES["documents"] if field.name in present])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(read_part(part, "documents").select(schema.names))


def _columns_of_documents(parts: Sequence[Path]) -> set[str]:
    """Return the columns of documents that a part has values in; labels always count."""
    names = {*LABELS}
    for part in parts:
        names |= set(_without_null_columns(read_part(part, "documents")).column_names)
    return names
