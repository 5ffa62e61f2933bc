"""When a record says that it was measured and for how long; and dated anew, by another setting of the clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

from records.batch import Line
from records.hop import Hop
from records.measurement import AgentStatus, InferenceResult, TracerouteResult
from records.ping import PingResult, PingSample
from records.stamp import StampResult, StampSample

__all__ = ["began_ns", "ended_ns", "longest_ns", "redated"]

#: Fields in ns that are no time that something took: dates, bounds that somebody states, what a server asks for, its counters.
_NO_SPANS = re.compile(r".*_at_ns|clock_error_ns|retry_after_ns|.*_sum_ns")
_SPANS: dict[type, tuple[str, ...]] = {}


def began_ns(record: Line) -> int:
    """Unix time at which it began, or was said, ns."""
    return record.at_ns if isinstance(record, AgentStatus) else record.started_at_ns


def ended_ns(record: Line) -> int:
    """The latest Unix time that it names of itself, ns."""
    packets = record.samples if isinstance(record, PingResult | StampResult) else ()
    return max(began_ns(record), *(packet.sent_at_ns for packet in packets)) if packets else began_ns(record)


def longest_ns(record: Line) -> int:
    """The longest time that a measurement says anything of it took, ns; 0 for a status."""
    if isinstance(record, AgentStatus):
        return 0
    names = _SPANS.get(type(record))
    if names is None:
        found = (each.name for each in fields(record))
        names = _SPANS[type(record)] = tuple(name for name in found if name.endswith("_ns") and not _NO_SPANS.fullmatch(name))
    spans = [getattr(record, name) for name in names]
    packets: Iterable[PingSample | StampSample | Hop] = ()
    if isinstance(record, PingResult | StampResult):
        packets = record.samples
    elif isinstance(record, TracerouteResult):
        packets = record.hops
    elif isinstance(record, InferenceResult):
        spans += record.token_gaps_ns or ()
    return max((span for span in (*spans, *(each.rtt_ns for each in packets)) if isinstance(span, int)), default=0)


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
