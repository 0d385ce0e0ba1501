"""The recorder as a process: records a real graph, closes its bag when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="no ROS 2 here")
pytest.importorskip("vla_ros.msg", reason="the interfaces are not built")

from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import Int64  # noqa: E402

from vla_ros.data.bag import read_bag  # noqa: E402

ROOT = Path(__file__).parents[1]
DOMAIN = 60 + os.getpid() % 40
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "ROS_DOMAIN_ID": str(DOMAIN),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
}


def _start(*parameters: str) -> subprocess.Popen[str]:
    arguments = [word for parameter in parameters for word in ("-p", parameter)]
    return subprocess.Popen(
        [sys.executable, "-m", "vla_ros.nodes.recorder", "--ros-args", *arguments],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_records_until_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("source", context=context)
    publishers = [node.create_publisher(Int64, "/a", 1000), node.create_publisher(Int64, "/b", 10)]
    topics = "topics:=['/a:std_msgs/Int64:reliable','/b:std_msgs/Int64']"
    process = _start(f"output:={tmp_path / 'bag'}", topics)
    try:
        deadline = time.monotonic() + 30
        while not all(p.get_subscription_count() for p in publishers) and time.monotonic() < deadline:
            time.sleep(0.05)
        before = time.time_ns()
        # a subscription that is announced may still miss what is published before both sides have met
        for k in [-1] * 100 + list(range(50)):
            for publisher in publishers:
                publisher.publish(Int64(data=k))
            time.sleep(0.005)
        time.sleep(0.5)
        process.send_signal(signum)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert process.returncode == 0 and "Traceback" not in said
    entries = list(read_bag(tmp_path / "bag", topics=["/a"]))
    assert [e.message.data for e in entries if e.message.data >= 0] == list(range(50))
    assert f"/a: {len(entries)}" in said
    assert all(0 <= e.stamp - before < 60e9 for e in entries)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["output:=x"], "what to record"),
        (["contract:=panda"], "'output' is empty"),
        (["output:=x", "topics:=['/a:no_such_package/Thing']"], "not installed"),
        (["output:=x", "contract:=toaster"], "toaster"),
    ],
)
def test_refuses_in_one_sentence(parameters: list[str], words: str) -> None:
    process = _start(*parameters)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert words in said and "Traceback" not in said and len(said.strip().splitlines()) == 1
