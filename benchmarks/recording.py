"""What recording costs: three 640 x 480 cameras at 30 Hz and joint states at 1 kHz, through Fast DDS.

`python benchmarks/recording.py --json benchmarks/results/recording.json`: a process publishes, the node
`recorder` records, with the package's profile of Fast DDS.  Per way of keeping images: messages sent and
missing from the bag, the recorder's processor time, in cores.  Then, in the same run and on the same disk,
writing that second's messages into a bag against writing the same bytes into a plain file, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402
from vla_ros.data.bag import BagWriter, closing_metadata, read_bag  # noqa: E402
from vla_ros.data.message_types import MessageTypes, time_fields  # noqa: E402

CAMERAS = ("a", "b", "c")
WIDTH, HEIGHT, FRAMES, JOINTS = 640, 480, 30, 1000
BEST_EFFORT = "best_effort"
DOMAIN = 97


def scene() -> list[np.ndarray]:
    """A smooth picture with grain that slides by."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH + 120, 3)).astype(np.uint8), (0, 0), 6)
    wide = cv2.normalize(wide, np.empty_like(wide), 20, 230, cv2.NORM_MINMAX)
    wide = np.clip(wide.astype(np.int16) + rng.normal(0, 2, wide.shape), 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(wide[:, 2 * k : 2 * k + WIDTH]) for k in range(60)]


def publish(seconds: float) -> None:
    """Wait for the recorder, publish on a fixed grid, say what was sent and how late the latest was."""
    import array

    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, JointState

    rclpy.init()
    node = rclpy.create_node("source")
    images = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
    cameras = [node.create_publisher(Image, f"/camera/{name}/image_raw", images) for name in CAMERAS]
    joints = node.create_publisher(JointState, "/joint_states", QoSProfile(depth=10))
    while not all(p.get_subscription_count() for p in [*cameras, joints]):
        time.sleep(0.05)
    time.sleep(1.0)
    pixels = [array.array("B", picture.tobytes()) for picture in scene()]
    image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    state = JointState(name=[f"joint{k}" for k in range(7)], position=[0.0] * 7, velocity=[0.0] * 7)
    start, late = time.monotonic() + 0.1, 0.0
    for tick in range(round(seconds * JOINTS)):
        due = start + tick / JOINTS
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        late = max(late, time.monotonic() - due)
        state.header.stamp.sec, state.header.stamp.nanosec = divmod((tick + 1) * 10**9 // JOINTS, 10**9)
        joints.publish(state)
        frame, into = divmod(tick * FRAMES, JOINTS)
        if into < FRAMES:
            stamp = time_fields(round((frame + 1) * 1e9 / FRAMES))
            image.header.stamp.sec, image.header.stamp.nanosec = stamp["sec"], stamp["nanosec"]
            image.data = pixels[frame % len(pixels)]
            for camera in cameras:
                camera.publish(image)
    time.sleep(1.0)
    print(json.dumps({"latest_publication_ms": round(1e3 * late, 2)}))
    node.destroy_node()
    rclpy.shutdown()


def live(images: str, seconds: float, folder: Path) -> dict[str, Any]:
    """One recording through the graph."""
    bag = folder / images
    profile = str(ROOT / "config" / "fastdds.xml")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "ROS_DOMAIN_ID": str(DOMAIN),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "OMP_NUM_THREADS": "1",
    }
    topics = [f"'/camera/{name}/image_raw:sensor_msgs/Image:{BEST_EFFORT}'" for name in CAMERAS]
    topics.append(f"'/joint_states:sensor_msgs/JointState:{BEST_EFFORT}'")
    parameters = [f"output:={bag}", f"images:={images}", f"topics:=[{','.join(topics)}]"]
    command = [sys.executable, "-m", "vla_ros.nodes.recorder", "--ros-args"]
    command += [word for parameter in parameters for word in ("-p", parameter)]
    recorder = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    source = subprocess.Popen(
        [sys.executable, __file__, "--publish", str(seconds)], env=environment, stdout=subprocess.PIPE
    )
    try:
        time.sleep(4.0)
        if recorder.poll() is not None:
            raise SystemExit(recorder.communicate()[1])
        began, before = time.monotonic(), cpu_seconds(recorder.pid)
        time.sleep(max(1.0, seconds - 4.0))
        cores = (cpu_seconds(recorder.pid) - before) / (time.monotonic() - began)
        said, _ = source.communicate(timeout=60)
    finally:
        source.kill()
        source.wait()
        if recorder.poll() is None:
            recorder.send_signal(signal.SIGINT)
    _, complaint = recorder.communicate(timeout=60)
    if recorder.returncode:
        raise SystemExit(complaint)
    counts = Counter(entry.topic for entry in read_bag(bag))
    suffix = {"raw": "", "jpeg": "/compressed", "h264": "/h264"}[images]
    sent = {f"/camera/{name}/image_raw{suffix}": round(seconds * FRAMES) for name in CAMERAS}
    sent["/joint_states"] = round(seconds * JOINTS)
    closing = closing_metadata(bag)
    return {
        "seconds": seconds,
        "sent": sent,
        "missing": {name: count - counts[name] for name, count in sent.items()},
        "dropped_by_recorder": sum(json.loads(closing["dropped"]).values()),
        "recorder_cores": round(cores, 3),
        "bag_mb": round(sum(file.stat().st_size for file in bag.iterdir()) / 1e6, 1),
        "image_loss": json.loads(closing.get("image_loss", "{}")),
        **json.loads(said),
    }


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / machine.TICKS


