"""Ways to send a probe packet with a TTL of its own and to hear what became of it. The only I/O of traceroute.

============  ===========================  =====================================================================
transport     needs                        what is special
============  ===========================  =====================================================================
ICMP          ping sockets or CAP_NET_RAW  the default; any quote, even of 8 octets, identifies its packet
UDP, queued   nothing                      the kernel keeps back the quoted UDP header, so a router that quotes 8 octets
                                           cannot be told apart and seems silent
UDP, raw      CAP_NET_RAW, IPv4 only       the number travels in the IP header's identification, which is always quoted
TCP SYN       CAP_NET_RAW                  passes where only a service's port does; see probes/traceroute/tcp.py
============  ===========================  =====================================================================
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from probes.ping.filters import udp_error_filter_v4
from probes.ping.icmp_socket import IcmpSocket
from probes.ping.opening import Mode, attach_filter, open_udp
from probes.ping.sockets import Incoming, StampedSocket, clocks
from probes.ping.timing import Sent
from probes.ping.wire import ECHO_REPLY, IcmpError, decode_icmp, extension_of, strip_ipv4
from probes.traceroute import wire
from probes.traceroute.heard import Heard, Transport
from probes.traceroute.sources import Sources
from records.errors import NotPermitted

__all__ = ["IcmpTransport", "QueuedUdpTransport", "RawUdpTransport", "open_transports"]

_PAYLOAD_BYTES = 32


class IcmpTransport:
    """Echo requests; the flow is the checksum. Raises NotPermitted, or OSError without such an address family."""

    def __init__(self, version: int, mode: Mode | None = None) -> None:
        identifier = 1 + int.from_bytes(os.urandom(4), "big") % 0xFFFF
        self._socket = IcmpSocket(version, identifier, mode)
        # Of a ping socket the kernel has chosen it: the socket's "port".
        self._identifier = identifier if self._socket.mode == "raw" else int(self._socket.socket.sock.getsockname()[1])
        self._version = version
        self.describes = f"IPv{version} {'ping' if self._socket.mode == 'dgram' else 'raw'} socket"

    def fileno(self) -> tuple[int, ...]:
        """For the event loop."""
        return (self._socket.fileno(),)

    def marks(self) -> tuple[tuple[int, int], ...]:
        """See Transport."""
        return ((socket.IPPROTO_ICMP if self._version == 4 else socket.IPPROTO_ICMPV6, self._identifier),)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def prepare(self, flow: int) -> None:
        """See Transport: nothing."""

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        """See Transport."""
        return self._socket.send(number, token, host, _PAYLOAD_BYTES, wire.icmp_flow(flow), ttl)

    def read(self) -> Iterator[Heard]:
        """See Transport."""
        for answer in self._socket.read():
            error = answer.error
            if error is None:
                responder, icmp_type, icmp_code, extension = answer.host, ECHO_REPLY[self._version], 0, b""
            elif error.responder is None:
                continue
            else:
                responder, icmp_type, icmp_code, extension = error.responder, error.icmp_type, error.icmp_code, error.extension
            yield Heard(
                host=answer.host,
                number=answer.number,
                token=answer.token,
                responder=responder,
                is_reply=error is None,
                received_ns=answer.received_ns,
                picked_up=answer.picked_up,
                icmp_type=icmp_type,
                icmp_code=icmp_code,
                ttl=answer.ttl,
                extension=extension,
            )


class QueuedUdpTransport:
    """UDP datagrams whose errors the kernel queues; no privilege. The flow is the destination port."""

    def __init__(self, version: int) -> None:
        self._socket = open_udp(version, "0.0.0.0" if version == 4 else "::")  # noqa: S104 (to reserve one source port)
        self._socket.queue_errors()
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.describes = f"IPv{version} UDP socket with an error queue"

    def fileno(self) -> tuple[int, ...]:
        """For the event loop."""
        return (self._socket.fileno(),)

    def marks(self) -> tuple[tuple[int, int], ...]:
        """See Transport."""
        return ((socket.IPPROTO_UDP, int(self._socket.sock.getsockname()[1])),)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def prepare(self, flow: int) -> None:
        """See Transport: nothing."""

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        """See Transport."""
        return self._socket.send(wire.udp_payload(token), host, wire.BASE_PORT + flow, ttl)

    def read(self) -> Iterator[Heard]:
        """See Transport."""
        for incoming in self._socket.read():
            heard = self._queued(incoming) if incoming.is_queued_error else _from_target(incoming)
            if heard is not None:
                yield heard

    def _queued(self, incoming: Incoming) -> Heard | None:
        beside, token = incoming.beside, wire.token_of(incoming.data)
        if token is None or beside.offender is None:
            return None
        return Heard(
            host=incoming.host,
            number=None,
            token=token,
            responder=socket.inet_ntop(self._family, beside.offender),
            is_reply=False,
            received_ns=beside.stamp_ns,
            picked_up=clocks(),
            icmp_type=beside.icmp_type,
            icmp_code=beside.icmp_code,
            ttl=beside.ttl,
            extension=incoming.data[beside.extension_offset :] if beside.extension_offset else b"",
        )


def _from_target(incoming: Incoming) -> Heard | None:
    """A datagram came back: an echo service at the target returns our payload, token included."""
    token = wire.token_of(incoming.data)
    if token is None:
        return None
    return Heard(
        host=incoming.host,
        number=None,
        token=token,
        responder=incoming.host,
        is_reply=True,
        received_ns=incoming.beside.stamp_ns,
        picked_up=clocks(),
        ttl=incoming.beside.ttl,
    )


class RawUdpTransport:
    """UDP datagrams with an IP header of our own making. Raises NotPermitted without CAP_NET_RAW."""

    def __init__(self) -> None:
        # Reserves the source port and hears echo services.
        self._port = open_udp(4, "0.0.0.0")  # noqa: S104
        self._source_port = int(self._port.sock.getsockname()[1])
        self._sources = Sources()
        self.describes = "IPv4 raw socket sending UDP"
        try:
            self._out = StampedSocket(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
            self._in = StampedSocket(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        except PermissionError as denied:
            self._port.close()
            raise NotPermitted(f"this user may open no raw socket ({denied.strerror}); give the process CAP_NET_RAW") from denied
        attach_filter(self._in.sock, udp_error_filter_v4(self._source_port))

    def fileno(self) -> tuple[int, ...]:
        """For the event loop."""
        return (self._port.fileno(), self._out.fileno(), self._in.fileno())

    def marks(self) -> tuple[tuple[int, int], ...]:
        """See Transport."""
        return ((socket.IPPROTO_UDP, self._source_port),)

    def close(self) -> None:
        """Close the sockets."""
        for one in (self._port, self._out, self._in):
            one.close()

    def prepare(self, flow: int) -> None:
        """See Transport: nothing."""

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        """See Transport."""
        destination = socket.inet_aton(host)
        packet = wire.ipv4_udp(
            self._sources.of(host, wire.BASE_PORT), destination, self._source_port, wire.BASE_PORT + flow, ttl, number, token
        )
        return self._out.send(packet, host)

    def read(self) -> Iterator[Heard]:
        """See Transport."""
        for _ in self._out.read():  # nothing but the stamps of what was sent, which find their place by themselves
            pass
        for incoming in self._port.read():
            heard = None if incoming.is_queued_error else _from_target(incoming)
            if heard is not None:
                yield heard
        for incoming in self._in.read():
            heard = self._error(incoming)
            if heard is not None:
                yield heard

    def _error(self, incoming: Incoming) -> Heard | None:
        stripped = strip_ipv4(incoming.data)
        error = None if stripped is None else decode_icmp(4, stripped[0])
        quoted = wire.decode_quoted_udp(error.quoted) if isinstance(error, IcmpError) else None
        if stripped is None or not isinstance(error, IcmpError) or quoted is None or quoted.source_port != self._source_port:
            return None
        return Heard(
            host=socket.inet_ntoa(quoted.destination),
            number=quoted.number,
            token=quoted.token,
            responder=incoming.host,
            is_reply=False,
            received_ns=incoming.beside.stamp_ns,
            picked_up=clocks(),
            icmp_type=error.icmp_type,
            icmp_code=error.icmp_code,
            ttl=stripped[1],
            extension=extension_of(4, error),
        )


def open_transports(protocol: str, port: int) -> dict[int, Transport]:
    """The transports of a protocol ("icmp", "udp" or "tcp", to `port`) by IP version, the most capable this user may have.

    Raises NotPermitted, saying what to grant, when there is none.
    """
    found: dict[int, Transport] = {}
    refused: NotPermitted | None = None
    if protocol == "udp":
        with contextlib.suppress(NotPermitted):
            found[4] = RawUdpTransport()
    for version in (4, 6):
        if version in found:
            continue
        try:
            found[version] = _open(protocol, version, port)
        except NotPermitted as denied:
            refused = denied
        except OSError as missing:
            if missing.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}:
                raise
    if not found:
        raise refused or NotPermitted("this machine has neither IPv4 nor IPv6")
    return found


def _open(protocol: str, version: int, port: int) -> Transport:
    if protocol == "icmp":
        return IcmpTransport(version)
    if protocol == "udp":
        return QueuedUdpTransport(version)
    from probes.traceroute.tcp import TcpTransport

    return TcpTransport(version, port)
