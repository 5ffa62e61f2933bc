"""The built-in throughput test on the wire: a greeting, a grant, the bulk, a report. Bytes and values only.

The client speaks first::

    client -> server   Hello   37 bytes: magic, what (direction and method), duration, byte budget, lease, congestion control wanted
    server -> client   Grant   23 bytes: magic, go | busy | refused, what the server allows of it, a UDP port for trains
    up:    client sends the bulk and shuts its side; the server answers with a Report
    down:  server sends the bulk, then a Report, and closes

Methods: a transfer; a short one whose rate the sender reads from its congestion control (an estimate); trains of UDP
packets beside the connection (see probes.throughput.train); or nothing, while the connection holds the server's lease. The
lease is a name for the test drawn by its client: a server that shares the client's host knows by it that the client's own
lease is no other test.

The greeting has the length of iperf3's session cookie, and iperf3's server answers a cookie with one byte at
once: so a client that meets an iperf3 server sees it in the first byte and need not wait for a time-out. All
numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CONGESTION_NAME_BYTES",
    "GRANT_BYTES",
    "HELLO_BYTES",
    "LEASE_BYTES",
    "REPORT_BYTES",
    "Grant",
    "Hello",
    "Report",
    "WireError",
    "is_iperf3_answer",
]

Direction = Literal["up", "down"]
Verdict = Literal["go", "busy", "refused"]
Method = Literal["transfer", "sample", "train", "hold"]
#: Where a rate is from; the methods of records.measurement.ThroughputResult.
Estimated = Literal["transfer", "bbr", "delivery_rate", "train"]

_MAGIC = b"ISOTHRU2"
_HELLO = struct.Struct("!8sBIQ6s10s")
_GRANT = struct.Struct("!8sBIQH")
_REPORT = struct.Struct("!8sQQIIIQB16s")
HELLO_BYTES = _HELLO.size
GRANT_BYTES = _GRANT.size
REPORT_BYTES = _REPORT.size
_UNKNOWN = 0xFFFFFFFF
#: What the 10 bytes of a greeting hold; Linux's congestion controls have shorter names.
CONGESTION_NAME_BYTES = 10
LEASE_BYTES = 6
_METHODS: tuple[Method, ...] = ("transfer", "sample", "train", "hold")
_ESTIMATES: tuple[Estimated, ...] = ("transfer", "bbr", "delivery_rate", "train")
_DIRECTIONS: tuple[Direction, ...] = ("up", "down")
_VERDICTS: tuple[Verdict, ...] = ("go", "busy", "refused")

#: First bytes with which iperf3's server answers a cookie: PARAM_EXCHANGE (9), ACCESS_DENIED (-1).
_IPERF3_STATES = (b"\x09", b"\xff")


class WireError(ValueError):
    """Bytes that are not of this protocol."""


def is_iperf3_answer(data: bytes) -> bool:
    """Whether the first bytes from a server are iperf3's and not ours."""
    return data[:1] in _IPERF3_STATES


def _unpack(layout: struct.Struct, data: bytes, what: str) -> tuple[object, ...]:
    if len(data) != layout.size or not data.startswith(_MAGIC):
        raise WireError(f"{len(data)} bytes are no {what} of the built-in throughput test")
    return layout.unpack(data)


