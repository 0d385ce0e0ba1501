"""A made-up run as a bag with every topic, for tests of what reads bags."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vla_ros.data.bag import BagWriter
from vla_ros.data.message_types import time_fields
from vla_ros.evaluation.urdf_chain import joint_values, read_urdf
from vla_ros.robots.spec import RobotSpec

START = 1_790_000_000_000_000_000


def minimum_jerk(start: np.ndarray, goal: np.ndarray, ticks: int) -> np.ndarray:
    s = (np.arange(1, ticks + 1) / ticks)[:, None]
    return start + (goal - start) * (10 * s**3 - 15 * s**4 + 6 * s**5)


def motion(robot: RobotSpec, seconds: float) -> np.ndarray:
    """There and back again around home, well inside the limits, (N, n)."""
    ticks = int(seconds * robot.simulated_control_rate / 3)
    away = 0.7 * np.array([0.12, 0.06, 0.08, -0.05, -0.1, 0.12, -0.15])[: robot.dof]
    parts = [np.repeat(robot.home[None], 10, axis=0)]
    for goal in (robot.home + away, robot.home - 0.5 * away, robot.home):
        parts.append(minimum_jerk(parts[-1][-1], goal, ticks))
    return np.concatenate(parts)


def write_fake_run(
    path: Path,
    robot: RobotSpec,
    seconds: float = 6.0,
    images: bool = True,
    positions: np.ndarray | None = None,
    omit: tuple[str, ...] = (),
    early: dict[int, int] | None = None,
) -> Path:
    """Write the bag; `positions` replaces the commanded motion, `omit` leaves topics out, `early` stamps
    setpoints of these indices too early [ns].
    """
    q = motion(robot, seconds) if positions is None else positions
    rate = robot.simulated_control_rate
    period = round(1e9 / rate)
    velocity = np.gradient(q, 1 / rate, axis=0) if len(q) > 1 else np.zeros_like(q)
    acceleration = np.gradient(velocity, 1 / rate, axis=0) if len(q) > 1 else np.zeros_like(q)
    widths = np.full(len(q), robot.gripper.max_width)
    poses = read_urdf(robot.urdf, robot.urdf_path).poses(
        robot.tcp_frame, joint_values(robot.joint_names, q, robot.gripper, widths)
    )
    messages: list[tuple[int, str, str, dict]] = []

    def add(stamp: int, topic: str, kind: str, **values: object) -> None:
        if topic not in omit:
            messages.append((stamp, topic, kind, values))

    driver = robot.driver
    add(START, "/vla/instruction", "std_msgs/String", data="pick up the red block")
    for k, row in enumerate(q):
        now = START + k * period
        t = k / rate
        state = 0 if k < 10 else 2 if 1.0 < t < 1.6 else 3 if 3.0 < t < 3.3 else 1
        header = {"stamp": time_fields(now), "frame_id": robot.base_frame}
        sequence = int(max(t - 0.14, 0) * 5)
        add(
            now + 300_000,
            "/vla/joint_setpoint",
            "vla_ros/JointSetpoint",
            header={**header, "stamp": time_fields(now - (early or {}).get(k, 0))},
            tick=k + 1,
            positions=row,
            velocities=velocity[k],
            accelerations=acceleration[k],
            gripper_width=widths[k],
            state=state,
            chunk_sequence=sequence,
        )
        command = {"name": "arm", "cmd": row} if "interbotix" in driver.command_type else {"data": row}
        add(now + 250_000, driver.command_topic, driver.command_type, **command)
        late = q[max(k - 5, 0)] + 1e-4
        add(
            now,
            driver.joint_state_topic,
            "sensor_msgs/JointState",
            header=header,
            name=list(driver.joint_names),
            position=late,
        )
        if k % max(1, round(rate / 20)) == 0:
            interventions = []
            if state == 2:
                interventions = [
                    {"action": 0, "reason": "joint_velocity", "subject": robot.joint_names[1], "amount": 0.2},
                    {"action": 1, "reason": "floor", "subject": "tcp", "amount": 0.01},
                ]
            if state == 3:
                interventions = [{"action": 2, "reason": "starvation", "subject": "", "amount": 0.3}]
            x, y, z = poses[k, :3, 3]
            pose = {"position": {"x": x, "y": y, "z": z}, "orientation": {"w": 1.0}}
            add(
                now,
                "/vla/safety_status",
                "vla_ros/SafetyStatus",
                header=header,
                state=state,
                tick=k + 1,
                interventions=interventions,
                reference_pose=pose,
                measured_pose=pose,
                rate=rate,
                period_error_p99=2e-4,
                compute_p99=8e-4,
            )
    end = START + len(q) * period
    for n in range(int(len(q) / rate * 5)):
        stamp = START + n * 200_000_000
        header = {"stamp": time_fields(stamp)}
        add(stamp + 12_000_000, "/vla/observation", "vla_ros/Observation", header=header, sequence=n)
        add(
            stamp + 75_000_000 + n * 100_000,
            "/vla/policy_output",
            "vla_ros/PolicyOutput",
            header=header,
            sequence=n,
            policy="visual_servo",
            action_space="bridge",
            horizon=1,
            dimension=7,
            values=np.zeros(7),
            error="The red block is not in sight." if n == 3 else "",
        )
        add(
            stamp + 77_000_000 + n * 100_000,
            "/vla/action_chunk",
            "vla_ros/ActionChunk",
            header=header,
            sequence=n,
            period=0.2,
            gripper_width=[0.08],
        )
    for stamp, outcome, reason in (
        (START, 1, ""),
        (end - 10_000_000, 2, "The red block is 6 cm above the table."),
    ):
        add(
            stamp,
            "/vla/episode_status",
            "vla_ros/EpisodeStatus",
            header={"stamp": time_fields(stamp)},
            episode_id="episode_0001",
            task="pick",
            instruction="pick up the red block",
            outcome=outcome,
            reason=reason,
            elapsed=(stamp - START) * 1e-9,
        )
    if images:
        for camera in robot.cameras.values():
            for n in range(int(len(q) / rate * camera.rate)):
                stamp = START + round(n * 1e9 / camera.rate)
                add(stamp + 5_000_000, camera.topic, "sensor_msgs/Image", **picture(camera.name, n, stamp))
    messages.sort(key=lambda entry: entry[0])
    with BagWriter(path, {"contract": f"robot: {robot.name}\n"}) as writer:
        for stamp, topic, kind, values in messages:
            writer.write(topic, kind, stamp, writer.types.create(kind, **values))
    return path


def picture(name: str, number: int, stamp: int) -> dict:
    rgb = np.full((240, 320, 3), (150, 140, 120) if name == "primary" else (90, 110, 130), np.uint8)
    cv2.rectangle(rgb, (20 + 2 * number % 250, 120), (50 + 2 * number % 250, 150), (200, 30, 30), -1)
    return {
        "header": {"stamp": time_fields(stamp)},
        "height": 240,
        "width": 320,
        "encoding": "rgb8",
        "step": 960,
        "data": rgb.tobytes(),
    }
