"""From this machine's clock to ROS time, whose speed may be another one: the rule without a node."""

from __future__ import annotations

from bisect import bisect_right

KEPT = 4096
"""Readings that are remembered."""


class RosTime:
    """Both clocks are read together again and again; between two readings time is taken to be even.

    For readings in the order of the machine's clock the answers never go back while ROS time does not.
    """

    def __init__(self) -> None:
        self._machine: list[int] = []
        self._ros: list[int] = []

    def read(self, machine: int, ros: int) -> None:
        """What the clocks say at one moment [ns]; ROS time that goes back has begun anew."""
        if self._machine and (machine <= self._machine[-1] or ros < self._ros[-1]):
            if machine <= self._machine[-1] and ros >= self._ros[-1]:
                return
            self._machine, self._ros = [], []
        self._machine.append(machine)
        self._ros.append(ros)
        if len(self._machine) > KEPT:
            del self._machine[: KEPT // 2], self._ros[: KEPT // 2]

    def at(self, machine: int) -> int:
        """ROS time [ns] when the machine's clock said `machine` [ns].

        What is older than the readings is given the first of them, what is newer the last; before there is
        one it is 0.
        """
        after = bisect_right(self._machine, machine)
        if after == 0:
            return self._ros[0] if self._ros else 0
        if after == len(self._machine):
            return self._ros[-1]
        begun, ended = self._machine[after - 1 : after + 1]
        first, last = self._ros[after - 1 : after + 1]
        return first + (machine - begun) * (last - first) // (ended - begun)
