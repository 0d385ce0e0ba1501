"""Makes an RT-2-style policy from a contract's options: reads statistics, no weights."""

from __future__ import annotations

import json
from pathlib import Path

from vla_ros.actions.normalization import Normalization, NormalizationKind
from vla_ros.actions.space import get_action_space
from vla_ros.errors import ContractError, PolicyError
from vla_ros.policies.base import CameraNeed, MachineNeed, PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.checkpoints.statistics import scaling, select
from vla_ros.policies.rt2.policy import Rt2Policy, Setting
from vla_ros.robots.spec import RobotSpec

STATISTICS = "dataset_statistics.json"
ANSWERS = ("text", "tokens")


def make_rt2(
    robot: RobotSpec,
    *,
    checkpoint: str = "",
    revision: str = "",
    action_space: str = "",
    rate: float = 0.0,
    normalization_key: str = "",
    device: str = "auto",
    precision: str = "auto",
    camera: str = "",
    answer: str = "text",
    tokens: list[int] | None = None,
    plan: bool = False,
    horizon: int = 1,
    policy_rate: float = 0.0,
) -> Rt2Policy:
    """A vision-language model, fine-tuned to answer actions, for a robot.

    Args:
        robot: with the cameras there are.
        checkpoint: folder or hub name; beside the model it holds dataset_statistics.json.
        revision: of the hub's repository.
        action_space: what the contract takes the actions for.
        rate: steps per second [Hz]; 0: as the action space has it.
        normalization_key: data set whose statistics un-normalise the answers; "": the only one.
        device: auto, cpu or cuda.
        precision: auto (bf16 on a GPU, fp32 on a CPU), fp32 or bf16.
        camera: the robot's camera to be shown; "": its first.
        answer: text (integers 0 to 255) or tokens (256 tokens put to this use).
        tokens: ids of those 256, the first for 0; none: the last ordinary ones of the vocabulary.
        plan: whether the model first says in words what it will do.
        horizon: steps of an answer.
        policy_rate: answers asked for per second [Hz]; 0: as many as the steps last.

    Raises:
        PolicyError: a file or option is missing, malformed or contradicts another.
    """
    if not checkpoint:
        raise PolicyError("Policy 'rt2' needs the option 'checkpoint': a folder or a hub name.")
    for name, value, known in (
        ("device", device, ("auto", "cpu", "cuda")),
        ("precision", precision, ("auto", "fp32", "bf16")),
        ("answer", answer, ANSWERS),
    ):
        if value not in known:
            raise PolicyError(f"Policy 'rt2': {name} is '{value}', but must be one of {', '.join(known)}.")
    if not 1 <= horizon <= 64:
        raise PolicyError(f"Policy 'rt2' answers 1 to 64 steps, but horizon is {horizon}.")
    normalization = _normalization(checkpoint, revision, normalization_key)
    named = action_space or "delta_tcp"
    try:
        space = get_action_space(named, robot.dof, rate or None)
    except ContractError as error:
        raise PolicyError(f"Policy 'rt2': {error}.") from error
    if space.dimension != normalization.statistics.dimension:
        raise PolicyError(
            f"The statistics of '{normalization.key}' in {checkpoint} have "
            f"{normalization.statistics.dimension} dimensions, but action space '{named}' has "
            f"{space.dimension}."
        )
    name = camera or next(iter(robot.cameras), "")
    if name not in robot.cameras:
        raise PolicyError(
            f"The model is to be shown camera '{name}', but robot '{robot.name}' has "
            f"{', '.join(robot.cameras) or 'none'}."
        )
    requirements = PolicyRequirements(
        action_space=named,
        rate=policy_rate or space.rate / horizon,
        horizon=horizon,
        cameras=(CameraNeed(name),),
        normalization=normalization,
        machine=MachineNeed(weights_memory(checkpoint, precision), device),
    )
    return Rt2Policy(
        Setting(
            requirements, checkpoint, revision, device, precision, answer, tuple(tokens or ()), plan, horizon,
            space.dimension,
        )
    )  # fmt: skip


def weights_memory(checkpoint: str, precision: str) -> int:
    """Bytes that the weights of a local folder take once loaded; 0 for a name on the hub, not fetched yet."""
    folder = Path(checkpoint).expanduser()
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    size = sum(file.stat().st_size for file in files)
    wanted = {"fp32": 4, "bf16": 2}.get(precision)
    if not size or wanted is None:
        return size
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return size
    stored = config.get("dtype", config.get("torch_dtype")) if isinstance(config, dict) else None
    width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(str(stored), wanted)
    return size * wanted // width


def _normalization(checkpoint: str, revision: str, key: str) -> Normalization:
    path = checkpoint_folder(checkpoint, ("*.json",), revision) / STATISTICS
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(
            f"{path} does not exist; without the statistics of its data set a model's numbers mean nothing."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is no readable JSON: {error}.") from error
    chosen, entry = select(table, key, str(path))
    return scaling(entry, chosen, NormalizationKind.BOUNDS_Q99, str(path))
