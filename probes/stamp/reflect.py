"""What a reflector decides: whom it answers, how often, and with which number. Pure: bytes and times come in as arguments.

A reflector answers strangers, so it must not become a weapon:

* an answer is exactly as long as its question, and there is at most one for each;
* a source gets `packets_per_s` answers a second at most, and all sources together `total_packets_per_s`; a flood of forged
  sources fills a table of bounded size and nothing else;
* with an allow-list only its networks are answered; with a key only packets that bear its HMAC;
* what comes from a privileged port, or from a reflector's own, is not answered: two reflectors must never talk to each other.

A stateful reflector numbers its replies by itself, session by session (address, port, SSID), so that a sender tells loss on
the way there from loss on the way back. A stateless one copies the sender's number (RFC 8762, section 4.3).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from probes.limits import TokenBucket
from probes.stamp.wire import BASE_BYTES, MAX_PACKET_BYTES, Reply, Request, decode_request
from records.errors import ConfigError
from records.units import SECOND

__all__ = ["Reflected", "Reflection", "parse_networks"]

_SOURCES = 4096
_SESSIONS = 8192
_FIRST_ORDINARY_PORT = 1024
#: A session that has been silent for so long begins anew (the REFWAIT of TWAMP is 900 s; our rounds have a session each).
_FORGET_NS = 120 * SECOND

Network = IPv4Network | IPv6Network


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks of an allow-list, each as in ``192.0.2.0/24`` or one address. Raises ConfigError."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text.strip()))
        except ValueError as error:
            raise ConfigError(f"the allow-list names {text!r}: {error}; give networks such as 192.0.2.0/24 or addresses") from None
    return tuple(found)


@dataclass(slots=True)
class Reflected:
    """How often packets met which end."""

    answered: int = 0
    too_short: int = 0
    too_long: int = 0
    not_allowed: int = 0
    rate_limited: int = 0
    bad_source_port: int = 0
    unverified: int = 0
    send_failed: int = 0

    def items(self) -> Iterator[tuple[str, int]]:
        """Name and count of each."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


class Reflection:
    """The state of one reflector.

    own_port    where it listens
    key         of authenticated mode; None: unauthenticated
    is_stateful numbers its replies by itself
    allowed     networks that are answered; empty: all
    packets_per_s, total_packets_per_s   answers to one source, and to all
    """

    def __init__(
        self,
        *,
        own_port: int,
        key: bytes | None = None,
        is_stateful: bool = True,
        allowed: Iterable[Network] = (),
        packets_per_s: int = 1000,
        total_packets_per_s: int = 20_000,
    ) -> None:
        self.counts = Reflected()
        self._own_port, self._key, self._is_stateful = own_port, key, is_stateful
        self._allowed = tuple(allowed)
        self._rate = packets_per_s
        self._total = TokenBucket(total_packets_per_s, total_packets_per_s)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, int, int], tuple[int, int]] = OrderedDict()

    def take(self, packet: bytes, host: str, port: int, now_ns: int) -> tuple[Request, int] | None:
        """The request to answer and the number of its reply; None when it is not answered (counted why).

        host, port   its source; now_ns monotonic time
        """
        counts = self.counts
        if port < _FIRST_ORDINARY_PORT or port == self._own_port:
            counts.bad_source_port += 1
        elif len(packet) < BASE_BYTES[self._key is not None]:
            counts.too_short += 1
        elif len(packet) > MAX_PACKET_BYTES:
            counts.too_long += 1
        elif self._allowed and not self._is_allowed(host):
            counts.not_allowed += 1
        elif not self._has_tokens(host, now_ns):
            counts.rate_limited += 1
        elif (request := decode_request(packet, self._key)) is None:
            counts.unverified += 1
        else:
            return request, self._number(request, host, port, now_ns)
        return None

    def reply(
        self, request: Request, sequence: int, *, receive_timestamp: int, timestamp: int, error_bits: int, sender_ttl: int | None
    ) -> Reply:
        """The reply; timestamps and error estimate as on the wire. An unknown TTL is 255, as RFC 8762 (section 4.3.1) asks for."""
        return Reply(
            sequence=sequence,
            timestamp=timestamp,
            error_bits=error_bits,
            ssid=request.ssid,
            receive_timestamp=receive_timestamp,
            sender_sequence=request.sequence,
            sender_timestamp=request.timestamp,
            sender_error_bits=request.error_bits,
            sender_ttl=255 if sender_ttl is None else sender_ttl,
        )

    @property
    def session_count(self) -> int:
        """Sessions that are remembered; bounded."""
        return len(self._sessions)

    def _is_allowed(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        return any(address.version == network.version and address in network for network in self._allowed)

    def _has_tokens(self, host: str, now_ns: int) -> bool:
        bucket = self._sources.get(host)
        if bucket is None:
            if len(self._sources) >= _SOURCES:
                self._sources.popitem(last=False)
            bucket = self._sources[host] = TokenBucket(self._rate, self._rate)
        else:
            self._sources.move_to_end(host)
        return self._total.wait_ns(1, now_ns) == 0 and bucket.take(1, now_ns) and self._total.take(1, now_ns)

    def _number(self, request: Request, host: str, port: int, now_ns: int) -> int:
        if not self._is_stateful:
            return request.sequence
        key = (host, port, request.ssid)
        number, seen_ns = self._sessions.pop(key, (0, now_ns))
        if now_ns - seen_ns > _FORGET_NS:
            number = 0
        self._sessions[key] = (number + 1 & 0xFFFFFFFF, now_ns)
        while len(self._sessions) > _SESSIONS or now_ns - next(iter(self._sessions.values()))[1] > _FORGET_NS:
            self._sessions.popitem(last=False)
        return number
