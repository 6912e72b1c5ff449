"""The rows of a large run as a Parquet table, for tools that would be slow on lines of JSON.

It is a copy: rows.jsonl is what resuming and reports read.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoreag.io.records import Row
from scoreag.io.shards import import_pyarrow

ROW_TABLE = "rows.parquet"
MIN_ROWS = 100_000  # of a run whose rows are a table, too
_GROUP = 10_000  # rows in memory
_FLOATS = ("attack_scale", "similarity", "energy", "distances.")
_FLAGS = ("success_float", "success", "targeted_success", "found")
_WORDS = ("target_source", "source", "file", "sha256", "original_file", "original_sha256")


def needs_table(folder: Path, images: int, computed: int) -> bool:
    """Whether a run's rows are to be copied: it is large, and has no table of these rows yet.

    Args:
        computed: how many batches are new.
    """
    if images <= MIN_ROWS or (not computed and (folder / ROW_TABLE).is_file()):
        return False
    try:
        import_pyarrow()
    except ValueError as error:
        warnings.warn(f"{ROW_TABLE} is not written: {error}", stacklevel=2)
        return False
    return True


def mirror_rows(folder: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows; once all were taken, they are in ``rows.parquet``, too.

    Tables inside a row become columns, ``predictions.saved``, and their tables text of JSON.

    Raises:
        ValueError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    file, temp = folder / ROW_TABLE, folder / f".{ROW_TABLE}.{os.getpid()}"
    writer: Any = None
    group: list[dict[str, Any]] = []
    try:
        for row in rows:
            yield row
            group.append(dict(flatten_row(row)))
            if writer is None:
                schema = arrow.schema([(name, column_type(arrow, name)) for name in group[0]])
                writer = arrow.parquet.ParquetWriter(temp, schema, compression="zstd")
            if len(group) == _GROUP:
                writer.write_table(arrow.Table.from_pylist(group, schema))
                group = []
        if writer is not None:
            writer.write_table(arrow.Table.from_pylist(group, schema))
            writer.close()
            os.replace(temp, file)
    finally:
        if writer is not None:
            writer.close()
        with suppress(FileNotFoundError):
            temp.unlink()


def flatten_row(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a row, those of its tables with both names."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            for key, each in value.items():
                yield f"{name}.{key}", json.dumps(each) if isinstance(each, Mapping) else each
        else:
            yield name, value


def column_type(arrow: Any, name: str) -> Any:
    """The type of a column: whole numbers, unless it is known to hold another."""
    if name.startswith(_FLOATS):
        return arrow.float64()
    if name in _FLAGS:
        return arrow.bool_()
    is_text = name in _WORDS or name.startswith("probabilities.")
    return arrow.string() if is_text else arrow.int64()
