"""LeRobot data sets v3.0: parquet, mp4, statistics and tasks."""

from vla_ros.data.lerobot.reader import LeRobotDataset, is_lerobot, open_lerobot
from vla_ros.data.lerobot.writer import LeRobotWriter

__all__ = ["LeRobotDataset", "LeRobotWriter", "is_lerobot", "open_lerobot"]
