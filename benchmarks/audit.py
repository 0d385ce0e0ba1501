"""How fast `vla-ros bag audit` is, against plain reading of the same bag in the same run.

`python benchmarks/audit.py --json benchmarks/results/audit.json`: two cameras of 640 x 480 at 30 Hz, raw and
as JPEG, joint states and setpoints at 1 kHz, one episode and several; processor time of one core, the two
ways in turn, median of the repetitions.  Memory: the largest resident set of a process that does only that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402
from vla_ros.contract import Contract, load_contract  # noqa: E402
from vla_ros.data.audit import audit_bag  # noqa: E402
from vla_ros.data.bag import BagWriter, read_bag  # noqa: E402
from vla_ros.data.message_types import time_fields  # noqa: E402

ROBOT, WIDTH, HEIGHT, FRAMES = "fr3", 640, 480, 30.0
CAMERAS = {name: {"width": WIDTH, "height": HEIGHT, "rate": FRAMES} for name in ("primary", "wrist")}


def make_bag(path: Path, contract: Contract, jpeg: bool, seconds: int, episodes: int) -> None:
    """A recording of a picture that slides by while the joints move."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH + 200, 3)).astype(np.uint8), (0, 0), 6)
    wide = cv2.normalize(wide, np.empty_like(wide), 20, 230, cv2.NORM_MINMAX)
    slides = [np.ascontiguousarray(wide[:, k : k + WIDTH]) for k in range(0, 200, 2)]
    pictures = [_jpeg(slide) if jpeg else slide.tobytes() for slide in slides]
    with BagWriter(path, {"contract": contract.to_yaml()}) as writer:
        for number in range(episodes):
            start = number * (seconds + 1) * 10**9
            _episode(writer, contract, pictures, jpeg, start, seconds, f"e{number}")


def _episode(
    writer: BagWriter,
    contract: Contract,
    pictures: list[bytes],
    jpeg: bool,
    start: int,
    seconds: int,
    name: str,
) -> None:
    driver, space = contract.robot.driver, contract.action_space
    every_frame, every_step = round(1000 / FRAMES), round(1000 * space.period)

    def write(topic: str, kind: str, stamp: int, **values: Any) -> None:
        header = {"stamp": time_fields(stamp)}
        writer.write(topic, kind, stamp, writer.types.create(kind, header=header, **values))

    def status(stamp: int, outcome: int) -> None:
        write(
            "/vla/episode_status", "vla_ros/EpisodeStatus", stamp, episode_id=name, instruction="go",
            outcome=outcome,
        )  # fmt: skip

    status(start, 1)
    names, home = list(driver.joint_names), contract.robot.home
    for tick in range(1000 * seconds):
        stamp = start + tick * 10**6
        joints = home + 0.3 * np.sin(0.001 * tick)
        write(
            driver.joint_state_topic, "sensor_msgs/JointState", stamp, name=names, position=joints,
            velocity=joints, effort=joints,
        )  # fmt: skip
        write(
            "/vla/joint_setpoint", "vla_ros/JointSetpoint", stamp, tick=tick, state=1, positions=joints,
            velocities=joints, accelerations=joints,
        )  # fmt: skip
        if tick % every_frame == 0:
            data = pictures[tick // every_frame % len(pictures)]
            for camera in contract.cameras.values():
                if jpeg:
                    topic, kind = f"{camera.topic}/compressed", "sensor_msgs/CompressedImage"
                    write(topic, kind, stamp, format="jpeg", data=data)
                else:
                    write(
                        camera.topic, "sensor_msgs/Image", stamp, encoding="rgb8", height=HEIGHT, width=WIDTH,
                        step=3 * WIDTH, data=data,
                    )  # fmt: skip
            images = [{"header": {"stamp": time_fields(stamp)}} for _ in contract.cameras]
            state = {"header": {"stamp": time_fields(stamp)}, "name": names, "position": joints}
            write(
                "/vla/observation", "vla_ros/Observation", stamp, camera_names=list(contract.cameras),
                images=images, joint_state=state, gripper_width=0.04 + 0.03 * np.sin(0.001 * tick),
            )  # fmt: skip
        if tick % every_step == 0:
            write(
                "/vla/policy_output", "vla_ros/PolicyOutput", stamp, action_space=space.name, horizon=1,
                dimension=space.dimension, values=np.full(space.dimension, 0.01), source=1,
                published=time_fields(stamp),
            )  # fmt: skip
    status(start + seconds * 10**9, 2)


def _jpeg(picture: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].data)


def _read(bag: Path) -> None:
    for _ in read_bag(bag):
        pass


WAYS: dict[str, Callable[[Path], object]] = {"read": _read, "audit": audit_bag}


def measure(bag: Path, seconds: float, repeat: int) -> dict[str, Any]:
    """Processor seconds of both ways, alternating; `times_real_time` from the medians; memory [MB]."""
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeat):
        for way, work in WAYS.items():
            begun = time.process_time()
            work(bag)
            spent[way].append(time.process_time() - begun)
    return {
        "bytes": sum(file.stat().st_size for file in bag.iterdir()),
        "seconds_of_bag": seconds,
        "processor_seconds": {way: sorted(values) for way, values in spent.items()},
        "times_real_time": {way: seconds / median(values) for way, values in spent.items()},
        "audit_over_read": median(spent["audit"]) / median(spent["read"]),
        "memory_mb": {way: _memory(bag, way) for way in WAYS},
    }


def _memory(bag: Path, way: str) -> float:
    """Largest resident set [MB] of a process that works through the bag once."""
    command = [sys.executable, __file__, "--once", way, str(bag)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="length of an episode")
    parser.add_argument("--episodes", type=int, default=4, help="of the long bag")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        WAYS[given.once[0]](Path(given.once[1]))
        # Not ru_maxrss, which a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        print(next(float(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line))
        return
    contract = load_contract(ROBOT, cameras=CAMERAS, action_rate=10)
    document = {"benchmark": "audit", **machine.describe(), "audit": {}}
    results = document["audit"]
    with tempfile.TemporaryDirectory() as folder:
        for name, jpeg, episodes in (
            ("raw", False, 1),
            ("jpeg", True, 1),
            ("jpeg long", True, given.episodes),
        ):
            bag = Path(folder) / name.replace(" ", "_")
            make_bag(bag, contract, jpeg, given.seconds, episodes)
            found = results[name] = measure(bag, float(given.seconds * episodes), given.repeat)
            pace, memory = found["times_real_time"], found["memory_mb"]
            print(
                f"{name}: {found['seconds_of_bag']:.0f} s, {found['bytes'] / 1e6:.0f} MB: reading "
                f"{pace['read']:.0f}, audit {pace['audit']:.0f} times real time, {memory['audit']:.0f} MB"
            )
    if given.json:
        machine.write_json(given.json, document)


if __name__ == "__main__":
    main()
