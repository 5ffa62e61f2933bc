"""UDP packet trains: what a path does to the spacing of packets that leave back to back. Bytes and values only.

A train of n packets leaves faster than the path carries it; the bottleneck sends them on at its own rate, so that they arrive
spread over (n - 1) packets' time. The rate is (n - 1) packets of IP over the time from the first to the last of a train, by the
receiver's kernel stamps; the median over the trains forgives those that other traffic tore apart or a busy host pushed together.
It costs a hundredth of a transfer, and says what the bottleneck sends, not what TCP would get of it under loss.

A packet (the rest is zeros)::

    offset  octets  field
    0       8       magic "ISOTRAIN"
    8       6       lease of the test: what is not of it is not counted
    14      2       train
    16      2       number in the train
    18      2       packets of the train
    20      8       when the sender handed it over, ns by its monotonic clock; 0: the kernel was given the train in one piece
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from records.units import SECOND

__all__ = ["HELLO_TRAIN", "PAYLOAD_BYTES", "Arrival", "decode_packet", "packet", "plan", "rate_bps", "tcp_payload_bps"]

PAYLOAD_BYTES = 1400
#: Headers of IPv4 and UDP, which the bottleneck carries too (20 more in IPv6).
_HEADER_BYTES = {4: 28, 6: 48}
#: TCP's payload in a packet of 1500 bytes of IPv4: what a transfer would achieve of the rate.
_TCP_SHARE = 1448 / 1500
_MAGIC = b"ISOTRAIN"
_LAYOUT = struct.Struct("!8s6sHHHQ")
_LEAST_PACKETS = 8
#: A train whose sender took this share of the time that it was spread over on arrival was slowed by its sender.
_SLOW_SENDER = 0.7
#: The `train` of the packet with which a receiver opens the way back through its NAT.
HELLO_TRAIN = 0xFFFF


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that came: which one, when (ns, one clock for all), and when it was handed over (ns by the sender's clock, 0: not told)."""

    train: int
    number: int
    of: int
    at_ns: int
    handed_ns: int = 0


def plan(max_bytes: int) -> tuple[int, ...]:
    """Lengths of the trains that a byte budget pays for: short ones first, for slow paths, then longer ones, which fast paths need."""
    lengths, spent = [], 0
    for length in (16, 16, 32, 32, *(44,) * 9):
        spent += length * (PAYLOAD_BYTES + _HEADER_BYTES[6])
        if spent > max_bytes:
            break
        lengths.append(length)
    return tuple(lengths)


def packet(lease: bytes, train: int, number: int, of: int, handed_ns: int = 0) -> bytes:
    """One packet of a train."""
    return _LAYOUT.pack(_MAGIC, lease, train, number, of, handed_ns).ljust(PAYLOAD_BYTES if train != HELLO_TRAIN else _LAYOUT.size, b"\0")


def decode_packet(data: bytes, lease: bytes, at_ns: int) -> Arrival | None:
    """What arrived; None when it is not of this test. Never raises."""
    if len(data) < _LAYOUT.size:
        return None
    magic, named, train, number, of, handed_ns = _LAYOUT.unpack_from(data)
    return Arrival(train, number, of, at_ns, handed_ns) if magic == _MAGIC and named == lease else None


def rate_bps(arrivals: Iterable[Arrival], version: int) -> int | None:
    """Bits of IP packets a second at the bottleneck: the median over the trains; None when no train came nearly whole.

    A train counts when at least eight of its packets, and nine tenths of it, came, and its sender was not the one that spread it.
    Packets lost within it did not use the bottleneck's time, so only those that came are counted.
    """
    trains: dict[int, dict[int, Arrival]] = {}
    for arrival in arrivals:
        if arrival.train != HELLO_TRAIN:
            trains.setdefault(arrival.train, {}).setdefault(arrival.number, arrival)
    rates = []
    for came in trains.values():
        times = sorted(arrival.at_ns for arrival in came.values())
        handed = [arrival.handed_ns for arrival in came.values()]
        of, spread_ns = max(arrival.of for arrival in came.values()), times[-1] - times[0]
        is_whole = len(times) >= max(_LEAST_PACKETS, 0.9 * of) and spread_ns > 0
        if is_whole and max(handed) - min(handed) <= _SLOW_SENDER * spread_ns:
            rates.append((len(times) - 1) * (PAYLOAD_BYTES + _HEADER_BYTES[version]) * 8 * SECOND / spread_ns)
    return round(statistics.median(rates)) if rates else None


def tcp_payload_bps(ip_bps: int) -> int:
    """What TCP would carry of a rate of IP packets."""
    return round(ip_bps * _TCP_SHARE)
