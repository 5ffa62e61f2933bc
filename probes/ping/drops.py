"""What the kernel says it has dropped at a socket for want of room: the difference between a lost reply and one that we lost."""

from __future__ import annotations

import socket
import struct
import time

__all__ = ["Drops"]

#: So many at once, and some may have been dropped: of a receive buffer of the kernel's default size that is half.
_BACKLOG = 128
#: And otherwise so often.
_ASKED_NS = 100_000_000
_SO_MEMINFO = 55
#: Of SO_MEMINFO's nine words (linux/sock_diag.h), the one that counts packets dropped for want of room.
_MEMINFO = struct.Struct("@9I")
_MEMINFO_DROPS = 8


class Drops:
    """Drops of one socket, asked for now and then.

    found_ns   monotonic time at which `ask` found that there had been more since it asked before; 0: never
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.found_ns = 0
        self._known = 0
        self._asked_ns = 0

    def note_read(self, count: int) -> None:
        """So many packets were read just now: ask, if it was many, or long ago."""
        if count >= _BACKLOG or (count and time.monotonic_ns() > self._asked_ns + _ASKED_NS):
            self.ask()

    def ask(self) -> None:
        """Ask the kernel whether it has dropped packets here since it was asked last."""
        count, self._asked_ns = self.count(), time.monotonic_ns()
        if count != self._known:
            self._known, self.found_ns = count, self._asked_ns

    def count(self) -> int:
        """How many packets the kernel has dropped here; 0 where it does not say."""
        try:
            return int(_MEMINFO.unpack(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS])
        except (OSError, struct.error):
            return 0
