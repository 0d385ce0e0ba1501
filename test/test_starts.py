"""What a start does not do: import what a process does not need, collect what it imports, compile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import vla_ros
from vla_ros.contract import load_contract
from vla_ros.sim import realtime
from vla_ros.sim.world import World

PACKAGE = Path(vla_ros.__file__).parent
HEAVY = {"numba", "scipy", "mujoco", "matplotlib", "pandas", "torch", "typer", "rich", "pydantic"}
LIGHT_NODES = (
    *("ingester", "inference", "chunker", "supervisor"),
    *("recorder", "watchdog", "lifecycle_manager", "teleop", "replayer"),
)


def run(code: str, *arguments: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(code: str) -> set[str]:
    """Top-level modules that a new interpreter holds after `code`."""
    told = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    return set(json.loads(run(code + told)))


@pytest.mark.parametrize("node", LIGHT_NODES)
def test_a_node_does_not_import_what_it_does_not_need(node: str) -> None:
    found = imported_by(f"import vla_ros.nodes.{node}")
    assert not found & HEAVY
    assert "rclpy" in found


@pytest.mark.parametrize("node", ["watchdog", "lifecycle_manager"])
def test_a_node_that_only_watches_knows_no_images_and_no_kinematics(node: str) -> None:
    assert not imported_by(f"import vla_ros.nodes.{node}") & {"cv2", "pinocchio", "coal"}


def test_the_safety_controller_imports_neither_a_simulator_nor_a_terminal() -> None:
    found = imported_by("import vla_ros.nodes.safety_controller")
    # numba brings scipy
    assert not found & (HEAVY - {"numba", "scipy"})


@pytest.mark.parametrize("robot", ["widowx", "ur5", "ur5e"])
def test_only_a_franka_s_driver_brings_the_compiler_into_the_simulator(robot: str) -> None:
    found = imported_by(
        "import vla_ros.nodes.simulator\n"
        "from vla_ros.contract import load_contract\n"
        "from vla_ros.sim.drivers import make_driver\n"
        f"make_driver(load_contract('{robot}', simulated=True).robot, 1.0)"
    )
    assert not found & (HEAVY - {"mujoco"})


def test_the_command_starts_the_graph_before_it_imports_a_middleware() -> None:
    found = imported_by("import vla_ros.commands.demo, vla_ros.bringup.session")
    assert not found & {"rclpy", "numba", "scipy", "mujoco", "matplotlib"}


def test_every_kernel_is_compiled_when_the_environment_is_made() -> None:
    code = (
        "import runpy, sys\nrunpy.run_module('vla_ros.kernels', run_name='__main__')\n"
        "print(*(name for name in sys.modules if name.startswith('vla_ros.kernels.')))"
    )
    kernels = {f"vla_ros.kernels.{p.stem}" for p in (PACKAGE / "kernels").glob("*.py") if p.stem[0] != "_"}
    assert len(kernels) > 3
    assert kernels <= set(run(code).split())


def test_nothing_is_collected_before_a_node_is_made_and_everything_after(tmp_path: Path) -> None:
    (tmp_path / "a_node.py").write_text(
        "import gc\n"
        "print(gc.isenabled())\n"
        "from vla_ros.nodes.base import VlaNode, run\n"
        "def make():\n"
        "    print(gc.isenabled())\n"
        "    node = VlaNode('a_node')\n"
        "    node.stop()\n"
        "    return node\n"
        "run(make, before_end=lambda node, executor: print(gc.isenabled(), gc.get_freeze_count() > 10_000))\n"
    )
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\n"
        "from vla_ros.nodes.__main__ import run_node\nrun_node('a_node')"
    )
    assert run(code, str(tmp_path)).split() == ["False", "False", "True", "True"]


def test_the_simulated_robot_reports_nothing_before_its_cameras_have_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, seen, failures = threading.Event(), [], []

    class Slow:
        backend = "slow"

        def __init__(self, *given: object) -> None:
            assert made.wait(20.0)

        def render(self, data: object, name: str) -> np.ndarray:
            seen.append(name)
            return np.zeros((2, 2, 3), np.uint8)

        def close(self) -> None: ...

    monkeypatch.setattr(realtime, "make_renderer", Slow)
    spec = load_contract("ur5", simulated=True).robot
    world, lock = World(spec, "pick", 0, "", 0.002, spec.cameras), threading.Lock()
    physics = realtime.PhysicsLoop(
        world, lock, 125.0, lambda sample: None, failures.append, lambda: None, 1.0
    )
    loop = realtime.CameraLoop(world, lock, physics, "auto", lambda *given: None, failures.append)
    loop.start()
    try:
        assert not loop.wait_ready(0.05)
        made.set()
        assert loop.wait_ready(20.0)
        assert seen[: len(spec.cameras)] == list(spec.cameras)
    finally:
        made.set()
        loop.stop()
    assert not failures


def test_a_renderer_that_cannot_be_made_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise OSError("no context")

    monkeypatch.setattr(realtime, "make_renderer", fail)
    spec = load_contract("ur5", simulated=True).robot
    world, lock, failures = World(spec, "pick", 0, "", 0.002, spec.cameras), threading.Lock(), []
    physics = realtime.PhysicsLoop(
        world, lock, 125.0, lambda sample: None, failures.append, lambda: None, 1.0
    )
    loop = realtime.CameraLoop(world, lock, physics, "auto", lambda *given: None, failures.append)
    loop.start()
    assert loop.wait_ready(20.0)
    loop.stop()
    assert len(failures) == 1


def test_physics_begins_after_the_cameras() -> None:
    code = (
        "import rclpy\n"
        "from vla_ros.nodes import simulator\n"
        "order = []\n"
        "simulator.PhysicsLoop.start = lambda self: order.append('physics')\n"
        "simulator.CameraLoop.start = lambda self: order.append('cameras')\n"
        "simulator.CameraLoop.wait_ready = lambda self: order.append('ready')\n"
        "rclpy.init(args=['--ros-args', '-p', 'robot:=ur5'])\n"
        "simulator.Simulator()\n"
        "print(*order, flush=True)\n"
        "import os\nos._exit(0)\n"
    )
    assert run(code).split()[-3:] == ["cameras", "ready", "physics"]
