"""What this machine has and lacks for vla_ros, each in one plain sentence."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from vla_ros.bringup.domain import HIGHEST, LOWEST, claimed_domain, quiet
from vla_ros.bringup.libraries import ROS_ADVICE
from vla_ros.bringup.robot_check import check_robot
from vla_ros.bringup.shm import FOLDER, profile_variable
from vla_ros.contract import Contract, load_contract
from vla_ros.errors import VlaRosError
from vla_ros.preflight import topic_problems

Status = Literal["ok", "warn", "fail"]
RELEASES = {"3": "Humble", "7": "Jazzy", "9": "Kilted"}
"""ROS 2 distribution by the major version of its rclpy."""
GIGABYTE = 1_000_000_000
MEGABYTE = 1_000_000
SHARED_MEMORY_NEED = 200 * MEGABYTE
"""Segments of the graph's eight processes at 17 MB each, with room for a driver's."""
CHILD_TIMEOUT = 30.0
GL_CHILD = """
from vla_ros.sim.gl import DISABLED, choose_gl_platform
platform = choose_gl_platform()
if platform != DISABLED:
    import mujoco
    context = mujoco.GLContext(64, 64)
    context.make_current()
    context.free()
print(platform)
"""
TORCH_CHILD = "import torch; print(torch.__version__, torch.cuda.is_available())"


@dataclass(frozen=True)
class Check:
    """One finding: `fail` keeps vla_ros from running, `warn` makes it worse or slower."""

    name: str
    status: Status
    sentence: str


@dataclass(frozen=True)
class ChildAnswer:
    """How a Python process ended: its last line on standard output, or on standard error when it failed."""

    ok: bool
    line: str


def run_child(*arguments: str) -> ChildAnswer:
    """Run this Python with `arguments`; whatever can hang or crash is tried there and not here."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=CHILD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return ChildAnswer(False, f"no answer within {CHILD_TIMEOUT:g} s")
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return ChildAnswer(done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}")