def _name(raw: object) -> str | None:
    """A NUL-padded name of letters, digits, '-' and '_'; None when it is empty or something else."""
    assert isinstance(raw, bytes)
    text = raw.rstrip(b"\0").decode("ascii", "replace")
    return text if text and text.replace("-", "").replace("_", "").isalnum() and text.isascii() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client asks for. lease: the name of its test; congestion_control: of the sender, None leaves it to the server."""

    direction: Direction
    duration_ms: int
    max_bytes: int
    congestion_control: str | None = None
    method: Method = "transfer"
    lease: bytes = bytes(LEASE_BYTES)

    def encode(self) -> bytes:
        """Its 37 bytes."""
        name = (self.congestion_control or "").encode("ascii", "replace")
        what = _DIRECTIONS.index(self.direction) | _METHODS.index(self.method) << 4
        return _HELLO.pack(_MAGIC, what, self.duration_ms, self.max_bytes, self.lease, name)

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """From 37 bytes; raises WireError."""
        _, what, duration_ms, max_bytes, lease, name = _unpack(_HELLO, data, "greeting")
        assert isinstance(what, int)
        assert isinstance(lease, bytes)
        assert isinstance(duration_ms, int)
        assert isinstance(max_bytes, int)
        direction, method = what & 15, what >> 4
        if direction >= len(_DIRECTIONS):
            raise WireError(f"direction {direction} is neither up (0) nor down (1)")
        if method >= len(_METHODS):
            raise WireError(f"method {method} is not known")
        return cls(
            direction=_DIRECTIONS[direction],
            duration_ms=duration_ms,
            max_bytes=max_bytes,
            congestion_control=_name(name),
            method=_METHODS[method],
            lease=lease,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The server's answer, with the limits that hold: never more than was asked for. udp_port: of the trains; 0 for other methods."""

    verdict: Verdict
    duration_ms: int = 0
    max_bytes: int = 0
    udp_port: int = 0

    def encode(self) -> bytes:
        """Its 23 bytes."""
        return _GRANT.pack(_MAGIC, _VERDICTS.index(self.verdict), self.duration_ms, self.max_bytes, self.udp_port)

    @classmethod
    def decode(cls, data: bytes) -> Grant:
        """From 23 bytes; raises WireError."""
        _, verdict, duration_ms, max_bytes, udp_port = _unpack(_GRANT, data, "grant")
        assert isinstance(udp_port, int)
        assert isinstance(verdict, int)
        assert isinstance(duration_ms, int)
        assert isinstance(max_bytes, int)
        if verdict >= len(_VERDICTS):
            raise WireError(f"verdict {verdict} is not known")
        return cls(verdict=_VERDICTS[verdict], duration_ms=duration_ms, max_bytes=max_bytes, udp_port=udp_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the server saw of a test; None where it does not know.

    transferred_bytes   bulk received (up) or sent (down)
    duration_ns         from the first to the last byte of it at the server
    retransmits, rtt_us, min_rtt_us, congestion_control   of the server's end, meaningful when it was the sender
    estimate_bps        payload bits per second, read by the server: as the sender of a sample, as the receiver of trains
    method              where that is from
    """

    transferred_bytes: int
    duration_ns: int
    retransmits: int | None = None
    rtt_us: int | None = None
    min_rtt_us: int | None = None
    congestion_control: str | None = None
    estimate_bps: int | None = None
    method: Estimated = "transfer"

    def encode(self) -> bytes:
        """Its 61 bytes."""
        numbers = (_UNKNOWN if value is None else min(value, _UNKNOWN - 1) for value in (self.retransmits, self.rtt_us, self.min_rtt_us))
        name = (self.congestion_control or "").encode("ascii", "replace")
        method = _ESTIMATES.index(self.method)
        return _REPORT.pack(_MAGIC, self.transferred_bytes, self.duration_ns, *numbers, self.estimate_bps or 0, method, name)

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """From 61 bytes; raises WireError."""
        _, transferred_bytes, duration_ns, *numbers, estimate_bps, method, name = _unpack(_REPORT, data, "report")
        assert isinstance(estimate_bps, int)
        assert isinstance(method, int)
        if method >= len(_ESTIMATES):
            raise WireError(f"method {method} is not known")
        assert isinstance(transferred_bytes, int)
        assert isinstance(duration_ns, int)
        known = [value if isinstance(value, int) and value != _UNKNOWN else None for value in numbers]
        return cls(
            transferred_bytes=transferred_bytes,
            duration_ns=duration_ns,
            retransmits=known[0],
            rtt_us=known[1],
            min_rtt_us=known[2],
            congestion_control=_name(name),
            estimate_bps=estimate_bps or None,
            method=_ESTIMATES[method],
        )
