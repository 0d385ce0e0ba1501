"""A policy on another machine: one connection, made again by itself; the robot holds meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from vla_ros.actions.space import get_action_space
from vla_ros.errors import ContractError, PolicyError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.policies.remote.layout import Layout, layout, request
from vla_ros.policies.remote.security import client_tls, loopback, read_token
from vla_ros.policies.remote.wire import MAX_FRAME, pack, unpack
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds before a lost connection is tried again; doubled each time it fails."""


@dataclass(frozen=True)
class Setting:
    """The options of `make_remote`."""

    url: str
    token: str
    authority: str
    form: Layout
    cameras: tuple[str, ...]
    timeout: float
    requirements: PolicyRequirements
    robot: RobotSpec


class RemotePolicy:
    """Asks a server; a server that is slow or gone is an error at once, never a wait."""

    def __init__(self, setting: Setting, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds; nothing is connected yet."""
        self._setting, self._clock = setting, clock
        self._tls = client_tls(setting.url, setting.authority)
        self._connection: ClientConnection | None = None
        self._open = ExitStack()
        self._instruction = ""
        self._pause, self._again, self._why = FIRST_PAUSE, 0.0, ""

    @property
    def requirements(self) -> PolicyRequirements:
        """As the options say; compared with what the server says when it is reached."""
        return self._setting.requirements

    def load(self) -> None:
        """Connect, and compare what the server says of itself.  Raises `PolicyError`."""
        self._connect(self._setting.timeout)

    def reset(self, instruction: str) -> None:
        """Send this instruction with every observation from now on."""
        self._instruction = instruction

    def infer(self, observation: Observation) -> PolicyOutput:
        """The server's answer.  Raises `PolicyError`."""
        setting, begun = self._setting, time.perf_counter()
        frame = pack(request(observation, self._instruction, setting.form, setting.cameras, setting.robot))
        packed = time.perf_counter()
        answer = self._ask(frame)
        if not isinstance(answer, dict) or not isinstance(answer.get("actions"), np.ndarray):
            if isinstance(answer, dict) and answer.get("terminate") is True:
                return self._output(observation, None, answer, {})
            raise PolicyError(f"{setting.url} answered no array 'actions'.")
        values = np.asarray(answer["actions"])
        if values.ndim != 2 or values.dtype.kind not in "fiu" or len(values) == 0:
            raise PolicyError(f"{setting.url} answered actions of shape {values.shape} and {values.dtype}.")
        latency = {"preprocess": packed - begun, "network": time.perf_counter() - packed}
        timing = answer.get("server_timing")
        if isinstance(timing, dict) and isinstance(timing.get("infer_ms"), (int, float)):
            latency["server"] = float(timing["infer_ms"]) / 1000.0
            latency["network"] = max(latency["network"] - latency["server"], 0.0)
        return self._output(observation, values.astype(float)[: self.requirements.horizon], answer, latency)

    def close(self) -> None:
        """End the connection."""
        self._connection = None
        self._open.close()

    def _output(
        self, observation: Observation, values: Any, answer: Mapping[str, Any], latency: Mapping[str, float]
    ) -> PolicyOutput:
        text = answer.get("text", "")
        return PolicyOutput(
            stamp=observation.stamp,
            sequence=observation.sequence,
            action_space=self.requirements.action_space,
            values=values,
            latency=latency,
            terminate=answer.get("terminate") is True,
            text=text if isinstance(text, str) else "",
        )

    def _ask(self, frame: bytes) -> Any:
        if self._connection is None:
            wait = self._again - self._clock()
            if wait > 0.0:
                raise PolicyError(f"{self._why} It is tried again in {wait:.1f} s.")
            self._connect(min(1.0, self._setting.timeout))
        connection = self._connection
        if connection is None:
            raise PolicyError(f"{self._setting.url} is not connected.")
        try:
            connection.send(frame)
            reply = connection.recv(timeout=self._setting.timeout)
        except TimeoutError:
            self._lost(f"{self._setting.url} did not answer within {self._setting.timeout:g} s.")
        except (WebSocketException, OSError) as error:
            self._lost(f"The connection to {self._setting.url} was lost: {_reason(error)}.")
        if isinstance(reply, str):
            raise PolicyError(f"{self._setting.url} refused: {_last_line(reply)}")
        return unpack(reply)

    def _connect(self, timeout: float) -> None:
        setting = self._setting
        headers = {"Authorization": f"Api-Key {setting.token}"} if setting.token else None
        try:
            connection = self._open.enter_context(
                connect(
                    setting.url, ssl=self._tls, compression=None, max_size=MAX_FRAME, open_timeout=timeout,
                    close_timeout=1.0, additional_headers=headers, proxy=None,
                )
            )  # fmt: skip
        except InvalidHandshake as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            why = "the token was refused" if status in (401, 403) else _reason(error)
            self._lost(f"{setting.url} refused the connection: {why}.")
        except (OSError, TimeoutError, InvalidURI, WebSocketException) as error:
            why = f"{_reason(error)}; is a server there (`vla-ros policy serve`)?"
            self._lost(f"{setting.url} cannot be reached: {why}")
        try:
            first = connection.recv(timeout=timeout)
            told = unpack(first) if isinstance(first, bytes) else None
            if not isinstance(told, dict):
                raise PolicyError(f"{setting.url} is no policy server: it does not say what it serves.")
            self._compare(told)
        except TimeoutError:
            self._lost(f"{setting.url} did not say what it serves within {timeout:g} s.")
        except (WebSocketException, OSError) as error:
            self._lost(f"The connection to {setting.url} was lost: {_reason(error)}.")
        except PolicyError as error:
            self._lost(str(error))
        self._connection, self._pause = connection, FIRST_PAUSE

    def _compare(self, told: Mapping[str, Any]) -> None:
        """What a server of ours says of itself against the options; openpi's servers say nothing of it."""
        needs = self.requirements
        for key, ours in (("action_space", needs.action_space), ("layout", self._setting.form.name)):
            theirs = told.get(key)
            if theirs is not None and theirs != ours:
                raise PolicyError(f"{self._setting.url} serves {key} '{theirs}', but '{ours}' is asked for.")
        rate = told.get("action_rate")
        ours_rate = get_action_space(needs.action_space, self._setting.robot.dof, needs.action_rate).rate
        if isinstance(rate, (int, float)) and abs(rate - ours_rate) > 1e-6:
            raise PolicyError(
                f"{self._setting.url} serves steps at {rate:g} Hz, but {ours_rate:g} Hz is asked for."
            )

    def _lost(self, why: str) -> Any:
        self.close()
        self._why = why
        self._again = self._clock() + self._pause
        self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
        raise PolicyError(why)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _last_line(text: str) -> str:
    """The end of a refusal: openpi's servers send a traceback, whose last line says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "without a word")[:300]


def make_remote(
    robot: RobotSpec,
    *,
    url: str = "",
    token_file: str = "",
    authority: str = "",
    layout_name: str = "vla_ros",
    cameras: str = "",
    horizon: int = 10,
    timeout: float = 2.0,
    policy_rate: float = 5.0,
    action_space: str = "",
    rate: float = 0.0,
) -> RemotePolicy:
    """A policy that a server answers for.

    Args:
        robot: with the cameras there are.
        url: ws://HOST:PORT, or wss:// with TLS.
        token_file: file with the token to show; never sent in the clear to another machine.
        authority: file with the certificates that the server's is checked against; "": the system's.
        layout_name: names in the messages, vla_ros, droid or libero.
        cameras: names of the robot's cameras to be shown, with commas between, the main one first; "": all.
        horizon: steps of an answer that are used at most.
        timeout: longest wait for an answer [s].
        policy_rate: answers asked for per second [Hz].
        action_space: what the contract takes the actions for.
        rate: steps per second [Hz]; 0: as the action space has it.

    Raises:
        PolicyError: an option is missing, malformed or contradicts another.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise PolicyError(f"Policy 'remote' needs the option 'url', as ws://HOST:PORT, but it is '{url}'.")
    if not 0.0 < timeout <= 60.0 or horizon < 1 or not 0.0 < policy_rate <= 100.0:
        raise PolicyError(
            f"Policy 'remote': timeout is {timeout:g} s (0 to 60), horizon {horizon} (1 and more), "
            f"policy_rate {policy_rate:g} Hz (0 to 100)."
        )
    token = read_token(token_file)
    if token and parts.scheme == "ws" and not loopback(parts.hostname):
        raise PolicyError(f"The token would travel in the clear to {parts.hostname}; use wss://.")
    form = layout(layout_name)
    names = tuple(name.strip() for name in cameras.split(",") if name.strip()) or tuple(robot.cameras)
    if form.images:
        names = names[: len(form.images)]
    for name in names:
        if name not in robot.cameras:
            raise PolicyError(
                f"The server is to be shown camera '{name}', but robot '{robot.name}' has "
                f"{', '.join(robot.cameras) or 'none'}."
            )
    named = action_space or "delta_tcp"
    try:
        get_action_space(named, robot.dof)
    except ContractError as error:
        raise PolicyError(f"Policy 'remote': {error}.") from error
    requirements = PolicyRequirements(
        action_space=named,
        rate=policy_rate,
        horizon=horizon,
        cameras=tuple(CameraNeed(name) for name in names),
        action_rate=rate or None,
    )
    return RemotePolicy(Setting(url, token, authority, form, names, timeout, requirements, robot))
