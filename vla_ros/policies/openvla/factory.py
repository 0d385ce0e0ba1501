"""Makes an OpenVLA policy from a contract's options: reads configuration and statistics, no weights."""

from __future__ import annotations

from vla_ros.actions.normalization import NormalizationKind
from vla_ros.actions.space import get_action_space
from vla_ros.actions.tokens import TokenCodec
from vla_ros.errors import ContractError, PolicyError
from vla_ros.policies.base import CameraNeed, MachineNeed, PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.checkpoints.statistics import scaling, select
from vla_ros.policies.openvla.config import (
    STATISTICS,
    TOWERS,
    OpenVlaConfig,
    TowerConfig,
    read_config,
    read_json,
    resized,
)
from vla_ros.policies.openvla.policy import OpenVlaPolicy, Setting
from vla_ros.robots.spec import RobotSpec

ACTION_SPACES = {"bridge_orig": "bridge", "bridge_dataset": "bridge", "bridge": "bridge"}
"""Action space of a data set.  Training made every gripper absolute, 1 open, so that data sets whose own
gripper is relative or reversed (fractal20220817_data, droid, taco_play) are not in the spaces of those names:
for all others a contract says what it takes the actions for."""
LIGHT = ("*.json", "tokenizer.model")
"""Files of a checkpoint that say all but the weights."""
BITS = {"auto": 16, "fp32": 32, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}


def make_openvla(
    robot: RobotSpec,
    *,
    checkpoint: str = "",
    revision: str = "",
    adapter: str = "",
    action_space: str = "",
    rate: float = 0.0,
    normalization_key: str = "",
    device: str = "auto",
    precision: str = "auto",
    camera: str = "",
    crop: bool = False,
    constrained: bool = False,
    towers: dict[str, list[int]] | None = None,
) -> OpenVlaPolicy:
    """OpenVLA for a robot.

    Args:
        robot: with the cameras there are.
        checkpoint: folder, or hub name such as openvla/openvla-7b.
        revision: of the hub's repository.
        adapter: folder or hub name of a low-rank adapter (peft) to merge into the weights.
        action_space: what the contract takes the actions for.
        rate: steps per second [Hz]; 0: as the action space has it.
        normalization_key: data set whose statistics un-normalise the answers; "": the only one.
        device: auto, cpu or cuda.
        precision: auto (bf16 on a GPU, fp32 on a CPU), fp32, bf16, fp8, int8 or int4.
        camera: the robot's camera to be shown; "": its first.
        crop: whether to cut the middle out of frames, for models that were trained on cut frames.
        constrained: whether only action tokens may be answered; else what is none is refused afterwards.
        towers: width, depth and heads of vision towers by name, where they are not the published ones.

    Raises:
        PolicyError: a file or option is missing, malformed or contradicts another.
    """
    if not checkpoint:
        raise PolicyError("Policy 'openvla' needs the option 'checkpoint': a folder or a hub name.")
    if device not in ("auto", "cpu", "cuda"):
        raise PolicyError(f"Policy 'openvla' runs on auto, cpu or cuda, but device is '{device}'.")
    if precision not in BITS:
        raise PolicyError(f"Policy 'openvla' knows the precisions {', '.join(BITS)}, but not '{precision}'.")
    folder = checkpoint_folder(checkpoint, LIGHT, revision)
    config = read_config(folder, tower_sizes(towers))
    table, said = config.statistics, config.source
    adapter_folder = checkpoint_folder(adapter, LIGHT) if adapter else None
    if adapter_folder is not None and (adapter_folder / STATISTICS).is_file():
        said = str(adapter_folder / STATISTICS)
        table = read_json(adapter_folder / STATISTICS)
    key, entry = select(table, normalization_key, said)
    normalization = scaling(entry, key, NormalizationKind.BOUNDS_Q99, said)
    named = ACTION_SPACES.get(normalization.key) or action_space or "delta_tcp"
    try:
        space = get_action_space(named, robot.dof, rate or None)
        trained = get_action_space(named, robot.dof).rate if normalization.key in ACTION_SPACES else None
    except ContractError as error:
        raise PolicyError(f"Policy 'openvla': {error}.") from error
    if space.dimension != normalization.statistics.dimension:
        raise PolicyError(
            f"The statistics of '{normalization.key}' in {said} have {normalization.statistics.dimension} "
            f"dimensions, but action space '{named}' has {space.dimension}."
        )
    requirements = PolicyRequirements(
        action_space=named,
        rate=space.rate,
        horizon=1,
        cameras=(CameraNeed(chosen_camera(robot, camera)),),
        normalization=normalization,
        codec=TokenCodec(config.vocabulary),
        machine=MachineNeed(memory(config, precision), device, memory(config, "fp32")),
        action_rate=trained,
    )
    setting = Setting(
        config, requirements, checkpoint, revision, adapter, device, precision, crop, constrained,
        space.dimension,
    )  # fmt: skip
    return OpenVlaPolicy(setting)


def tower_sizes(given: dict[str, list[int]] | None) -> dict[str, TowerConfig]:
    """Towers by name, those given in other sizes: width, depth and heads.  Raises `PolicyError`."""
    if not given:
        return TOWERS
    result = dict(TOWERS)
    for name, sizes in given.items():
        if name not in TOWERS or len(sizes) != 3:
            raise PolicyError(f"Option 'towers' must map {', '.join(TOWERS)} to width, depth and heads.")
        result[name] = resized(TOWERS[name], *sizes)
    return result


def chosen_camera(robot: RobotSpec, camera: str) -> str:
    """The robot's camera of that name; "": its first.  Raises `PolicyError`."""
    name = camera or next(iter(robot.cameras), "")
    if name not in robot.cameras:
        raise PolicyError(
            f"OpenVLA is to be shown camera '{name}', but robot '{robot.name}' has "
            f"{', '.join(robot.cameras) or 'none'}."
        )
    return name


def memory(config: OpenVlaConfig, precision: str) -> int:
    """Bytes of weights and working space, roughly."""
    text = config.text
    size, layers = int(text.get("hidden_size", 4096)), int(text.get("num_hidden_layers", 32))
    inner, rows = int(text.get("intermediate_size", 11008)), int(text.get("vocab_size", 32064))
    language = layers * (4 * size * size + 3 * size * inner)
    vision = sum(one.depth * (4 * one.width**2 + 2 * one.width * one.hidden) for one in config.towers)
    rest = 2 * rows * size + vision + 4 * config.width**2 + (4 * config.width + size) * size
    wide = 4 if precision == "fp32" else 2
    return language * BITS[precision] // 8 + rest * wide + 2**30
