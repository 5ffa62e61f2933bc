"""When a record says that it was measured, told by another setting of the clock that dated it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from records.batch import Line
from records.measurement import AgentStatus
from records.ping import PingResult
from records.stamp import StampResult

__all__ = ["began_ns", "ended_ns", "redated"]


def began_ns(record: Line) -> int:
    """Unix time at which it began, or was said, ns."""
    return record.at_ns if isinstance(record, AgentStatus) else record.started_at_ns


def ended_ns(record: Line) -> int:
    """The latest Unix time that it names of itself, ns."""
    packets = record.samples if isinstance(record, PingResult | StampResult) else ()
    return max(began_ns(record), *(packet.sent_at_ns for packet in packets)) if packets else began_ns(record)


def redated(record: Line, moved: Callable[[int], int]) -> Line:
    """The same record with every time that the agent's wall clock gave as `moved` makes it. What a clock elsewhere said stays.

    moved   Unix time in ns to Unix time in ns

    Raises ValueError where a record cannot be of that time.
    """
    if isinstance(record, AgentStatus):
        return replace(record, at_ns=moved(record.at_ns))
    began = moved(record.started_at_ns)
    if isinstance(record, PingResult):
        return replace(record, started_at_ns=began, samples=tuple(replace(one, sent_at_ns=moved(one.sent_at_ns)) for one in record.samples))
    if isinstance(record, StampResult):
        return replace(record, started_at_ns=began, samples=tuple(replace(one, sent_at_ns=moved(one.sent_at_ns)) for one in record.samples))
    return replace(record, started_at_ns=began)
