"""The TCP transport: SYN segments with a TTL of their own, over raw sockets. The connection is never made.

Our own kernel knows nothing of these SYNs, so it answers a SYN and ACK with a RST, which ends the target's half-open
connection; the source ports are kept reserved, so that no program of this host gets one of them.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
from collections.abc import Iterator

from probes.ping.ancillary import SOL_IPV6
from probes.ping.opening import attach_filter
from probes.ping.sockets import Incoming, StampedSocket, clocks
from probes.ping.timing import Sent
from probes.ping.wire import IcmpError, decode_icmp, extension_of, strip_ipv4
from probes.traceroute import tcp_wire
from probes.traceroute.filters import NOTHING, error_filter, segment_filter
from probes.traceroute.heard import Heard
from probes.traceroute.sources import Sources
from records.errors import NotPermitted

__all__ = ["TcpTransport"]

_IPV6_CHECKSUM = 7
_CHECKSUM_OFFSET = 16


class TcpTransport:
    """SYN segments to one port; the flow is the source port. Raises NotPermitted without CAP_NET_RAW, OSError without such a family.

    port  of the targets
    """

    def __init__(self, version: int, port: int) -> None:
        self._version, self._port = version, port
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.describes = f"IPv{version} raw socket sending TCP SYN to port {port}"
        self._reserved: dict[int, socket.socket] = {}
        self._source_ports: dict[int, int] = {}
        self._sources = Sources()
        self._key = secrets.token_bytes(16)
        opened: list[StampedSocket] = []
        try:
            for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6):
                raw = socket.socket(self._family, socket.SOCK_RAW, protocol)
                attach_filter(raw, NOTHING)  # until there is a port to hear
                opened.append(StampedSocket(raw))
        except PermissionError as denied:
            for one in opened:
                one.close()
            raise NotPermitted(
                f"TCP traceroute needs a raw socket and this user may open none ({denied.strerror}); "
                "give the process CAP_NET_RAW, or use --protocol udp or icmp"
            ) from denied
        self._tcp, self._icmp = opened
        if version == 6:
            self._tcp.sock.setsockopt(SOL_IPV6, _IPV6_CHECKSUM, _CHECKSUM_OFFSET)

    def fileno(self) -> tuple[int, ...]:
        """For the event loop."""
        return (self._tcp.fileno(), self._icmp.fileno())

    def marks(self) -> tuple[tuple[int, int], ...]:
        """See Transport."""
        return tuple((tcp_wire.PROTOCOL, port) for port in self._source_ports)

    def close(self) -> None:
        """Close the sockets."""
        self._tcp.close()
        self._icmp.close()
        for one in self._reserved.values():
            one.close()

    def prepare(self, flow: int) -> None:
        """See Transport: reserves the flow's source port."""
        self._source_port(flow)

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        """See Transport."""
        source_port = self._source_port(flow)
        sequence = self._secret(host, flow) << 16 | number
        pseudo = b""
        if self._version == 4:
            pseudo = tcp_wire.pseudo_header_v4(self._sources.of(host, self._port), socket.inet_aton(host))
        return self._tcp.send(tcp_wire.syn(source_port, self._port, sequence, pseudo), host, 0, ttl)

    def read(self) -> Iterator[Heard]:
        """See Transport."""
        for incoming in self._tcp.read():
            heard = None if incoming.is_queued_error else self._answer(incoming)
            if heard is not None:
                yield heard
        for incoming in self._icmp.read():
            heard = None if incoming.is_queued_error else self._error(incoming)
            if heard is not None:
                yield heard

    def _answer(self, incoming: Incoming) -> Heard | None:
        segment, ttl = incoming.data, incoming.beside.ttl
        if self._version == 4:
            stripped = strip_ipv4(segment)
            if stripped is None:
                return None
            segment, ttl = stripped
        answer = tcp_wire.decode_syn_answer(segment)
        if answer is None or answer.source_port != self._port:
            return None
        return self._heard(incoming, incoming.host, answer.port, answer.sequence, ttl, None, b"")

    def _error(self, incoming: Incoming) -> Heard | None:
        message, ttl = incoming.data, incoming.beside.ttl
        if self._version == 4:
            stripped = strip_ipv4(message)
            if stripped is None:
                return None
            message, ttl = stripped
        error = decode_icmp(self._version, message)
        quoted = tcp_wire.decode_quoted_syn(self._version, error.quoted) if isinstance(error, IcmpError) else None
        if quoted is None or not isinstance(error, IcmpError) or quoted.port != self._port:
            return None
        host = socket.inet_ntop(self._family, quoted.destination)
        return self._heard(incoming, host, quoted.source_port, quoted.sequence, ttl, error, extension_of(self._version, error))

    def _heard(
        self, incoming: Incoming, host: str, source_port: int, sequence: int, ttl: int | None, error: IcmpError | None, extension: bytes
    ) -> Heard | None:
        """What was heard about the SYN with this sequence number to the host; None when it was none of ours."""
        flow = self._source_ports.get(source_port)
        if flow is None or self._secret(host, flow) != sequence >> 16:
            return None
        return Heard(
            host=host,
            number=sequence & 0xFFFF,
            token=None,
            responder=incoming.host,
            is_reply=error is None,
            received_ns=incoming.beside.stamp_ns,
            picked_up=clocks(),
            icmp_type=None if error is None else error.icmp_type,
            icmp_code=None if error is None else error.icmp_code,
            ttl=ttl,
            extension=extension,
        )

    def _secret(self, host: str, flow: int) -> int:
        """16 bits that nobody can guess who has not seen a packet of the flow."""
        return int.from_bytes(hashlib.blake2s(f"{host} {flow}".encode(), key=self._key, digest_size=2).digest(), "big")

    def _source_port(self, flow: int) -> int:
        """The source port of a flow: reserved when the flow is first sent, and let through the filters."""
        reserved = self._reserved.get(flow)
        if reserved is None:
            reserved = self._reserved[flow] = socket.socket(self._family, socket.SOCK_STREAM)
            reserved.bind(("0.0.0.0" if self._version == 4 else "::", 0))  # noqa: S104 (to reserve a port; nobody listens)
            self._source_ports[int(reserved.getsockname()[1])] = flow
            attach_filter(self._tcp.sock, segment_filter(self._version, self._source_ports))
            attach_filter(self._icmp.sock, error_filter(self._version, tcp_wire.PROTOCOL, self._source_ports))
        return int(reserved.getsockname()[1])
