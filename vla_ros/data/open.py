"""Open any data set of demonstrations, whatever its format."""

from __future__ import annotations

from pathlib import Path

from vla_ros.data.dataset import Dataset
from vla_ros.errors import DataError

SUFFIX = ".mcap"


def open_dataset(path: Path) -> Dataset:
    """Open a bag, an .mcap file, a folder of bags, an RLDS folder or a LeRobot v3 folder.

    Every episode is listed, whatever its outcome (`Episode.metadata["outcome"]`); a conversion leaves out the
    discarded ones.  Raises `DataError` when it is none of these, or broken.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; a bag, an RLDS folder or a LeRobot folder is expected.")
    if path.is_dir():
        if (path / "meta" / "info.json").is_file():
            from vla_ros.data.lerobot import LeRobotDataset

            return LeRobotDataset(path)
        if (path / "features.json").is_file() or any(path.glob("*/features.json")):
            from vla_ros.data.rlds_dataset import RldsDataset

            return RldsDataset(path)
    bags = bags_in(path)
    if not bags:
        raise DataError(
            f"{path} holds no demonstrations: no .mcap file, no features.json (RLDS), no meta/info.json "
            "(LeRobot)."
        )
    from vla_ros.data.bag_dataset import BagDataset

    return BagDataset(path, bags)


def bags_in(path: Path) -> list[Path]:
    """The bags of a path in the order of their names; hidden folders are unfinished and left alone."""
    if path.is_file() or any(path.glob(f"*{SUFFIX}")):
        return [path]
    return sorted(
        {
            file.parent
            for file in path.rglob(f"*{SUFFIX}")
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        }
    )
