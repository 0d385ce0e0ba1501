"""Blocks and plates drawn through a camera model are found where they were drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_table import RGB, Thing, draw, look_at

from vla_ros.policies.visual_servo.camera import CameraView, view_of
from vla_ros.policies.visual_servo.colours import HUES, segment
from vla_ros.policies.visual_servo.detection import Detection, detect
from vla_ros.policies.visual_servo.models import BLOCK, PLATE
from vla_ros.robots.spec import CameraSpec
from vla_ros.types import Array, JointState, Pose


def table_view() -> CameraView:
    return look_at([1.1, 0.5, 0.55], [0.42, 0.0, 0.08])


def find(detections: list[Detection], colour: str, kind: str) -> Detection:
    found = [d for d in detections if (d.colour, d.kind) == (colour, kind)]
    assert len(found) == 1, [d.name for d in detections]
    return found[0]


def quarter_turn(a: float, b: float) -> float:
    return abs((a - b + np.pi / 4) % (np.pi / 2) - np.pi / 4)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.32, 0.55),
    st.floats(-0.2, 0.2),
    st.floats(0.0, np.pi / 2),
    st.sampled_from(["red", "blue", "yellow"]),
)
@example(0.3373018574286141, 0.0, 0.0, "red")
def test_a_block_is_found_within_5_mm_and_8_degrees(x: float, y: float, yaw: float, colour: str) -> None:
    view = table_view()
    image = draw(view, [Thing("block", colour, x, y, yaw)])
    found = find(detect(view, image), colour, "block")
    assert np.hypot(found.x - x, found.y - y) < 0.005
    assert quarter_turn(found.yaw, yaw) < np.radians(
        8.0
    )  # 6.9 is the worst found so far; a cube needs 45 to be missed


@settings(max_examples=15, deadline=None)
@given(st.floats(0.32, 0.5), st.floats(-0.18, 0.18), st.sampled_from(["green", "purple"]))
def test_a_plate_is_found_and_told_from_a_block(x: float, y: float, colour: str) -> None:
    view = table_view()
    found = find(detect(view, draw(view, [Thing("plate", colour, x, y)])), colour, "plate")
    assert np.hypot(found.x - x, found.y - y) < 0.005


@pytest.mark.parametrize("shading", [0.0, 0.6])
def test_flat_and_lit_images_give_the_same(shading: float) -> None:
    view = table_view()
    image = draw(view, [Thing("block", "red", 0.4, 0.05, 0.5)], shading=shading)
    found = find(detect(view, image), "red", "block")
    assert np.hypot(found.x - 0.4, found.y - 0.05) < 0.003


def test_a_half_hidden_block_is_found_and_said_to_be_less_certain() -> None:
    view = table_view()
    image = draw(view, [Thing("block", "blue", 0.42, 0.0, 0.3)])
    clear = find(detect(view, image), "blue", "block")
    u = view.project(np.array([[0.42, 0.0, 0.02]]))[0][0, 0]
    cv2.rectangle(image, (int(u) + 3, 0), (int(u) + 60, 239), (60, 60, 60), -1)
    hidden = find(detect(view, image), "blue", "block")
    assert np.hypot(hidden.x - 0.42, hidden.y) < 0.02
    assert hidden.sigma > 1.5 * clear.sigma


def test_a_block_on_a_plate_leaves_both_in_sight() -> None:
    view = table_view()
    things = [Thing("plate", "green", 0.42, 0.05), Thing("block", "blue", 0.42, 0.05, 0.2, PLATE.height)]
    detections = detect(view, draw(view, things))
    assert {d.name for d in detections} == {"blue block", "green plate"}
    plate = find(detections, "green", "plate")
    assert np.hypot(plate.x - 0.42, plate.y - 0.05) < 0.006


def test_grey_things_and_specks_are_nothing() -> None:
    view = table_view()
    image = draw(view, [])
    cv2.rectangle(image, (100, 60), (180, 200), (230, 230, 228), -1)
    cv2.rectangle(image, (200, 60), (210, 200), (40, 40, 45), -1)
    image[10:12, 10:12] = RGB["red"]
    assert detect(view, image) == []


def test_a_known_yaw_gives_the_same_as_a_search() -> None:
    view = table_view()
    image = draw(view, [Thing("block", "red", 0.45, -0.05, 0.7)])
    searched = find(detect(view, image), "red", "block")
    for start in (0.6, 1.4):
        known = find(detect(view, image, {("red", "block"): start}), "red", "block")
        assert np.hypot(known.x - searched.x, known.y - searched.y) < 0.002
        assert known.overlap > 0.85


def test_hues_cover_the_circle_once() -> None:
    covered = sorted(hue % 180 for first, last in HUES.values() for hue in range(first, last + 1))
    assert covered == list(range(180))


@pytest.mark.parametrize("colour", list(RGB))
def test_each_colour_is_named(colour: str) -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    image[10:30, 10:30] = RGB[colour]
    assert [region.colour for region in segment(image)] == [colour]


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.3, 0.6), st.floats(0.0, 0.05))
def test_back_projection_inverts_projection(y: float, x: float, z: float) -> None:
    view = table_view()
    point = np.array([[x, y, z]])
    pixels, depth = view.project(point)
    assert depth[0] > 0
    np.testing.assert_allclose(view.on_plane(pixels, z), point, atol=1e-9)


def test_rays_that_never_meet_the_plane_are_nan() -> None:
    view = look_at([0.0, 0.0, 0.5], [1.0, 0.0, 0.5])
    assert np.isnan(view.on_plane(np.array([[160.0, 10.0]]), 0.0)).all()


def test_a_camera_on_the_hand_moves_with_it_and_scales_with_its_image() -> None:
    turn = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    spec = CameraSpec(
        "wrist",
        "hand",
        Pose(np.array([0.1, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])),
        1.0,
        320,
        240,
        15.0,
        "t",
    )
    joints = JointState(0, np.zeros(6), np.zeros(0), np.zeros(0))

    def frame(q: Array, name: str) -> Pose:
        assert name == "hand"
        return Pose(np.array([0.4, 0.0, 0.3]), turn)

    view = view_of(spec, joints, frame, "base")
    np.testing.assert_allclose(view.position, [0.4, 0.1, 0.3], atol=1e-12)
    half = view_of(spec, joints, frame, "base", (160, 120))
    point = np.array([[0.43, 0.12, 0.0]])
    full_size, half_size = ((v.project(point)[0][0] + 0.5) / [v.width, v.height] for v in (view, half))
    np.testing.assert_allclose(full_size, half_size, atol=1e-12)


def test_models_are_what_they_say() -> None:
    points = BLOCK.points(0.3, -0.1, 0.3, 0.04)
    np.testing.assert_allclose(points.mean(axis=0), [0.3, -0.1, 0.06], atol=1e-12)
    rim = PLATE.points(0.3, 0.1, 0.0, 0.0)
    np.testing.assert_allclose(np.hypot(rim[:, 0] - 0.3, rim[:, 1] - 0.1), 0.06, atol=1e-12)