def throughput(folder: Path, seconds: int, repeats: int) -> dict[str, Any]:
    """Messages into a bag against their bytes into a plain file, both until the disk has them."""
    types, pictures = MessageTypes(), scene()
    messages: list[tuple[str, str, bytes]] = []
    names = [f"joint{k}" for k in range(7)]
    for tick in range(JOINTS):
        header = {"stamp": time_fields(tick * 1_000_000)}
        state = types.create("sensor_msgs/JointState", header=header, name=names, position=np.zeros(7))
        messages.append(
            (
                "/joint_states",
                "sensor_msgs/msg/JointState",
                types.serialize(state, "sensor_msgs/msg/JointState"),
            )
        )
        if tick * FRAMES % JOINTS < FRAMES:
            for name in CAMERAS:
                image = types.create(
                    "sensor_msgs/Image", header=header, height=HEIGHT, width=WIDTH, encoding="rgb8",
                    step=3 * WIDTH, data=pictures[tick * FRAMES // JOINTS].ravel(),
                )  # fmt: skip
                raw = types.serialize(image, "sensor_msgs/msg/Image")
                messages.append((f"/camera/{name}/image_raw", "sensor_msgs/msg/Image", raw))
    size = seconds * sum(len(raw) for _, _, raw in messages)
    bags, plains, writes = [], [], []
    for k in range(repeats):
        began = time.perf_counter()
        with BagWriter(folder / f"bag{k}") as writer:
            for second in range(seconds):
                for number, (topic, kind, raw) in enumerate(messages):
                    before = time.perf_counter()
                    writer.write(topic, kind, second * 10**9 + number, raw)
                    writes.append(time.perf_counter() - before)
        bags.append(time.perf_counter() - began)
        began = time.perf_counter()
        with (folder / f"plain{k}").open("wb", buffering=1 << 20) as file:
            for _ in range(seconds):
                for _, _, raw in messages:
                    file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        plains.append(time.perf_counter() - began)
        for file_name in (folder / f"plain{k}", folder / f"bag{k}" / f"bag{k}.mcap"):
            file_name.unlink()
    ratios = sorted(plain / bag for plain, bag in zip(plains, bags, strict=True))
    late = np.percentile(1e6 * np.asarray(writes), [50, 99, 99.9, 100])
    return {
        "mb": round(size / 1e6, 1),
        "bag_mb_per_s": round(size / 1e6 / median(bags), 1),
        "plain_mb_per_s": round(size / 1e6 / median(plains), 1),
        "bag_over_plain": {"median": round(median(ratios), 3), "lowest": round(ratios[0], 3)},
        "write_us": {
            k: round(float(v), 1) for k, v in zip(("p50", "p99", "p99.9", "max"), late, strict=True)
        },
        "repeats": repeats,
    }


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--images", default="raw,jpeg,h264")
    parser.add_argument("--publish", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.publish)
        return 0
    result: dict[str, Any] = machine.describe()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for images in arguments.images.split(","):
            result[images] = live(images, arguments.seconds, Path(folder))
            print(images, json.dumps(result[images]), flush=True)
        result["throughput"] = throughput(Path(folder), 3, 5)
        print("throughput", json.dumps(result["throughput"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
