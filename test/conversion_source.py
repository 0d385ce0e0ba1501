"""A data set made up in memory, the same in every process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.frames import EncodedFrames
from vla_ros.errors import DataError

NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
STATES = ("j1", "j2", "gripper_width")


def picture(seed: int, step: int, size: tuple[int, int]) -> np.ndarray:
    """A smooth picture (height, width, 3) that slides by."""
    rng = np.random.default_rng(seed)
    height, width = size
    wide = cv2.GaussianBlur(rng.integers(0, 255, (height, width + 60, 3)).astype(np.uint8), (0, 0), 6)
    return np.ascontiguousarray(cv2.normalize(wide, np.empty_like(wide), 20, 230, cv2.NORM_MINMAX))[
        :, step % 60 : step % 60 + width
    ]


def jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1].data)


@dataclass
class MadeUp(Dataset):
    """Episodes of `lengths` steps; `pause` [s] makes reading slow; every other field puts something in."""

    path: Path
    lengths: tuple[int, ...] = (7, 12, 9, 5)
    cameras: dict[str, tuple[int, int]] = field(
        default_factory=lambda: {"primary": (48, 64), "wrist": (32, 32)}
    )
    rate: float = 10.0
    pause: float = 0.0
    outcomes: tuple[str, ...] = ()
    without_camera: int = -1
    not_a_number: int = -1
    other_rate: int = -1
    other_contract: int = -1
    space: str = "delta_tcp"
    seed: int = 0

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "made_up").exists():
            (self.path / "made_up").write_text("source")
        self.info = DatasetInfo(
            path=self.path, kind="made up", name="made_up", episodes=len(self.lengths), rate=self.rate,
            robot="panda", action_space=self.space, action_names=NAMES, state_names=STATES,
            cameras=dict(self.cameras), contract="robot: panda\n",
        )  # fmt: skip

    def steps(self, index: int) -> int:
        return self.lengths[index]

    def episode(self, index: int) -> Episode:
        if not 0 <= index < len(self):
            raise DataError(f"there is no episode {index}.")
        time.sleep(self.pause)
        length, rng = self.lengths[index], np.random.default_rng(100 * self.seed + index)
        actions = rng.normal(size=(length, 7)).astype(np.float32).astype(float)
        if index == self.not_a_number:
            actions[3, 1] = np.nan
        images: dict[str, Any] = {
            name: EncodedFrames([jpeg(picture(10 * index + n, k, size)) for k in range(length)], name)
            for n, (name, size) in enumerate(self.cameras.items())
            if not (index == self.without_camera and name == "wrist")
        }
        step = np.arange(length)
        outcome = self.outcomes[index] if self.outcomes else "success"
        return Episode(
            source=f"{self.path}, episode {index}",
            actions=actions,
            states=rng.normal(size=(length, 3)).astype(np.float32).astype(float),
            is_first=step == 0,
            is_last=step == length - 1,
            is_terminal=step == length - 1,
            instructions=tuple("open it" if index % 2 and k > 3 else "put it down" for k in step),
            images=images,
            extra={
                "observation/tcp_pose": rng.normal(size=(length, 7)).astype(np.float32),
                "is_intervention": step > 4,
                "reward": (step == length - 1).astype(np.float32),
            },
            metadata={"episode_id": f"e{index}", "outcome": outcome, "task": "pick", "start": 10**9 * index},
            rate=self.rate + (index == self.other_rate),
            action_space=self.space,
            action_names=NAMES,
            state_names=STATES,
            contract="robot: panda\n" + ("action_rate: 7\n" if index == self.other_contract else ""),
        )


def same_numbers(a: Episode, b: Episode) -> None:
    """Everything but pixels and the source is equal to the last bit."""
    for name in ("actions", "states", "is_first", "is_last", "is_terminal"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.instructions == b.instructions
    assert a.metadata == b.metadata
    assert sorted(a.extra) == sorted(set(b.extra) - {"discount"})  # RLDS asks for one
    for name, array in a.extra.items():
        assert array.dtype == b.extra[name].dtype and np.array_equal(array, b.extra[name]), name
    for name in ("rate", "action_space", "action_names", "state_names", "contract"):
        assert getattr(a, name) == getattr(b, name), name


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))
