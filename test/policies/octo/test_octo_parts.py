"""Frames, images, words and prefixes on their way into the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from octo_checkpoint import WORDS, write_tokenizer
from PIL import Image as Pillow

from vla_ros.actions import decode, get_action_space, rotations
from vla_ros.actions.normalization import ActionStatistics, Normalization, NormalizationKind
from vla_ros.errors import ObservationError, PolicyError
from vla_ros.policies.base import ActionPrefix
from vla_ros.policies.octo.history import History
from vla_ros.policies.octo.language import read_tokenizer
from vla_ros.policies.octo.prefix import guidance
from vla_ros.policies.octo.preprocess import crop_weights, lanczos_weights, prepare, read_image
from vla_ros.robots import load_robot
from vla_ros.types import ActionKind, Array, Composition, PolicyOutput, Pose

SECOND = 1_000_000_000
GRIPPER = load_robot("panda").gripper


# frames


def test_a_steady_stream_fills_the_window() -> None:
    history: History[int] = History(3, 0.2)
    for index in range(8):
        frames, real = history.add(SECOND + round(index * 0.2 * SECOND), index)
        assert frames == [max(index - 2, 0), max(index - 1, 0), index]
        assert real.tolist() == [index >= 2, index >= 1, True]


def test_faster_observations_are_thinned_and_gaps_are_padding() -> None:
    history: History[float] = History(2, 0.2)
    for index in range(20):
        frames, real = history.add(round(index * 0.05 * SECOND), index * 0.05)
    assert frames == pytest.approx([0.75, 0.95]) and real.all()
    frames, real = history.add(round(1.30 * SECOND), 1.30)
    assert frames == pytest.approx([0.95, 1.30]) and real.all()
    frames, real = history.add(3 * SECOND, 3.0)
    assert frames == [3.0, 3.0] and real.tolist() == [False, True]
    frames, real = history.add(2 * SECOND, 2.0)
    assert frames == [2.0, 2.0] and real.tolist() == [False, True]
    frames, real = history.add(2 * SECOND, 2.5)
    assert frames == [2.5, 2.5] and real.tolist() == [False, True]
    history.clear()
    assert history.add(round(2.2 * SECOND), 1.0)[1].tolist() == [False, True]


@given(st.lists(st.floats(0.01, 0.7), min_size=1, max_size=30), st.integers(1, 4))
def test_a_window_is_ordered_and_near_its_times(gaps: list[float], window: int) -> None:
    history: History[float] = History(window, 0.2)
    time = 0.0
    for gap in gaps:
        time += gap
        frames, real = history.add(round(time * SECOND), time)
        assert len(frames) == window and frames[-1] == time and real[-1]
        assert all(b >= a for a, b in zip(frames, frames[1:], strict=False))
        assert all(b or not a for a, b in zip(real, real[1:], strict=False))
        for step, (frame, is_real) in enumerate(zip(reversed(frames), reversed(real), strict=True)):
            if is_real:
                assert abs(time - 0.2 * step - frame) <= 0.2 + 1e-6
        chosen = [frame for frame, is_real in zip(frames, real, strict=True) if is_real]
        assert len(set(chosen)) == len(chosen)


# images


@pytest.mark.parametrize(("height", "width"), [(480, 640), (100, 90), (720, 1280), (256, 256), (33, 57)])
def test_resizing_agrees_with_pillow(height: int, width: int) -> None:
    """The same kernel; Pillow rounds between its two passes."""
    random = np.random.default_rng(height)
    coarse = random.integers(70, 186, (9, 12, 3), np.uint8)
    image = np.asarray(Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC))
    found = prepare(image, (128, 128), crop=False).astype(int)
    expected = np.asarray(Pillow.fromarray(image).resize((128, 128), Pillow.Resampling.LANCZOS)).astype(int)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.4


@given(st.integers(1, 300), st.integers(1, 300))
def test_weights_are_shares(inputs: int, outputs: int) -> None:
    assert np.allclose(lanczos_weights(inputs, outputs).sum(axis=1), 1.0, atol=1e-5)
    assert np.allclose(crop_weights(outputs, 0.9).sum(axis=1), 1.0, atol=1e-5)
    mirrored = lanczos_weights(inputs, outputs)[::-1, ::-1]
    assert np.allclose(mirrored, lanczos_weights(inputs, outputs), atol=1e-5)


def test_the_crop_takes_the_middle() -> None:
    ramp = np.tile(np.arange(0, 250, dtype=np.uint8)[None, :, None], (250, 1, 3))
    cropped = prepare(ramp, (250, 250), crop=True)
    side = np.sqrt(0.9)
    expected = (0.5 * (1.0 - side) + side * np.linspace(0.0, 1.0, 250)) * 249.0
    assert np.abs(cropped[10, :, 0] - expected).max() <= 0.5 + 1e-3
    assert np.array_equal(prepare(ramp, (250, 250), crop=False), ramp)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((4, 4), np.uint8), ((4, 4, 4), np.uint8), ((4, 4, 3), np.float64), ((0, 4, 3), np.uint8)],
)
def test_what_is_no_image(shape: tuple[int, ...], kind: type) -> None:
    image = np.zeros(shape, kind)
    with pytest.raises(ObservationError, match="must be RGB bytes"):
        prepare(image, (8, 8), crop=False)


def test_goal_files(tmp_path: Path) -> None:
    path = tmp_path / "goal.png"
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    Pillow.fromarray(image).save(path)
    assert np.array_equal(read_image(path), image)
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(PolicyError, match=f"goal image .*{name} cannot be read"):
            read_image(tmp_path / name)


# words


def test_words_are_cut_ended_and_padded(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    write_tokenizer(tmp_path)
    tokenizer = read_tokenizer(tmp_path, 6)
    ids, mask = tokenizer("put the red")
    assert ids.tolist() == [[3, 4, 5, 1, 0, 0]] and mask.tolist() == [[1, 1, 1, 1, 0, 0]]
    ids, mask = tokenizer(" ".join(WORDS))
    assert ids.tolist() == [[3, 4, 5, 6, 7, 1]] and mask.all()
    assert tokenizer("")[0].tolist() == [[1, 0, 0, 0, 0, 0]]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PolicyError, match="is no tokenizer"):
        read_tokenizer(tmp_path, 6)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(PolicyError, match=r"neither tokenizer.json nor spiece.model"):
        read_tokenizer(tmp_path, 6)


def test_pieces(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    text = tmp_path / "text"
    text.write_text("\n".join(["put the red block on the blue plate", "lift the block"] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "spiece"), vocab_size=20, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, minloglevel=2,
    )  # fmt: skip
    tokenizer = read_tokenizer(tmp_path, 16)
    ids, mask = tokenizer("lift")
    known = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    assert ids[0, : mask.sum()].tolist() == [*known.encode("lift"), 1]
    (tmp_path / "spiece.model").write_text("no model")
    with pytest.raises(PolicyError, match="is no tokenizer"):
        read_tokenizer(tmp_path, 16)


# prefixes

START = Pose(np.array([0.4, 0.1, 0.3]), rotations.normalize(np.array([0.9, 0.1, 0.2, 0.1])))


def normalization(kind: NormalizationKind) -> Normalization:
    statistics = ActionStatistics(
        np.full(7, -0.05), np.full(7, 0.06), np.full(7, 0.01), np.full(7, 0.02),
        np.array([True] * 6 + [False]), "test",
    )  # fmt: skip
    return Normalization("test", kind, statistics)


def composed(values: Array, space_name: str, scaled: Normalization | None) -> ActionPrefix:
    """Absolute targets of a policy's answer, as the executor composes them."""
    space = get_action_space(space_name)
    output = PolicyOutput(0, 0, space_name, values=values, normalization_key="" if scaled is None else "test")
    chunk = decode(output, space, GRIPPER, scaled)
    assert chunk.translation is not None and chunk.quaternion is not None
    targets, position, turned = [], START.position, START.quaternion
    for move, turn in zip(chunk.translation, chunk.quaternion, strict=True):
        position, turned = position + move, rotations.multiply(turn, turned)
        targets.append(np.concatenate([position, turned]))
    after = chunk.period * np.arange(1, len(targets) + 1)
    return ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, after, np.array(targets), chunk.gripper_width)


