"""Which address of this host packets to another one leave from."""

from __future__ import annotations

import socket

__all__ = ["Sources"]

_KEPT = 10_000


class Sources:
    """The IPv4 source address the kernel would choose; asked once per destination, and again when it forgets many."""

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}

    def of(self, host: str, port: int) -> bytes:
        """4 octets. Raises OSError without a route; no packet is sent."""
        found = self._found.get(host)
        if found is None:
            if len(self._found) > _KEPT:
                self._found.clear()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.connect((host, port))
                found = self._found[host] = socket.inet_aton(asking.getsockname()[0])
        return found
