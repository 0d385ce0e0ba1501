"""Makes an Octo policy from a contract's options: reads configuration and statistics, no weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_ros.actions.normalization import NormalizationKind
from vla_ros.actions.space import get_action_space
from vla_ros.errors import ContractError, PolicyError
from vla_ros.policies.base import CameraNeed, MachineNeed, PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.octo import files
from vla_ros.policies.octo.config import OctoConfig, read_config
from vla_ros.policies.octo.policy import PRIMARY, Loaded, OctoPolicy, Setting
from vla_ros.policies.octo.preprocess import read_image
from vla_ros.robots.spec import RobotSpec

ACTION_SPACES = {"bridge_dataset": "bridge", "bridge_orig": "bridge"}
"""Action space of a data set.  Octo's training made every gripper absolute, 1 open (octo/data/oxe,
`rel2abs_gripper_actions`), so fractal20220817_data and taco_play are not in the spaces of those names: a
contract says what it takes them for."""
NO_CAMERA = "none"
_SCALES = {"normal": NormalizationKind.NORMAL, "bounds": NormalizationKind.BOUNDS_Q99}


def make_octo(
    robot: RobotSpec,
    *,
    checkpoint: str = "",
    revision: str = "",
    step: int = 0,
    action_space: str = "",
    rate: float = 0.0,
    normalization_key: str = "",
    normalization: str = "",
    runtime: str = "torch",
    device: str = "auto",
    precision: str = "fp32",
    threads: int = 0,
    camera: str = "",
    wrist_camera: str = "",
    window: int = 0,
    goal_image: str = "",
    wrist_goal_image: str = "",
    tokenizer: str = "",
    seed: int = 0,
) -> OctoPolicy:
    """Octo for a robot.

    Args:
        robot: with the cameras there are.
        checkpoint: folder, or hub name such as rail-berkeley/octo-small-1.5; an exported folder for `onnx`.
        revision: of the hub's repository.
        step: training step whose weights are taken; 0: the last.
        action_space: what the contract takes the actions for.
        rate: steps per second [Hz]; 0: as the action space has it.
        normalization_key: data set whose statistics un-normalise the answers; "": the only one.
        normalization: normal or bounds; "": as the checkpoint says, else normal.
        runtime: torch or onnx.
        device: auto, cpu, cuda, and for `onnx` tensorrt.
        precision: fp32; on a GPU in torch bf16; in `onnx` as it was exported, fp32 or int8.
        threads: of ONNX Runtime; 0: OMP_NUM_THREADS, else all cores.
        camera: the robot's camera to be shown as the primary one; "": its first; none: the wrist's alone.
        wrist_camera: to be shown as the wrist's; "": none, the model goes without.
        window: frames shown at once; 0: as in training.
        goal_image: file to be shown as the primary camera's goal; the instruction is then hidden.
        wrist_goal_image: the same for the wrist's camera.
        tokenizer: folder or hub name of T5's vocabulary; "": beside the checkpoint, else as it says.
        seed: of the sampling.

    Raises:
        PolicyError: a file or option is missing, malformed or contradicts another.
    """
    if not checkpoint:
        raise PolicyError("Policy 'octo' needs the option 'checkpoint': a folder or a hub name.")
    if runtime not in ("torch", "onnx"):
        raise PolicyError(f"Policy 'octo' runs in torch or onnx, but runtime is '{runtime}'.")
    patterns = (*files.LIGHT, "onnx/*") if runtime == "onnx" else files.LIGHT
    folder = checkpoint_folder(checkpoint, patterns, revision)
    config = _scaled(read_config(folder / files.CONFIG), normalization)
    scaled = files.read_normalization(folder, normalization_key, config)
    named = ACTION_SPACES.get(scaled.key) or action_space or "delta_tcp"
    try:
        space = get_action_space(named, robot.dof, rate or None)
    except ContractError as error:
        raise PolicyError(f"Policy 'octo': {error}.") from error
    if space.dimension != scaled.statistics.dimension or space.dimension > config.head.dimension:
        raise PolicyError(
            f"The statistics of '{scaled.key}' have {scaled.statistics.dimension} dimensions and the head of "
            f"{config.source} {config.head.dimension}, but action space '{named}' has {space.dimension}."
        )
    steps = window or config.window
    if not 1 <= steps <= config.longest_window:
        raise PolicyError(f"Octo's window is {steps}, but must be 1 to {config.longest_window} frames.")
    cameras = _cameras(config, robot, camera, wrist_camera)
    goals = {
        name: read_image(Path(path).expanduser())
        for name, path in ((PRIMARY, goal_image), ("wrist", wrist_goal_image))
        if path
    }
    for name in goals:
        if name not in cameras:
            raise PolicyError(f"A goal image is given for '{name}', but no camera is shown there.")
    requirements = PolicyRequirements(
        action_space=named,
        rate=min(space.rate, 5.0),
        horizon=config.head.horizon,
        cameras=tuple(CameraNeed(one, required=name == next(iter(cameras))) for name, one in cameras.items()),
        observation_window=steps,
        normalization=scaled,
        machine=MachineNeed(_memory(config), device.replace("tensorrt", "cuda")),
        action_rate=get_action_space(named, robot.dof).rate if scaled.key in ACTION_SPACES else None,
    )
    setting = Setting(config, requirements, space, robot.gripper, cameras, goals, steps, seed)
    names = tuple(cameras)

    def load() -> Loaded:
        words = None if config.language is None else files.find_tokenizer(folder, tokenizer, config)
        if runtime == "onnx":
            from vla_ros.policies.octo.onnx_engine import OnnxEngine

            return Loaded(OnnxEngine(folder, config, names, steps, device, precision, threads), words)
        from vla_ros.policies.octo.torch_engine import TorchEngine

        whole = checkpoint_folder(checkpoint, files.needed_files(step), revision)
        arrays, source = files.read_weights(whole, step)
        options: dict[str, Any] = {"cameras": names, "window": steps}
        return Loaded(
            TorchEngine.of_checkpoint(arrays, config, source, device=device, precision=precision, **options),
            words,
        )

    return OctoPolicy(setting, load)


def _scaled(config: OctoConfig, normalization: str) -> OctoConfig:
    if not normalization:
        return config
    if normalization not in _SCALES:
        raise PolicyError(f"Octo's normalization is '{normalization}', but must be {' or '.join(_SCALES)}.")
    return replace(config, normalization=_SCALES[normalization])


def _cameras(config: OctoConfig, robot: RobotSpec, camera: str, wrist: str) -> dict[str, str]:
    """The robot's camera for each group of image tokens, the one that must be there first."""
    groups = [one.name for one in config.images]
    main = PRIMARY if PRIMARY in groups else next(iter(groups), "")
    if not main:
        raise PolicyError(f"{config.source} describes a model without cameras.")
    chosen = {}
    if camera != NO_CAMERA:
        chosen[main] = camera or next(iter(robot.cameras), "")
    if wrist:
        chosen["wrist"] = wrist
    if not any(chosen.values()):
        raise PolicyError(
            f"Octo needs a camera, but is shown none of those of robot '{robot.name}': "
            f"{', '.join(robot.cameras) or 'it has none'}."
        )
    for group, name in chosen.items():
        if group not in groups:
            raise PolicyError(f"{config.source} has no '{group}' camera, only {', '.join(groups)}.")
        if name not in robot.cameras:
            raise PolicyError(
                f"Octo is to be shown camera '{name}', but robot '{robot.name}' has "
                f"{', '.join(robot.cameras) or 'none'}."
            )
    return chosen


def _memory(config: OctoConfig) -> int:
    """Bytes while loading, roughly: twice the weights of t5-base's encoder and of the model in fp32."""
    layer = 4 * config.width**2 + 2 * config.width * config.mlp
    return 8 * (110_000_000 + config.layers * layer + 6_000_000) + 300_000_000
