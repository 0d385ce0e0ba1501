"""`vla-ros teleop`: the graph with a person in it, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from vla_ros.bringup.gazebo import check_gazebo
from vla_ros.bringup.graph import GraphOptions, contract_for, run_folder
from vla_ros.commands.shared import shown, stamp
from vla_ros.data.open import discarded_in
from vla_ros.errors import ConfigurationError, unknown
from vla_ros.teleop.devices import DEVICES, own_terminal
from vla_ros.teleop.devices.leader import check_device_options


def drive(options: GraphOptions, runs: Path) -> int:
    """Start the graph and let the person drive until Ctrl-C.  Raises `VlaRosError`.

    Nothing is printed while the panel is shown: it is the node's, on the same terminal.
    """
    person = options.teleop
    if person is None or person.device not in DEVICES:
        given = "" if person is None else person.device
        raise ConfigurationError(unknown("Device", given, DEVICES))
    contract = contract_for(options)
    check_device_options(person.device, person.device_options, contract.robot)
    if options.sim == "gazebo":
        check_gazebo()
    terminal = person.terminal or own_terminal()
    if person.device == "keyboard" and not terminal:
        raise ConfigurationError(
            "Device 'keyboard' needs a terminal, but this command was started from none; "
            "name one with --terminal."
        )
    _look_for(person.device, person.device_path, terminal)
    from vla_ros.bringup.session import prepared, session

    folder = run_folder(runs, stamp())
    options = replace(options, teleop=replace(person, terminal=terminal))
    # also where whoever started it in the background had it ignored
    signal.signal(signal.SIGINT, _as_interrupt)
    signal.signal(signal.SIGHUP, _as_interrupt)
    before = _bags(Path(options.record)) if options.record else set()
    begun = time.monotonic()
    print("Starting ...", flush=True)
    with session(prepared(options, folder), folder, _unheard) as running:
        running.wait_up()
        if not terminal:
            print(f"The graph is up after {time.monotonic() - begun:.1f} s; Ctrl-C ends it.", flush=True)
        try:
            while True:
                running.check()
                time.sleep(0.1)
        except KeyboardInterrupt:
            seconds = time.monotonic() - begun
    _print(f"Ended after {seconds:.0f} s; logs: {shown(folder / 'log')}")
    if options.record:
        _print(_recorded(Path(options.record), before))
    return 0


def _bags(folder: Path) -> set[Path]:
    """The bags in a folder, without the discarded ones."""
    return {file.parent for file in folder.glob("*/*.mcap")} if folder.is_dir() else set()


def _recorded(folder: Path, before: set[Path]) -> str:
    """How many episodes were recorded, and what to do with them."""
    bags = _bags(folder)
    count = len(bags - before)
    there = f" ({len(bags)} are there)" if len(bags) > count else ""
    if not bags and (discarded := discarded_in(folder)):
        moved = shown(folder / "discarded")
        return f"No episode was kept in {shown(folder)}; discarded: {discarded}, in {moved}."
    if not bags:
        return f"No episode was recorded in {shown(folder)}."
    episodes = "1 episode" if count == 1 else f"{count} episodes"
    return f"{episodes} recorded in {shown(folder)}{there}; next: vla-ros bag audit {shown(folder)}"


def _look_for(device: str, path: str, terminal: str) -> None:
    """Open and close what the node will open, before anything starts.  Raises `MachineError`."""
    from vla_ros.teleop.devices.joystick import Gamepad
    from vla_ros.teleop.devices.spacemouse import SpaceMouse
    from vla_ros.teleop.devices.terminal import Terminal

    found: list[Gamepad | SpaceMouse | Terminal] = [Terminal(terminal)] if terminal else []
    if device == "gamepad":
        found.append(Gamepad(path))
    elif device == "spacemouse":
        found.append(SpaceMouse(path))
    for one in found:
        one.open()
        one.close()


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        # the terminal has gone: nobody is there to read it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _unheard(name: str, line: str) -> None:
    """Troubles are in the logs, and those that matter to the person in the panel."""


def _as_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
