"""The STAMP reflector on its socket: stamped by the kernel on receipt, answered from the address that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable

from probes.clock import clock_error_ns
from probes.ping import ancillary as linux
from probes.stamp import wire
from probes.stamp.reflect import Network, Reflected, Reflection
from records.errors import ConfigError, NotPermitted

__all__ = ["StampReflector"]

#: Linux's numbers (include/uapi/linux/in.h, in6.h); Python's socket module lacks some of them.
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_PKTINFO_V4 = struct.Struct("@i4s4s")
_PKTINFO_V6 = struct.Struct("@16si")
#: The least delay of so many answers between T3 and their departure is believed, once so many have been seen.
_DELAYS_KEPT, _DELAYS_NEEDED = 16, 4
_BELIEVED_DELAY_NS = 100_000
_ANCILLARY_BYTES = 256
_RECEIVE_BUFFER_BYTES = 4 << 20
#: So many packets are answered before the rest of the program has its turn.
_AT_A_TIME = 64
_CLOCK_ASKED_S = 10.0
#: A kernel stamp this far from the clock is of before a step of it.
_BELIEVED_WAIT_NS = 1_000_000_000


class StampReflector:
    """Reflects STAMP test packets (RFC 8762); see probes.stamp.reflect for whom it answers.

    host, port      where it listens; port 0 takes a free one, see `port` after `start`
    key             authenticated mode with this key; None: unauthenticated
    is_stateful     it numbers its replies by itself, so that senders tell losses by direction
    allowed         networks that are answered; empty: all
    packets_per_s   answers to one source a second, at most
    clock_error_ns  what is known of this host's clock by other means than the kernel's; None asks the kernel
    """

    def __init__(
        self,
        host: str,
        port: int = wire.DEFAULT_PORT,
        *,
        key: bytes | None = None,
        is_stateful: bool = True,
        allowed: Iterable[Network] = (),
        packets_per_s: int = 1000,
        clock_error_ns: int | None = None,
    ) -> None:
        self.host, self.port = host, port
        self._key, self._is_stateful, self._allowed, self._rate = key, is_stateful, tuple(allowed), packets_per_s
        self._stated_error_ns = clock_error_ns
        self._error_bits = wire.ErrorEstimate(clock_error_ns).encode()
        self._clock: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._core: Reflection | None = None
        self._asked_ns: int | None = None
        self._delays_ns: deque[int] = deque(maxlen=_DELAYS_KEPT)
        self._delay_ns = 0

    @property
    def counts(self) -> Reflected:
        """What became of the packets that came in since `start`."""
        return Reflected() if self._core is None else self._core.counts

    async def start(self) -> None:
        """Bind and serve on the running loop. Raises ConfigError for an address that cannot be listened on, NotPermitted for the port."""
        where = f"the STAMP reflector cannot listen on {self.host} port {self.port}"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        except OSError as refused:
            raise ConfigError(f"{where}: {refused.strerror or refused}; give an address of this machine") from None
        try:
            _prepare(sock)
            sock.bind(address)
        except PermissionError:
            sock.close()
            raise NotPermitted(
                f"{where}: ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE); "
                "grant it or choose a port above 1023"
            ) from None
        except OSError as refused:
            sock.close()
            raise ConfigError(f"{where}: {refused.strerror or refused}; choose a free port and an address of this machine") from None
        self._socket, self.port = sock, int(sock.getsockname()[1])
        self._core = Reflection(
            own_port=self.port, key=self._key, is_stateful=self._is_stateful, allowed=self._allowed, packets_per_s=self._rate
        )
        if self._stated_error_ns is None:
            self._clock = asyncio.create_task(self._watch_clock())
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop serving; idempotent."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
            self._clock = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def _watch_clock(self) -> None:
        while True:
            self._error_bits = wire.ErrorEstimate(clock_error_ns()).encode()
            await asyncio.sleep(_CLOCK_ASKED_S)

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(_AT_A_TIME):
            try:
                packet, messages, _, address = self._socket.recvmsg(wire.MAX_PACKET_BYTES + 1, _ANCILLARY_BYTES)
            except BlockingIOError:
                self._read_departures()
                return
            except OSError:  # an ICMP error about an answer: its sender is gone
                continue
            self._answer(packet, messages, address)
            self._read_departures()

    def _read_departures(self) -> None:
        """How long after T3 answers really leave. The packet must say T3 before it leaves; what it takes at least is known from others."""
        assert self._socket is not None
        while True:
            try:
                _, messages, _, _ = self._socket.recvmsg(1, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            except OSError:  # empty
                return
            stamp_ns = linux.read_ancillary(messages).stamp_ns
            if self._asked_ns is not None and stamp_ns is not None and 0 <= stamp_ns - self._asked_ns <= _BELIEVED_DELAY_NS:
                self._delays_ns.append(stamp_ns - self._asked_ns)
                self._delay_ns = min(self._delays_ns) if len(self._delays_ns) >= _DELAYS_NEEDED else 0
            self._asked_ns = None

    def _answer(self, packet: bytes, messages: list[tuple[int, int, bytes]], address: tuple[str, int]) -> None:
        core, sock = self._core, self._socket
        assert core is not None
        assert sock is not None
        taken = core.take(packet, address[0], address[1], time.monotonic_ns())
        if taken is None:
            return
        request, sequence = taken
        beside = linux.read_ancillary(messages)
        now_ns = time.time_ns()
        stamp_ns = beside.stamp_ns
        received_ns = now_ns if stamp_ns is None or not 0 <= now_ns - stamp_ns <= _BELIEVED_WAIT_NS else stamp_ns
        sending = _from_asked_address(messages)
        # T3 is the last thing read before the packet is handed over.
        replied_ns = time.time_ns()
        reply = core.reply(
            request,
            sequence,
            receive_timestamp=wire.to_timestamp(received_ns),
            timestamp=wire.to_timestamp(replied_ns + self._delay_ns),
            error_bits=self._error_bits,
            sender_ttl=beside.ttl,
        )
        try:
            sock.sendmsg((wire.encode_reply(reply, packet, self._key),), sending, 0, address)
        except OSError:  # no room or no way back: to the far end a lost packet
            core.counts.send_failed += 1
        else:
            core.counts.answered += 1
            self._asked_ns = replied_ns


def _prepare(sock: socket.socket) -> None:
    """Non-blocking, with what is wanted beside each packet: the kernel's stamp, the TTL, and the address it was sent to."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    if sock.family == socket.AF_INET:
        options = [(linux.SOL_IP, linux.IP_RECVTTL), (linux.SOL_IP, _IP_PKTINFO)]
    else:
        options = [
            (linux.SOL_IPV6, linux.IPV6_RECVHOPLIMIT),
            (linux.SOL_IPV6, _IPV6_RECVPKTINFO),
            (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
        ]
    for level, option in options:
        sock.setsockopt(level, option, 1)
    with contextlib.suppress(OSError):  # without stamps T2 is the time at which the program had the packet
        sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS & ~linux.STAMPING_OPT_ID)


def _from_asked_address(messages: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The control message that sends an answer from the address the question went to: a host has several, and each may be asked."""
    for level, kind, data in messages:
        if (level, kind) == (linux.SOL_IP, _IP_PKTINFO) and len(data) >= _PKTINFO_V4.size:
            _, _, asked = _PKTINFO_V4.unpack_from(data)
            return [(linux.SOL_IP, _IP_PKTINFO, _PKTINFO_V4.pack(0, asked, bytes(4)))]
        if (level, kind) == (linux.SOL_IPV6, _IPV6_PKTINFO) and len(data) >= _PKTINFO_V6.size:
            asked, index = _PKTINFO_V6.unpack_from(data)
            # A link-local address means something on its own interface only.
            return [(linux.SOL_IPV6, _IPV6_PKTINFO, _PKTINFO_V6.pack(asked, index if asked[:2] == b"\xfe\x80" else 0))]
    return []
