"""The steps of a first day: each types the commands of the page and judges what came of them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.first_day.commands import Commands
from benchmarks.first_day.terminal import INTERRUPT, Terminal
from vla_ros.contract import load_contract
from vla_ros.evaluation.run_data import load_run

ROOT = Path(__file__).resolve().parents[2]
UP, EPISODE, SHORT, LONG = 150.0, 120.0, 60.0, 400.0
"""Seconds at most: until a graph is up, for an episode, for a quick command, for one that works through data.
They end a step that hangs; how fast things are is not judged here."""
AT_REST = 1e-6
"""Joint speed of a robot that stands [rad/s]."""
MOVING = 0.05
"""Joint speed of one that moves [rad/s]."""
SPARE = 3
"""Demonstrations that may fail, as a person's do."""
REPEAT = 0.033
"""Between the repeats of a key that is held [s]."""
SAME = "commands differ by at most 0, states in 0 ticks"
"""What `vla-ros replay` prints of a run reproduced to the last bit."""


class StepFailedError(Exception):
    """A step did not come out as the page promises, in one sentence."""


@dataclass
class Day:
    """What the steps share."""

    robot: str
    folder: Path
    demonstrations: int = 10
    typed: list[str] = field(default_factory=list)
    """Commands so far."""
    figures: dict[str, object] = field(default_factory=dict)
    """For the JSON."""

    @property
    def commands(self) -> Commands:
        """What the page says for this robot."""
        return Commands(self.robot)

    @property
    def runs(self) -> Path:
        """Where every run gets a folder."""
        return self.folder / "runs"

    def last_run(self) -> Path:
        """Folder of the newest run."""
        return max(path for path in self.runs.iterdir() if path.is_dir())

    def start(self, command: str) -> Terminal:
        """Type a command in a new terminal, in the folder of the day."""
        print(f"  $ {command}", flush=True)
        self.typed.append(command)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.pathsep.join(programs)}
        # exec: Ctrl-C reaches the command alone, as from an interactive shell
        return Terminal(["bash", "-c", f"exec {command}"], self.folder, environment)

    def run(self, command: str, seconds: float = LONG) -> str:
        """Type a command and wait for its end; what it showed.  Raises `StepFailedError` unless status 0."""
        with self.start(command) as terminal:
            status = terminal.wait(seconds)
            text = terminal.text.strip()
        show(text)
        require("Traceback" not in text, "It ended in a traceback.")
        require(status is not None, f"It did not end within {seconds:g} s.")
        require(status == 0, f"It ended with status {status}, not 0.")
        return text


def show(text: str, lines: int = 4) -> None:
    """The last lines of what a command printed."""
    for line in text.strip().splitlines()[-lines:]:
        print(f"    {line}", flush=True)


def require(condition: object, sentence: str) -> None:
    """Raises `StepFailedError` with the sentence unless the condition holds."""
    if not condition:
        raise StepFailedError(sentence)


def real_launch() -> bool:
    """Whether ROS 2's own launch is here."""
    return importlib.util.find_spec("launch_ros") is not None and shutil.which("ros2") is not None


def doctor(day: Day) -> str:
    """Ask what this machine lacks."""
    text = day.run(day.commands.doctor, SHORT)
    return f"nothing that keeps it from running; {len(re.findall(r'^warn', text, re.M))} warnings"


def launch(day: Day) -> str:
    """Launch the graph with an instruction, see it carried out, press Ctrl-C."""
    real = real_launch()
    day.figures["launched_by"] = "ros2 launch" if real else "vla-ros up (launch_ros is not installed here)"
    with day.start(day.commands.launch if real else day.commands.up) as terminal:
        found = terminal.wait_for(r"episode_0001: (success|failure|aborted): ([^\r\n]*)", UP + EPISODE)
        if found is None:
            raise StepFailedError(f"The episode did not end: {terminal.text[-400:].strip()}")
        outcome = found.group(1)
        terminal.press(INTERRUPT)
        begun = time.monotonic()
        status = terminal.wait(SHORT)
        seconds, text = time.monotonic() - begun, terminal.text
    show(text)
    require(outcome == "success", f"The instruction was not carried out: {outcome}.")
    require(status is not None, "Ctrl-C did not end it.")
    day.figures["launch"] = {"seconds_to_end": round(seconds, 2), "status": status}
    require("Traceback" not in text, "It ended in a traceback.")
    return f"by {day.figures['launched_by']}: carried out; ended {seconds:.1f} s after Ctrl-C"


def drive(day: Day) -> str:
    """Drive by keys for a moment, and discard the episode."""
    with day.start(day.commands.drive) as terminal:
        require(terminal.wait_for("Enter starts one", UP), f"No panel: {terminal.text[-300:].strip()}")
        terminal.press("\n")
        require(terminal.wait_for("episode_0001: running", SHORT), "Enter did not start an episode.")
        for _ in range(60):
            terminal.press("r")
            time.sleep(REPEAT)
        terminal.press("x")
        require(terminal.wait_for("episode_0001: discarded", SHORT), "x did not discard the episode.")
        terminal.press(INTERRUPT)
        status = terminal.wait(SHORT)
        show(terminal.text, 2)
    require(status == 0, f"It ended with status {status}.")
    bags = list((day.folder / "demos").glob("discarded/*/*.mcap"))
    require(len(bags) == 1, f"There are {len(bags)} discarded bags, not 1.")
    robot = load_contract(day.last_run() / "contract.yaml", simulated=True).robot
    speed = float(np.abs(load_run(bags[0].parent, robot).setpoints.velocities).max())
    require(speed > MOVING, f"The keys moved the robot at {speed:.3f} rad/s only.")
    day.figures["keys_moved_at_rad_s"] = round(speed, 3)
    return f"the keys moved the robot, up to {speed:.2f} rad/s; the episode was discarded"


