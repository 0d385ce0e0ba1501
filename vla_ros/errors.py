"""Exceptions of the package.

Every message is one plain sentence that says what was given, what is allowed and where it came from
(a file and key, a topic, a command-line option).  Command-line entry points print the message alone and
exit with status 2; nodes log it and refuse the transition.  Nothing moves after one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vla_ros.bounds import plain


class VlaRosError(Exception):
    """Base of all errors a user can cause; its text is meant to be read by the user as it is.

    What it quotes may come from anywhere, so that the text is cut and has no control characters.
    """

    def __str__(self) -> str:
        """The sentence."""
        return plain(super().__str__())


class ConfigurationError(VlaRosError):
    """A YAML file, parameter or option is missing, broken or contradicts another."""


class ContractError(VlaRosError):
    """Robot, cameras, action space and policy do not fit together."""


class ActionError(VlaRosError):
    """A policy output or action chunk is malformed: dimension, finiteness, token range, stamp."""


class ObservationError(VlaRosError):
    """An image or joint state is malformed, stale, frozen, or from the future."""


class InstructionError(VlaRosError):
    """The instruction is empty or names nothing that is in sight."""


class PolicyError(VlaRosError):
    """A policy cannot be loaded or failed while inferring."""


class DataError(VlaRosError):
    """A bag, tfrecord or dataset is corrupt, incomplete or of another kind than claimed."""


class MachineError(VlaRosError):
    """The machine lacks something: a library, a device, a permission, a free domain."""


def unknown(what: str, given: object, known: Iterable[str]) -> str:
    """The sentence for a name that is none of `known`, with the nearest of them where one is near."""
    names = list(known)
    return f"{what} '{given}' is unknown, known are {', '.join(names)}.{did_you_mean(given, names)}"


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """" Did you mean 'x'?" where a known name is near, else nothing; case and "-" for "_" do not matter."""
    names = {_plain(name): name for name in known}
    near = difflib.get_close_matches(_plain(str(given)), names, 1)
    return f" Did you mean '{names[near[0]]}'?" if near else ""


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
