"""What throughput tests may spend in a day, in bytes and in money, in all and for each cloud; it outlives a restart.

The day is UTC's. What a test may use is booked before it begins and corrected when it has ended, so that a process that dies in
the middle has spent too much on paper rather than too little. Money is the egress price of the end that sends; an end
without a price costs nothing. A site belongs to the cloud before its colon: ``aws:eu-west-1``; all others are ``own``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from records.errors import ConfigError, NotPermitted

__all__ = ["ALL", "Booking", "Budget", "Spent", "cloud_of"]

ALL = "all"
_GB = 1_000_000_000


def cloud_of(site: str) -> str:
    """The cloud of a site.

    >>> cloud_of("aws:eu-west-1"), cloud_of("sin-1")
    ('aws', 'own')
    """
    cloud, colon, _ = site.partition(":")
    return cloud if colon else "own"


@dataclass(slots=True)
class Spent:
    """Of one day, by cloud of the target, and under ``all``."""

    bytes: dict[str, int]
    usd: dict[str, float]


class Budget:
    """The books. Raises ConfigError for a file that is not one of ours, NotPermitted for one that cannot be written.

    bytes_per_day, usd_per_day   limits by cloud of the target, and of all under ``all``; what is not named has none
    egress_usd_per_gb            price of a GB (10^9 bytes) that leaves an end, by its cloud
    path                         where the day's sums are kept; None: only in memory
    """

    def __init__(
        self,
        *,
        bytes_per_day: Mapping[str, float],
        usd_per_day: Mapping[str, float],
        egress_usd_per_gb: Mapping[str, float],
        path: Path | None = None,
        today: Callable[[], str] = lambda: datetime.now(UTC).date().isoformat(),
    ) -> None:
        self._bytes_per_day, self._usd_per_day, self._prices = dict(bytes_per_day), dict(usd_per_day), dict(egress_usd_per_gb)
        self._path, self._today = path, today
        self._day, self._spent = self._read()

    def price(self, src: str, dst: str, *, up_bytes: int, down_bytes: int) -> float:
        """What bytes from src to dst, and back, cost in USD."""
        return (self._prices.get(cloud_of(src), 0.0) * up_bytes + self._prices.get(cloud_of(dst), 0.0) * down_bytes) / _GB

    def refusal(self, src: str, dst: str, *, up_bytes: int, down_bytes: int) -> str | None:
        """Why a test of that size may not be made today; None when it may."""
        self._turn_day()
        usd = self.price(src, dst, up_bytes=up_bytes, down_bytes=down_bytes)
        for name in (cloud_of(dst), ALL):
            whose = "of all clouds" if name == ALL else f"of {name}"
            limit, spent = self._bytes_per_day.get(name), self._spent.bytes.get(name, 0)
            if limit is not None and spent + up_bytes + down_bytes > limit:
                more = up_bytes + down_bytes
                return f"the byte budget {whose} for {self._day} is spent: {spent:,} of {limit:,.0f} bytes used, the test may take {more:,}"
            money, paid = self._usd_per_day.get(name), self._spent.usd.get(name, 0.0)
            if money is not None and paid + usd > money:
                return f"the money budget {whose} for {self._day} is spent: {paid:.4f} of {money:.4f} USD used, the test may cost {usd:.4f}"
        return None

    def book(self, src: str, dst: str, *, up_bytes: int, down_bytes: int) -> None:
        """Add to the day's sums (or, negative, take back) and write them down. Raises NotPermitted when that fails."""
        self._turn_day()
        usd = self.price(src, dst, up_bytes=up_bytes, down_bytes=down_bytes)
        for name in (cloud_of(dst), ALL):
            self._spent.bytes[name] = max(0, self._spent.bytes.get(name, 0) + up_bytes + down_bytes)
            self._spent.usd[name] = max(0.0, self._spent.usd.get(name, 0.0) + usd)
        self._write()

    def spent(self) -> Spent:
        """Of today."""
        self._turn_day()
        return self._spent

    def _turn_day(self) -> None:
        if (day := self._today()) != self._day:
            self._day, self._spent = day, Spent({}, {})

    def _read(self) -> tuple[str, Spent]:
        empty = (self._today(), Spent({}, {}))
        if self._path is None:
            return empty
        try:
            book = json.loads(self._path.read_text("utf-8"))
            day, kept, paid = book["day"], book["bytes"], book["usd"]
            found = Spent(
                {str(name): int(value) for name, value in kept.items()}, {str(name): float(value) for name, value in paid.items()}
            )
        except FileNotFoundError:
            return empty
        except OSError as error:
            raise NotPermitted(f"the throughput budget {self._path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"the throughput budget {self._path} is damaged, and what was spent today is not known; remove it to begin the day anew"
            ) from None
        return (day, found) if day == empty[0] else empty

    def _write(self) -> None:
        """Into a new file that takes the old one's place: a power cut leaves one or the other."""
        if self._path is None:
            return
        text = json.dumps({"day": self._day, "bytes": self._spent.bytes, "usd": self._spent.usd})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except OSError as error:
            raise NotPermitted(
                f"the throughput budget {self._path} cannot be written: {error.strerror}; give budget_file in a folder of this user"
            ) from error


class Booking:
    """What one test from src to dst has in the books, if there are any: all that it may take before each try, what it took at the end."""

    def __init__(self, budget: Budget | None, src: str, dst: str) -> None:
        self._budget, self._src, self._dst = budget, src, dst
        self._up = self._down = 0

    def ask(self, *, up_bytes: int, down_bytes: int) -> str | None:
        """Book so much for the test, tries that it has behind it included; why that may not be, None when it is done."""
        up, down = up_bytes - self._up, down_bytes - self._down
        if self._budget is None or not (up or down):
            return None
        refusal = self._budget.refusal(self._src, self._dst, up_bytes=up, down_bytes=down)
        if refusal is None:
            self.settle(up_bytes=up_bytes, down_bytes=down_bytes)
        return refusal

    def settle(self, *, up_bytes: int, down_bytes: int) -> None:
        """So much it is."""
        if self._budget is not None and (up_bytes, down_bytes) != (self._up, self._down):
            self._budget.book(self._src, self._dst, up_bytes=up_bytes - self._up, down_bytes=down_bytes - self._down)
            self._up, self._down = up_bytes, down_bytes
