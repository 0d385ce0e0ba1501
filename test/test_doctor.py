from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vla_ros.bringup import doctor
from vla_ros.bringup.doctor import Check, ChildAnswer
from vla_ros.bringup.domain import ports_of
from vla_ros.contract import load_contract

pytestmark = pytest.mark.live

SEEN = {"rclpy": "7.1.6", "rmw": "rmw_fastrtps_cpp", "interfaces": "Observation", "topics": {}}
CAMERA = """
import sys, time, rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, sys.argv[1], 1)
image = Image(width=4, height=2, encoding="rgb8", step=12, data=bytes(24))
for _ in range(200):
    publisher.publish(image)
    time.sleep(0.05)
"""


def answer(**topics: dict[str, object]) -> ChildAnswer:
    contract = load_contract("panda")
    named = {contract.cameras[name].topic: entry for name, entry in topics.items()}
    return ChildAnswer(True, json.dumps({**SEEN, "topics": named}))


def is_a_sentence(check: Check) -> bool:
    text = check.sentence
    return text[0] == text[0].upper() and text.endswith(".") and "Traceback" not in text and "\n" not in text


def test_everything_is_checked_and_said_in_sentences() -> None:
    checks = doctor.run_checks("panda")
    names = [check.name for check in checks]
    expected = {
        "python",
        "middleware",
        "profile",
        "domain",
        "contract",
        "mujoco",
        "gpu",
        "real-time",
        "clock",
    }
    assert expected | {"disk", "shared memory"} <= set(names)
    assert all(check.status in ("ok", "warn", "fail") for check in checks)
    for check in checks:
        assert is_a_sentence(check) or check.sentence.startswith(("vla", "FAST", "ROS_")), check


def test_an_unknown_robot_fails_the_contract_alone(tmp_path: Path) -> None:
    check, contract = doctor.check_contract("no_such_robot")
    assert (check.name, check.status, contract) == ("contract", "fail", None)
    assert "no_such_robot" in check.sentence
    file = tmp_path / "mine.yaml"
    file.write_text("robot: [")
    check, contract = doctor.check_contract(str(file))
    assert check.status == "fail" and contract is None and str(file) in check.sentence


@pytest.mark.parametrize(
    ("release", "status"), [((3, 9), "fail"), ((3, 10), "ok"), ((3, 12), "ok"), ((3, 13), "warn")]
)
def test_python(release: tuple[int, int], status: str) -> None:
    assert doctor.check_python(release).status == status


def test_middleware() -> None:
    assert "Jazzy" in doctor.check_middleware(answer()).sentence
    missing = doctor.check_middleware(ChildAnswer(False, "ModuleNotFoundError: No module named 'rclpy'"))
    assert missing.status == "fail" and "make env" in missing.sentence
    broken = doctor.check_middleware(ChildAnswer(False, "RCLError: no shared memory"))
    assert broken.status == "fail" and "RCLError: no shared memory" in broken.sentence


def test_a_child_that_fails_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.run_child("-c", "print('a'); print('b')") == ChildAnswer(True, "b")
    assert doctor.run_child("-c", "raise ValueError('why')") == ChildAnswer(False, "ValueError: why")
    assert doctor.run_child("-c", "import os; os.abort()").ok is False
    monkeypatch.setattr(doctor, "CHILD_TIMEOUT", 0.2)
    assert doctor.run_child("-c", "import time; time.sleep(30)") == ChildAnswer(
        False, "no answer within 0.2 s"
    )


def test_profile(tmp_path: Path) -> None:
    assert doctor.check_profile("V", None).status == "ok"
    for name in ("fastdds.xml", "fastdds_udp.xml", "fastdds_udp_local.xml"):
        shipped = Path(__file__).resolve().parent.parent / "config" / name
        assert doctor.check_profile("V", str(shipped)).status == "ok"
    assert doctor.check_profile("V", str(tmp_path / "none.xml")).status == "fail"
    broken = tmp_path / "broken.xml"
    broken.write_text("<dds>")
    assert doctor.check_profile("V", str(broken)).status == "fail"


