"""Whose failure a measurement shows, as far as one end can tell: resolver, path, target or agent. Pure.

Records that say so themselves are believed (http, throughput, the packets of a ping). For the others:

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

from records.batch import Line
from records.measurement import FailureSource, InferenceResult, PingResult, ThroughputResult, TracerouteResult
from records.stamp import StampResult

__all__ = ["failure_source"]

_PATH = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)
_AGENT = (errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENOBUFS)


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
        return None if line.stop_reason != "error" else _of_text(line.error or "", is_resolved=is_resolved)
    if isinstance(line, InferenceResult):
        if line.outcome == "ok":
            return None
        if line.outcome == "connect_failed":
            return _of_text(line.error or "", is_resolved=is_resolved)
        return "path" if line.outcome == "timeout" and line.tcp_ns is None else "target"
    return None


def _of_ping(result: PingResult | StampResult, *, is_resolved: bool, address: str | None) -> FailureSource | None:
    outcomes = {sample.outcome for sample in result.samples}
    if not outcomes or "reply" in outcomes:
        return None
    said: Counter[FailureSource] = Counter()
    for sample in result.samples:
        if (source := getattr(sample, "failure_source", None)) is not None:
            said[source] += 1
    if said:
        return said.most_common(1)[0][0]
    if "unreachable" in outcomes:
        responders = {sample.responder for sample in result.samples if sample.outcome == "unreachable"}
        return "target" if responders == {address} else "path"
    if "timeout" in outcomes:
        return "path"
    is_name_failed = any((sample.error or "").startswith("EAI_") for sample in result.samples)
    return "resolver" if is_name_failed or not is_resolved else "agent"


def _of_text(error: str, *, is_resolved: bool) -> FailureSource:
    """Of an error of TCP, by the system's own words in it."""
    if not is_resolved:
        return "resolver"
    if any(os.strerror(code) in error for code in _PATH) or "timed out" in error:
        return "path"
    return "agent" if any(os.strerror(code) in error for code in _AGENT) else "target"
