"""Echo requests and their answers through one ICMP socket, raw or ping socket, IPv4 or IPv6: the same to the caller."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from probes.ping import ancillary as linux
from probes.ping import wire
from probes.ping.clock import clocks
from probes.ping.mmsg import HOST_AT
from probes.ping.opening import Mode, open_icmp
from probes.ping.outbox import Outbox, socket_name
from probes.ping.packet import Probe
from probes.ping.sockets import Batch, Incoming
from probes.ping.timing import Reading, Sent

__all__ = ["Answer", "ErrorDetail", "IcmpSocket", "Requests"]


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


class Requests(NamedTuple):
    """What all echo requests of a round have in common; see wire.request_head.

    name   where they go, as a socket address
    """

    by: IcmpSocket
    name: bytes
    head: bytes
    base: int
    packet_bytes: int


#: The largest payload that leaves in a burst: an Ethernet frame's.
_BURST_PAYLOAD_BYTES = 1_472
_HOSTS_KEPT = 65_536


class IcmpSocket:
    """One long-lived ICMP socket of one address family. Raises what `open_icmp` raises.

    longest_ns, awaits_until_ns   for its user to note: the longest time-out, and monotonic time until which answers may come
    """

    longest_ns = awaits_until_ns = 0

    def __init__(self, version: int, identifier: int, mode: Mode | None = None) -> None:
        self.version = version
        self.socket, self.mode, self._identifier = open_icmp(version, identifier, mode)
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._outbox: Outbox | None = None
        self._hosts: dict[bytes, str] = {}
        self._usual = self._usual_reply()

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
        sent: Sent | None = None,
    ) -> Sent:
        """Hand one echo request to the kernel; `sent` and what it raises are those of StampedSocket.send."""
        packet = wire.echo_request(self.version, self._identifier, number, token, payload_bytes, flow)
        return self.socket.send(packet, host, 0, ttl, sent=sent)

    def requests(self, host: str, payload_bytes: int, flow: int) -> Requests | None:
        """Prepare a round of echo requests for `send_together`; None where each must leave by `send`."""
        # Without stamps each packet's own reading of the clocks is all there is.
        if payload_bytes > _BURST_PAYLOAD_BYTES or not self.socket.has_stamps:
            return None
        try:
            if self._outbox is None:
                self._outbox = Outbox(self.socket.sock, 8 + _BURST_PAYLOAD_BYTES, wire.request_filler(_BURST_PAYLOAD_BYTES))
            name = socket_name(self._family, host)
        except OSError:
            return None
        return Requests(self, name, *wire.request_head(self.version, self._identifier, payload_bytes, flow), 8 + payload_bytes)

    def send_together(self, probes: Sequence[Probe]) -> int:
        """Hand up to BURST packets to the kernel at once, until one whose round has no requests of this socket: how many it took.

        Those are the first ones. Why it did not take the next is for `send` to find out.
        """
        box = self._outbox
        assert box is not None, "requests() made it"
        memory, sizes, pack_into, slot = box.memory, box.sizes, wire.ADDRESSED.pack_into, 0
        for probe, at in zip(probes, box.slots_at, strict=False):
            requests: Requests | None = probe.round.requests
            if requests is None or requests.by is not self:
                break
            _, name, head, base, packet_bytes = requests
            number, token = probe.number, probe.token
            pack_into(memory, at, name, head, number >> 8, number & 0xFF, token, -(base + (number << 8) + token) % 0xFFFF)
            if sizes[slot] != packet_bytes:
                box.resize(slot, packet_bytes)
            slot += 1
        before = clocks()
        taken = max(0, box.send(slot))
        self.socket.sent_together(before, probes[:taken], is_all=taken == slot)
        return taken

    def _usual_reply(self) -> tuple[struct.Struct, tuple[int, int], tuple[int, int]] | None:
        """What nearly all that comes in looks like: its layout, the least octets, and the two octets that tell it."""
        if not self.socket.is_batched or sys.byteorder != "little":
            return None
        start, end = HOST_AT[self.version]
        has_header = self.version == 4 and self.mode == "raw"
        # Behind an IPv4 header without options (its first octet is 45 hex): type and token. Without: type, code, token.
        data, told = ("B19xB7xQ", (0x45, wire.ECHO_REPLY[4])) if has_header else ("BB6xQ", (wire.ECHO_REPLY[self.version], 0))
        layout = self.socket.slot_layout(f"{start}x{end - start}s", linux.STAMP_AND_TTL_FORMAT, data)
        return layout, (linux.STAMP_AND_TTL_BYTES, struct.calcsize("=" + data)), told

    def read_many(self) -> tuple[list[Answer], list[Batch]]:
        """Every answer that is waiting, where replies may be many: those apart as (token, host, received_ns, ttl)."""
        if self._usual is None:
            return list(self.read()), []
        layout, least_bytes, _ = self._usual
        incoming, batches = self.socket.read_many(layout, least_bytes, self._sieve)
        return (list(self._answers(incoming)) if incoming else []), batches

    def _sieve(self, rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, str, int | None, int]] | None:
        """The replies in these rows. Their identifier is ours: the filter or the kernel let nothing else in."""
        assert self._usual is not None
        hosts, (first_told, second_told) = self._hosts, self._usual[2]
        stamp_head, ttl_head = linux.STAMP_HEAD, linux.TTL_HEAD[self.version]
        found: list[tuple[int, str, int | None, int]] = []
        for name, head, seconds, nanoseconds, head2, ttl, first, second, token in rows:
            if head != stamp_head or head2 != ttl_head or first != first_told or second != second_told:
                return None
            host = hosts.get(name)
            if host is None:
                host = self._learn(name)
            found.append((token, host, seconds * 1_000_000_000 + nanoseconds or None, ttl))
        return found

    def _learn(self, name: bytes) -> str:
        host = self.socket.host(name)
        if len(self._hosts) >= _HOSTS_KEPT:
            self._hosts.clear()
        if "%" not in host:  # an interface's name may change
            self._hosts[name] = host
        return host

    def read(self) -> Iterator[Answer]:
        """Every answer that is waiting; anything else on the socket is dropped."""
        return self._answers(self.socket.read())

    def _answers(self, waiting: Iterable[Incoming]) -> Iterator[Answer]:
        version, identifier, has_header = self.version, self._identifier, self.version == 4 and self.mode == "raw"
        for incoming in waiting:
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
