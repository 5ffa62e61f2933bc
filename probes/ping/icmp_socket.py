"""Echo requests and their answers through one ICMP socket, raw or ping socket, IPv4 or IPv6: the same to the caller."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from probes.ping import wire
from probes.ping.sockets import Incoming, Mode, open_icmp
from probes.ping.timing import Reading, Sent

__all__ = ["Answer", "ErrorDetail", "IcmpSocket"]


@dataclass(slots=True)
class ErrorDetail:
    """An ICMP error: who sent it (None where the kernel does not say), what it says, its RFC 4884 extension."""

    responder: str | None
    icmp_type: int
    icmp_code: int
    extension: bytes


@dataclass(slots=True)
class Answer:
    """A message about an echo request.

    host    of an echo reply its source; of an error the destination of the request it quotes
    token, number   of the request; token None where the quote is too short
    ttl     the message's own TTL or hop limit
    received_ns     the kernel's stamp; picked_up: the clocks when it was read
    error   None: an echo reply
    """

    host: str
    token: int | None
    number: int
    ttl: int | None
    received_ns: int | None
    picked_up: Reading
    error: ErrorDetail | None = None


class IcmpSocket:
    """One long-lived ICMP socket of one address family. Raises what `open_icmp` raises.

    awaits_until_ns   for its user to note: monotonic time until which answers may come
    """

    awaits_until_ns = 0

    def __init__(self, version: int, identifier: int, mode: Mode | None = None) -> None:
        self.version = version
        self.socket, self.mode, self._identifier = open_icmp(version, identifier, mode)
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6

    def fileno(self) -> int:
        """For the event loop."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send(
        self,
        number: int,
        token: int,
        host: str,
        payload_bytes: int,
        flow: int = wire.DEFAULT_FLOW,
        ttl: int | None = None,
        turn: Reading | None = None,
    ) -> Sent:
        """Hand one echo request to the kernel; `turn` and what it raises are those of StampedSocket.send."""
        return self.socket.send(wire.echo_request(self.version, self._identifier, number, token, payload_bytes, flow), host, 0, ttl, turn)

    def read(self) -> Iterator[Answer]:
        """Every answer that is waiting; anything else on the socket is dropped."""
        version, identifier, has_header = self.version, self._identifier, self.version == 4 and self.mode == "raw"
        for incoming in self.socket.read():
            data, beside = incoming.data, incoming.beside
            # Nearly all are this: whole echo replies.
            offset = (data[0] & 15) * 4 if has_header and data else 0
            reply = None if incoming.is_queued_error else wire.read_echo_reply(version, data, offset)
            if reply is not None and (offset >= 20 or not has_header):
                if reply[0] == identifier:
                    ttl = data[8] if has_header else beside.ttl
                    yield Answer(incoming.host, reply[2], reply[1], ttl, beside.stamp_ns, incoming.picked_up)
                continue
            answer = self._queued(incoming) if incoming.is_queued_error else self._other(incoming)
            if answer is not None:
                yield answer

    def _other(self, incoming: Incoming) -> Answer | None:
        message, ttl = incoming.data, incoming.beside.ttl
        if self.version == 4 and self.mode == "raw":
            stripped = wire.strip_ipv4(message)
            if stripped is None:
                return None
            message, ttl = stripped
        decoded = wire.decode_icmp(self.version, message)
        if isinstance(decoded, wire.EchoReply):
            if decoded.identifier != self._identifier:
                return None
            return Answer(incoming.host, decoded.token, decoded.number, ttl, incoming.beside.stamp_ns, incoming.picked_up)
        if decoded is None:
            return None
        quoted = wire.decode_quoted_echo(self.version, decoded.quoted)
        if quoted is None or quoted.identifier != self._identifier:
            return None
        detail = ErrorDetail(incoming.host, decoded.icmp_type, decoded.icmp_code, wire.extension_of(self.version, decoded))
        destination = socket.inet_ntop(self._family, quoted.destination)
        return Answer(destination, quoted.token, quoted.number, ttl, incoming.beside.stamp_ns, incoming.picked_up, detail)

    def _queued(self, incoming: Incoming) -> Answer | None:
        beside = incoming.beside
        quoted = wire.decode_echo_header(self.version, incoming.data, b"")
        if quoted is None or beside.icmp_type is None or beside.icmp_code is None:
            return None
        responder = None if beside.offender is None else socket.inet_ntop(self._family, beside.offender)
        extension = incoming.data[beside.extension_offset :] if beside.extension_offset else b""
        detail = ErrorDetail(responder, beside.icmp_type, beside.icmp_code, extension)
        return Answer(incoming.host, quoted.token, quoted.number, beside.ttl, beside.stamp_ns, incoming.picked_up, detail)
