"""The evidence of a traceroute: every packet of it, as the kernel saw it leave and arrive, in a file that Wireshark reads.

A packet socket sees packets with the IP header they bear on the wire, which none of the engine's own sockets shows in full.
scapy writes the file (pcap with nanoseconds, link type "raw IP").
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from probes.ping.opening import attach_filter
from probes.traceroute.filters import NOTHING, evidence_filter
from records.errors import NotPermitted, OutsideError, ToolMissing, UserError

if TYPE_CHECKING:
    from scapy.utils import RawPcapWriter

__all__ = ["Evidence", "Mark", "marks_of"]

#: IP protocol, and the ICMP identifier or a port of ours.
Mark = tuple[int, int]

_ALL_PROTOCOLS = 3
_SO_TIMESTAMPNS = 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PACKET_OUTGOING = 4
_LINK_TYPE_RAW_IP = 101
_PACKET_BYTES = 65_535
_RECEIVE_BUFFER_BYTES = 8 << 20
_TIMESPEC = struct.Struct("@qq")
_ICMP, _ICMP6, _WITH_PORTS = 1, 58, frozenset({6, 17})
_ECHO = {_ICMP: frozenset({0, 8}), _ICMP6: frozenset({128, 129})}
_ERRORS = {_ICMP: frozenset({3, 11, 12}), _ICMP6: frozenset({1, 2, 3, 4})}


class Evidence:
    """A pcap file that is being written.

    path  of the file; one that is there is replaced

    Raises NotPermitted without CAP_NET_RAW, ToolMissing without scapy, UserError when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            from scapy.utils import RawPcapWriter
        except ImportError as missing:
            raise ToolMissing("--pcap needs scapy, which is not installed; `pip install 'isochrone[scapy]'`") from missing
        self.path = path
        self.written = self.lost = 0
        self.error: OSError | None = None
        self._marks: frozenset[Mark] = frozenset()
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        except PermissionError as denied:
            raise NotPermitted(
                f"--pcap needs a packet socket and this user may open none ({denied.strerror}); give the process CAP_NET_RAW"
            ) from denied
        try:
            self._file: RawPcapWriter = RawPcapWriter(str(path), linktype=_LINK_TYPE_RAW_IP, nano=True)
            self._file.write_header(None)
        except OSError as refused:
            self._socket.close()
            raise UserError(f"cannot write {path}: {refused.strerror or refused}; give --pcap a file in a folder of yours") from refused
        attach_filter(self._socket, NOTHING)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def watch(self, marks: Iterable[Mark]) -> None:
        """Keep packets that bear one of these from now on; call it before the first of them is sent."""
        wanted = frozenset(marks)
        if wanted == self._marks:
            return
        self._marks = wanted
        protocols = {protocol for protocol, _ in wanted if protocol in _WITH_PORTS}
        attach_filter(self._socket, evidence_filter(next(iter(protocols), _ICMP), sorted(mark for _, mark in wanted)))

    def read(self) -> None:
        """Write what has come in."""
        while True:
            try:
                packet, beside, _, where = self._socket.recvmsg(_PACKET_BYTES, 256)
            except BlockingIOError:
                return
            # On loopback every packet passes twice, out and in.
            if (where[0] == "lo" and where[2] == _PACKET_OUTGOING) or not self._marks & marks_of(packet):
                continue
            stamps = [_TIMESPEC.unpack_from(data) for level, kind, data in beside if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
            if self.error is None and stamps:
                try:
                    self._file.write_packet(packet, sec=stamps[0][0], usec=stamps[0][1])
                except OSError as full:
                    self.error = full
                else:
                    self.written += 1

    def close(self) -> None:
        """Write the rest. Raises OutsideError when the file could not be written to its end."""
        self.read()
        self.lost += struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        self._socket.close()
        try:
            self._file.close()
        except OSError as full:
            self.error = self.error or full
        if self.error is not None:
            raise OutsideError(f"{self.path} is not whole: {self.error.strerror or self.error}")


def marks_of(packet: bytes) -> frozenset[Mark]:
    """What a packet, from its IP header on, bears that may be a mark of ours; of an ICMP error what its quote bears. Never raises."""
    found = _transport_of(packet)
    if found is None:
        return frozenset()
    protocol, message = found
    if protocol in _WITH_PORTS:
        return frozenset((protocol, int.from_bytes(message[at : at + 2], "big")) for at in (0, 2) if len(message) >= 4)
    if len(message) < 8:
        return frozenset()
    if message[0] in _ECHO[protocol]:
        return frozenset({(protocol, int.from_bytes(message[4:6], "big"))})
    # An error is about a packet of ours: never look into the quote of a quote.
    quote = _transport_of(message[8:]) if message[0] in _ERRORS[protocol] else None
    if quote is None or (quote[0] not in _WITH_PORTS and (len(quote[1]) < 8 or quote[1][0] not in _ECHO[quote[0]])):
        return frozenset()
    at = 0 if quote[0] in _WITH_PORTS else 4
    return frozenset({(quote[0], int.from_bytes(quote[1][at : at + 2], "big"))}) if len(quote[1]) >= at + 2 else frozenset()


def _transport_of(packet: bytes) -> tuple[int, bytes] | None:
    """(IP protocol, what follows the IP header) of ICMP, TCP and UDP; None for anything else."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        protocol, header = packet[9], (packet[0] & 15) * 4
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        protocol, header = packet[6], 40
    else:
        return None
    is_known = protocol in _WITH_PORTS or protocol == (_ICMP if packet[0] >> 4 == 4 else _ICMP6)
    return (protocol, packet[header:]) if is_known and header >= 20 else None
