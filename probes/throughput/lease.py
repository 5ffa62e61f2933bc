"""One test at a time on a host, at either end: whoever tests another, and whoever is tested by another, holds the host's lease.

Two tests that share a link measure each other. So a prober takes the lease of its own host before it asks, and the server at
the other end takes that of its host before it grants; where iperf3 makes the transfer, the prober holds the other end's
lease by a connection of its own beside it. A prober that is turned away gives its own lease back before it asks again, or two
hosts that ask each other would wait for ever. A lease has a holder, a name drawn for the test, and an end: when its
holder is not heard of by then (it died, it hangs) the lease is free again. The name travels in the greeting of the built-in test, so that
a host that tests itself does not wait for itself. Another process of this host is seen by an address in Linux's abstract
namespace, which the kernel frees when that process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

from probes.throughput.wire import LEASE_BYTES

__all__ = ["HOST", "Lease", "LeaseHeld", "local_address", "new_name"]

_RETRY_S = 0.1
#: The abstract name's beginning; the address whose link is used follows.
_NAME = "\0isochrone-throughput-"


def new_name() -> bytes:
    """A fresh name of a test."""
    return secrets.token_bytes(LEASE_BYTES)


def _is_on_a_link(address: str | None) -> bool:
    """Whether a test from this address uses a link. Loopback is none: several agents of a lab may share it."""
    return address is not None and not ipaddress.ip_address(address.partition("%")[0]).is_loopback


class LeaseHeld(Exception):
    """Somebody else holds the lease; says who."""


class Lease:
    """A lease; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._name: bytes | None = None
        self._holder, self._until, self._shares = "", 0.0, 0
        self._mark: socket.socket | None = None

    @property
    def holder(self) -> str | None:
        """Who holds it; None when it is free."""
        return self._holder if self._name is not None and self._clock() < self._until else None

    def take(self, name: bytes, holder: str, ttl_s: float, address: str | None = None) -> None:
        """Take it for `ttl_s`, or share it under the same name. Raises LeaseHeld.

        address   of this host that the test uses: other processes of the host that use it are kept off; None: only this process
        """
        if self.holder is None:
            self._drop()
            self._mark = self._claim(address)
            self._name, self._holder, self._until, self._shares = name, holder, self._clock() + ttl_s, 1
        elif self._name == name:
            self._shares += 1
        else:
            raise LeaseHeld(self._holder)

    def release(self, name: bytes) -> None:
        """Give it back; nothing when it expired and is another's by now."""
        if self._name == name:
            self._shares -= 1
            if self._shares == 0:
                self._drop()

    def _drop(self) -> None:
        self._name = None
        if self._mark is not None:
            self._mark.close()
            self._mark = None

    @staticmethod
    def _claim(address: str | None) -> socket.socket | None:
        if address is None or sys.platform != "linux" or not _is_on_a_link(address):
            return None
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            mark.bind(_NAME + address)
        except OSError:
            mark.close()
            raise LeaseHeld("another program on this host") from None
        return mark

    @contextlib.contextmanager
    def held(self, name: bytes, holder: str, ttl_s: float, address: str | None = None) -> Iterator[None]:
        """As `take`, until the block ends."""
        self.take(name, holder, ttl_s, address)
        try:
            yield
        finally:
            self.release(name)

    @contextlib.asynccontextmanager
    async def awaited(self, name: bytes, holder: str, ttl_s: float, *, wait_s: float, address: str | None = None) -> AsyncIterator[None]:
        """As `held`, after waiting for it for at most `wait_s`; raises LeaseHeld then."""
        until = self._clock() + wait_s
        while True:
            try:
                self.take(name, holder, ttl_s, address)
                break
            except LeaseHeld:
                if self._clock() >= until:
                    raise
            await asyncio.sleep(_RETRY_S)
        try:
            yield
        finally:
            self.release(name)


async def local_address(host: str, port: int) -> str | None:
    """The address of this host that packets to another leave from; None when there is no way there. Nothing is sent."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        with socket.socket(found[0][0], socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect(found[0][4])
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return None


#: Of this process: its prober and its server share it.
HOST = Lease()
