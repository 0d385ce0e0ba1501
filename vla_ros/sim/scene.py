"""The tabletop scene as a MuJoCo model: robot, table, blocks, plates, cameras, light."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.sim.arm import ROBOT_BIT, prepare_robot, tune_servos
from vla_ros.sim.objects import (
    BLOCK_MASS,
    BLOCK_SIZE,
    COLOURS,
    PLATE_HEIGHT,
    PLATE_RADIUS,
    block_name,
    plate_name,
)  # fmt: skip
from vla_ros.sim.raycast import SKY
from vla_ros.sim.tasks import placement_region, table_bounds
from vla_ros.types import Array

TIMESTEP_RANGE = (0.0005, 0.002)
TABLE_THICKNESS = 0.03
FLOOR_HEIGHT = -0.7
PARKING = -2.0
"""Height at which blocks and plates that are not in the scene float, below the floor [m]."""
WORLD_BIT = 1
_TABLE_COLOUR = (0.74, 0.72, 0.69, 1.0)
_ZONE_COLOUR = (0.66, 0.65, 0.63, 1.0)
_FLOOR_COLOUR = (0.42, 0.44, 0.47, 1.0)
_FRICTION = (0.6, 0.01, 0.0005)
_SOLREF = (0.005, 1.0)


def build_scene(
    spec: RobotSpec, cameras: Mapping[str, CameraSpec], timestep: float = 0.001
) -> mujoco.MjModel:
    """Compile the model, all blocks and plates in it; the base frame is the world frame.

    Raises `ConfigurationError` for a time step out of `TIMESTEP_RANGE`, a URDF that MuJoCo cannot read or a
    camera on a frame that the URDF lacks.
    """
    low, high = TIMESTEP_RANGE
    if not low <= timestep <= high:
        raise ConfigurationError(f"The time step is {timestep} s; it must lie between {low} and {high} s.")
    try:
        scene = mujoco.MjSpec.from_string(spec.urdf)
    except ValueError as error:
        raise ConfigurationError(f"MuJoCo cannot read {spec.urdf_path}: {error}.") from error
    scene.modelname = spec.name
    scene.compiler.fusestatic = False
    scene.compiler.discardvisual = False
    prepare_robot(scene, spec)
    _set_options(scene, timestep, cameras)
    _add_table(scene, spec)
    for colour, rgb in COLOURS.items():
        _add_block(scene, colour, rgb)
        _add_plate(scene, colour, rgb)
    for camera in cameras.values():
        _add_camera(scene, spec, camera)
    try:
        model = scene.compile()
    except ValueError as error:
        raise ConfigurationError(f"MuJoCo cannot build the scene from {spec.urdf_path}: {error}.") from error
    tune_servos(model, spec)
    return model


def _set_options(scene: mujoco.MjSpec, timestep: float, cameras: Mapping[str, CameraSpec]) -> None:
    option, visual = scene.option, scene.visual
    option.timestep = timestep
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Elliptic cones with friction stiffer than normal force keep a held block from creeping away.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    visual.global_.offwidth = max([camera.width for camera in cameras.values()], default=64)
    visual.global_.offheight = max([camera.height for camera in cameras.values()], default=64)
    # Anti-aliasing triples the cost of an image on a software rasteriser.
    visual.quality.offsamples = 0
    visual.headlight.ambient = [0.38] * 3
    visual.headlight.diffuse = [0.3] * 3
    visual.headlight.specular = [0.0] * 3
    scene.stat.extent = 2.0
    visual.map.znear = 0.005
    sky = scene.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=8, height=48)
    sky.builtin = mujoco.mjtBuiltin.mjBUILTIN_FLAT
    sky.rgb1 = sky.rgb2 = SKY
    scene.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.0, 0.0, 3.0],
        dir=[-0.25, -0.2, -1.0],
        diffuse=[0.45] * 3,
        ambient=[0.0] * 3,
        specular=[0.0] * 3,
        castshadow=False,
    )


def _add_table(scene: mujoco.MjSpec, spec: RobotSpec) -> None:
    minimum, maximum = table_bounds(spec)
    centre, half = 0.5 * (minimum + maximum), 0.5 * (maximum - minimum)
    world = scene.worldbody
    bits = {
        "contype": WORLD_BIT,
        "conaffinity": WORLD_BIT | ROBOT_BIT,
        "friction": _FRICTION,
        "solref": _SOLREF,
    }
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[*centre, -0.5 * TABLE_THICKNESS],
        size=[*half, 0.5 * TABLE_THICKNESS],
        rgba=_TABLE_COLOUR,
        **bits,
    )
    world.add_geom(
        name="floor",
        # Not a plane: that is a half-space, and what is parked lies below.
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.0, 0.0, FLOOR_HEIGHT - 0.1],
        size=[4.0, 4.0, 0.1],
        rgba=_FLOOR_COLOUR,
        **bits,
    )
    near, far = placement_region(spec)
    for name, side in (("left", 1.0), ("right", -1.0)):
        inner, outer = abs(far[1]) + 0.06, maximum[1] - 0.08
        world.add_geom(
            name=f"zone_{name}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[0.5 * (near[0] + far[0]), side * 0.5 * (inner + outer), 0.0],
            size=[0.5 * (far[0] - near[0]) + 0.05, 0.5 * (outer - inner), 0.0005],
            rgba=_ZONE_COLOUR,
            contype=0,
            conaffinity=0,
        )


def _add_block(scene: mujoco.MjSpec, colour: str, rgb: tuple[float, float, float]) -> None:
    body = scene.worldbody.add_body(name=block_name(colour), pos=[0.0, 0.0, PARKING])
    body.add_freejoint(name=block_name(colour))
    body.add_geom(
        name=block_name(colour),
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.5 * BLOCK_SIZE] * 3,
        mass=BLOCK_MASS,
        rgba=[*rgb, 1.0],
        contype=WORLD_BIT,
        conaffinity=WORLD_BIT | ROBOT_BIT,
        condim=4,
        friction=_FRICTION,
        solref=_SOLREF,
    )


def _add_plate(scene: mujoco.MjSpec, colour: str, rgb: tuple[float, float, float]) -> None:
    body = scene.worldbody.add_body(name=plate_name(colour), pos=[0.0, 0.0, PARKING], mocap=True)
    body.add_geom(
        name=plate_name(colour),
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=[0.0, 0.0, 0.5 * PLATE_HEIGHT],
        size=[PLATE_RADIUS, 0.5 * PLATE_HEIGHT, 0.0],
        rgba=[*rgb, 1.0],
        contype=WORLD_BIT,
        conaffinity=WORLD_BIT | ROBOT_BIT,
        condim=4,
        friction=_FRICTION,
        solref=_SOLREF,
    )


def _add_camera(scene: mujoco.MjSpec, spec: RobotSpec, camera: CameraSpec) -> None:
    body = scene.body(camera.parent_frame)
    if body is None:
        raise ConfigurationError(
            f"The camera '{camera.name}' in {spec.yaml_path} sits on the frame '{camera.parent_frame}', "
            f"which is not in {spec.urdf_path}."
        )
    body.add_camera(
        name=camera.name,
        pos=camera.pose.position,
        quat=mujoco_camera_quaternion(camera.pose.quaternion),
        fovy=float(np.degrees(camera.fovy)),
    )


def mujoco_camera_quaternion(optical: Array) -> Array:
    """MuJoCo's (w, x, y, z) of a camera that looks along -z with y up, from the optical frame's (x, y, z, w).

    The two differ by half a turn about x: (x, y, z, w) * (1, 0, 0, 0).
    """
    x, y, z, w = optical
    return np.array([-x, w, z, -y])
