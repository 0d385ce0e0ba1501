"""Images: both renderers show the same, blocks appear where calibration says, OpenGL is not needed."""

import dataclasses
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.objects import BLOCK_SIZE, COLOURS
from vla_ros.sim.projection import project, rotation_matrix
from vla_ros.sim.raycast import RaycastRenderer
from vla_ros.sim.render import make_renderer
from vla_ros.sim.tasks import make_task
from vla_ros.sim.world import World

ROBOTS = ("panda", "fr3", "ur5", "ur5e", "widowx")
SCRIPT = """
import logging
logging.basicConfig()
from vla_ros.robots import load_robot
from vla_ros.sim.world import World
world = World(load_robot("panda"), "pick", 0, timestep=0.002)
image = world.render("primary")
print(world.renderer.backend, image.shape, int(image.mean()))
"""


@pytest.fixture(scope="module")
def worlds():
    cache = {}

    def get(robot, kind):
        if (robot, kind) not in cache:
            cache[robot, kind] = World(load_robot(robot), "pick", 0, timestep=0.002, renderer=kind)
        return cache[robot, kind]

    yield get
    for world in cache.values():
        world.close()


def opengl_works():
    try:
        world = World(load_robot("panda"), "pick", 0, timestep=0.002, renderer="opengl")
        world.render("primary")
        world.close()
    except MachineError:
        return False
    return True


OPENGL = opengl_works()
KINDS = [pytest.param("opengl", marks=pytest.mark.skipif(not OPENGL, reason="no OpenGL here")), "raycast"]


def box_of_colour(image, colour):
    """Box (left, top, right, bottom) of the largest patch with the hue of a block, at any brightness."""
    wanted = np.array(COLOURS[colour]) / np.linalg.norm(COLOURS[colour])
    pixels = image.astype(float)
    length = np.linalg.norm(pixels, axis=-1)
    alike = (pixels @ wanted > 0.985 * length) & (length > 30)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(alike.astype(np.uint8))
    largest = 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    rows, columns = np.nonzero(labels == largest)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


def corners_of(block):
    c, s = np.cos(block.yaw), np.sin(block.yaw)
    unit = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return 0.5 * BLOCK_SIZE * unit @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + block.position


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("robot", ROBOTS)
def test_a_block_appears_where_its_pose_projects_to(worlds, robot, kind):
    world = worlds(robot, kind)
    spec = world.spec
    kinematics = Kinematics(spec)
    seen = set()
    for seed in range(4):
        task = make_task("pick", "", seed, spec)
        task = dataclasses.replace(task, blocks=task.blocks[:1])
        world.reset(task, keep_arm=False)
        for name, camera in spec.cameras.items():
            frame = kinematics.forward_frame(spec.home, camera.parent_frame)
            local = (corners_of(task.blocks[0]) - frame.position) @ rotation_matrix(frame.quaternion)
            pixels = project(camera, local)
            expected = np.array([*pixels.min(axis=0), *pixels.max(axis=0)])
            if np.any(expected < 0) or np.any(expected[2:] > [camera.width - 1, 0.8 * camera.height]):
                continue  # partly out of the wrist's sight or behind the fingers
            image = world.render(name)
            assert image.shape == (camera.height, camera.width, 3) and image.dtype == np.uint8
            np.testing.assert_allclose(box_of_colour(image, task.goal.target), expected, atol=2.0)
            seen.add(name)
    assert seen == {"primary", "wrist"}


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("camera", ["primary", "wrist"])
def test_images_are_neither_dark_nor_flat(worlds, robot, camera):
    world = worlds(robot, "raycast")
    world.reset("place", 1, keep_arm=False)
    image = world.render(camera)
    assert 90 < image.mean() < 210
    assert image.std() > 15
    assert np.mean(image.max(axis=-1) < 12) < 0.05


@pytest.mark.skipif(not OPENGL, reason="no OpenGL here")
@pytest.mark.parametrize("robot", ["panda", "ur5", "widowx"])
def test_both_renderers_give_a_block_the_same_colour(worlds, robot):
    images = {}
    for kind in ("opengl", "raycast"):
        world = worlds(robot, kind)
        world.reset("stack", 2, keep_arm=False)
        images[kind] = world.render("primary").astype(float)
    caster = world.renderer
    assert isinstance(caster, RaycastRenderer)
    geoms = caster.segment(world.data, "primary")
    for block in world.task.blocks:
        mask = geoms == world.model.geom(f"block_{block.colour}").id
        # leave out the border, where OpenGL mixes neighbouring pixels
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(mask, step, axis)
        assert inner.sum() > 20
        difference = np.abs(images["opengl"] - images["raycast"])[inner]
        assert difference.mean() < 1.0
    assert np.abs(images["opengl"] - images["raycast"]).mean() < 1.0


def run_hidden(environment, command=()):
    return subprocess.run(
        [*command, sys.executable, "-c", SCRIPT],
        env={**{k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_environment_chooses_the_ray_caster():
    done = run_hidden({"VLA_ROS_RENDERER": "raycast"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raycast (240, 320, 3)")
    assert done.stderr == ""


@pytest.mark.parametrize("platform", ["disabled", "no such platform"])
def test_without_opengl_it_falls_back_and_says_so(platform):
    done = run_hidden({"MUJOCO_GL": platform})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raycast (240, 320, 3)")
    assert done.stderr.count("No OpenGL context could be made") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_with_the_libraries_hidden_it_falls_back():
    hide = (
        'PATH="$PATH:/sbin:/usr/sbin"; '
        'for f in $(ldconfig -p | grep -E "lib(EGL|GL|OpenGL|GLX|OSMesa|GLdispatch)\\." | sed "s/.* => //"); '
        'do mount --bind /dev/null "$(readlink -f "$f")" || exit 77; done; exec "$@"'
    )
    done = run_hidden({}, ("unshare", "-m", "bash", "-c", hide, "hide"))
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"libraries cannot be hidden here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raycast (240, 320, 3)")
    assert "Traceback" not in done.stderr


def test_opengl_that_is_demanded_and_missing_is_refused():
    script = SCRIPT.replace("timestep=0.002", 'timestep=0.002, renderer="opengl"')
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MUJOCO_GL": "disabled"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "vla_ros.errors.MachineError: No OpenGL context could be made" in done.stderr


def test_an_unknown_renderer_or_camera_is_refused(worlds, monkeypatch):
    world = worlds("panda", "raycast")
    monkeypatch.setenv("VLA_ROS_RENDERER", "crayon")
    with pytest.raises(ConfigurationError, match="'crayon' is unknown.*auto, opengl, raycast"):
        make_renderer(world.model, world.cameras)
    with pytest.raises(ConfigurationError, match="'ceiling' is unknown; there are primary, wrist"):
        world.render("ceiling")
