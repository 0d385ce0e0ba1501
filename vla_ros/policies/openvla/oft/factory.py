"""Makes an OpenVLA-OFT policy from a contract's options: reads configuration and statistics, no weights."""

from __future__ import annotations

from vla_ros.actions.normalization import NormalizationKind
from vla_ros.actions.space import get_action_space
from vla_ros.errors import ContractError, PolicyError
from vla_ros.policies.base import CameraNeed, MachineNeed, PolicyRequirements
from vla_ros.policies.checkpoints.lora import CONFIG, read_adapter_config
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.checkpoints.statistics import scaling, select
from vla_ros.policies.openvla import config as configuration
from vla_ros.policies.openvla.factory import (
    ACTION_SPACES,
    BITS,
    LIGHT,
    chosen_camera,
    memory,
    tower_sizes,
)
from vla_ros.policies.openvla.oft.policy import OftPolicy, Setting
from vla_ros.policies.openvla.oft.state import LAYOUTS
from vla_ros.robots.spec import RobotSpec

SCALES = {"bounds_q99": NormalizationKind.BOUNDS_Q99, "bounds": NormalizationKind.BOUNDS}
CHUNKS = {"libero": 8, "bridge": 5}
"""Steps of a chunk by the data set's name (moojink/openvla-oft, constants.py); 8 for others."""
LONGEST_CHUNK = 100


def make_openvla_oft(
    robot: RobotSpec,
    *,
    checkpoint: str = "",
    base: str = "",
    revision: str = "",
    action_space: str = "",
    rate: float = 0.0,
    normalization_key: str = "",
    normalization: str = "bounds_q99",
    chunk: int = 0,
    state: str = "",
    device: str = "auto",
    precision: str = "auto",
    camera: str = "",
    wrist_camera: str = "",
    crop: bool = True,
    towers: dict[str, list[int]] | None = None,
) -> OftPolicy:
    """OpenVLA-OFT for a robot.

    Args:
        robot: with the cameras there are.
        checkpoint: folder, or hub name such as moojink/openvla-7b-oft-finetuned-libero-spatial.
        base: folder or hub name of the model that the checkpoint's adapter is merged into, where its weights
            are not merged; "": as the adapter says.
        revision: of the hub's repository.
        action_space: what the contract takes the actions for.
        rate: steps per second [Hz]; 0: as the action space has it.
        normalization_key: data set whose statistics un-normalise the answers; "": the only one.
        normalization: bounds_q99, or bounds for models of data sets that are scaled by minimum and maximum.
        chunk: steps that are answered, as in training; 0: as its data set's models were trained.
        state: layout of the robot's state, libero, bridge or joints; "": by the data set's name.
        device: auto, cpu or cuda.
        precision: auto (bf16 on a GPU, fp32 on a CPU), fp32, bf16, fp8, int8 or int4.
        camera: the robot's camera to be shown first; "": its first.
        wrist_camera: the second; "": the model was trained on one image.
        crop: whether to cut the middle out of frames; models were trained on cut frames.
        towers: width, depth and heads of vision towers by name, where they are not the published ones.

    Raises:
        PolicyError: a file or option is missing, malformed or contradicts another.
    """
    if not checkpoint:
        raise PolicyError("Policy 'openvla_oft' needs the option 'checkpoint': a folder or a hub name.")
    for name, value, known in (
        ("device", device, ("auto", "cpu", "cuda")),
        ("precision", precision, tuple(BITS)),
        ("normalization", normalization, tuple(SCALES)),
        ("state", state, ("", *LAYOUTS)),
    ):
        if value not in known:
            raise PolicyError(f"Policy 'openvla_oft': {name} is '{value}', known are {', '.join(known)}.")
    folder = checkpoint_folder(checkpoint, (*LIGHT, "lora_adapter/*.json"), revision)
    described = folder
    if not (folder / configuration.CONFIG).is_file():
        named = base
        if not named and (folder / "lora_adapter" / CONFIG).is_file():
            named = read_adapter_config(folder / "lora_adapter").base
        described = checkpoint_folder(named, LIGHT) if named else folder
    config = configuration.read_config(described, tower_sizes(towers))
    table, said = config.statistics, config.source
    if (folder / configuration.STATISTICS).is_file():
        said = str(folder / configuration.STATISTICS)
        table = configuration.read_json(folder / configuration.STATISTICS)
    key, entry = select(table, normalization_key, said)
    kind = SCALES[normalization]
    scaled = scaling(entry, key, kind, said)
    steps = chunk or next((n for name, n in CHUNKS.items() if key.startswith(name)), 8)
    if not 1 <= steps <= LONGEST_CHUNK:
        raise PolicyError(f"Policy 'openvla_oft': chunk is {chunk}, but must be 1 to {LONGEST_CHUNK} steps.")
    named = ACTION_SPACES.get(key) or action_space or "delta_tcp"
    try:
        space = get_action_space(named, robot.dof, rate or None)
        trained = get_action_space(named, robot.dof).rate if key in ACTION_SPACES else None
    except ContractError as error:
        raise PolicyError(f"Policy 'openvla_oft': {error}.") from error
    if space.dimension != scaled.statistics.dimension:
        raise PolicyError(
            f"The statistics of '{key}' in {said} have {scaled.statistics.dimension} dimensions, but action "
            f"space '{named}' has {space.dimension}."
        )
    cameras = [chosen_camera(robot, camera)]
    if wrist_camera:
        cameras.append(chosen_camera(robot, wrist_camera))
    requirements = PolicyRequirements(
        action_space=named,
        rate=min(space.rate, 5.0),
        horizon=steps,
        cameras=tuple(CameraNeed(name) for name in cameras),
        normalization=scaled,
        machine=MachineNeed(memory(config, precision), device, memory(config, "fp32")),
        action_rate=trained,
    )
    told = scaling(entry, key, kind, said, "proprio") if "proprio" in entry else None
    setting = Setting(
        config, robot, requirements, scaled, told, state, checkpoint, base, revision, device, precision,
        crop, space.dimension,
    )  # fmt: skip
    return OftPolicy(setting)
