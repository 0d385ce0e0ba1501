"""`vla-ros policy serve` as a user runs it, asked by the policy `remote`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from vla_ros.policies.remote.client import make_remote
from vla_ros.robots import load_robot
from vla_ros.types import CameraImage, JointState, Observation, Pose

pytestmark = pytest.mark.live


def test_a_served_policy_answers_and_ctrl_c_ends_it() -> None:
    command = [
        sys.executable,
        "-m",
        "vla_ros.cli",
        "policy",
        "serve",
        "--policy",
        "visual_servo",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"ws://127\.0\.0\.1:(\d+)", line)
            assert found is not None, line
            robot = load_robot("panda")
            policy = make_remote(robot, url=found[0], timeout=20.0)
            policy.load()
            policy.reset("pick up the red block")
            frame = np.zeros((240, 320, 3), dtype=np.uint8)
            images = {name: CameraImage(1, frame) for name in robot.cameras}
            joints = JointState(1, robot.home, np.zeros(0), np.zeros(0))
            pose = Pose(np.array([0.4, 0.0, 0.4]), np.array([1.0, 0.0, 0.0, 0.0]))
            output = policy.infer(Observation(1, 1, images, joints, 0.08, pose))
            assert output.values is not None and output.values.shape[1] == 7
            policy.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20.0) == 130
        finally:
            process.kill()


def test_what_is_unsafe_is_refused_in_one_sentence() -> None:
    command = [sys.executable, "-m", "vla_ros.cli", "policy", "serve", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 2 and done.stderr.strip().count("\n") == 0
    assert "needs a token" in done.stderr