def test_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = 97
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    assert doctor.check_domain(str(domain)).status == "ok"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", ports_of(domain)[0]))
        busy = doctor.check_domain(str(domain))
    assert busy.status == "warn" and "export ROS_DOMAIN_ID=" in busy.sentence
    assert f"ROS_DOMAIN_ID={domain}`" not in busy.sentence
    monkeypatch.setenv("ROS_DOMAIN_ID", "many")
    assert doctor.check_domain("many").status == "fail"
    assert doctor.check_domain(None).status == "ok"


@pytest.mark.parametrize(
    ("installed", "status"), [("3.4.1", "warn"), ("3.5.0", "ok"), ("4.0.0", "ok"), ("5.0.0", "warn")]
)
def test_mujoco(monkeypatch: pytest.MonkeyPatch, installed: str, status: str) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: installed)
    assert doctor.check_mujoco().status == status


def test_gl_names_the_ray_caster_when_there_is_none() -> None:
    assert doctor.check_gl(ChildAnswer(True, "egl")).status == "ok"
    for failed in (ChildAnswer(True, "disabled"), ChildAnswer(False, "RuntimeError: no display")):
        check = doctor.check_gl(failed)
        assert check.status == "warn" and "ray caster" in check.sentence


def test_cameras_are_compared_with_the_contract() -> None:
    contract = load_contract("panda")
    size = [contract.cameras["wrist"].width, contract.cameras["wrist"].height]
    good = {"type": "sensor_msgs/msg/Image", "frame": [*size, "rgb8"]}

    def statuses(primary: dict[str, object]) -> list[str]:
        return [check.status for check in doctor.check_cameras(contract, answer(primary=primary, wrist=good))]

    assert statuses(good) == ["ok", "ok"]
    assert statuses({"type": ""}) == ["fail", "ok"]
    assert statuses({"type": "sensor_msgs/msg/Image"}) == ["fail", "ok"]
    assert statuses({"type": "sensor_msgs/msg/CompressedImage", "frame": [0, 0, ""]}) == ["fail", "ok"]
    assert statuses({"type": "sensor_msgs/msg/Image", "frame": [7, 7, "rgb8"]}) == ["warn", "ok"]
    nothing = doctor.check_cameras(contract, answer(primary={"type": ""}, wrist={"type": ""}))
    assert [check.status for check in nothing] == ["ok"]
    assert doctor.check_cameras(contract, ChildAnswer(False, "broken")) == []


def test_the_probe_sees_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_DOMAIN_ID", "96")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    camera = subprocess.Popen([sys.executable, "-c", CAMERA, "/doctor/image"], env=dict(os.environ))
    try:
        probe = doctor.run_child("-m", "vla_ros.nodes.probe", "/doctor/image", "/doctor/nothing")
    finally:
        camera.kill()
        camera.wait()
    assert probe.ok, probe.line
    topics = json.loads(probe.line)["topics"]
    assert topics["/doctor/image"] == {"type": "sensor_msgs/msg/Image", "frame": [4, 2, "rgb8"]}
    assert topics["/doctor/nothing"] == {"type": ""}


def test_space(tmp_path: Path) -> None:
    assert doctor.check_space("disk", tmp_path, 0, 0).status == "ok"
    assert doctor.check_space("disk", tmp_path, 10**18, 0).status == "warn"
    assert doctor.check_space("disk", tmp_path, 10**18, 10**18).status == "fail"
    assert doctor.check_space("disk", tmp_path / "none", 0, 0).status == "fail"


def test_a_stepped_clock_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = iter([100.0, 101.0])
    clocks = SimpleNamespace(time=lambda: next(walls), monotonic=lambda: 5.0, sleep=lambda seconds: None)
    monkeypatch.setattr(doctor, "time", clocks)
    check = doctor.check_clock()
    assert check.status == "warn" and "+1000 ms" in check.sentence


def test_refused_real_time_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(doctor.os, "sched_setscheduler", refuse)
    check = doctor.check_real_time()
    assert check.status == "warn" and "Operation not permitted" in check.sentence
