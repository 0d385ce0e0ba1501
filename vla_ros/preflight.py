"""Whether robot, cameras, action space, policy and task fit together, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.bounds import excess
from vla_ros.contract import Contract, described_cameras
from vla_ros.errors import ContractError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.robots.cameras import camera_problems
from vla_ros.suitability import unmet


def preflight(contract: Contract, requirements: PolicyRequirements) -> None:
    """Compare what the policy needs with what the contract offers; `ContractError` names both sides."""
    for sentence in preflight_problems(contract, requirements):
        raise ContractError(sentence)


def preflight_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    """Everything in which the two do not fit, a sentence each that names both sides."""
    robot, policy = contract.robot.name, contract.policy
    if requirements.robots and robot not in requirements.robots:
        yield (
            f"policy '{policy}' is for {', '.join(requirements.robots)}, "
            f"but the contract's robot is '{robot}'"
        )
    yield from _scaling_problems(contract, requirements)
    if requirements.action_space != contract.action_space.name:
        scaled = requirements.normalization
        by = f" (of data set '{scaled.key}')" if scaled is not None and scaled.key else ""
        yield (
            f"policy '{policy}' answers in action space '{requirements.action_space}'{by}, "
            f"but the contract of {contract.source} says '{contract.action_space.name}'"
        )
    yield from topic_problems(contract)
    yield from _camera_problems(contract, requirements)
    yield from _rate_problems(contract, requirements)
    yield from unmet(contract, requirements)


def topic_problems(contract: Contract) -> Iterator[str]:
    """What is wrong with the topics of the contract's cameras, a sentence each."""
    driver = contract.robot.driver
    taken = {driver.joint_state_topic, driver.command_topic, str(driver.gripper["joint_state_topic"])}
    return camera_problems(contract.cameras, described_cameras(contract.robot), taken, contract.source)


def _scaling_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    asked, scaled = contract.policy_options.get("normalization_key") or "", requirements.normalization
    if asked and asked != (scaled.key if scaled is not None else ""):
        does = f"normalises by '{scaled.key}'" if scaled is not None else "answers physical values"
        yield (
            f"policy '{contract.policy}' {does}, "
            f"but the contract of {contract.source} asks for normalisation key '{asked}'"
        )
    if requirements.codec is not None and scaled is None:
        yield (
            f"policy '{contract.policy}' answers tokens without saying by which data set they are "
            f"normalised, so they mean nothing in the contract's action space '{contract.action_space.name}'"
        )
    space = contract.action_space
    if scaled is not None and scaled.statistics.dimension != space.dimension:
        yield (
            f"policy '{contract.policy}' normalises by '{scaled.key}', whose actions have "
            f"{scaled.statistics.dimension} dimensions, but action space '{space.name}' of "
            f"{contract.source} has {space.dimension}: {', '.join(space.dimensions)}"
        )


def _camera_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    policy = contract.policy
    for need in requirements.cameras:
        camera = contract.cameras.get(need.name)
        if camera is None and need.required:
            yield (
                f"policy '{policy}' needs camera '{need.name}', but {contract.source} "
                f"has {', '.join(contract.cameras) or 'none'}"
            )
        if camera is None:
            continue
        if 2 * camera.width < (need.width or 0) or 2 * camera.height < (need.height or 0):
            yield (
                f"policy '{policy}' looks at {need.width or 'any'} x {need.height or 'any'} pixels of camera "
                f"'{need.name}', but {contract.source} gives {camera.width} x {camera.height}, "
                "less than half as many a side"
            )
        lasts = requirements.horizon * contract.action_space.period
        if lasts * camera.rate < 1.0 - 1e-9:
            yield (
                f"policy '{policy}' answers chunks of {lasts:g} s, but camera '{need.name}' of "
                f"{contract.source} gives {camera.rate:g} frames a second, so the robot would starve between "
                "frames"
            )
        if requirements.observation_window > 1 and camera.rate < 0.99 * requirements.rate:
            yield (
                f"policy '{policy}' looks at the last {requirements.observation_window} frames "
                f"{requirements.rate:g} times a second, but camera '{need.name}' of {contract.source} "
                f"gives {camera.rate:g} frames a second"
            )


def _rate_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    policy, space = contract.policy, contract.action_space
    trained = requirements.action_rate
    if trained is not None and abs(space.rate / trained - 1.0) > 0.01:
        yield (
            f"policy '{policy}' was trained with {trained:g} steps a second, "
            f"but the contract of {contract.source} plays {space.rate:g} a second"
        )
    if contract.control_rate < space.rate:
        yield (
            f"policy '{policy}' answers {space.rate:g} steps a second, "
            f"but the controller of {contract.source} runs at {contract.control_rate:g} Hz"
        )
    excessive = excess(requirements.horizon, space.period)
    if excessive:
        yield f"policy '{policy}' declares answers that each {excessive.replace('has', 'have', 1)}"
    horizon_seconds = requirements.horizon * space.period
    if requirements.rate <= 0.0 or horizon_seconds * requirements.rate < 1.0 - 1e-9:
        yield (
            f"policy '{policy}' answers {requirements.rate:g} times a second with chunks of "
            f"{horizon_seconds:g} s, so the robot would starve between chunks"
        )
