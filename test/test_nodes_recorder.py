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
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import Int64  # noqa: E402
from vla_ros.msg import EpisodeStatus, RecorderStatus  # noqa: E402

from vla_ros.data.bag import bag_metadata, closing_metadata, read_bag  # noqa: E402

pytestmark = pytest.mark.live

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


def test_one_bag_an_episode_and_no_second_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("source", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    said: list[RecorderStatus] = []
    node.create_subscription(RecorderStatus, "/vla/recorder_status", said.append, 10)
    episodes = node.create_publisher(EpisodeStatus, "/vla/episode_status", 10)
    numbers = node.create_publisher(Int64, "/a", 100)
    topics = "topics:=['/a:std_msgs/Int64:reliable','/vla/episode_status:vla_ros/EpisodeStatus:reliable']"
    parameters = (f"output:={tmp_path / 'bags'}", "per_episode:=true", topics)
    process = _start(*parameters)

    def publish(outcome: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            episodes.publish(EpisodeStatus(episode_id="e1" if outcome else "", outcome=outcome))
            numbers.publish(Int64(data=outcome))
            executor.spin_once(timeout_sec=0.01)

    try:
        deadline = time.monotonic() + 30
        while not (said and episodes.get_subscription_count()) and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
        publish(0, 0.5)
        assert not said[-1].recording and said[-1].path == str(tmp_path / "bags")
        publish(1, 1.5)
        during = said[-1]
        second = _start(*parameters)
        _, refusal = second.communicate(timeout=20)
        publish(2, 1.2)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert (second.returncode, refusal.count("\n")) == (2, 1)
    assert f"another recorder (process {process.pid}) writes its bags to" in refusal
    assert process.returncode == 0 and "in 1 bags" in told and "Traceback" not in told
    (bag,) = (path for path in (tmp_path / "bags").iterdir() if path.is_dir())
    assert during.recording and during.episode_id == "e1" and during.path == str(bag)
    assert during.messages > 20 and during.dropped == 0 and during.disk_free > 0 and during.error == ""
    assert 20 < during.rates[list(during.topics).index("/a")] < 200
    values = [entry.message.data for entry in read_bag(bag, topics=["/a"])]
    assert values == sorted(values) and set(values) == {0, 1, 2}
    assert closing_metadata(bag)["outcome"] == "success" and bag_metadata(bag)["episode_id"] == "e1"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["output:=x"], "what to record"),
        (["contract:=panda"], "'output' is empty"),
        (["output:=x", "topics:=['/a:no_such_package/Thing']"], "not installed"),
        (["output:=x", "contract:=toaster"], "toaster"),
        (["output:=x", "topics:=['/a:std_msgs/Int64']", "images:=webp"], "webp"),
        (["output:=/dev/null", "topics:=['/a:std_msgs/Int64']"], "it exists already"),
    ],
)
def test_refuses_in_one_sentence(parameters: list[str], words: str) -> None:
    process = _start(*parameters)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert words in said and "Traceback" not in said and len(said.strip().splitlines()) == 1
