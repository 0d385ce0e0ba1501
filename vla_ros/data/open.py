"""Open any data set of demonstrations, whatever its format."""

from __future__ import annotations

from pathlib import Path

from vla_ros.data.bag import bags_below
from vla_ros.data.dataset import Dataset
from vla_ros.errors import DataError

SUFFIX = ".mcap"


def open_dataset(path: Path, lenient: bool = False) -> Dataset:
    """Open a bag, an .mcap file, a folder of bags, an RLDS folder or a LeRobot v3 folder.

    Every episode is listed, whatever its outcome (`Episode.metadata["outcome"]`), but for the bags in folders
    named `discarded`.  `lenient`: bags that cannot be read are only noted (`BagDataset.unreadable`).

    Raises `DataError` when it is none of these, or broken.
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
    if not bags and (left := discarded_in(path)):
        raise DataError(
            f"{path} holds no demonstrations but {left} discarded; name the folder `discarded` to take them."
        )
    if not bags:
        raise DataError(
            f"{path} holds no demonstrations: no .mcap file, no features.json (RLDS), no meta/info.json "
            "(LeRobot)."
        )
    from vla_ros.data.bag_dataset import BagDataset

    return BagDataset(path, bags, lenient)


def bags_in(path: Path, discarded: bool = False) -> list[Path]:
    """The bags of a path in the order of their names: the path itself, or those below it.

    `discarded`: also those that a person discarded; see `bags_below`.
    """
    path = Path(path)
    if path.is_file() or any(path.glob(f"*{SUFFIX}")):
        return [path]
    return bags_below(path, discarded)


def discarded_in(path: Path) -> int:
    """How many bags `bags_in` leaves out because a person discarded them."""
    return len(bags_in(path, True)) - len(bags_in(path))
