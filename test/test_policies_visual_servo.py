"""The visual-servo policy decides on images alone: phases, retries, refusals, late answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_table import Thing
from toy_table import ToyTable

from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.base import Policy
from vla_ros.policies.visual_servo import VisualServoPolicy
from vla_ros.robots import load_robot

PANDA = load_robot("panda")
SCENE = (
    Thing("block", "red", 0.42, 0.10, 0.4),
    Thing("block", "blue", 0.50, -0.06, 1.2),
    Thing("plate", "green", 0.40, -0.08),
)


@pytest.mark.parametrize("robot", ["panda", "widowx", "ur5"])
def test_picks(robot: str) -> None:
    spec = load_robot(robot)
    middle = 0.5 * (spec.workspace.minimum + spec.workspace.maximum)
    table = ToyTable(
        spec, [Thing("block", "red", middle[0], 0.06, 0.9), Thing("block", "blue", middle[0], -0.08)]
    )
    last = table.run(table.policy("pick up the red block"), 15.0)
    assert last.terminate, last.text
    assert table.held == 0
    assert table.thing("red").support > 0.05


def test_places() -> None:
    table = ToyTable(PANDA, SCENE)
    assert table.run(table.policy("put the red block on the green plate"), 25.0).terminate
    block, plate = table.thing("red"), table.thing("green", "plate")
    assert np.hypot(block.x - plate.x, block.y - plate.y) < 0.015
    assert table.held is None


def test_stacks() -> None:
    table = ToyTable(PANDA, SCENE)
    assert table.run(table.policy("stack the red block on the blue block"), 25.0).terminate
    upper, lower = table.thing("red"), table.thing("blue")
    assert np.hypot(upper.x - lower.x, upper.y - lower.y) < 0.01
    assert upper.support == pytest.approx(0.04)


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_pushes_to_the_side_named(side: str, sign: float) -> None:
    table = ToyTable(PANDA, [Thing("block", "blue", 0.45, 0.02, 0.2)])
    assert table.run(table.policy(f"push the blue block to the {side}"), 25.0).terminate
    assert sign * (table.thing("blue").y - 0.02) > 0.08
    assert table.thing("blue").support == 0.0


def test_tries_again_after_a_grasp_that_missed() -> None:
    table = ToyTable(PANDA, SCENE, slippery=1)
    assert table.run(table.policy("pick up the red block"), 25.0).terminate
    assert table.slippery == 0
    assert table.held == 0


def test_follows_a_block_that_moves() -> None:
    table = ToyTable(PANDA, SCENE)

    def disturb(table: ToyTable, time: float) -> None:
        if abs(time - 1.0) < 0.01:
            table.things[0] = replace(table.things[0], x=0.48, y=0.16, yaw=1.3)

    assert table.run(table.policy("pick up the red block"), 20.0, disturb=disturb).terminate
    assert table.held == 0


def test_picks_up_again_what_it_dropped() -> None:
    table = ToyTable(PANDA, SCENE)
    dropped = []

    def disturb(table: ToyTable, time: float) -> None:
        if not dropped and table.held is not None and table.thing("red").support > 0.05:
            table.drop()
            table.width = 0.03
            dropped.append(time)

    assert table.run(table.policy("put the red block on the green plate"), 40.0, disturb=disturb).terminate
    assert dropped
    assert table.thing("red").support > 0.0


def test_remembers_what_it_no_longer_sees() -> None:
    table = ToyTable(PANDA, SCENE)

    def disturb(table: ToyTable, time: float) -> None:
        table.blind = {"primary", "wrist"} if 0.8 < time < 3.0 else set()

    assert table.run(table.policy("pick up the red block"), 20.0, disturb=disturb).terminate
    assert table.held == 0


@pytest.mark.parametrize("camera", ["primary", "wrist"])
def test_one_camera_is_enough(camera: str) -> None:
    table = ToyTable(PANDA, SCENE)
    table.blind = {"primary", "wrist"} - {camera}
    assert table.run(table.policy("pick up the red block"), 20.0).terminate
    assert table.held == 0


@pytest.mark.parametrize("delay_ticks", [2, 4])
def test_late_answers_change_little(delay_ticks: int) -> None:
    table = ToyTable(PANDA, SCENE)
    assert table.run(table.policy("pick up the red block"), 25.0, delay_ticks=delay_ticks).terminate
    assert table.held == 0


def test_names_what_is_in_sight_when_the_thing_named_is_not() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("pick up the purple block")
    with pytest.raises(InstructionError) as refusal:
        table.run(policy, 10.0)
    assert str(refusal.value) == (
        "The instruction names a purple block, but in sight are: blue block, green plate, red block."
    )
    assert 1.4 < (table.stamp - 1e9) / 1e9 < 2.5


def test_a_plate_is_not_a_block() -> None:
    table = ToyTable(PANDA, SCENE)
    with pytest.raises(InstructionError, match="names a green block"):
        table.run(table.policy("stack the red block on the green block"), 10.0)


def test_says_so_when_nothing_is_in_sight() -> None:
    table = ToyTable(PANDA, [])
    with pytest.raises(InstructionError, match="nothing known is in sight"):
        table.run(table.policy("pick up the red block"), 10.0)


@pytest.mark.parametrize(
    "instruction",
    ["pick up the red block", "push the red block to the left", "stack the blue block on the red block"],
)
def test_says_so_when_a_thing_is_out_of_reach(instruction: str) -> None:
    narrow = replace(PANDA.workspace, maximum=np.array([0.65, 0.08, 0.4]))
    table = ToyTable(replace(PANDA, workspace=narrow), SCENE)
    with pytest.raises(
        PolicyError, match=r"red block lies at x 0\.42 m, y 0\.10 m, outside .* y -0\.30 to 0\.08 m"
    ):
        table.run(table.policy(instruction), 10.0)


def test_steps_stay_within_the_action_space_and_the_robot() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("put the red block on the green plate")
    for _ in range(120):
        output = policy.infer(table.observe())
        values = output.values
        assert values is not None
        assert values.shape == (policy.requirements.horizon, 7)
        assert np.isfinite(values).all()
        assert np.linalg.norm(values[:, :3], axis=1).max() <= min(0.05, 0.2 * PANDA.tcp.speed) + 1e-9
        assert np.abs(values[:, 3:6]).max() < 0.25
        assert set(values[:, 6]) <= {0.0, 1.0}
        path = table.pose.position + np.cumsum(values[:, :3], axis=0)
        assert (path > PANDA.workspace.minimum - 1e-9).all()
        assert (path < PANDA.workspace.maximum + 1e-9).all()
        if output.terminate:
            break
        table.execute(output)
        table.advance()
        table.advance()
    assert output.terminate


def test_holds_still_when_done() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("pick up the red block")
    assert table.run(policy, 20.0).terminate
    for _ in range(3):  # what was under way comes to its end
        output = policy.infer(table.observe())
        table.execute(output)
        table.advance()
        table.advance()
    assert output.terminate
    assert output.values is not None
    np.testing.assert_allclose(output.values, 0.0, atol=1e-9)


def test_answers_carry_the_observation_and_say_what_is_going_on() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("pick up the red block")
    observation = table.observe()
    output = policy.infer(observation)
    assert (output.stamp, output.sequence) == (observation.stamp, observation.sequence)
    assert output.action_space == "delta_tcp"
    assert output.normalization_key == ""
    policy.infer(table.observe())
    assert "red block (0.4" in policy.infer(table.observe()).text
    assert set(output.latency) == {"detect", "plan"}


def test_half_sized_images_will_do() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("pick up the red block")
    observation = table.observe()
    small = {
        name: replace(image, rgb=np.ascontiguousarray(image.rgb[::2, ::2]))
        for name, image in observation.images.items()
    }
    for _ in range(3):
        output = policy.infer(replace(observation, images=small))
    assert "red block (0.4" in output.text


def test_refusals() -> None:
    table = ToyTable(PANDA, SCENE)
    policy = table.policy("pick up the red block")
    with pytest.raises(ObservationError, match="needs one of primary, wrist"):
        policy.infer(replace(table.observe(), images={}))
    with pytest.raises(InstructionError, match="empty"):
        policy.reset("  ")
    with pytest.raises(InstructionError, match="No instruction"):
        VisualServoPolicy(PANDA).infer(table.observe())
    with pytest.raises(PolicyError, match="droid"):
        VisualServoPolicy(PANDA, action_space="droid")
    with pytest.raises(PolicyError, match="horizon is 0"):
        VisualServoPolicy(PANDA, horizon=0)
    with pytest.raises(PolicyError, match="latency allowed for is 2 s, but chunks of 1.6 s"):
        VisualServoPolicy(PANDA, latency=2.0)
    with pytest.raises(PolicyError, match="100 Hz"):
        VisualServoPolicy(PANDA, rate=100.0)
    with pytest.raises(PolicyError, match="no"):
        VisualServoPolicy(replace(PANDA, cameras={})).load()


def test_is_a_policy_that_declares_itself_without_loading() -> None:
    policy = VisualServoPolicy(PANDA)
    assert isinstance(policy, Policy)
    assert [need.name for need in policy.requirements.cameras] == ["primary", "wrist"]
    assert policy.requirements.rate == 5.0
