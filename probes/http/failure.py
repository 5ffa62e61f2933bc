"""What went wrong with a connection, in which phase, and whose failure it was, as far as one end can tell. Pure.

==========  ===============================================================================================
source      what points to it
==========  ===============================================================================================
resolver    the name service gave no address: it did not answer, it failed, or it knows no such name
path        a router said unreachable; or nothing came back, so that what was sent was never acknowledged
target      it answered with a refusal, an alert, a reset, nonsense; or it acknowledged and then kept silent
agent       this host could not even send: no route, no free port or descriptor, a local firewall
==========  ===============================================================================================

A reset or a refusal may be forged by a middlebox on the way; from one end it cannot be told from the target's own.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from records.measurement import FailureSource, HttpOutcome, HttpPhase

__all__ = ["Failure", "broken", "not_connected", "not_resolved", "timed_out"]

#: Resolver errors (POSIX getaddrinfo) that say: asked, answered, and there is no address.
_NO_NAME = {"EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY"}
#: And those that are this host's own.
_OWN = {"EAI_MEMORY", "EAI_SYSTEM", "EAI_BADFLAGS", "EAI_FAMILY", "EAI_SERVICE", "EAI_SOCKTYPE"}

_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EPROTO,
    errno.ENONET,
    errno.EACCES,  # ICMPv6: administratively prohibited
    errno.EPERM,
}
_RESET = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure; the fields are those of records.measurement.HttpResult."""

    outcome: HttpOutcome
    phase: HttpPhase
    source: FailureSource
    error: str


def not_resolved(host: str, eai: str) -> Failure:
    """A look-up that gave no address; `eai` is the resolver's error, such as ``EAI_AGAIN``."""
    if eai in _NO_NAME:
        return Failure(outcome="no_such_name", phase="dns", source="resolver", error=f"{host} does not resolve: the name has no address")
    if eai in _OWN:
        return Failure(outcome="agent_failed", phase="dns", source="agent", error=f"cannot look up {host}: {eai}")
    return Failure(outcome="resolver_failed", phase="dns", source="resolver", error=f"cannot look up {host}: the resolver failed ({eai})")


def not_connected(where: str, code: int, *, is_local: bool) -> Failure:
    """A TCP hand-shake that ended in an error.

    code      errno
    is_local  it came from connect(2) itself, before anything could have come back
    """
    text = f"cannot connect to {where}: {_words(code)}"
    if code == errno.ECONNREFUSED:
        return Failure(outcome="refused", phase="tcp", source="target", error=text)
    if is_local:
        return Failure(outcome="agent_failed", phase="tcp", source="agent", error=f"{text} (this host could not send)")
    if code == errno.ETIMEDOUT:
        return Failure(outcome="timeout", phase="tcp", source="path", error=text)
    if code in _RESET:
        return Failure(outcome="reset", phase="tcp", source="target", error=text)
    if code in _UNREACHABLE:
        return Failure(outcome="unreachable", phase="tcp", source="path", error=text)
    return Failure(outcome="agent_failed", phase="tcp", source="agent", error=text)


def timed_out(phase: HttpPhase, where: str, limit_ms: int, *, is_unacknowledged: bool | None) -> Failure:
    """A phase that took too long.

    is_unacknowledged  something that was sent waits for its acknowledgement: what was lost is the packet, or the way
                       back; None where that is not known
    """
    within = f"within {limit_ms} ms"
    if phase == "dns":
        return Failure(outcome="timeout", phase=phase, source="resolver", error=f"the resolver gave no answer for {where} {within}")
    if phase == "tcp":
        return Failure(outcome="timeout", phase=phase, source="path", error=f"{where} did not answer {within}: no reply to a SYN")
    text = f"no {'TLS hand-shake with' if phase == 'tls' else 'whole answer from'} {where} {within}"
    if is_unacknowledged:
        return Failure(outcome="timeout", phase=phase, source="path", error=f"{text}: what was sent was not acknowledged")
    return Failure(outcome="timeout", phase=phase, source="target", error=f"{text}: it acknowledged what was sent and said no more")


def broken(phase: HttpPhase, where: str, code: int) -> Failure:
    """A connection that broke after its TCP hand-shake; `code` is errno."""
    text = f"the connection to {where} broke: {_words(code)}"
    if code in _RESET:
        return Failure(outcome="reset", phase=phase, source="target", error=text)
    if code == errno.ETIMEDOUT:
        return Failure(outcome="timeout", phase=phase, source="path", error=text)
    if code in _UNREACHABLE:
        return Failure(outcome="unreachable", phase=phase, source="path", error=text)
    return Failure(outcome="agent_failed", phase=phase, source="agent", error=text)


def _words(code: int) -> str:
    return os.strerror(code)[:1].lower() + os.strerror(code)[1:]
