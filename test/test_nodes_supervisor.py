"""The supervisor: episodes by service and by action, with stand-ins for controller and policy."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from node_bench import Bench, bench, domain
from rclpy.action import ActionClient
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_ros.action import ExecuteInstruction
from vla_ros.srv import MoveToJoints, SetInstruction, StartEpisode, StopEpisode

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.supervisor import Supervisor

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures


def supervisor(bench: Any, **parameters: Any) -> Bench:
    return bench(Supervisor, **{"simulator": "false", "home_first": "false", **parameters})


def call(b: Bench, kind: type, name: str, request: Any) -> Any:
    client = b.probe.create_client(kind, f"/supervisor/{name}")
    assert b.until(client.service_is_ready)
    future = client.call_async(request)
    assert b.until(future.done)
    return future.result()


def start(b: Bench, instruction: str = "pick up the red block") -> Any:
    return call(b, StartEpisode, "start_episode", StartEpisode.Request(instruction=instruction))


def answer(instruction: str = "pick up the red block", **fields: Any) -> msg.PolicyOutput:
    return msg.PolicyOutput(instruction=instruction, values=[0.0], horizon=1, dimension=1, **fields)


def ended(b: Bench, statuses: list[Any]) -> Any:
    assert b.until(lambda: bool(statuses) and statuses[-1].outcome > Outcome.RUNNING)
    return statuses[-1]


def test_an_episode_publishes_its_instruction_and_ends_with_the_policys_word(bench: Any) -> None:
    b = supervisor(bench)
    statuses = b.listen(msg.EpisodeStatus, topics.EPISODE_STATUS)
    said = b.listen(String, topics.INSTRUCTION)
    policy = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    begun = start(b)
    assert begun.success and begun.instruction == "pick up the red block"
    assert b.until(lambda: bool(said) and said[-1].data == "pick up the red block")
    policy.publish(answer())
    policy.publish(answer("another instruction", terminate=True))
    policy.publish(answer(terminate=True))
    last = ended(b, statuses)
    assert (last.outcome, last.steps, last.episode_id) == (Outcome.SUCCESS, 2, begun.episode_id)
    assert b.until(lambda: said[-1].data == "")


@pytest.mark.parametrize("instruction", ["", "   "])
def test_an_empty_instruction_is_refused(bench: Any, instruction: str) -> None:
    b = supervisor(bench)
    refused = start(b, instruction)
    assert not refused.success and "empty" in refused.message


def test_one_episode_at_a_time_and_stopping_it(bench: Any) -> None:
    b = supervisor(bench)
    statuses = b.listen(msg.EpisodeStatus, topics.EPISODE_STATUS)
    assert start(b).success
    second = start(b)
    assert not second.success and "running" in second.message
    request = StopEpisode.Request(outcome=int(Outcome.FAILURE), reason="The cup fell.")
    assert call(b, StopEpisode, "stop_episode", request).success
    last = ended(b, statuses)
    assert (last.outcome, last.reason) == (Outcome.FAILURE, "The cup fell.")
    assert not call(b, StopEpisode, "stop_episode", request).success
    assert start(b).success


def test_errors_without_an_answer_between_them_end_it_in_their_words(bench: Any) -> None:
    b = supervisor(bench, patience=0.3)
    statuses = b.listen(msg.EpisodeStatus, topics.EPISODE_STATUS)
    policy = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    assert start(b).success
    policy.publish(msg.PolicyOutput(instruction="pick up the red block", error="No red block is in sight."))
    last = ended(b, statuses)
    assert (last.outcome, last.reason) == (Outcome.ABORTED, "No red block is in sight.")


def test_a_latched_stop_of_the_controller_ends_it(bench: Any) -> None:
    b = supervisor(bench)
    statuses = b.listen(msg.EpisodeStatus, topics.EPISODE_STATUS)
    controller = b.talk(msg.SafetyStatus, topics.SAFETY_STATUS)
    assert start(b).success
    controller.publish(msg.SafetyStatus(state=msg.SafetyStatus.STOPPED, message="Emergency stop."))
    last = ended(b, statuses)
    assert (last.outcome, last.reason) == (Outcome.ABORTED, "Emergency stop.")


def test_homing_is_waited_for_and_its_refusal_told(bench: Any) -> None:
    b = supervisor(bench, home_first="true", home_gripper_width=0.07)
    controller = b.talk(msg.SafetyStatus, topics.SAFETY_STATUS)
    asked: list[Any] = []

    def move(request: Any, response: Any) -> Any:
        asked.append(request)
        response.success, response.message = len(asked) > 2, "the robot moves"
        return response

    b.probe.create_service(MoveToJoints, "/safety_controller/move_to_joints", move)
    b.probe.create_timer(0.02, lambda: controller.publish(msg.SafetyStatus(moving=False)))
    assert start(b).success
    assert len(asked) == 3
    assert not asked[0].positions and asked[0].gripper_width == pytest.approx(0.07)


def test_an_instruction_may_change_but_not_vanish_during_an_episode(bench: Any) -> None:
    b = supervisor(bench)
    said = b.listen(String, topics.INSTRUCTION)
    assert start(b).success
    changed = call(b, SetInstruction, "set_instruction", SetInstruction.Request(instruction="push it"))
    assert changed.success and b.until(lambda: said[-1].data == "push it")
    emptied = call(b, SetInstruction, "set_instruction", SetInstruction.Request(instruction=" "))
    assert not emptied.success and "empty" in emptied.message


@pytest.mark.parametrize("cancel", [False, True])
def test_the_action_gives_feedback_and_a_result(bench: Any, cancel: bool) -> None:
    b = supervisor(bench)
    policy = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    client = ActionClient(b.probe, ExecuteInstruction, "/supervisor/execute_instruction")
    assert b.until(client.server_is_ready)
    feedback: list[Any] = []
    goal = ExecuteInstruction.Goal(instruction="pick up the red block", timeout=20.0)
    sent = client.send_goal_async(goal, feedback_callback=lambda m: feedback.append(m.feedback))
    assert b.until(sent.done) and sent.result().accepted
    policy.publish(answer())
    assert b.until(lambda: bool(feedback) and feedback[-1].step == 1)
    if cancel:
        assert b.until(sent.result().cancel_goal_async().done)
    else:
        policy.publish(answer(terminate=True))
    finished = sent.result().get_result_async()
    assert b.until(finished.done)
    wanted = Outcome.ABORTED if cancel else Outcome.SUCCESS
    assert finished.result().result.outcome == wanted and finished.result().result.reason
    client.destroy()


class Manager:
    """A lifecycle manager that says when the graph is up."""

    def __init__(self, b: Bench) -> None:
        self.up, self.asked = False, 0
        b.probe.create_service(Trigger, "/lifecycle_manager/is_active", self._answer)

    def _answer(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.asked += 1
        response.success = self.up
        return response


def test_an_instruction_to_start_with_waits_until_the_graph_is_up(bench: Any) -> None:
    b = supervisor(bench, instruction="pick up the red block")
    said = b.listen(String, topics.INSTRUCTION)
    manager = Manager(b)
    assert b.until(lambda: manager.asked > 3)
    assert not any(message.data for message in said)
    manager.up = True
    assert b.until(lambda: bool(said) and said[-1].data == "pick up the red block")
    assert not b.node.stopping


@pytest.mark.parametrize("answers", [False, True])
def test_a_graph_that_never_comes_up_ends_the_run_with_a_status(bench: Any, answers: bool) -> None:
    b = supervisor(bench, instruction="pick up the red block", up_patience="0.6")
    said = b.listen(String, topics.INSTRUCTION)
    if answers:
        Manager(b)
    assert b.until(lambda: b.node.stopping)
    assert b.node.exit_code == 2
    assert not any(message.data for message in said)
