"""Messages with their length in front, over one of a pair of sockets; waiting holds no interpreter lock."""

from __future__ import annotations

import select
import socket
import struct
import time

from vla_ros.errors import PolicyError
from vla_ros.policies.process.messages import LARGEST

_LENGTH = struct.Struct("<I")


class ChannelClosedError(Exception):
    """The other side has gone."""


class ChannelTimeoutError(Exception):
    """The other side did not answer in time."""


class Channel:
    """One end; used by one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        """`end` belongs to the channel from now on."""
        self._socket = end
        self._socket.setblocking(False)
        self._poll = {flag: select.poll() for flag in (select.POLLIN, select.POLLOUT)}
        for flag, poll in self._poll.items():
            poll.register(end, flag)

    def send(self, data: bytes, deadline: float | None = None) -> None:
        """Send one message until `deadline` (monotonic [s]; None: however long it takes).

        Raises `ChannelClosedError`, `ChannelTimeoutError`, or `PolicyError` for a message that is too long.
        """
        if len(data) > LARGEST:
            raise PolicyError(f"A message to the model has {len(data)} bytes, at most {LARGEST} are allowed.")
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            self._wait(select.POLLOUT, deadline)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChannelClosedError from error

    def receive(self, deadline: float | None = None) -> bytes:
        """The next message; raises as `send`, with `PolicyError` for a length that is too long."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline))
        if length > LARGEST:
            raise PolicyError(f"The model announced {length} bytes, at most {LARGEST} are allowed.")
        return self._exactly(length, deadline)

    def shut(self) -> None:
        """End all waiting, from whichever thread: both sides see the end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # it is shut already
            return

    def close(self) -> None:
        """Give the socket back; nobody may be waiting."""
        self._socket.close()

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        data = bytearray(count)
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLIN, deadline)
            try:
                got = self._socket.recv_into(rest)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChannelClosedError from error
            if got == 0:
                raise ChannelClosedError
            rest = rest[got:]
        return bytes(data)

    def _wait(self, flag: int, deadline: float | None) -> None:
        # a process that was itself suspended finds its deadline over: what has come by then counts
        left = None if deadline is None else max(1000.0 * (deadline - time.monotonic()), 0.0)
        if not self._poll[flag].poll(left):
            raise ChannelTimeoutError
