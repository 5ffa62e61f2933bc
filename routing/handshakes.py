"""What opening a connection costs in round trips, by the way it is opened. Apart from routing.latency, as it needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = ["HANDSHAKE_ROUND_TRIPS", "Connection"]

Connection = Literal["cold", "warm", "tls12", "tls-resumed", "tls-early-data", "quic", "quic-0rtt"]

#: Round trips of a leg before the first byte of a request may leave.
#:
#: cold            TCP (1, RFC 9293) and a full TLS 1.3 hand-shake (1, RFC 8446 2)
#: warm            a connection is open
#: tls12           TCP (1) and a full TLS 1.2 hand-shake (2, RFC 5246 7.3)
#: tls-resumed     TCP (1) and a resumed session: TLS 1.3 with a ticket (RFC 8446 2.2), TLS 1.2 abbreviated; 1 either way
#: tls-early-data  TCP (1), the request rides in TLS 1.3 early data (RFC 8446 2.3): replayable, for idempotent requests
#: quic            transport and TLS 1.3 in one (1, RFC 9001 4); a Retry (RFC 9000 8.1.2) would add one
#: quic-0rtt       the request rides in the first flight (RFC 9001 4.6): replayable too
HANDSHAKE_ROUND_TRIPS: Mapping[Connection, int] = {
    "cold": 2,
    "warm": 0,
    "tls12": 3,
    "tls-resumed": 2,
    "tls-early-data": 1,
    "quic": 1,
    "quic-0rtt": 0,
}
