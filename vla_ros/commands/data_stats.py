"""`vla-ros data stats`: dataset_statistics.json as OpenVLA and Octo read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from vla_ros.commands.data_sources import open_sources
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown, write_json
from vla_ros.data.statistics import STATISTICS, constant_columns, statistics_of
from vla_ros.errors import DataError

_COLUMNS = ("mean", "std", "min", "q01", "q99", "max")


def stats(source: Path, out: Path | None) -> None:
    """Write the statistics of a data set and print them.  Raises `VlaRosError`."""
    dataset = open_sources([source])
    target = out if out is not None else dataset.info.path / STATISTICS
    if out is None and not dataset.info.path.is_dir():
        raise DataError(f"{source} is a file; name the file to write with --out.")
    document = statistics_of(dataset)
    if target.exists() and _content(target) != document:
        raise DataError(f"{target} exists already and says something else; name another file with --out.")
    write_json(target, document)
    console = Console()
    names = {"action": dataset.info.action_names, "proprio": dataset.info.state_names}
    for key, found in document.items():
        for what, values in _tables(found).items():
            console.print(_table(f"{key}: {what}", values, names.get(what, ())))
            still = [_name(k, names.get(what, ())) for k in constant_columns(values)]
            if still:
                console.print(
                    f"{what}: {', '.join(still)} {'does' if len(still) == 1 else 'do'} not vary (q01 = q99): "
                    "should it move, record it moving; if not, a policy learns nothing of it.",
                    style="yellow", highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip
    console.print(f"Written to {shown(target)}.", highlight=False, markup=False, soft_wrap=True)


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tables(found: Any) -> dict[str, Any]:
    return {what: v for what, v in found.items() if isinstance(v, dict) and "mean" in v}


def _name(number: int, names: tuple[str, ...]) -> str:
    return names[number] if number < len(names) else str(number)


def _table(title: str, values: dict[str, Any], names: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for k in range(len(values["mean"])):
        table.add_row(_name(k, names), *(f"{values[column][k]:.4f}" for column in _COLUMNS))
    return table
