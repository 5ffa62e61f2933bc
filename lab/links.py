"""The arithmetic of one directed link: rate with a bounded queue, jitter, loss. Pure: time, load and chance are passed in.

A link with a rate is a first-in first-out queue that sends at that rate (what a token bucket of depth one packet
does): a packet leaves when everything before it has left and its own bits are out. It is dropped when it would leave
later than `queue_ns` after it came, unless the link is idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from lab.congestion import NO_LOAD, Load
from lab.topology import Link
from records.errors import UserError
from records.units import SECOND

__all__ = ["LINK_OPS", "Change", "Counters", "LinkState", "Op"]

Op = Literal["fail", "restore", "degrade", "shift"]
#: The changes there are to a link, in the order in which messages name them.
LINK_OPS: tuple[Op, ...] = ("fail", "restore", "degrade", "shift")
_LEAST_MTU = 1280
LEAST_RATE_BPS = 1000


@dataclass(slots=True)
class Counters:
    """Packets since the start: carried on, their bytes of IP, lost by chance, dropped from a full queue or a dead link."""

    carried: int = 0
    carried_bytes: int = 0
    lost: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change to one directed link while the lab runs.

    op  ``fail`` takes it down, ``restore`` brings back what the topology says, ``degrade`` sets the given values and
        leaves those that are None as they are, ``shift`` sets the metric, so that paths move to it or away from it
    """

    op: Op
    delay_ns: int | None = None
    jitter_ns: int | None = None
    loss_ratio: float | None = None
    rate_bps: int | None = None
    mtu: int | None = None
    metric: int | None = None

    def __post_init__(self) -> None:
        values = {name: value for name, value in asdict(self).items() if name != "op" and value is not None}
        if self.op not in LINK_OPS:
            raise UserError(f"cannot {self.op!r} a link; there are {', '.join(LINK_OPS)}")
        takes = {"degrade": {"delay_ns", "jitter_ns", "loss_ratio", "rate_bps", "mtu"}, "shift": {"metric"}}.get(self.op, set())
        if extra := [name for name in values if name not in takes]:
            raise UserError(f"{self.op} takes no {', '.join(extra)}; only {'shift' if extra == ['metric'] else 'degrade'} does")
        if self.op == "degrade" and not values:
            raise UserError("degrade changes nothing; give a delay, jitter, loss, rate or MTU")
        if self.op == "shift" and not values:
            raise UserError("shift needs a metric")
        if any(value < 0 for value in values.values()):
            raise UserError(f"a link's values cannot be negative: {values}")
        if self.loss_ratio is not None and self.loss_ratio > 1:
            raise UserError(f"loss {self.loss_ratio} is no ratio; 0..1 is allowed")
        if self.rate_bps is not None and self.rate_bps < LEAST_RATE_BPS:
            raise UserError(f"rate {self.rate_bps} bit/s is too slow; at least 1000 bit/s")
        if self.mtu is not None and not _LEAST_MTU <= self.mtu <= 65535:
            raise UserError(f"MTU {self.mtu} is out of range; {_LEAST_MTU} to 65535 bytes is allowed")
        if self.metric is not None and self.metric < 1:
            raise UserError(f"metric {self.metric} is out of range; at least 1")


class LinkState:
    """One directed link as it is now.

    configured  what the topology says
    settled     that, with the changes made since
    load        what congestion does to it at the moment; delay, jitter, loss and rate are those of both together
    """

    __slots__ = (
        "configured", "counters", "delay_ns", "free_at_ns", "jitter_ns", "load", "loss_ratio", "metric", "mtu", "queue_ns", "rate_bps",
        "settled", "up",
    )  # fmt: skip

    _DEFAULT_QUEUE_NS = 50_000_000

    def __init__(self, configured: Link) -> None:
        self.configured = self.settled = configured
        self.counters = Counters()
        self.load = NO_LOAD
        self.up = True
        self.free_at_ns = 0
        self._settle(configured)

    def _settle(self, link: Link) -> None:
        load = self.load
        self.settled = link
        self.mtu, self.metric = link.mtu, link.metric
        self.queue_ns = link.queue_ns or self._DEFAULT_QUEUE_NS
        self.delay_ns, self.jitter_ns = link.delay_ns + load.delay_ns, link.jitter_ns + load.jitter_ns
        self.loss_ratio = 1 - (1 - link.loss_ratio) * (1 - load.loss_ratio) if load.loss_ratio else link.loss_ratio
        self.rate_bps = None if link.rate_bps is None else max(LEAST_RATE_BPS, round(link.rate_bps * load.rate_share))

    def change(self, change: Change) -> None:
        """Apply a change; packets that are already past this link are not touched."""
        if change.op == "fail":
            self.up = False
        elif change.op == "restore":
            self.up = True
            self._settle(self.configured)
        else:
            values = {key: value for key, value in asdict(change).items() if key != "op" and value is not None}
            self._settle(replace(self.settled, **values))

    def congest(self, load: Load) -> None:
        """Put a load on the link, in place of the one before; its path and the packets already past it stay."""
        self.load = load
        self._settle(self.settled)

    @property
    def weight(self) -> int:
        """What routing weighs the link with now: its metric, else the delay that the topology says, not a degraded one."""
        return self.configured.weight if self.metric is None else self.metric

    def current(self) -> Link:
        """The link as it is now, whether up or down."""
        return replace(
            self.settled,
            delay_ns=self.delay_ns,
            jitter_ns=self.jitter_ns,
            loss_ratio=self.loss_ratio,
            rate_bps=self.rate_bps,
            queue_ns=None if self.rate_bps is None else self.queue_ns,
        )

    def transmit(self, at_ns: int, count: int, size: int, segment_size: int) -> tuple[int, int]:
        """Put packets that come together at a time on the link: (packets that fit, when the last of them is out).

        `count` packets of `segment_size` bytes, the last one possibly smaller, `size` bytes in all. What does not fit
        into the queue is dropped from the end. Without a rate everything passes at once.
        """
        if self.rate_bps is None:
            return count, at_ns
        start_ns = max(at_ns, self.free_at_ns)
        out_ns = start_ns + size * 8 * SECOND // self.rate_bps
        if out_ns - at_ns > self.queue_ns:
            room_bytes = (self.queue_ns - (start_ns - at_ns)) * self.rate_bps // (8 * SECOND)
            fits = max(0, min(count, room_bytes // segment_size)) if count > 1 else 0
            if fits == 0 and start_ns == at_ns:
                fits = 1
            self.counters.dropped += count - fits
            if fits == 0:
                return 0, at_ns
            size = size if fits == count else fits * segment_size
            out_ns = start_ns + size * 8 * SECOND // self.rate_bps
            count = fits
        self.free_at_ns = out_ns
        return count, out_ns

    def wait_ns(self, chance: float) -> int:
        """The wait that jitter adds, given a number drawn evenly from [0, 1)."""
        return int(-math.log(1.0 - chance) * self.jitter_ns) if self.jitter_ns else 0

    def survivors(self, count: int, random: Callable[[], float]) -> list[tuple[int, int]]:
        """Which of `count` packets pass the link's loss: runs [first, last), all in one run when none is lost."""
        if not self.loss_ratio:
            return [(0, count)]
        runs: list[tuple[int, int]] = []
        first = 0
        for n in range(count):
            if random() < self.loss_ratio:
                if n > first:
                    runs.append((first, n))
                first = n + 1
        if first < count:
            runs.append((first, count))
        self.counters.lost += count - sum(last - start for start, last in runs)
        return runs
