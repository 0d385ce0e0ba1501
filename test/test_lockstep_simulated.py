"""World and strip in lock step: the same to the last bit, inside the limits, on the grid, replayable."""

import json

import numpy as np
import pytest

from vla_ros.actions.space import get_action_space
from vla_ros.contract import load_contract
from vla_ros.data.bag import bag_metadata, closing_metadata, read_bag
from vla_ros.data.message_types import stamp_of
from vla_ros.data.recorded_topics import contract_topics
from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.run_data import load_run
from vla_ros.lockstep import simulated
from vla_ros.lockstep.bag_log import BagLog
from vla_ros.lockstep.demonstrate import Demonstrator, Order
from vla_ros.lockstep.simulated import START, Scene, make_world, rollout, set_scene, timestep
from vla_ros.lockstep.sources import ExpertSource, PolicySource, RecordedSource
from vla_ros.policies.base import PolicyRequirements
from vla_ros.sim.expert import Variation, draw
from vla_ros.sim.judge import Outcome
from vla_ros.types import PolicyOutput, Source

ROBOTS = ("panda", "fr3", "ur5", "ur5e", "widowx")
SMALL = """
robot: widowx
cameras:
  primary: {width: 64, height: 48, rate: 5.0}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("contract") / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def messages(bag, topic):
    return [entry.message for entry in read_bag(bag, (topic,))]


def actions(bag):
    return np.array([message.values for message in messages(bag, "/vla/policy_output")])


def run_expert(contract, scene, variation=Variation(), world=None, log=None, **options):  # noqa: B008
    if world is None:
        world = make_world(contract, scene)
    else:
        set_scene(world, scene)
    source = ExpertSource(contract, world, scene.seed, variation)
    return rollout(contract, world, source, log, render=False, **options)


@pytest.fixture(scope="module")
def demonstration(small, tmp_path_factory):
    """A place with a dropped block."""
    out = tmp_path_factory.mktemp("demonstrations")
    always = Variation(recovery=1.0)
    seed = next(seed for seed in range(100) if draw(always, seed).recovery == "drop")
    order = Order(small, ("pick",), seed, variation=always, vary_language=True)
    demonstrator = Demonstrator(order, out)
    result = demonstrator.make(seed)
    demonstrator.close()
    assert result.success and result.recovery == "drop" and result.retries == 1
    return order, out / f"episode_{seed:06d}", result


def test_a_seed_gives_the_same_bytes_whatever_was_done_before(demonstration, tmp_path):
    order, bag, result = demonstration
    demonstrator = Demonstrator(order, tmp_path)
    demonstrator.make(result.seed + 1)
    assert demonstrator.make(result.seed) == result
    demonstrator.close()
    name = f"{bag.name}.mcap"
    assert (tmp_path / bag.name / name).read_bytes() == (bag / name).read_bytes()


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_robot_picks_within_its_limits(robot, tmp_path):
    contract = load_contract(robot, simulated=True)
    with BagLog(tmp_path / "bag", contract) as log:
        run = run_expert(contract, Scene(robot, "pick", "", 1), log=log)
    assert run.verdict.outcome is Outcome.SUCCESS
    verdict = judge_run(load_run(tmp_path / "bag", contract.robot), contract.robot)
    assert verdict.ticks > 0.9 * run.seconds * contract.control_rate
    assert not verdict.violations, verdict.sentence()


@pytest.mark.parametrize("space", ["bridge", "droid", "fractal_sticky", "absolute_tcp", "joint_position"])
def test_other_action_spaces_do_it_too(space):
    contract = load_contract("widowx", simulated=True, action_space=space)
    run = run_expert(contract, Scene("widowx", "pick", "", 2))
    assert run.verdict.outcome is Outcome.SUCCESS
    assert run.steps == pytest.approx(run.seconds * contract.action_space.rate, abs=4)


@pytest.mark.parametrize("task", ["place", "push", "stack"])
def test_other_tasks_through_the_whole_strip(task):
    contract = load_contract("widowx", simulated=True)
    assert run_expert(contract, Scene("widowx", task, "", 3)).verdict.outcome is Outcome.SUCCESS


def test_actions_are_a_persons_exact_in_float32_and_on_the_grid(demonstration):
    _, bag, result = demonstration
    outputs = messages(bag, "/vla/policy_output")
    assert len(outputs) == result.steps
    values = actions(bag)
    np.testing.assert_array_equal(values, values.astype(np.float32).astype(np.float64))
    stamps = np.array([stamp_of(output.header.stamp) for output in outputs])
    period = get_action_space("delta_tcp").period
    np.testing.assert_array_equal(stamps - stamps[0], np.rint(np.arange(len(stamps)) * period * 1e9))
    for output, stamp in zip(outputs, stamps, strict=True):
        assert stamp_of(output.published) == stamp
        assert (output.horizon, output.dimension, output.normalization_key) == (1, 7, "")
        assert output.source == Source.PERSON and output.policy == "scripted_expert"
    assert [m.source for m in messages(bag, "/vla/action_chunk")] == [1] * len(outputs)
    assert [m.source for m in messages(bag, "/vla/authority")] == [1]


def test_the_bag_is_what_a_recorder_would_have_written(demonstration, small):
    _, bag, _ = demonstration
    contract = load_contract(small, simulated=True)
    kinds = {entry.topic: entry.type_name for entry in read_bag(bag)}
    expected = {topic.name: topic.type_name for topic in contract_topics(contract)}
    camera = contract.cameras["primary"].topic
    assert kinds.pop(f"{camera}/compressed") == "sensor_msgs/msg/CompressedImage"
    assert kinds["/camera/primary/camera_info"] == "sensor_msgs/msg/CameraInfo"
    assert kinds.items() <= expected.items()
    assert set(expected) - set(kinds) == {camera, "/diagnostics"}
    stamps = [entry.stamp for entry in read_bag(bag)]
    assert stamps == sorted(stamps) and stamps[0] >= START
    outcomes = [(m.episode_id, m.outcome) for m in messages(bag, "/vla/episode_status")]
    assert {name for name, _ in outcomes} == {bag.name}
    assert [outcome for _, outcome in outcomes] == [1] * (len(outcomes) - 1) + [2]
    frames = {stamp_of(m.header.stamp) for m in messages(bag, f"{camera}/compressed")}
    observations = messages(bag, "/vla/observation")
    assert {stamp_of(image.header.stamp) for m in observations for image in m.images} <= frames
    assert all(len(image.data) == 0 for m in observations for image in m.images)
    # every action has an observation to start from
    first = stamp_of(messages(bag, "/vla/policy_output")[0].header.stamp)
    assert stamp_of(observations[0].header.stamp) <= first


def test_the_metadata_say_everything(demonstration):
    order, bag, result = demonstration
    texts = bag_metadata(bag)
    assert {"contract", "robot", "urdf", "calibration", "vla_ros_version", "scene", "expert"} <= set(texts)
    scene = Scene.from_json(texts["scene"])
    assert (scene.robot, scene.task, scene.seed) == ("widowx", "pick", result.seed)
    assert scene.instruction == messages(bag, "/vla/instruction")[0].data
    calibration = json.loads(texts["calibration"])["primary"]
    assert (calibration["width"], calibration["height"]) == (64, 48)
    np.testing.assert_allclose(np.linalg.norm(calibration["quaternion"]), 1.0)
    end = closing_metadata(bag)
    assert end["outcome"] == "success" and "lifted above 5 cm" in end["reason"]
    loss = json.loads(end["image_loss"])["/camera/primary/image_raw/compressed"]
    assert loss["frames"] == pytest.approx(0.1 * 5.0 * result.seconds, abs=1)
    assert 25.0 < loss["min_psnr"] <= loss["mean_psnr"] < 60.0


def test_a_recorded_episode_is_replayed_to_the_same_end(demonstration, small, tmp_path):
    _, bag, _ = demonstration
    contract = load_contract(small, simulated=True)
    scene = Scene.from_json(bag_metadata(bag)["scene"])
    world = make_world(contract, scene)
    source = RecordedSource(contract, actions(bag))
    with BagLog(tmp_path / "again", contract) as log:
        run = rollout(contract, world, source, log, render=False)
    assert run.verdict.outcome is Outcome.SUCCESS
    setpoints = [
        np.array([m.positions for m in messages(path, "/vla/joint_setpoint")])
        for path in (bag, tmp_path / "again")
    ]
    np.testing.assert_array_equal(*setpoints)


def test_a_disturbed_start_is_part_of_the_scene(small):
    contract = load_contract(small, simulated=True)
    always = Variation(recovery=1.0)
    seed = next(seed for seed in range(100) if draw(always, seed).recovery == "disturbed")
    scene = Demonstrator(Order(small, ("pick",), variation=always), None).scene(seed)
    assert Scene.from_json(scene.to_json()) == scene
    world = make_world(contract, scene)
    np.testing.assert_array_equal(world.joint_positions(), scene.joints)
    assert np.abs(world.joint_positions() - contract.robot.home).max() > 0.05
    assert run_expert(contract, scene, always, world).verdict.outcome is Outcome.SUCCESS


def test_actions_that_run_out_are_a_failure_with_a_reason(small):
    contract = load_contract(small, simulated=True)
    scene = Scene("widowx", "pick", "", 0)
    source = RecordedSource(contract, np.tile([0.0] * 6 + [1.0], (5, 1)))
    run = rollout(contract, make_world(contract, scene), source, render=False)
    assert run.verdict.outcome is Outcome.FAILURE and "nothing more to say" in run.verdict.reason
    assert run.steps == 5 and run.seconds == pytest.approx(0.2 + 1.0 + simulated.SETTLE, abs=0.2)


class Still:
    """A policy that stays and says after three answers that it is done."""

    requirements = PolicyRequirements("delta_tcp", 2.0, 4)

    def __init__(self):
        self.stamps = []

    def load(self):
        pass

    def reset(self, instruction):
        self.instruction = instruction

    def infer(self, observation):
        self.stamps.append(observation.stamp)
        rows = np.tile([0.0] * 6 + [1.0], (4, 1))
        done = len(self.stamps) == 3
        return PolicyOutput(observation.stamp, observation.sequence, "delta_tcp", rows, terminate=done)


def test_a_policy_sees_observations_at_its_own_rate(small):
    contract = load_contract(small, simulated=True)
    scene, policy = Scene("widowx", "pick", "", 0), Still()
    run = rollout(contract, make_world(contract, scene), PolicySource("still", policy))
    assert run.verdict.outcome is Outcome.FAILURE and run.steps == 3
    assert policy.instruction.startswith("pick up the ")
    np.testing.assert_allclose(np.diff(policy.stamps), 0.5e9, atol=0.21e9)


def test_it_stops_when_told(small):
    contract, ticks = load_contract(small, simulated=True), []

    def three(elapsed):
        ticks.append(elapsed)
        return len(ticks) < 3

    run = run_expert(contract, Scene("widowx", "pick", "", 0), on_tick=three)
    assert run.verdict.reason == "stopped from outside"
    np.testing.assert_allclose(ticks, [0.01, 0.02, 0.03], atol=0.0101)


def test_what_does_not_fit_is_refused(small, tmp_path):
    contract = load_contract(small, simulated=True)
    with pytest.raises(ActionError, match=r"shape \(3, 6\), but action space 'delta_tcp' needs \(steps, 7\)"):
        RecordedSource(contract, np.zeros((3, 6)))
    with pytest.raises(ConfigurationError, match="must be a multiple of 0.5 ms"):
        timestep(load_contract("panda", simulated=True, control_rate=333.0))
    with pytest.raises(ConfigurationError, match="images 'gif' are unknown, known are jpeg, raw"):
        BagLog(tmp_path / "bag", contract, images="gif")
    with pytest.raises(ConfigurationError, match="the bag's scene 'nonsense' cannot be read"):
        Scene.from_json("nonsense")


def test_raw_images_are_what_was_rendered(small, tmp_path):
    contract = load_contract(small, simulated=True)
    world = make_world(contract, Scene("widowx", "pick", "", 0))
    shown = []
    render = world.render
    world.render = lambda name: shown.append(render(name)) or shown[-1]
    source = RecordedSource(contract, np.tile([0.0] * 6 + [1.0], (2, 1)))
    with BagLog(tmp_path / "bag", contract, images="raw") as log:
        rollout(contract, world, source, log)
    recorded = messages(tmp_path / "bag", contract.cameras["primary"].topic)
    assert len(recorded) == len(shown) > 5
    for message, image in zip(recorded, shown, strict=True):
        np.testing.assert_array_equal(message.data.reshape(image.shape), image)
    assert "image_loss" not in closing_metadata(tmp_path / "bag")
