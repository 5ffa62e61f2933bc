"""The built-in throughput test on the wire: a greeting, a grant, the bulk, a report. Bytes and values only.

The client speaks first::

    client -> server   Hello   37 bytes: magic, direction, duration, byte budget, congestion control wanted
    server -> client   Grant   21 bytes: magic, go | busy | refused, and what the server allows of it
    up:    client sends the bulk and shuts its side; the server answers with a Report
    down:  server sends the bulk, then a Report, and closes

The greeting has the length of iperf3's session cookie, and iperf3's server answers a cookie with one byte at
once: so a client that meets an iperf3 server sees it in the first byte and need not wait for a time-out. All
numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

__all__ = ["GRANT_BYTES", "HELLO_BYTES", "REPORT_BYTES", "Grant", "Hello", "Report", "WireError", "is_iperf3_answer"]

Direction = Literal["up", "down"]
Verdict = Literal["go", "busy", "refused"]

_MAGIC = b"ISOTHRU1"
_HELLO = struct.Struct("!8sBIQ16s")
_GRANT = struct.Struct("!8sBIQ")
_REPORT = struct.Struct("!8sQQIII16s")
HELLO_BYTES = _HELLO.size
GRANT_BYTES = _GRANT.size
REPORT_BYTES = _REPORT.size
_UNKNOWN = 0xFFFFFFFF
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
    """What a client asks for. congestion_control: of the sender of a down test; None leaves it to the server."""

    direction: Direction
    duration_ms: int
    max_bytes: int
    congestion_control: str | None = None

    def encode(self) -> bytes:
        """Its 37 bytes."""
        name = (self.congestion_control or "").encode("ascii", "replace")
        return _HELLO.pack(_MAGIC, _DIRECTIONS.index(self.direction), self.duration_ms, self.max_bytes, name)

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """From 37 bytes; raises WireError."""
        _, direction, duration_ms, max_bytes, name = _unpack(_HELLO, data, "greeting")
        assert isinstance(direction, int)
        assert isinstance(duration_ms, int)
        assert isinstance(max_bytes, int)
        if direction >= len(_DIRECTIONS):
            raise WireError(f"direction {direction} is neither up (0) nor down (1)")
        return cls(direction=_DIRECTIONS[direction], duration_ms=duration_ms, max_bytes=max_bytes, congestion_control=_name(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The server's answer, with the limits that hold: never more than was asked for."""

    verdict: Verdict
    duration_ms: int = 0
    max_bytes: int = 0

    def encode(self) -> bytes:
        """Its 21 bytes."""
        return _GRANT.pack(_MAGIC, _VERDICTS.index(self.verdict), self.duration_ms, self.max_bytes)

    @classmethod
    def decode(cls, data: bytes) -> Grant:
        """From 21 bytes; raises WireError."""
        _, verdict, duration_ms, max_bytes = _unpack(_GRANT, data, "grant")
        assert isinstance(verdict, int)
        assert isinstance(duration_ms, int)
        assert isinstance(max_bytes, int)
        if verdict >= len(_VERDICTS):
            raise WireError(f"verdict {verdict} is not known")
        return cls(verdict=_VERDICTS[verdict], duration_ms=duration_ms, max_bytes=max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the server saw of a test; None where it does not know.

    transferred_bytes   bulk received (up) or sent (down)
    duration_ns         from the first to the last byte of it at the server
    retransmits, rtt_us, min_rtt_us, congestion_control   of the server's end, meaningful when it was the sender
    """

    transferred_bytes: int
    duration_ns: int
    retransmits: int | None = None
    rtt_us: int | None = None
    min_rtt_us: int | None = None
    congestion_control: str | None = None

    def encode(self) -> bytes:
        """Its 52 bytes."""
        numbers = (_UNKNOWN if value is None else min(value, _UNKNOWN - 1) for value in (self.retransmits, self.rtt_us, self.min_rtt_us))
        name = (self.congestion_control or "").encode("ascii", "replace")
        return _REPORT.pack(_MAGIC, self.transferred_bytes, self.duration_ns, *numbers, name)

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """From 52 bytes; raises WireError."""
        _, transferred_bytes, duration_ns, *numbers, name = _unpack(_REPORT, data, "report")
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
        )
