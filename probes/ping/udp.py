"""UDP echo: the engine that asks, and the reflector that answers. Both ends are ours; see udp_wire for the packets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Literal

from probes.ping import udp_wire
from probes.ping.addresses import resolve
from probes.ping.engine import EchoEngine, gai_name, unsent
from probes.ping.opening import open_udp
from probes.ping.session import Probe
from probes.ping.sockets import Incoming, StampedSocket
from records.errors import ConfigError
from records.ping import PingSample

__all__ = ["UdpEchoEngine", "UdpEchoReflector", "split_host_port"]

#: The kernel's stamp of a request and the reflector's clock may differ by a step; a dwell beyond this is not believed.
_BELIEVED_DWELL_NS = udp_wire.MAX_DWELL_NS


def split_host_port(address: str, default_port: int | None) -> tuple[str, int]:
    """``host:port``, ``[v6]:port``, or a bare host where there is a default port.

    Raises ConfigError when there is no port.

    >>> split_host_port("[::1]:8620", None), split_host_port("::1", 8620), split_host_port("pop.example:7", None)
    (('::1', 8620), ('::1', 8620), ('pop.example', 7))
    """
    host, port = address, ""
    if address.startswith("[") and "]" in address:
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    if not port and default_port is not None:
        return host, default_port
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{address!r} names no UDP port to ping; give host:port with a port from 1 to 65535, for example 192.0.2.7:8620")
    return host, int(port)


class UdpEchoEngine(EchoEngine):
    """Pings our own reflectors over UDP; needs no privilege.

    port            the port of an address that names none
    packets_per_s   the most it sends, over all targets
    """

    name = "isochrone-udp/1"
    method: Literal["udp"] = "udp"

    def __init__(self, port: int | None = None, *, packets_per_s: int = 10_000) -> None:
        super().__init__(packets_per_s=packets_per_s)
        self._port = port
        self._sockets: dict[int, StampedSocket] = {}

    async def open(self) -> None:
        """Open a UDP socket for each address family of this machine."""
        for version in (4, 6):
            with contextlib.suppress(OSError):
                one = self._sockets[version] = open_udp(version)
                one.queue_errors()
        self.why = "own UDP echo engine (to isochrone reflectors; kernel timestamps)"
        self._start(*(one.fileno() for one in self._sockets.values()))

    async def ping(
        self, address: str, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int, flow: int = 0
    ) -> tuple[PingSample, ...]:
        """See PingEngine; `address` is ``host:port``, or a host when the engine has a default port. ConfigError without."""
        host, port = split_host_port(address, self._port)
        try:
            version, host = await resolve(host)
        except socket.gaierror as unknown:
            return unsent(count, gai_name(unknown))
        if version not in self._sockets:
            return unsent(count, "EAFNOSUPPORT")
        payload_bytes = max(payload_bytes, udp_wire.HEADER_BYTES)
        return await self._run((host, port), count=count, interval_ns=interval_ns, timeout_ns=timeout_ns, payload_bytes=payload_bytes)

    async def close(self) -> None:
        """See PingEngine."""
        self._abandon()
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    def _transmit(self, probe: Probe) -> None:
        peer = probe.round.peer
        assert isinstance(peer, tuple), "the peer of a UDP round is (host, port)"
        host, port = peer
        request = udp_wire.request(probe.token, probe.round.payload_bytes)
        self._sockets[6 if ":" in host else 4].send(request, host, port, sent=probe)

    def _stamped(self) -> list[StampedSocket]:
        return list(self._sockets.values())

    def _absorb(self) -> int:
        came = 0
        for one in self._sockets.values():
            for incoming in one.read():
                came += 1
                peer = (incoming.host, incoming.port)
                echo = udp_wire.decode(incoming.data)
                if incoming.is_queued_error:
                    self._error(incoming, peer, echo)
                else:
                    token, dwell_ns = (echo.token, echo.dwell_ns or 0) if echo is not None and echo.is_reply else (None, 0)
                    self._session.reply(token, peer, incoming.beside.stamp_ns, incoming.picked_up, incoming.beside.ttl, dwell_ns)
        return came

    def _error(self, incoming: Incoming, peer: tuple[str, int], echo: udp_wire.UdpEcho | None) -> None:
        """The queue quotes what follows the UDP header, which routers may cut off: then the oldest packet to that peer is meant."""
        beside = incoming.beside
        assert beside.icmp_type is not None, "queued errors are ICMP errors"
        assert beside.icmp_code is not None, "queued errors are ICMP errors"
        family = socket.AF_INET if len(beside.offender or b"") == 4 else socket.AF_INET6
        self._session.error(
            token=None if echo is None else echo.token,
            number=None,
            peer=peer,
            responder=None if beside.offender is None else socket.inet_ntop(family, beside.offender),
            icmp_type=beside.icmp_type,
            icmp_code=beside.icmp_code,
        )


class UdpEchoReflector:
    """Answers UDP echo requests; a reply is never longer than its request.

    host, port  where it listens; port 0 takes a free one, see `port` after `start`
    delay_ns    how long to hold a request from (host, port) before answering; None answers at once. The hold is part
                of the RTT, as distance would be: the loopback lab's way of being far away. None from the function
                drops the request.
    """

    def __init__(self, host: str, port: int = 0, *, delay_ns: Callable[[str, int], int | None] | None = None) -> None:
        self._host = host
        self.port = port
        self.reflected = 0
        self._delay_ns = delay_ns
        self._socket: StampedSocket | None = None
        self._held: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Bind and serve on the running loop. Raises ConfigError when the address cannot be listened on."""
        try:
            version, host = await resolve(self._host)
            self._socket = open_udp(version, host, self.port)
        except OSError as refused:
            raise ConfigError(
                f"the UDP reflector cannot listen on {self._host} port {self.port}: {refused.strerror or refused}; "
                "choose a free port and an address of this machine"
            ) from refused
        self.port = int(self._socket.sock.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop serving; requests still held are dropped."""
        for timer in self._held:
            timer.cancel()
        self._held.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        assert self._socket is not None
        for incoming in self._socket.read():
            echo = None if incoming.is_queued_error else udp_wire.decode(incoming.data)
            if echo is None or echo.is_reply:
                continue
            hold_ns = 0 if self._delay_ns is None else self._delay_ns(incoming.host, incoming.port)
            if hold_ns is None:
                continue
            stamp_ns = incoming.beside.stamp_ns
            waited_ns = 0 if stamp_ns is None else time.time_ns() - stamp_ns
            if not 0 <= waited_ns <= _BELIEVED_DWELL_NS:
                waited_ns = 0
            arrived_ns = time.monotonic_ns() - waited_ns
            if hold_ns <= waited_ns:
                self._answer(incoming, arrived_ns, hold_ns)
            else:
                self._hold(incoming, arrived_ns, hold_ns)

    def _hold(self, incoming: Incoming, arrived_ns: int, hold_ns: int) -> None:
        def release() -> None:
            self._held.discard(timer)
            self._answer(incoming, arrived_ns, hold_ns)

        timer = asyncio.get_running_loop().call_at((arrived_ns + hold_ns) / 1e9, release)
        self._held.add(timer)

    def _answer(self, incoming: Incoming, arrived_ns: int, hold_ns: int) -> None:
        """Say how much longer than wanted the packet was here, so that the far end can take it off."""
        if self._socket is None:
            return
        reply = udp_wire.reply_to(incoming.data, time.monotonic_ns() - arrived_ns - hold_ns)
        if reply is None:
            return
        with contextlib.suppress(OSError):  # no room or no way back: to the far end a lost packet
            self._socket.send(reply, incoming.host, incoming.port)
            self.reflected += 1