@given(
    st.integers(0, 2**31),
    st.sampled_from([None, NormalizationKind.NORMAL, NormalizationKind.BOUNDS_Q99]),
    st.sampled_from(["delta_tcp", "droid"]),
)
def test_targets_lead_back_to_the_answer_they_came_from(
    seed: int, kind: NormalizationKind | None, space_name: str
) -> None:
    random = np.random.default_rng(seed)
    scaled = None if kind is None else normalization(kind)
    values = random.uniform(-0.6, 0.6, (4, 7)) * (0.05 if kind is None else 1.0)
    values[:, 6] = random.uniform(0.0, 1.0, 4)
    prefix = composed(values, space_name, scaled)
    found = guidance(prefix, START, get_action_space(space_name), GRIPPER, scaled, 6)
    assert found is not None
    target, weight = found
    assert np.allclose(target[:4], values, atol=1e-6)
    assert (weight[:4] == 1.0).all() and (weight[4:] == 0.0).all()


def test_a_step_committed_in_part_counts_in_part() -> None:
    """Two and a half steps of a straight motion say the third step, with half the weight."""
    values = np.tile([0.01, -0.02, 0.005, 0.02, 0.01, -0.03, 1.0], (3, 1))
    whole = composed(values, "delta_tcp", None)
    slower = np.concatenate([values[:2], [[0.005, -0.01, 0.0025, 0.01, 0.005, -0.015, 1.0]]])
    half = composed(slower, "delta_tcp", None)
    part = ActionPrefix(whole.kind, np.array([0.2, 0.4, 0.5]), half.targets, half.gripper_width)
    found = guidance(part, START, get_action_space("delta_tcp"), GRIPPER, None, 4)
    assert found is not None
    assert np.allclose(found[0][:3], values, atol=3e-4)
    assert np.allclose(found[1][:, 0], [1.0, 1.0, 0.5, 0.0], atol=1e-6)