def teleoperate(day: Day) -> str:
    """Record demonstrations: Enter begins each; the expert stands in for the person's hands."""
    outcomes: list[str] = []
    with day.start(day.commands.demonstrate) as terminal:
        require(terminal.wait_for("Enter starts one", UP), f"No panel: {terminal.text[-300:].strip()}")
        while outcomes.count("success") < day.demonstrations and len(outcomes) < day.demonstrations + SPARE:
            name = f"episode_{len(outcomes) + 1:04d}"
            terminal.press("\n")
            require(terminal.wait_for(f"{name}: running", SHORT), f"{name} did not begin.")
            found = terminal.wait_for(f"{name}: (success|failure|aborted)", EPISODE)
            if found is None:
                raise StepFailedError(f"{name} did not end.")
            outcomes.append(found.group(1))
            print(f"    {name}: {found.group(1)}", flush=True)
        terminal.press(INTERRUPT)
        status = terminal.wait(SHORT)
        show(terminal.text, 2)
    day.figures["demonstrations"] = outcomes
    require(status == 0, f"It ended with status {status}.")
    good = outcomes.count("success")
    require(good >= day.demonstrations, f"{good} of {len(outcomes)} demonstrations succeeded.")
    return f"{good} of {len(outcomes)} succeeded (by the expert as a device, not by a person)"


def audit(day: Day) -> str:
    """Are they fit to learn from?"""
    day.run(day.commands.audit)
    require((day.folder / "audit.html").is_file(), "There is no page.")
    found = json.loads((day.folder / "audit.json").read_text(encoding="utf-8"))
    day.figures["audit"] = found["verdicts"]
    require(not found["unreadable"], "There are bags that cannot be read.")
    require(not found["verdicts"].get("fail"), f"Not all are usable: {found['verdicts']}.")
    return f"usable: {found['verdicts']}; {found['discarded']} discarded"


def convert(day: Day) -> str:
    """Make data sets of them, in both formats."""
    episodes = {}
    for name, command in (("lerobot", day.commands.to_lerobot), ("rlds", day.commands.to_rlds)):
        day.run(command)
        found = json.loads(day.run(day.commands.info(name)))
        episodes[name] = found["episodes"]
    good = list(day.figures.get("demonstrations", [])).count("success")  # type: ignore[call-overload]
    require(set(episodes.values()) == {good}, f"The sets hold {episodes} episodes, not {good}.")
    return f"{good} episodes in each of {', '.join(episodes)}"


def golden(day: Day) -> str:
    """Keep a demonstration as a regression test, and pass it."""
    day.run(day.commands.keep)
    text = day.run(day.commands.compare)
    require("to the last bit" in text, "It is not the same to the last bit.")
    return "the same as the golden file, to the last bit"


def play(day: Day) -> str:
    """Play a demonstration's actions into the simulator again."""
    text = day.run(day.commands.play)
    require("1 of 1 succeeded" in text, "It did not succeed again.")
    return "1 of 1 succeeded"


def policy(day: Day) -> str:
    """Run a policy, find its report, reproduce the run."""
    text = day.run(day.commands.demo)
    folder = day.last_run()
    for name in ("report.html", "video.mp4"):
        require((folder / name).is_file(), f"There is no {name}.")
    require("No limit was broken" in text, "A limit was broken.")
    first = re.search(r"First command after ([0-9.]+) s", text)
    day.figures["first_command_s"] = float(first.group(1)) if first else None
    replayed = day.run(day.commands.replay)
    require(SAME in replayed, f"The run is not reproduced: {replayed[-300:]}")
    return "done; report.html is there; gone through again with difference 0"


def interrupt(day: Day) -> str:
    """Press Ctrl-C while the arm moves: it brakes, and the run keeps its report."""
    with day.start(day.commands.demo) as terminal:
        require(terminal.wait_for("The graph is up", UP), f"Not up: {terminal.text[-300:].strip()}")
        require(terminal.wait_for("RUNNING", EPISODE), "The policy did not begin to move.")
        time.sleep(1.0)
        terminal.press(INTERRUPT)
        status = terminal.wait(LONG)
        text = terminal.text.strip()
    show(text)
    require(status == 130 and "Traceback" not in text, f"It ended with status {status}.")
    folder = day.last_run()
    robot = load_contract(folder / "contract.yaml", simulated=True).robot
    setpoints = load_run(folder / "bag", robot).setpoints
    speeds = np.abs(setpoints.velocities).max(axis=1)
    late = speeds[setpoints.stamps > setpoints.stamps[-1] - 2_000_000_000]
    day.figures["interrupt"] = {"fastest_of_last_2_s": float(late.max()), "last": float(speeds[-1])}
    require(late.max() > MOVING, "The arm did not move when it was interrupted: nothing was shown.")
    require(speeds[-1] < AT_REST, f"The last setpoint moves at {speeds[-1]:.3g} rad/s.")
    require((folder / "report.html").is_file(), "There is no report of what was interrupted.")
    require("report.html" in text, "The command does not name the report.")
    return f"from {late.max():.2f} rad/s to rest; status 130; report.html is there"


STEPS: tuple[Callable[[Day], str], ...] = (
    doctor, launch, drive, teleoperate, audit, convert, golden, play, policy, interrupt,
)  # fmt: skip
"""In the order of the day."""
