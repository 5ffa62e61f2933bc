"""Whose failure it was that a probe packet has no RTT, as far as one end can tell. Pure.

==========  ===============================================================================================
source      what points to it
==========  ===============================================================================================
resolver    the name service gave no address
path        a router said unreachable; or nothing came back in time, which may as well be a target that is down
target      it answered, but with an error of its own: no such port, no such protocol
agent       this host could not send (no route, no permission, no room, an interface that is down), or it dropped packets
            that came in while this one was awaited, the answer perhaps among them
==========  ===============================================================================================
"""

from __future__ import annotations

from records.base import FailureSource
from records.ping import PingOutcome

__all__ = ["OVERFLOW", "source_of"]

#: The errno noted beside a packet that timed out while this host dropped what came in for want of room.
OVERFLOW = "ENOBUFS"

#: Resolver errors that are this host's own.
_OWN = {"EAI_MEMORY", "EAI_SYSTEM", "EAI_BADFLAGS", "EAI_FAMILY", "EAI_SERVICE", "EAI_SOCKTYPE"}
#: ICMP and ICMPv6 (type, code) that only the destination itself sends: protocol and port unreachable, unknown next header.
_DESTINATIONS = {4: {(3, 2), (3, 3)}, 6: {(1, 4), (4, 1)}}


def source_of(
    outcome: PingOutcome, *, error: str | None = None, icmp: tuple[int, int] | None = None, responder: str | None = None, host: str = ""
) -> FailureSource | None:
    """None for a reply.

    error       errno or resolver error, None where there was none
    icmp        type and code of an ICMP error; responder: who sent it, None where not known
    host        the address the packet went to

    >>> source_of("unreachable", icmp=(3, 1), responder="192.0.2.1", host="198.51.100.9")
    'path'
    """
    if outcome == "reply":
        return None
    if outcome == "send_failed":
        return "resolver" if error is not None and error.startswith("EAI_") and error not in _OWN else "agent"
    if outcome == "timeout":
        return "path" if error is None else "agent"
    is_own_word = responder == host or icmp in _DESTINATIONS[6 if ":" in host else 4]
    return "target" if is_own_word else "path"
