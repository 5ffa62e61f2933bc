"""Whose failure a measurement shows, as far as one end can tell: resolver, path, target or agent. Pure.

Records that say so themselves are believed (http, throughput, the packets of a ping); of a packet that does not, it is told as
ping tells it (probes/ping/failure.py). For the others:

==========  ===============================================================================================
resolver    the name had no address
agent       this host could not send: no route, interface down, no permission, no free descriptor
path        a router said unreachable; or nothing came back at all, which a silent target cannot be told from
target      it answered itself: with a refusal, a reset, nonsense, an error
==========  ===============================================================================================
"""

from __future__ import annotations

import errno
import os
from collections import Counter

from probes.ping.failure import source_of
from records.batch import Line
from records.measurement import FailureSource, InferenceResult, PingResult, PingSample, ThroughputResult, TracerouteResult
from records.stamp import StampResult, StampSample

__all__ = ["failure_source", "source_of_words"]

_PATH = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)
_AGENT = (errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENOBUFS)
#: What errors say of it, the system's own words and those of its resolver (gai_strerror).
_PHRASES: tuple[tuple[str, FailureSource], ...] = (
    *((words, "resolver") for words in ("Name or service", "name resolution", "No address associated")),
    *((os.strerror(code), "path") for code in _PATH),
    ("timed out", "path"),
    *((os.strerror(code), "agent") for code in _AGENT),
)


def failure_source(line: Line, *, is_resolved: bool, address: str | None) -> FailureSource | None:
    """Whose failure a result shows; None when it shows none. Lost packets among others that were answered are no failure.

    is_resolved  the target is an address, or its name led to one
    address      which
    """
    said: FailureSource | None = getattr(line, "failure_source", None)
    if said is not None:
        return said
    if isinstance(line, PingResult | StampResult):
        return _of_ping(line, is_resolved=is_resolved, address=address)
    if isinstance(line, TracerouteResult):
        if line.reached:
            return None
        return "path" if line.hops else ("agent" if is_resolved else "resolver")
    if isinstance(line, ThroughputResult):
        return None if line.stop_reason != "error" else source_of_words(line.error or "") if is_resolved else "resolver"
    if isinstance(line, InferenceResult):
        if line.outcome == "ok":
            return None
        if line.outcome == "connect_failed":
            return source_of_words(line.error or "") if is_resolved else "resolver"
        return "path" if line.outcome == "timeout" and line.tcp_ns is None else "target"
    return None


def _of_ping(result: PingResult | StampResult, *, is_resolved: bool, address: str | None) -> FailureSource | None:
    if not result.samples or any(sample.outcome == "reply" for sample in result.samples):
        return None
    said = Counter(_of_packet(sample, is_resolved=is_resolved, address=address) for sample in result.samples)
    return said.most_common(1)[0][0]


def _of_packet(sample: PingSample | StampSample, *, is_resolved: bool, address: str | None) -> FailureSource | None:
    if isinstance(sample, PingSample) and sample.failure_source is not None:
        return sample.failure_source
    if sample.outcome == "send_failed" and not is_resolved:
        return "resolver"
    icmp = None if sample.icmp_type is None or sample.icmp_code is None else (sample.icmp_type, sample.icmp_code)
    return source_of(sample.outcome, error=sample.error, icmp=icmp, responder=sample.responder, host=address or "")


def source_of_words(error: str) -> FailureSource:
    """Of an error of TCP or of a tool over it, by the words in it: the target's, where they name nobody else."""
    return next((source for words, source in _PHRASES if words in error), "target")
