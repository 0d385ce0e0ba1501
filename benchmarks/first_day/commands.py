"""What is typed on a first day: the commands of docs/first_day.md, which a test compares with this list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LAUNCH_FILES = {"panda": "franka", "fr3": "franka", "widowx": "widowx", "ur5": "ur5", "ur5e": "ur5"}
"""Launch file of each robot."""
PAGE_ROBOT = "ur5e"
"""The robot of the page."""


@dataclass(frozen=True)
class Commands:
    """The commands for one robot, in the order of the day; paths are relative to the folder of the day."""

    robot: str = PAGE_ROBOT

    @property
    def doctor(self) -> str:
        """What the machine lacks."""
        return f"vla-ros doctor --robot {self.robot}"

    @property
    def launch(self) -> str:
        """The graph, where ROS 2 is installed."""
        return (
            f"ros2 launch vla_ros {LAUNCH_FILES[self.robot]}.launch.py robot:={self.robot} "
            'instruction:="pick up the red block"'
        )

    @property
    def up(self) -> str:
        """The same graph, where it is not."""
        return f'vla-ros up {self.robot} --instruction "pick up the red block"'

    @property
    def drive(self) -> str:
        """A person at the keys."""
        return f"vla-ros teleop --robot {self.robot} --device keyboard --task pick --record demos"

    @property
    def demonstrate(self) -> str:
        """The expert in a person's place."""
        return f"vla-ros teleop --robot {self.robot} --device scripted --task pick --record demos"

    @property
    def audit(self) -> str:
        """Are the demonstrations fit to learn from?"""
        return "vla-ros bag audit demos --html audit.html --json audit.json"

    @property
    def to_lerobot(self) -> str:
        """A data set in one format."""
        return "vla-ros data convert demos lerobot --to lerobot --outcomes success"

    @property
    def to_rlds(self) -> str:
        """And in the other."""
        return "vla-ros data convert demos rlds --to rlds --outcomes success"

    def info(self, name: str) -> str:
        """What is in a data set."""
        return f"vla-ros data info {name} --json"

    @property
    def keep(self) -> str:
        """A demonstration as a golden file."""
        return f"vla-ros replay {DEMONSTRATION} --golden golden.npz --update"

    @property
    def compare(self) -> str:
        """The regression test."""
        return f"vla-ros replay {DEMONSTRATION} --golden golden.npz"

    @property
    def play(self) -> str:
        """Its actions in the simulator."""
        return f"vla-ros replay {DEMONSTRATION} --into sim"

    @property
    def demo(self) -> str:
        """A policy, and its report."""
        return f'vla-ros demo --robot {self.robot} --instruction "pick up the red block"'

    @property
    def replay(self) -> str:
        """The last run gone through again."""
        return f"vla-ros replay {LAST_RUN}"

    def all(self) -> list[str]:
        """As they stand on the page."""
        return [
            self.doctor, self.launch, self.up, self.drive, self.demonstrate, self.audit,
            self.to_lerobot, self.info("lerobot"), self.to_rlds, self.info("rlds"),
            self.keep, self.compare, self.play, self.demo, self.replay, self.demo,
        ]  # fmt: skip


DEMONSTRATION = '"$(ls -d demos/*_episode_* | head -1)"'
"""The first one that was kept."""
LAST_RUN = '"runs/$(ls runs | tail -1)"'
"""Folder of the run before."""


def of_page(page: Path) -> list[str]:
    """The commands in a page's code blocks, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("vla-ros ", "ros2 "))]