def check_python(info: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Version of Python."""
    text = f"Python is {info[0]}.{info[1]}"
    if info < (3, 10):
        return Check("python", "fail", f"{text}, but vla_ros needs 3.10 or newer.")
    if info > (3, 12):
        return Check("python", "warn", f"{text}; vla_ros is tested with 3.10 to 3.12.")
    return Check("python", "ok", f"{text}.")


def check_middleware(answer: ChildAnswer) -> Check:
    """Whether rclpy starts and the interfaces of the package are built; `answer` is the probe's."""
    if not answer.ok:
        missing = "no module named 'rclpy'" in answer.line.lower()
        what = "rclpy is not installed" if missing else f"ROS 2 does not start ({answer.line})"
        return Check("middleware", "fail", f"{what}. {ROS_ADVICE}")
    seen = json.loads(answer.line)
    release = RELEASES.get(seen["rclpy"].split(".")[0], "an unknown release")
    return Check(
        "middleware", "ok", f"ROS 2 {release}: rclpy {seen['rclpy']} on {seen['rmw']}, interfaces are built."
    )


def check_profile(variable: str, path: str | None) -> Check:
    """Whether the Fast DDS profile that `variable` names is there and well-formed."""
    if not path:
        return Check("profile", "ok", f"{variable} is not set; vla-ros sets it for the processes it starts.")
    try:
        ElementTree.parse(path)
    except FileNotFoundError:
        return Check("profile", "fail", f"{variable} names {path}, which does not exist.")
    except (OSError, ElementTree.ParseError) as error:
        return Check("profile", "fail", f"{variable} names {path}, which cannot be read: {error}.")
    return Check("profile", "ok", f"{variable} is {path}.")


def check_domain(given: str | None) -> Check:
    """Whether the ROS domain is valid and free on this machine."""
    if not given:
        return Check("domain", "ok", "ROS_DOMAIN_ID is not set; vla-ros takes a free domain for every run.")
    try:
        with claimed_domain():
            alone = given.isdecimal() and quiet(int(given))
    except VlaRosError as error:
        return Check("domain", "fail", str(error))
    if alone:
        return Check("domain", "ok", f"ROS domain {given} has no other participants on this machine.")
    free = next((str(domain) for domain in range(LOWEST, HIGHEST + 1) if quiet(domain)), "another number")
    return Check(
        "domain",
        "warn",
        f"ROS domain {given} has other participants on this machine; unless that is your robot's driver, "
        f"choose another with `export ROS_DOMAIN_ID={free}`.",
    )


def check_mujoco() -> Check:
    """Whether the simulator is installed in a version that fits."""
    try:
        installed = version("mujoco")
    except PackageNotFoundError:
        return Check(
            "mujoco", "warn", "MuJoCo is not installed; for simulation `pip install 'vla-ros[sim]'`."
        )
    major, minor = (int(part) for part in installed.split(".")[:2])
    if not (3, 5) <= (major, minor) < (5, 0):
        return Check("mujoco", "warn", f"MuJoCo is {installed}, but vla_ros needs 3.5 or newer, below 5.")
    return Check("mujoco", "ok", f"MuJoCo is {installed}.")


def check_gl(answer: ChildAnswer) -> Check:
    """Whether simulated camera images can come from OpenGL; `answer` is that of `GL_CHILD`."""
    if answer.ok and answer.line != "disabled":
        return Check("gl", "ok", f"OpenGL works through {answer.line}.")
    reason = "the EGL library is missing" if answer.ok else f"OpenGL does not start ({answer.line})"
    return Check(
        "gl",
        "warn",
        f"Simulated cameras use the slower ray caster because {reason}; "
        "on Debian or Ubuntu install libegl1 and libgl1-mesa-dri.",
    )


def check_contract(robot: str) -> tuple[Check, Contract | None]:
    """Whether the robot, or the contract in a YAML file, loads."""
    try:
        contract = load_contract(robot)
        check_robot(contract, simulated=True)
    except VlaRosError as error:
        return Check("contract", "fail", str(error)), None
    for sentence in topic_problems(contract):
        return Check("contract", "fail", sentence), None
    cameras = ", ".join(contract.cameras)
    return (
        Check(
            "contract",
            "ok",
            f"{contract.robot.title} with cameras {cameras}, action space {contract.action_space.name}, "
            f"policy {contract.policy}, control at {contract.control_rate:g} Hz.",
        ),
        contract,
    )


def check_cameras(contract: Contract, answer: ChildAnswer) -> list[Check]:
    """Compare each camera of the contract with what is published; `answer` is the probe's."""
    if not answer.ok:
        return []
    topics: dict[str, dict[str, Any]] = json.loads(answer.line)["topics"]
    if not any(entry["type"] for entry in topics.values()):
        wanted = ", ".join(camera.topic for camera in contract.cameras.values())
        return [Check("cameras", "ok", f"No camera publishes now; a run expects {wanted}.")]
    return [
        Check("cameras", *_compare_camera(name, camera.topic, camera, topics.get(camera.topic, {})))
        for name, camera in contract.cameras.items()
    ]


def _compare_camera(name: str, topic: str, camera: Any, seen: dict[str, Any]) -> tuple[Status, str]:
    kind = seen.get("type", "")
    wanted = "sensor_msgs/msg/CompressedImage" if camera.compressed else "sensor_msgs/msg/Image"
    if not kind:
        return "fail", f"Camera {name}: nothing publishes {topic}."
    if kind != wanted:
        return "fail", f"Camera {name}: {topic} carries {kind}, but the contract says {wanted}."
    if "frame" not in seen:
        return "fail", f"Camera {name}: {topic} has a publisher, but no frame came."
    width, height, encoding = seen["frame"]
    if not camera.compressed and (width, height) != (camera.width, camera.height):
        expected = f"{camera.width}x{camera.height}"
        return "warn", f"Camera {name}: {topic} is {width}x{height}, but the contract says {expected}."
    return "ok", f"Camera {name}: {topic} publishes{f' {width}x{height} {encoding}' if encoding else ''}."


def check_gpu() -> Check:
    """Whether an NVIDIA GPU is there, and torch can use it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("gpu", "ok", "No NVIDIA GPU; visual_servo and replay need none.")
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=CHILD_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("gpu", "warn", f"nvidia-smi does not answer: {error}.")
    if done.returncode:
        first = (done.stdout + done.stderr).strip().splitlines()
        return Check("gpu", "warn", f"nvidia-smi fails: {first[0] if first else done.returncode}.")
    name = done.stdout.strip().splitlines()[0]
    if find_spec("torch") is None:
        return Check(
            "gpu", "ok", f"{name}; torch is not installed, for models `pip install 'vla-ros[torch]'`."
        )
    answer = run_child("-c", TORCH_CHILD)
    if not answer.ok or answer.line.endswith("False"):
        return Check("gpu", "warn", f"{name}, but the installed torch cannot use it ({answer.line}).")
    return Check("gpu", "ok", f"{name}, usable by torch {answer.line.split()[0]}.")


def check_real_time() -> Check:
    """Whether the control loop may have real-time priority and locked memory."""
    refused: list[str] = []

    def attempt() -> None:
        try:  # 0 is the calling thread, which ends with this function
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError as error:
            refused.append(f"real-time priority is refused ({error.strerror})")

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    memory, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() and 0 <= memory < GIGABYTE:
        refused.append(f"only {memory // 1024} KiB of memory may be locked")
    if not refused:
        return Check("real-time", "ok", "The control loop may have real-time priority and lock its memory.")
    return Check(
        "real-time",
        "warn",
        f"The control loop runs at normal priority and may be late under load: {' and '.join(refused)}; "
        "allow rtprio 98 and memlock unlimited for your user in /etc/security/limits.conf.",
    )


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to `status`, padded to the full size."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def check_clock(seconds: float = 0.05) -> Check:
    """Whether the wall clock runs evenly and is disciplined by a time service."""
    steady, wall = time.monotonic(), time.time()
    time.sleep(seconds)
    jump = (time.time() - wall) - (time.monotonic() - steady)
    if abs(jump) > 0.005:
        return Check("clock", "warn", f"The wall clock was set by {jump * 1e3:+.0f} ms while it was watched.")
    timex = _Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return Check("clock", "ok", "The clock runs evenly; whether it is synchronised cannot be told.")
    if timex.status & 0x40:  # STA_UNSYNC
        return Check(
            "clock",
            "warn",
            "The clock runs evenly, but no time service sets it; stamps from drivers and cameras on other "
            "machines may not fit.",
        )
    return Check("clock", "ok", "The clock runs evenly and is synchronised.")


def check_space(name: str, folder: Path, enough: int, least: int) -> Check:
    """Free space in a folder [bytes]: less than `least` fails, less than `enough` warns."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, "fail", f"{folder} cannot be used: {error.strerror}.")
    text = f"{free / GIGABYTE:.1f} GB are free in {folder}"
    if free < least:
        return Check(name, "fail", f"{text}, at least {least / GIGABYTE:.1f} GB are needed.")
    if free < enough:
        return Check(name, "warn", f"{text}; a long run may need more.")
    return Check(name, "ok", f"{text}.")


def run_checks(robot: str | None = None) -> list[Check]:
    """Every check, in the order in which one would mend things; `robot` names a robot or a contract file."""
    contract, found = None, []
    if robot is not None:
        check, contract = check_contract(robot)
        found.append(check)
    topics = [camera.topic for camera in contract.cameras.values()] if contract is not None else []
    probe = run_child("-m", "vla_ros.nodes.probe", *topics)
    if contract is not None:
        found += check_cameras(contract, probe)
    variable = profile_variable()
    checks = [
        check_python(),
        check_middleware(probe),
        check_profile(variable, os.environ.get(variable)),
        check_domain(os.environ.get("ROS_DOMAIN_ID")),
        *found,
    ]
    checks.append(check_mujoco())
    if checks[-1].status == "ok":
        checks.append(check_gl(run_child("-c", GL_CHILD)))
    checks += [check_gpu(), check_real_time(), check_clock()]
    checks.append(check_space("disk", Path.cwd(), 5 * GIGABYTE, GIGABYTE))
    checks.append(check_space("shared memory", FOLDER, SHARED_MEMORY_NEED, 64 * MEGABYTE))
    return checks
