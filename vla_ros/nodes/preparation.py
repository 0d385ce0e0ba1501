"""What comes before an episode: the robot goes home, the simulated scene is laid."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_ros.errors import VlaRosError
from vla_ros.nodes.waiting import Waiting
from vla_ros.srv import MoveToJoints, StartEpisode

SERVICE_WAIT = 10.0
"""Longest wait for a service to appear, and for its answer [s]."""
HOMING = 30.0
"""Longest time the way home may take [s]."""
COMING_TO_REST = 5.0
"""Longest time the motion before may take to come to rest [s]."""
ASK_AGAIN = 0.2
"""Between two questions whether the graph is up [s]."""
STILL_FOR = 0.2
"""The robot stands when it has not moved for this long [s]."""


class EpisodeError(VlaRosError):
    """An episode cannot be started."""


class Preparation:
    """Asks controller and simulator; its node calls `on_moving` with every status, and `waiting.look`."""

    def __init__(self, node: Node, waiting: Waiting) -> None:
        self._reset_scene = node.create_client(StartEpisode, "/simulator/reset_scene")
        self._move = node.create_client(MoveToJoints, "/safety_controller/move_to_joints")
        self._is_active = node.create_client(Trigger, "/lifecycle_manager/is_active")
        self._waiting = waiting
        self._still_since: float | None = None

    def on_moving(self, moving: bool) -> None:
        """Take whether the robot moves."""
        if moving:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = time.monotonic()

    async def up(self, patience: float) -> bool:
        """Wait until the lifecycle manager says that all nodes are active; False after `patience` [s]."""
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0.0:
            answer = await self._waiting.ask(self._is_active, Trigger.Request(), min(left, SERVICE_WAIT))
            if answer is not None and answer.success:
                return True
            await self._waiting.pause(ASK_AGAIN)
        return False

    async def go_home(self, gripper_width: float) -> None:
        """Move home; `gripper_width` [m], negative: as it is.  Raises `EpisodeError`."""
        silent = "The safety controller does not answer, so the robot cannot go home."
        request = MoveToJoints.Request(gripper_width=gripper_width)
        deadline = time.monotonic() + COMING_TO_REST
        await self._waiting.until(self._stands, COMING_TO_REST)
        answer = await self._ask(self._move, request, silent)
        while not answer.success and time.monotonic() < deadline:
            await self._waiting.pause(0.2)
            answer = await self._ask(self._move, request, silent)
        if not answer.success:
            raise EpisodeError(f"The robot cannot go home: {answer.message}.")
        self._still_since = None
        if not await self._waiting.until(self._stands, HOMING):
            raise EpisodeError(f"The robot did not arrive at home within {HOMING:g} s.")

    async def _ask(self, client: Any, request: Any, silent: str) -> Any:
        answer = await self._waiting.ask(client, request, SERVICE_WAIT)
        if answer is None:
            raise EpisodeError(silent)
        return answer

    async def lay_scene(self, task: str, instruction: str, seed: int) -> StartEpisode.Response:
        """Have the simulator lay a scene; its answer.  Raises `EpisodeError`."""
        silent = "The simulator does not answer, so the scene cannot be prepared."
        request = StartEpisode.Request(task=task, instruction=instruction, seed=seed)
        answer = await self._ask(self._reset_scene, request, silent)
        if not answer.success:
            raise EpisodeError(f"The scene cannot be prepared: {answer.message}")
        return answer

    def _stands(self) -> bool:
        return self._still_since is not None and time.monotonic() - self._still_since > STILL_FOR
