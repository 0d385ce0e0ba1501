"""The node `teleop`, and who is in charge, amid a graph that is played by the test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from geometry_msgs.msg import TwistStamped
from keyboard_driver import Keys
from node_bench import Bench, bench, domain
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from sensor_msgs.msg import JointState, Joy, MultiDOFJointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_ros.srv import StartEpisode, StopEpisode

from vla_ros import msg
from vla_ros.actions import rotations
from vla_ros.errors import VlaRosError
from vla_ros.nodes import topics
from vla_ros.nodes.chunker import Chunker
from vla_ros.nodes.conversions import objects_message, policy_output_message, pose_message, to_stamp, to_time
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.supervisor import Supervisor
from vla_ros.nodes.teleop import Teleop
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import NANOSECONDS, PolicyOutput, Pose, Source

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures
PANDA = load_robot("panda")
HOME = Kinematics(PANDA).forward(PANDA.home)


class Stage:
    """The node under test amid a graph that is played by the probe."""

    def __init__(self, b: Bench) -> None:
        self.b = b
        self.outputs = b.listen(msg.PolicyOutput, topics.POLICY_OUTPUT)
        self.authority: list[Any] = []
        b.probe.create_subscription(msg.Authority, topics.AUTHORITY, self.authority.append, topics.LATCHED)
        self._safety = b.talk(msg.SafetyStatus, topics.SAFETY_STATUS)
        self._episode = b.talk(msg.EpisodeStatus, topics.EPISODE_STATUS)
        assert b.until(lambda: bool(self.authority))
        self.safety()

    def safety(self) -> None:
        status = msg.SafetyStatus(state=1, gripper_width=0.08)
        status.reference_pose = pose_message(HOME.position, HOME.quaternion)
        self._safety.publish(status)

    def episode(self, outcome: Outcome, number: int = 1) -> None:
        self._episode.publish(
            msg.EpisodeStatus(episode_id=f"episode_{number}", outcome=int(outcome), instruction="pick")
        )

    def wait(self, seconds: float) -> list[Any]:
        """What was published in the next `seconds`."""
        before, end = len(self.outputs), time.monotonic() + seconds
        self.b.until(lambda: time.monotonic() > end, seconds + 1.0)
        return self.outputs[before:]

    def call(self, name: str) -> Any:
        client = self.b.probe.create_client(Trigger, f"/teleop/{name}")
        assert self.b.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        assert self.b.until(future.done)
        return future.result()


@pytest.fixture
def keys() -> Iterator[Keys]:
    made = Keys()
    yield made
    if made.master >= 0:
        made.hang_up()


def rows(outputs: list[Any]) -> np.ndarray:
    return np.array([list(message.values) for message in outputs])


def test_in_an_episode_there_is_an_action_every_period(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path))
    assert stage.authority[-1].source == msg.Authority.PERSON
    assert stage.authority[-1].device == "keyboard"
    assert not stage.wait(0.5)
    stage.episode(Outcome.RUNNING)
    idle = stage.wait(1.0)
    assert 3 <= len(idle) <= 6 and not rows(idle)[:, :6].any()
    assert {m.horizon for m in idle} == {1} and {m.source for m in idle} == {int(Source.PERSON)}
    assert {m.instruction for m in idle} == {"pick"} and {m.normalization_key for m in idle} == {""}
    for _ in range(15):
        keys.tap("w")
        stage.wait(0.033)
    moved = rows(stage.wait(0.5))
    stamps = np.array([to_stamp(m.header.stamp) for m in stage.outputs])
    steps = (stamps - stamps[0]) / 0.2e9
    assert np.abs(steps - np.round(steps)).max() < 1e-6 and (np.diff(steps) > 0.5).all()
    asked = rows(stage.outputs)[:, 0].sum()
    assert 0.02 < asked < 0.05 and not rows(stage.outputs)[:, 1:6].any()
    # the key was let go: the last of them are null again
    assert len(moved) and not rows(stage.wait(0.5))[-1, :6].any()
    assert stage.authority[-1].header.stamp.sec * NANOSECONDS <= stamps[0]
    keys.tap(" ")
    assert rows(stage.wait(0.5))[-1, 6] == 0.0
    stage.episode(Outcome.SUCCESS)
    stage.wait(0.3)
    assert not stage.wait(0.5)
    assert "in charge  PERSON (keyboard)" in keys.screen and "episode_1: success" in keys.screen


def test_outside_an_episode_actions_go_out_while_the_robot_is_moved(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path))
    for _ in range(20):
        keys.tap("r")
        stage.wait(0.033)
    moved = stage.wait(0.6)
    assert stage.outputs and rows(stage.outputs)[:, 2].max() > 0.005
    assert moved and not rows(moved)[-1, :6].any()
    assert not stage.wait(0.5)


def test_the_terminal_closes_while_driving(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path))
    stage.episode(Outcome.RUNNING)
    keys.tap("w" * 8)
    stage.wait(0.3)
    keys.hang_up()
    stage.wait(0.5)
    held = stage.wait(0.6)
    assert held and not rows(held)[:, :6].any()
    assert "closed" in stage.b.complaint()


def test_a_twist_moves_until_it_is_stale_and_nonsense_stops(bench: Any) -> None:
    b = bench(Teleop, contract="panda", device="twist")
    stage = Stage(b)
    talker = b.talk(TwistStamped, "/teleop/twist", topics.SENSOR)
    stage.episode(Outcome.RUNNING)
    twist = TwistStamped()
    twist.twist.linear.y = 0.05

    def say(count: int) -> list[Any]:
        said = []
        for _ in range(count):
            talker.publish(twist)
            said += stage.wait(0.05)
        return said

    said = rows(say(16))
    assert said[-1, 1] == pytest.approx(0.01, abs=0.003) and not said[:, [0, 2, 3, 4, 5]].any()
    stage.wait(0.45)
    assert not rows(stage.wait(0.5))[:, :6].any()
    twist.twist.linear.y = float("nan")
    assert not rows(say(10))[:, :6].any()
    twist.twist.linear.y, twist.header.frame_id = 0.05, "camera"
    assert not rows(say(10))[:, :6].any()


def test_a_joy_needs_its_switch(bench: Any) -> None:
    b = bench(Teleop, contract="panda", device="joy")
    stage = Stage(b)
    talker = b.talk(Joy, "/joy", topics.SENSOR)
    stage.episode(Outcome.RUNNING)
    free = Joy(axes=[0.0, 1.0], buttons=[0] * 11)
    held = Joy(axes=[0.0, 1.0], buttons=[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    seen = {}
    for name, message in (("free", free), ("held", held)):
        said = []
        for _ in range(12):
            talker.publish(message)
            said += stage.wait(0.05)
        seen[name] = rows(said)
    assert not seen["free"][:, :6].any()
    assert seen["held"][-1, 0] == pytest.approx(0.012, abs=0.003)


def test_a_leader_engages_near_the_robot_only(bench: Any, keys: Keys) -> None:
    b = bench(Teleop, contract="panda", device="leader", terminal=keys.path, action_space="joint_position")
    stage = Stage(b)
    robot = b.talk(JointState, PANDA.driver.joint_state_topic, topics.SENSOR)
    leader = b.talk(JointState, "/leader/joint_states", topics.SENSOR)
    stage.episode(Outcome.RUNNING)

    def say(offset: float, count: int) -> list[Any]:
        said = []
        for _ in range(count):
            robot.publish(JointState(name=list(PANDA.driver.joint_names), position=PANDA.home.tolist()))
            away = PANDA.home + np.eye(7)[0] * offset
            leader.publish(JointState(name=list(PANDA.joint_names), position=away.tolist()))
            said += stage.wait(0.03)
        return said

    say(1.0, 10)
    keys.tap("e")
    said = rows(say(1.0, 10))
    np.testing.assert_allclose(said[-1, :7], PANDA.home, atol=1e-6)
    assert "Bring the leader nearer" in keys.screen
    say(0.1, 5)
    keys.tap("e")
    said = rows(say(0.1, 20))
    assert said[-1, 0] == pytest.approx(PANDA.home[0] + 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("parameters", "fragment"),
    [
        ({"device": "gamepad"}, "js"),
        ({"device": "spacemouse"}, "256f"),
        ({"device": "keyboard"}, "terminal"),
        ({"device": "keyboard", "terminal": "/dev/nowhere"}, "nowhere"),
        ({"device": "leader", "device_options": "'{names: [a]}'"}, "list of 7"),
        ({"device": "crystal_ball"}, "crystal_ball"),
        ({"device": "twist", "contract": "r2d2"}, "r2d2"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(
    bench: Any, parameters: dict[str, str], fragment: str
) -> None:
    if parameters["device"] == "gamepad" and list(Path("/dev/input").glob("js*")):
        pytest.skip("a gamepad is there")
    import rclpy

    try:
        with pytest.raises(VlaRosError, match=fragment) as refused:
            bench(Teleop, **{"contract": "panda", **parameters})
        assert "\n" not in str(refused.value)
    finally:
        rclpy.try_shutdown()


# -- who is in charge --------------------------------------------------------------------------------------


def test_the_scripted_expert_goes_to_what_it_is_told(bench: Any, keys: Keys) -> None:
    b = bench(Teleop, contract="panda", terminal=keys.path, device="scripted", with_policy="true")
    stage = Stage(b)
    assert stage.authority[-1].source == msg.Authority.POLICY
    scene = b.talk(String, topics.SIMULATOR_SCENE, topics.LATCHED)
    where = b.talk(MultiDOFJointState, topics.SIMULATOR_OBJECTS, topics.NEWEST)

    def tell(*names: str, seconds: float = 0.0) -> list[Any]:
        before, end = len(stage.outputs), time.monotonic() + seconds
        poses = {name: Pose(HOME.position + [0.0, 0.15, -0.2], rotations.IDENTITY) for name in names}
        while True:
            where.publish(objects_message(poses, "base"))
            b.until(lambda: False, 0.05)
            if time.monotonic() > end:
                return stage.outputs[before:]

    def lay(text: str) -> None:
        scene.publish(String(data=text))
        b.until(lambda: False, 0.1)

    lay('{"instruction": "pick up the red block", "seed": 1, "task": "pick"}')
    stage.episode(Outcome.RUNNING)
    # as long as the policy is in charge it keeps still
    assert not tell("block_red", seconds=0.6)
    keys.tap("t")
    assert b.until(lambda: stage.authority[-1].source == msg.Authority.PERSON)
    assert stage.authority[-1].device == "scripted"
    moved = rows(tell("block_red", seconds=3.0))[:, :3].sum(axis=0)
    assert moved[1] > 0.05 and abs(moved[0]) < 0.04
    # blind, it rests and says so
    stage.wait(1.0)
    assert not rows(stage.wait(0.6))[:, :6].any() and "on /simulator/objects" in keys.screen
    # what is asked for is not there: a new plan cannot be made
    stage.call("hand_back")
    stage.call("take_over")
    tell("block_blue", seconds=1.0)
    assert "no 'block_red'" in keys.screen
    assert not rows(tell("block_blue", seconds=0.6))[:, :6].any()
    for nonsense in ("{", "[1]", "{}"):
        lay(nonsense)
        assert not rows(tell("block_blue", seconds=0.3))[:, :6].any()
    assert "on /simulator/scene" in keys.screen


def test_taking_over_and_handing_back(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path, with_policy="true"))
    assert stage.authority[-1].source == msg.Authority.POLICY
    stage.episode(Outcome.RUNNING)
    keys.tap("wwww")
    assert not stage.wait(0.5)
    keys.tap("t")
    began = stage.wait(0.4)
    assert stage.authority[-1].source == msg.Authority.PERSON
    since = to_stamp(stage.authority[-1].header.stamp)
    first = to_stamp(began[0].header.stamp)
    assert 0 <= first - since < 0.2e9
    assert not stage.call("take_over").success
    assert stage.call("hand_back").success
    assert stage.b.until(lambda: stage.authority[-1].source == msg.Authority.POLICY)
    stage.wait(0.1)
    assert not stage.wait(0.4)


def test_without_a_policy_there_is_nobody_to_hand_back_to(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path))
    answer = stage.call("hand_back")
    assert not answer.success and "No policy" in answer.message
    for name in ("start", "success", "discard"):
        refused = stage.call(name)
        assert not refused.success and refused.message.endswith(".")


def test_whoever_is_quicker_than_discovery_need_not_press_again(bench: Any, keys: Keys) -> None:
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path, instruction="pick"))
    keys.tap("\n")
    stage.wait(0.5)
    assert "waiting for the supervisor" in keys.screen

    def answer(request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        asked.append(request.instruction)
        response.success, response.episode_id = True, "episode_1"
        return response

    asked: list[str] = []
    stage.b.probe.create_service(StartEpisode, "/supervisor/start_episode", answer)
    assert stage.b.until(lambda: asked == ["pick"])


def test_an_episode_whose_start_is_never_answered_is_driven_all_the_same(bench: Any, keys: Keys) -> None:
    """An answer may be lost where the supervisor has not heard of this client yet."""
    stage = Stage(bench(Teleop, contract="panda", terminal=keys.path, instruction="pick"))

    async def silent(request: Any, response: Any) -> Any:
        asked.append(request)
        await Future()
        return response

    asked: list[Any] = []
    for kind, name in ((StartEpisode, "start_episode"), (StopEpisode, "stop_episode")):
        group = ReentrantCallbackGroup()
        stage.b.probe.create_service(kind, f"/supervisor/{name}", silent, callback_group=group)
    keys.tap("\n")
    assert stage.b.until(lambda: len(asked) == 1)
    assert not stage.wait(0.4)
    stage.episode(Outcome.RUNNING)
    assert stage.b.until(lambda: len(stage.outputs) > 2)
    keys.tap("y")
    assert stage.b.until(lambda: len(asked) == 2)
    stage.episode(Outcome.SUCCESS)
    stage.wait(0.3)
    assert "episode_1: success" in keys.screen and "did not answer" not in keys.screen
    # the next one is another episode
    keys.tap("\n")
    assert stage.b.until(lambda: len(asked) == 3)


def answer_of(b: Bench, source: Source, age: float = 0.0, x: float = 0.01) -> msg.PolicyOutput:
    stamp = b.now() - round(age * NANOSECONDS)
    values = np.array([[x, 0, 0, 0, 0, 0, 1.0]])
    message = policy_output_message(PolicyOutput(stamp, 1, "delta_tcp", values, source=source), "t", "pick")
    message.published = to_time(b.now())
    return message


def test_the_chunker_carries_out_who_is_in_charge(bench: Any) -> None:
    b = bench(Chunker, contract="panda")
    b.up()
    chunks = b.listen(msg.ActionChunk, topics.ACTION_CHUNK)
    talker = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    announce = b.talk(msg.Authority, topics.AUTHORITY, topics.LATCHED)

    def sent(source: Source, age: float = 0.0) -> int:
        before = len(chunks)
        talker.publish(answer_of(b, source, age))
        b.until(lambda: len(chunks) > before, 0.3)
        return len(chunks) - before

    def say(source: Source) -> None:
        message = msg.Authority(source=int(source))
        message.header.stamp = to_time(b.now())
        announce.publish(message)
        b.until(lambda: False, 0.1)

    # nobody was ever announced
    assert sent(Source.POLICY) == 1 and sent(Source.PERSON) == 0
    say(Source.PERSON)
    assert sent(Source.POLICY) == 0 and sent(Source.PERSON) == 1
    assert chunks[-1].source == msg.Authority.PERSON
    say(Source.POLICY)
    # an answer to what was seen before the change is void
    assert sent(Source.POLICY, age=0.5) == 0 and sent(Source.POLICY) == 1 and sent(Source.PERSON) == 0


def test_the_supervisor_and_a_person(bench: Any) -> None:
    b = bench(Supervisor, simulator="false", home_first="false", patience=0.3, first_answer=0.5)
    statuses = b.listen(msg.EpisodeStatus, topics.EPISODE_STATUS)
    talker = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    announce = b.talk(msg.Authority, topics.AUTHORITY, topics.LATCHED)
    message = msg.Authority(source=msg.Authority.PERSON, device="keyboard")
    message.header.stamp = to_time(b.now())
    announce.publish(message)
    b.until(lambda: False, 0.2)
    start = b.probe.create_client(StartEpisode, "/supervisor/start_episode")
    assert b.until(start.service_is_ready)
    begun = start.call_async(StartEpisode.Request(instruction="pick"))
    assert b.until(begun.done)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        talker.publish(answer_of(b, Source.PERSON))
        # a policy that fails, or says it is done, while a person drives ends nothing
        talker.publish(msg.PolicyOutput(error="It broke.", instruction="pick"))
        done = answer_of(b, Source.POLICY)
        done.terminate = True
        talker.publish(done)
        b.until(lambda: False, 0.1)
    assert statuses[-1].outcome == Outcome.RUNNING and 5 <= statuses[-1].steps <= 13
    stop = b.probe.create_client(StopEpisode, "/supervisor/stop_episode")
    assert b.until(stop.service_is_ready)
    asked = stop.call_async(StopEpisode.Request(outcome=int(Outcome.DISCARDED), reason="Too slow."))
    assert b.until(asked.done) and asked.result().success
    assert b.until(lambda: statuses[-1].outcome == Outcome.DISCARDED)
    assert statuses[-1].reason == "Too slow."
