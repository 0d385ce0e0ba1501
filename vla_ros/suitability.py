"""Whether a policy is the right thing for a task: what a contract's `needs` ask, and what a policy can give.

What is known before anything is started is compared here, and what an answer of the policy took; the cases
in which no learned policy is the right thing are in docs/policies.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_ros.contract import Contract
from vla_ros.execution.pace import FOLLOWING, SLOW, share_of_pace, slow_sentence
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.machine import Machine, machine_doubt

SMALLEST = 0.5
"""Part of a pixel within which a thing can be found in an image, roughly."""
UNMEASURED = 0.01
"""What is to be nearer than this [m] no policy here has been measured to do on a real arm."""
OLDEST = 3.0
"""Age [s] beyond which the safety controller refuses an answer (`StampCheck`)."""


def unmet(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    """What the task needs and the policy cannot give, a sentence each."""
    needs, policy, where = contract.needs, contract.policy, contract.source
    if needs.certified_safety:
        yield (
            f"the contract of {where} needs certified safety, which neither policy '{policy}' nor anything "
            "else here gives: let the robot's own safety functions and a risk assessment keep people safe "
            "(docs/safety.md), and then leave needs.certified_safety out"
        )
    wait = 1.0 / requirements.rate if requirements.rate > 0.0 else np.inf
    if needs.reaction is not None and policy == "replay":
        yield (
            f"the contract of {where} needs a reaction within {needs.reaction:g} s, but policy 'replay' "
            "plays recorded actions and looks at nothing that it could react to"
        )
    elif needs.reaction is not None and needs.reaction < wait:
        yield (
            f"the contract of {where} needs a reaction within {needs.reaction:g} s, but policy '{policy}' "
            f"answers {requirements.rate:g} times a second, so that what happens may wait {wait:.2g} s for "
            "the next answer: what has to be faster belongs into a controller of its own"
        )
    if needs.precision is None:
        return
    pixel = sharpest(contract, requirements)
    if pixel is not None and needs.precision < SMALLEST * pixel[1]:
        yield (
            f"the contract of {where} needs a precision of {1e3 * needs.precision:g} mm, but policy "
            f"'{policy}' sees the workspace by camera '{pixel[0]}' with {1e3 * pixel[1]:.1f} mm a "
            "pixel: take a camera that is nearer or on the hand, or measure and grasp by other means"
        )


def doubtful(contract: Contract, requirements: PolicyRequirements, machine: Machine) -> Iterator[str]:
    """What the policy may not give, as far as that is known: a sentence each that refuses nothing."""
    needs = contract.needs
    if needs.precision is not None and needs.precision < UNMEASURED:
        yield (
            f"No policy here has been measured to {1e3 * needs.precision:g} mm on a real arm, which the "
            f"contract of {contract.source} needs: measure it before anything depends on it."
        )
    if needs.fixed_task:
        yield (
            f"The contract of {contract.source} is for known objects in known places: measured poses and a "
            "motion planner do that more exactly, faster and more reliably than any learned policy."
        )
    doubt = machine_doubt(contract.policy, requirements.machine, machine)
    if doubt:
        yield doubt


def too_slow(contract: Contract, requirements: PolicyRequirements, seconds: float) -> tuple[str, str]:
    """What it means that an answer takes so long: (why it cannot work, what it costs); empty where nothing.

    Args:
        contract: with the action rate and what the task needs.
        requirements: the policy's.
        seconds: from observation to answer, measured.
    """
    needs, policy, space = contract.needs, contract.policy, contract.action_space
    interval = max(seconds, 1.0 / requirements.rate)
    oldest = max(OLDEST, requirements.horizon * space.period)
    if seconds > oldest:
        return (
            f"policy '{policy}' takes {seconds:.2g} s for an answer on this machine; the safety controller "
            f"refuses what is older than {oldest:g} s, so that nothing would move"
        ), ""
    if needs.reaction is not None and needs.reaction < seconds + interval:
        return (
            f"the contract of {contract.source} needs a reaction within {needs.reaction:g} s, but policy "
            f"'{policy}' answers every {interval:.2g} s and takes {seconds:.2g} s for it on this machine, so "
            f"that a reaction may come after {seconds + interval:.2g} s"
        ), ""
    pace = share_of_pace(requirements.horizon, space.period, seconds, interval)
    if pace >= SLOW:
        return "", ""
    cost = slow_sentence(requirements.horizon, space.period, seconds, interval, pace)
    if interval > FOLLOWING:
        cost += f", and rests between answers, which are more than {FOLLOWING:g} s apart"
    return "", f"{cost[0].upper()}{cost[1:]}."


def sharpest(contract: Contract, requirements: PolicyRequirements) -> tuple[str, float] | None:
    """The camera that sees the workspace best, and metres a pixel at the middle of its floor.

    Pixels are those that the policy looks at.  None where it looks at no camera, or at one that moves with
    the arm and may come as near as it likes.
    """
    robot = contract.robot
    box = robot.workspace
    middle = 0.5 * (box.minimum + box.maximum)
    middle[2] = max(0.0, float(box.minimum[2]))
    found: list[tuple[str, float]] = []
    for need in requirements.cameras:
        camera = contract.cameras.get(need.name)
        if camera is None:
            continue
        if camera.parent_frame != robot.base_frame:
            return None
        height = min(camera.height, need.height or camera.height)
        focal = 0.5 * height / np.tan(0.5 * camera.fovy)
        found.append((need.name, float(np.linalg.norm(middle - camera.pose.position)) / focal))
    return min(found, key=lambda one: one[1], default=None)