def test_a_prefix_that_reaches_back_beyond_the_observation() -> None:
    values = np.tile([0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], (4, 1))
    prefix = composed(values, "delta_tcp", None)
    earlier = ActionPrefix(prefix.kind, prefix.after - 0.3, prefix.targets, prefix.gripper_width)
    found = guidance(earlier, START, get_action_space("delta_tcp"), GRIPPER, None, 4)
    assert found is not None
    assert np.allclose(found[0][:2, 0], 0.01, atol=1e-6) and np.allclose(found[0][:2, 6], 0.0)
    assert np.allclose(found[1][:, 0], [1.0, 1.0, 0.5, 0.0], atol=1e-6)


def test_prefixes_that_say_nothing() -> None:
    space = get_action_space("delta_tcp")
    targets, width = np.zeros((1, 7)), np.zeros(1)
    targets[:, 6] = 1.0
    for prefix in (
        ActionPrefix(ActionKind.JOINT_POSITION, np.array([1.0]), targets, width),
        ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, np.array([0.03]), targets, width),
        ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, np.zeros(0), targets[:0], width[:0]),
        ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, np.array([-0.1]), targets, width),
    ):
        assert guidance(prefix, START, space, GRIPPER, None, 4) is None


def test_absolute_poses_joints_and_relative_grippers() -> None:
    pose = np.concatenate([START.position, START.quaternion])
    times = np.array([0.2, 0.4])
    prefix = ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, times, np.stack([pose, pose]), np.zeros(2))
    found = guidance(prefix, START, get_action_space("absolute_tcp"), GRIPPER, None, 4)
    assert found is not None
    assert np.allclose(found[0][:2, :3], START.position)
    assert np.allclose(
        rotations.angle_between(rotations.from_euler_xyz(found[0][0, 3:6]), START.quaternion), 0.0, atol=1e-6
    )
    fractal = guidance(prefix, START, get_action_space("fractal", rate=5.0), GRIPPER, None, 4)
    assert fractal is not None and (fractal[1][:, -1] == 0.0).all() and (fractal[1][:2, 0] == 1.0).all()
    still = np.full(2, GRIPPER.max_width)
    times, places = np.array([0.1, 0.3]), np.array([[0.0] * 7, [1.0] * 7])
    joints = ActionPrefix(ActionKind.JOINT_POSITION, times, places, still)
    space = get_action_space("joint_position", 7, 10.0)
    found = guidance(joints, START, space, GRIPPER, None, 4)
    assert found is not None
    assert np.allclose(found[0][:3, 0], [0.0, 0.5, 1.0]) and np.allclose(found[0][:3, 7], 1.0)
    assert guidance(joints, START, get_action_space("joint_position", 6, 10.0), GRIPPER, None, 4) is None


def test_measured_composition_begins_at_the_measured_pose() -> None:
    space = get_action_space("droid")
    assert space.composition is Composition.MEASURED
    pose = np.concatenate([START.position, START.quaternion])
    on = pose + np.array([0.0075, 0, 0, 0, 0, 0, 0])
    times = np.array([0.0, space.period])
    prefix = ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, times, np.stack([pose - 0.01, on]), np.zeros(2))
    found = guidance(prefix, START, space, GRIPPER, None, 4)
    assert found is not None and found[0][0, 0] == pytest.approx(0.1)
