"""How fast bags become data sets, against a plain sequential conversion and writing the raw bytes.

`python benchmarks/conversion.py --json benchmarks/results/conversion.json`: two cameras of 640 x 480 at 30 Hz
as JPEG, every frame a step (actions at 30 Hz), and with actions at 10 Hz; joint states and setpoints at
1 kHz.  The picture is textured noise, blurred, that slides by.  Wall time, the ways in turn, median of the
repetitions; processor time beside it.
Memory: largest resident set of a process that converts by itself, for a bag, for one of as many as four times
the episodes, and for one episode four times as long.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402
from benchmarks.audit import CAMERAS, ROBOT, make_bag  # noqa: E402
from vla_ros.contract import load_contract  # noqa: E402
from vla_ros.data.conversion import Options, convert  # noqa: E402
from vla_ros.data.open import open_dataset  # noqa: E402

CORES, FORMATS = 2, ("lerobot", "rlds")


def engine(bag: Path, target: Path, format: str, workers: int = CORES) -> None:
    """What `vla-ros data convert --accept-failed` does: the audit has a benchmark of its own."""
    convert(open_dataset(bag), target, format, Options(workers=workers, group_size=1, accept_failed=True))


def plain(bag: Path, target: Path, format: str) -> None:
    """One process, one frame after the other: decode, encode, write; numbers are not even written."""
    import av

    cv2.setNumThreads(1)
    target.mkdir()
    for number, episode in enumerate(open_dataset(bag)):
        for name, frames in episode.images.items():
            height, width = frames.size
            if format == "rlds":
                with open(target / f"{number}-{name}", "wb") as file:
                    for k in range(len(frames)):
                        bgr = cv2.cvtColor(frames.image(k), cv2.COLOR_RGB2BGR)
                        file.write(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
                continue
            with av.open(str(target / f"{number}-{name}.mp4"), "w") as output:
                options = {"crf": "16", "g": "2", "bf": "0", "preset": "ultrafast", "threads": "1"}
                stream = output.add_stream("libx264", rate=Fraction(episode.rate), options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for k in range(len(frames)):
                    for packet in stream.encode(av.VideoFrame.from_ndarray(frames.image(k), format="rgb24")):
                        output.mux(packet)
                for packet in stream.encode():
                    output.mux(packet)


def raw_bytes(bag: Path, target: Path, format: str) -> None:
    """Write as many bytes as the bag has, and no more than that."""
    target.mkdir()
    for file in bag.iterdir():
        with open(file, "rb") as source, open(target / file.name, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())


WAYS: dict[str, Callable[[Path, Path, str], None]] = {"engine": engine, "plain": plain, "raw": raw_bytes}


def measure(bag: Path, seconds: float, format: str, repeat: int) -> dict[str, Any]:
    """Wall seconds of the three ways in turn, and what follows from the medians."""
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    worked: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeat):
        for way, work in WAYS.items():
            target = bag.parent / "target"
            begun, cpu = time.perf_counter(), sum(os.times()[:4])
            work(bag, target, format)
            spent[way].append(time.perf_counter() - begun)
            worked[way].append(sum(os.times()[:4]) - cpu)
            size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
            shutil.rmtree(target)
            if way == "engine":
                written = size
    middle = {way: median(values) for way, values in spent.items()}
    return {
        "seconds_of_bag": seconds,
        "bytes_read": sum(file.stat().st_size for file in bag.iterdir()),
        "bytes_written": written,
        "wall_seconds": {way: sorted(values) for way, values in spent.items()},
        "processor_seconds": {way: sorted(values) for way, values in worked.items()},
        "times_real_time": {way: seconds / value for way, value in middle.items()},
        "engine_over_plain": middle["plain"] / middle["engine"],
        "engine_over_raw": middle["raw"] / middle["engine"],
    }


def memory(bag: Path, format: str) -> float:
    """Largest resident set [MB] of a process that converts the bag by itself."""
    target = bag.parent / "target"
    command = [sys.executable, __file__, "--once", format, str(bag), str(target)]
    found = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shutil.rmtree(target)
    return round(found, 1)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="length of an episode")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        format, bag, target = given.once
        engine(Path(bag), Path(target), format, workers=1)
        # Not ru_maxrss, which a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        print(next(float(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line))
        return
    document = {"benchmark": "conversion", **machine.describe(), "processes": CORES, "conversion": {}}
    document["memory_mb"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rate in (30, 10):
            contract = load_contract(ROBOT, cameras=CAMERAS, action_rate=rate)
            bag = Path(folder) / f"bag{rate}"
            make_bag(bag, contract, True, given.seconds, given.episodes)
            for format in FORMATS:
                name = f"{format}, {rate} steps/s"
                found = measure(bag, float(given.seconds * given.episodes), format, given.repeat)
                document["conversion"][name] = found
                pace = {way: round(value, 1) for way, value in found["times_real_time"].items()}
                print(f"{name}: times real time {pace}, {found['engine_over_plain']:.1f} times plain")
        contract = load_contract(ROBOT, cameras=CAMERAS, action_rate=10)
        for name, seconds, episodes in (
            ("one episode", given.seconds, 1),
            ("four episodes", given.seconds, 4),
            ("one episode, four times as long", 4 * given.seconds, 1),
        ):
            bag = Path(folder) / "memory"
            make_bag(bag, contract, True, seconds, episodes)
            found = {format: memory(bag, format) for format in FORMATS}
            document["memory_mb"][name] = found
            print(f"{name}: {found} MB")
            shutil.rmtree(bag)
    if given.json:
        machine.write_json(given.json, document)


if __name__ == "__main__":
    main()
