"""Node `ingester`: camera frames and joint states to observations, paired by stamp."""

from __future__ import annotations

import sys
import time
from collections import Counter
from functools import partial
from statistics import median
from typing import Any

from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros import msg
from vla_ros.errors import ContractError, ObservationError
from vla_ros.ingest import FrameRules, FrameScreen, JointBuffer, Pairer, Rejection, gripper_width_of
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaLifecycleNode, run
from vla_ros.nodes.color_conversion import converter
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.conversions import observation_message, to_joint_state, to_stamp
from vla_ros.nodes.images import resized, rgb_of, rgb_of_compressed
from vla_ros.nodes.parameters import Parameter
from vla_ros.policies.registry import policy_requirements
from vla_ros.preflight import preflight
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import NANOSECONDS, CameraImage

SAY_AGAIN_AFTER = 2.0
"""Seconds before the same kind of complaint is logged again."""
FIRST_FRAMES = 1.0
"""Seconds after the activation in which frames from before it may still come."""
LONE_FRAME = 0.5
"""Seconds without an observation before unpaired frames are complained of."""
GRIPPER_MAX_AGE = 1.0
"""Seconds a measured gripper opening stays good."""


class Ingester(VlaLifecycleNode):
    """Publishes an observation as soon as it is complete; counts and names everything it does not use."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter("max_age", 0.2, "Older frames are refused [s].", 0.01, 10.0),
        Parameter("max_future", 0.02, "Frames stamped further ahead are refused [s].", 0.0, 1.0),
        Parameter(
            "frozen_after", 1.0, "A picture unchanged for longer while joints move is refused [s].", 0.1, 60.0
        ),
        Parameter(
            "silence", 3.0, "A camera or joint topic silent for longer is complained of [s].", 0.1, 60.0
        ),
    )

    def __init__(self) -> None:
        super().__init__("ingester")

    def configure(self) -> None:
        """Load the contract, compare it with the policy, create publisher and subscriptions."""
        contract = contract_of(self)
        needs = policy_requirements(contract)
        preflight(contract, needs)
        if not contract.cameras:
            raise ContractError(f"The contract of {contract.source} has no cameras, at least one is needed.")
        self._robot = contract.robot
        self._sizes = {need.name: (need.width, need.height) for need in needs.cameras}
        names = sorted(contract.cameras, key=lambda name: name != "primary")
        self._cameras = {name: contract.cameras[name] for name in names}
        rules = FrameRules(self.value("max_age"), self.value("max_future"), self.value("frozen_after"))
        self._screens = {name: FrameScreen(camera, rules) for name, camera in self._cameras.items()}
        rate = self._robot.driver.joint_state_rate
        self._joints = JointBuffer(tolerance=max(0.05, 2.0 / rate))
        self._grips = JointBuffer(tolerance=GRIPPER_MAX_AGE)
        period = 1.0 / min(camera.rate for camera in self._cameras.values())
        self._pairer = Pairer(names, period, self._joints, Kinematics(self._robot).forward)
        self._counts: Counter[str] = Counter()
        self._said: dict[str, float] = {}
        self._complaint = ""
        self._ages: list[float] = []
        """Of the observations since the last report, from their stamp to their publication [s]."""
        self._publisher = self.create_publisher(msg.Observation, topics.OBSERVATION, topics.NEWEST)
        self._active = False
        # chosen here, not at the first image
        trouble = converter().trouble
        if trouble:
            self.get_logger().warning(trouble)
        # a new reader can hold the writers of images up for a third of a second (config/fastdds_udp.xml), so
        # it joins them before the robot is controlled
        driver = self._robot.driver
        self._joint_topics = list(
            dict.fromkeys([driver.joint_state_topic, str(driver.gripper["joint_state_topic"])])
        )
        self._subscriptions_made = [
            self.create_subscription(
                CompressedImage if camera.compressed else Image,
                camera.topic,
                partial(self._on_frame, name),
                topics.SENSOR,
            )
            for name, camera in self._cameras.items()
        ]
        for topic in self._joint_topics:
            self._subscriptions_made.append(
                self.create_subscription(JointState, topic, partial(self._on_joints, topic), topics.SENSOR)
            )

    def activate(self) -> None:
        """Use what comes from now on."""
        self._arrived = dict.fromkeys(
            [*(camera.topic for camera in self._cameras.values()), *self._joint_topics], time.monotonic()
        )
        self._last_observation = time.monotonic()
        self._activated = self.now()
        self._active = True
        self._timer = self.create_timer(0.5, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Use nothing more."""
        self._active = False
        self.destroy_timer(self._timer)

    def cleanup(self) -> None:
        """Give publisher and subscriptions back."""
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self.destroy_publisher(self._publisher)

    def _on_joints(self, topic: str, message: JointState) -> None:
        if not self._active:
            return
        driver = self._robot.driver
        grip_names = tuple(driver.gripper["joint_names"])
        names = set(message.name)
        self._arrived[topic] = time.monotonic()
        try:
            used = False
            if topic == driver.joint_state_topic and names & set(driver.joint_names):
                self._joints.add(to_joint_state(message, driver.joint_names, topic))
                used = True
            if topic == driver.gripper["joint_state_topic"] and names.issuperset(grip_names):
                self._grips.add(to_joint_state(message, grip_names, topic))
                used = True
            if not used and not names & {*driver.joint_names, *grip_names}:
                to_joint_state(message, driver.joint_names, topic)
        except ObservationError as error:
            self._refuse(Rejection.JOINT_NAMES, str(error))

    def _on_frame(self, name: str, message: Image | CompressedImage) -> None:
        if not self._active:
            return
        camera = self._cameras[name]
        self._arrived[camera.topic] = time.monotonic()
        try:
            rgb = (rgb_of_compressed if camera.compressed else rgb_of)(message, camera.topic)
        except ObservationError as error:
            self._refuse(Rejection.MALFORMED, str(error))
            return
        frame = CameraImage(to_stamp(message.header.stamp), rgb)
        newest = self._joints.newest
        verdict = self._screens[name].judge(frame, self.now(), newest.positions if newest else None)
        if verdict is not None and verdict[0] is Rejection.STALE and self._waited(frame.stamp):
            self._counts[verdict[0].value] += 1
            return
        if verdict is not None:
            self._refuse(*verdict)
            return
        width, height = self._sizes.get(name, (None, None))
        if width and height:
            frame = CameraImage(frame.stamp, resized(rgb, width, height))
        observation, given_up = self._pairer.add(name, frame, self._gripper_width(frame.stamp))
        if given_up is not None:
            self._give_up(given_up)
        if observation is not None:
            self._publisher.publish(
                observation_message(observation, self._robot.joint_names, self._robot.base_frame)
            )
            self._counts["observations"] += 1
            self._ages.append((self.now() - observation.stamp) / NANOSECONDS)
            self._last_observation = time.monotonic()
            self._complaint = ""

    def _waited(self, stamp: int) -> bool:
        """Whether a frame was made before the activation and only came now: nobody was there to take it."""
        return stamp < self._activated and self.now() - self._activated < FIRST_FRAMES * NANOSECONDS

    def _gripper_width(self, stamp: int) -> float | None:
        state = self._grips.at(stamp)
        return None if state is None else gripper_width_of(float(state.positions[0]), self._robot)

    def _sentence(self, reason: Rejection) -> str:
        driver = self._robot.driver
        if reason is Rejection.SKEWED:
            others = ", ".join(camera.topic for camera in list(self._cameras.values())[1:])
            return f"A frame of the primary camera found no partner within half a period on {others}."
        if reason is Rejection.NO_JOINT_STATE:
            return f"No joint state near the stamp of the camera frame on {driver.joint_state_topic}."
        return f"No gripper state of the last second on {driver.gripper['joint_state_topic']}."

    def _give_up(self, reason: Rejection) -> None:
        """Count a frame without partners; worth a word only when it is not one among many good ones."""
        if time.monotonic() - self._last_observation > LONE_FRAME:
            self._refuse(reason, self._sentence(reason))
        else:
            self._counts[reason.value] += 1

    def _refuse(self, reason: Rejection, sentence: str) -> None:
        self._counts[reason.value] += 1
        self._complaint = sentence
        self._say(reason.value, sentence)

    def _say(self, kind: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._said.get(kind, -SAY_AGAIN_AFTER) >= SAY_AGAIN_AFTER:
            self._said[kind] = now
            self.get_logger().warning(sentence)

    def _report(self) -> None:
        now = time.monotonic()
        starving = now - self._last_observation > 1.0
        for topic, arrived in self._arrived.items():
            silent = now - arrived
            if starving and silent > 1.0:
                self._complaint = self._silence(topic, silent)
            if silent > self.value("silence"):
                self._say(topic, self._silence(topic, silent))
        values: dict[str, Any] = dict(self._counts)
        if self._ages:
            values[topics.OBSERVATION_AGE] = f"{median(self._ages):.4f}"
            self._ages.clear()
        self.diagnose(self._complaint if starving else "", values)

    def _silence(self, topic: str, seconds: float) -> str:
        publishers = self.count_publishers(topic)
        why = f"{publishers} publisher(s) there are silent" if publishers else "nothing publishes there"
        return f"Nothing has arrived on {topic} for {seconds:.0f} s: {why}."


def main() -> int:
    """Entry point."""
    return run(Ingester)


if __name__ == "__main__":
    sys.exit(main())
