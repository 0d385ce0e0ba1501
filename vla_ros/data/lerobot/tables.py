"""Parquet tables of LeRobot data sets, with the metadata that `datasets` and `pandas` look for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.lerobot.layout import hub_metadata
from vla_ros.errors import DataError

_INDEX = "__index_level_0__"
"""pandas' name of an index without one; LeRobot's tasks are the index of their table."""


def arrow_schema(features: Mapping[str, Mapping[str, Any]]) -> Any:
    """Schema of the data files; videos have no column."""
    import pyarrow as pa

    columns = {key: f for key, f in features.items() if f["dtype"] not in ("video", "image")}
    fields = []
    for key, feature in columns.items():
        kind = _value_type(str(feature["dtype"]))
        shape = list(feature["shape"])
        if len(shape) > 1:
            for _ in shape:
                kind = pa.list_(kind)
        elif shape != [1]:
            kind = pa.list_(kind, shape[0])
        fields.append(pa.field(key, kind))
    return pa.schema(fields, metadata={b"huggingface": hub_metadata(columns)})


def arrow_table(features: Mapping[str, Mapping[str, Any]], columns: Mapping[str, Any]) -> Any:
    """Columns of one episode as a table of that schema.  Raises `DataError` when they are of other shapes."""
    import pyarrow as pa

    schema = arrow_schema(features)
    if sorted(schema.names) != sorted(columns):
        raise DataError(
            f"an episode has the features {', '.join(sorted(columns))}, those before it "
            f"{', '.join(sorted(schema.names))}."
        )
    arrays = []
    for field in schema:
        values, shape = np.asarray(columns[field.name]), list(features[field.name]["shape"])
        if [int(n) for n in values.shape[1:]] not in (shape, [] if shape == [1] else shape):
            raise DataError(
                f"the feature '{field.name}' of an episode has the shape {list(values.shape[1:])}, of those "
                f"before it {shape}."
            )
        if len(shape) > 1:
            arrays.append(pa.array(values.tolist(), field.type))
        elif shape == [1]:
            arrays.append(pa.array(values.reshape(-1), field.type))
        else:
            flat = pa.array(values.reshape(-1), field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, shape[0]))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """meta/tasks.parquet: the task is the index, its number the column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pandas = {
        "index_columns": [_INDEX],
        "column_indexes": [
            {
                "name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {
                "name": "task_index", "field_name": "task_index", "pandas_type": "int64",
                "numpy_type": "int64", "metadata": None,
            },
            {
                "name": None, "field_name": _INDEX, "pandas_type": "unicode", "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }  # fmt: skip
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), _INDEX: pa.array(list(tasks))})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()}), path)


def read_tasks(path: Path) -> dict[int, str]:
    """Task by number, whatever the index is called.  Raises `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        texts = [name for name in table.column_names if name != "task_index"]
        return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))
    except (OSError, LookupError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a table of tasks: {error}.") from error


def _value_type(name: str) -> Any:
    import pyarrow as pa

    if name == "bool":
        return pa.bool_()
    try:
        return pa.from_numpy_dtype(np.dtype(name))
    except (TypeError, NotImplementedError, pa.ArrowException) as error:
        raise DataError(f"numbers of the type '{name}' have no place in a LeRobot data set.") from error
