"""The scripted expert as a device: it sees what the simulator knows and moves the robot as a person would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import MultiDOFJointState
from std_msgs.msg import String

from vla_ros.contract import Contract
from vla_ros.documents import parse_json
from vla_ros.errors import VlaRosError
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import objects_of
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.expert import Plan, ToldScene, Variation, View, draw
from vla_ros.teleop.command import Command
from vla_ros.types import Pose

LOOK = 0.3
"""Seconds from its turn to its first motion; the objects of the scene before are no longer told by then."""
STALE = 0.5
"""Objects that were last heard of longer ago are not believed [s]."""
DEAF = "Nothing is heard on /simulator/objects; the scripted expert rests."


class Scripted:
    """See `Device`; every turn of its own begins with a new plan, from wherever the robot is."""

    name, dead_man = "scripted", False
    keys = (("Enter", "start an episode, which the expert does"),)

    def __init__(self, node: Any, contract: Contract, look: Callable[[], View | None]) -> None:
        """`look` answers what is seen of the robot, None while it is not the expert's turn."""
        self._node, self._contract, self._look = node, contract, look
        self._kinematics = Kinematics(contract.robot)
        self._period = contract.action_space.period
        self._scene: dict[str, Any] = {}
        self._objects: dict[str, Pose] = {}
        self._heard = float("-inf")
        self._turns = 0
        self.trouble = ""
        self._rest(0.0)

    def open(self) -> None:
        """See `Device`."""
        self._subscriptions = [
            self._node.create_subscription(
                MultiDOFJointState, topics.SIMULATOR_OBJECTS, self._on_objects, topics.NEWEST
            ),
            self._node.create_subscription(String, topics.SIMULATOR_SCENE, self._on_scene, topics.LATCHED),
        ]

    def close(self) -> None:
        """See `Device`."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_objects(self, message: MultiDOFJointState) -> None:
        self._objects, self._heard = objects_of(message), self._now
        if self._told is not None:
            try:
                self._told.tell(self._objects)
            except VlaRosError:
                # another scene; the next plan begins with it, or says what is missing
                self._told = self._plan = None

    def _on_scene(self, message: String) -> None:
        try:
            told = parse_json(message.data)
        except ValueError:
            told = None
        self._scene = told if isinstance(told, dict) else {}

    def _rest(self, now: float) -> None:
        self._now = self._since = now
        self._told: ToldScene | None = None
        self._plan: Plan | None = None
        self._ended = False
        self._command = Command()

    def read(self, now: float) -> Command:
        """See `Device`."""
        self._now = now
        view = self._look()
        if view is None:
            self._rest(now)
            self.trouble = ""
            return self._command
        if now - self._since < LOOK or self._ended:
            return Command()
        if now - self._heard > STALE:
            self.trouble = DEAF
            return Command()
        self.trouble = ""
        if self._plan is None and not self._begin(now):
            return Command()
        if now >= self._next:
            # a stall is not made up for
            self._next = max(self._next + self._period, now)
            self._step(view)
        return self._command

    def _begin(self, now: float) -> bool:
        """Make a plan for the scene as it is."""
        try:
            seed = int(self._scene["seed"])
            told = ToldScene(self._contract.robot, str(self._scene["instruction"]), seed, self._objects)
        except VlaRosError as error:
            self.trouble = f"{error} The scripted expert cannot do it."
            return False
        except (KeyError, ValueError, TypeError):
            self.trouble = "Nothing is heard on /simulator/scene; the scripted expert rests."
            return False
        # the same scene is done in another manner the next time
        manner = draw(Variation(), seed + 1_000_003 * self._turns)
        self._turns += 1
        self._told, self._next = told, now
        self._plan = Plan(told, manner, self._period, self._kinematics)
        return True

    def _step(self, view: View) -> None:
        wish = self._plan.step(view) if self._plan is not None else None
        if wish is None:
            self._ended, self._command = True, Command()
            return
        self._command = Command(engaged=True, pose=wish.pose, width=wish.width)
