"""Delay for bytes on their way through the loopback lab: the arithmetic (pure), and a timer that is not late.

A stream is treated as if it went in packets of 1500 bytes: each piece waits for its turn at the path's rate, then for
the path's delay and jitter, and never overtakes the piece before it. Streams are not thinned by loss, as TCP would
send again what was lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import math
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.topology import Link

__all__ = ["DelayLine", "OneWay", "PreciseTimer"]

#: Of 1500 bytes of a packet, 1448 are payload (IPv4, TCP with timestamps).
_WIRE_SHARE = 1500 / 1448


@dataclass(slots=True)
class OneWay:
    """One direction of a path, shared by everything that goes over it: configured values, and when its rate is free."""

    delay_ns: int
    jitters_ns: tuple[int, ...]
    loss_ratio: float
    rate_bps: int | None
    free_at_ns: int = 0

    @classmethod
    def of(cls, path: tuple[Link, ...]) -> OneWay:
        """What the links of a path add up to."""
        return cls(
            delay_ns=sum(link.delay_ns for link in path),
            jitters_ns=tuple(link.jitter_ns for link in path if link.jitter_ns),
            loss_ratio=1.0 - math.prod(1.0 - link.loss_ratio for link in path),
            rate_bps=min((link.rate_bps for link in path if link.rate_bps is not None), default=None),
        )

    def wait_ns(self, random: Callable[[], float]) -> int:
        """The delay of one packet: the configured delay, and an exponential wait for every link with jitter."""
        return self.delay_ns + sum(int(-math.log(1.0 - random()) * mean_ns) for mean_ns in self.jitters_ns)

    def serialise(self, now_ns: int, payload_bytes: int) -> int:
        """When the last bit of that payload has left the narrowest link, which carries one thing at a time."""
        if self.rate_bps is None:
            return now_ns
        taken_ns = math.ceil(payload_bytes * _WIRE_SHARE * 8 * 1_000_000_000 / self.rate_bps)
        self.free_at_ns = max(now_ns, self.free_at_ns) + taken_ns
        return self.free_at_ns

    @property
    def window_bytes(self) -> int:
        """How much of one stream may be under way: what the rate needs, with 50 ms of queue."""
        if self.rate_bps is None:
            return 8 << 20
        return max(256 << 10, self.rate_bps * (self.delay_ns + 50_000_000) // 8_000_000_000)


class DelayLine:
    """One stream through one direction of a path: when each piece comes out, in order."""

    def __init__(self, way: OneWay, random: Callable[[], float]) -> None:
        self._way = way
        self._random = random
        self._last_due_ns = 0

    def accept(self, now_ns: int, payload_bytes: int) -> int:
        """The time at which a piece that came in now goes out; 0 bytes are an end of stream."""
        out_ns = self._way.serialise(now_ns, payload_bytes) if payload_bytes else now_ns
        self._last_due_ns = max(self._last_due_ns, out_ns + self._way.wait_ns(self._random))
        return self._last_due_ns


class PreciseTimer:
    """Calls back at monotonic nanoseconds; asyncio's own timers may be 1 ms late (epoll counts milliseconds).

    A timerfd(2) wakes the loop for the earliest entry. Where the system has none, asyncio's timer does.
    """

    _MONOTONIC = 1
    _NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
    _ABSOLUTE = 1
    _ITIMERSPEC = struct.Struct("=qqqq")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._fallback: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        create = getattr(self._libc, "timerfd_create", None)
        self._fd = -1 if create is None else int(create(self._MONOTONIC, self._NONBLOCK_CLOEXEC))
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._fire)

    def at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call back at that time; entries of the same time in the order they were made."""
        earliest = not self._heap or due_ns < self._heap[0][0]
        heapq.heappush(self._heap, (due_ns, next(self._numbers), callback))
        if earliest:
            self._arm()

    def _arm(self) -> None:
        if not self._heap:
            return
        due_ns = max(1, self._heap[0][0])
        if self._fd >= 0:
            value = self._ITIMERSPEC.pack(0, 0, *divmod(due_ns, 1_000_000_000))
            self._libc.timerfd_settime(self._fd, self._ABSOLUTE, value, None)
            return
        if self._fallback is not None:
            self._fallback.cancel()
        self._fallback = self._loop.call_at(due_ns / 1e9, self._fire)

    def _fire(self) -> None:
        if self._fd >= 0:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                return
        now_ns = time.monotonic_ns()
        try:
            while self._heap and self._heap[0][0] <= now_ns:
                heapq.heappop(self._heap)[2]()
        finally:
            self._arm()  # also when a callback failed: the others are not to wait for ever

    def close(self) -> None:
        """Drop every entry and the descriptor; idempotent."""
        self._heap.clear()
        if self._fallback is not None:
            self._fallback.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
