"""Parts: a file per finished shard, which holds all tables of the shard.

A part is one Parquet file, so that renaming it finishes the shard. Its rows have the columns of all tables; the column
`table` says to which table a row belongs, and the other columns are null.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.schema import LABELS, TABLES
from model.trace.writing import replacing

_LABELS = [(label, pa.string()) for label in LABELS]
# The tables of a part. A stratum is named by its labels, because its number is only known after the merge.
PART_TABLES: dict[str, pa.Schema] = {
    **TABLES,
    "strata": pa.schema([field for field in TABLES["strata"] if field.name != "stratum"]),
    "counts": pa.schema([*_LABELS, *(field for field in TABLES["counts"] if field.name != "stratum")]),
    "tokens": pa.schema([field for field in TABLES["tokens"] if field.name not in ("text", "total")]),
    "failed": pa.schema([("document", pa.int64()), ("source", pa.string()), ("error", pa.string())]),
    "check": pa.schema([(name, pa.int64()) for name in ("batch_tokens", "decisions", "different")]),
}
_FIELDS = {field.name: field for schema in PART_TABLES.values() for field in schema}
_SCHEMA = pa.schema([("table", pa.string()), *_FIELDS.values()])
_REPEATING = ["table", *LABELS, "token_class", "layer", "expert"]  # the columns that a dictionary makes smaller


def write_part(path: Path, tables: Mapping[str, pa.Table]) -> None:
    """Write a part under a temporary name and rename it.

    Raises:
        OSError: it cannot be written, as on a full disk; no file is left.
    """
    how = {"compression": "zstd", "write_statistics": ["table"], "use_dictionary": _REPEATING}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, **how) as writer:
        for name, table in tables.items():
            columns = {column: table[column] for column in table.column_names}
            columns["table"] = pa.array([name] * len(table), pa.string())
            absent = {field.name: pa.nulls(len(table), field.type) for field in _SCHEMA}
            writer.write_table(pa.table(absent | columns, _SCHEMA))


def read_part(path: Path, table: str) -> pa.Table:
    """Return one table of a part, with all columns that the table may have.

    Raises:
        pa.ArrowException, OSError: the part is damaged.
    """
    return pq.read_table(path, columns=PART_TABLES[table].names, filters=[("table", "==", table)])


def is_whole(path: Path) -> bool:
    """Whether a part can be read to its end."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
            return file.schema_arrow.names == _SCHEMA.names
    except (pa.ArrowException, OSError):
        return False
