"""Inputs that nobody meant: good ones that were broken, and good ones with strange values; and what came of giving them."""

from __future__ import annotations

import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warehouse_builders import NOW, content, ping, reading, report, request, stamped, trace, transfer, visit

__all__ = ["GOOD", "KEYS", "STRANGE", "Part", "any_line", "broken", "strange"]

#: Longest that an input may take which had no answer in time among the others, given once more and alone.
ALONE_MOST_S = 10.0

GOOD = [
    line
    for line in content(
        [ping(1, [1000, None]), trace(2), transfer(3, 1000), request(4, 1000), visit(5, 1000), stamped(6, [1000]), reading(7), report(NOW)]
    ).split(b"\n")
    if line
]
STRANGE: list[Any] = [
    None, True, -1, 0, 2**63, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308, "", "\0", "\x1b[2J", "\ud800", "é" * 1000, "../../etc/passwd",
    "' OR 1=1 --",     [], {}, [[]], {"": None}, "9" * 5000, "2026-99-99T99:99:99Z", "NaN", [None] * 1000,
]  # fmt: skip
KEYS = ["v", "type", "agent", "src", "dst", "samples", "hops", "rtt_ns", "at_ns", "id", "outcome", "produced", "x", ""]


@dataclass
class Part:
    """What came of one part.

    late      inputs that had no answer in time, and how each is given once more
    alone_s   how long these took then
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    late: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)

    def fault(self, what: str) -> None:
        """Something that must not happen."""
        if len(self.faults) < 20:
            self.faults.append(what[:2000])

    def is_late(self, what: str, again: Callable[[], object]) -> None:
        """No answer in time: the machine's load, or what this input does to the collector; `settle` finds out."""
        self.outcomes["no answer in time"] += 1
        self.late.append((what, again))

    def settle(self) -> None:
        """Give each of the first twenty that were late once more, alone: then it is quick, or it is a fault."""
        for what, again in self.late[:20]:
            began = time.monotonic()
            try:
                again()
            except Exception as error:  # noqa: BLE001  whatever it is, it came of this input
                self.fault(f"no answer in time, and alone {type(error).__name__} after {time.monotonic() - began:.1f} s: {what}")
                continue
            self.alone_s.append(round(time.monotonic() - began, 3))
            if self.alone_s[-1] > ALONE_MOST_S:
                self.fault(f"no answer in time, and alone {self.alone_s[-1]} s: {what}")
        self.late.clear()

    def add(self, other: Part) -> None:
        """More of the same part."""
        self.inputs += other.inputs
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.seconds += other.seconds
        self.alone_s += other.alone_s


_OLD = [b"1", b'"', b":", b",", b"\r\n", b" "]
_NEW = [b"", b"\0", b"9" * 30, b'"', b"[", b"\n"]


def broken(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to four things done to them."""
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        low, high = min(at, other), max(at, other)
        data = rng.choice(
            [
                lambda: data[:low] + rng.randbytes(rng.randint(1, 8)) + data[low:],  # noqa: B023  called at once
                lambda: data[:low] + data[high:],  # noqa: B023
                lambda: data[:high] + data[low:],  # noqa: B023
                lambda: bytes(byte ^ (1 << rng.randrange(8)) if at == index else byte for index, byte in enumerate(data)),  # noqa: B023
                lambda: data.replace(rng.choice(_OLD), rng.choice(_NEW), 1),  # noqa: B023
                lambda: data[:low],  # noqa: B023
            ]
        )()  # fmt: skip
    return data[: 1 << 20]


def strange(rng: random.Random, line: bytes) -> bytes:
    """A good line with one or two of its values, wherever they are, replaced by strange ones, or a strange key added."""
    record = json.loads(line)
    for _ in range(rng.randint(1, 2)):
        place = record
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys or [0])
            inner = place[key] if keys else None
            if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
                place = inner
                continue
            if isinstance(place, dict) and rng.random() < 0.2:
                key = rng.choice(KEYS)
            if keys or isinstance(place, dict):
                place[key] = copy.deepcopy(rng.choice(STRANGE))
            break
    return json.dumps(record).encode("utf-8", "surrogatepass")


def any_line(rng: random.Random) -> bytes:
    """Broken, strange or good."""
    line = rng.choice(GOOD)
    return rng.choice([broken, strange, strange, lambda _, good: good])(rng, line)
