"""The STAMP sender: rounds of test packets to any number of reflectors over one UDP socket for each address family.

Pacing, time-outs, matching and RTT are those of the ping engines (probes.ping.session); this adds STAMP's packets and what a
reply says. A reply is ours when its source is the reflector and it returns both number and timestamp of a packet in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import Literal

from probes.clock import clock_error_ns
from probes.ping.addresses import resolve
from probes.ping.engine import EchoEngine, gai_name, unsent
from probes.ping.opening import open_udp
from probes.ping.session import Probe, Round, Verdict
from probes.ping.sockets import Incoming, StampedSocket, clocks
from probes.stamp import wire
from probes.stamp.account import Answer, Losses, losses, proves_stateful, variations
from records.measurement import PingSample
from records.stamp import StampReflectorKind, StampSample

__all__ = ["StampEngine", "StampRound"]

#: A reflector cannot have kept a packet for longer than it was away, but for what its T3 is early or late.
_T3_ERROR_NS = 100_000
#: How long the kernel's word on the clock's error is good.
_CLOCK_ASKED_NS = 10_000_000_000
_STATEFUL_KEPT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StampRound:
    """What a round gave; see records.stamp.StampResult for the fields."""

    samples: tuple[StampSample, ...]
    reflector: StampReflectorKind | None
    lost: Losses
    clock_error_ns: int | None
    unverified: int


@dataclass(slots=True, eq=False)
class _Flight:
    """A round under way. peer: where it goes; by_token: token -> number of the packet; keys: of its packets in `_by_stamp`."""

    peer: tuple[str, int]
    ssid: int
    packet_bytes: int
    by_token: dict[int, int]
    keys: list[tuple[int, int]] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    spare: list[int] = field(default_factory=list)
    unverified: int = 0


class StampEngine(EchoEngine):
    """Sends STAMP test packets; needs no privilege.

    key             authenticated mode with this key; None: unauthenticated
    clock_error_ns  what is known of this host's clock by other means than the kernel's (PTP, GPS); None asks the kernel
    packets_per_s   the most it sends, over all targets
    """

    name = "isochrone-stamp/1"
    method: Literal["udp"] = "udp"

    def __init__(self, *, key: bytes | None = None, clock_error_ns: int | None = None, packets_per_s: int = 10_000) -> None:
        super().__init__(packets_per_s=packets_per_s)
        self._key = key
        self._stated_error_ns = clock_error_ns
        self._asked: tuple[int, int | None] = (-_CLOCK_ASKED_NS, None)
        self._sockets: dict[int, StampedSocket] = {}
        # Two engines behind one NAT address, or one after the other on one port, should not take each other's sessions.
        self._ssids = itertools.cycle(range(1, 0x10000))
        for _ in range(secrets.randbelow(0xFFFF)):
            next(self._ssids)
        self._flights: dict[Round, _Flight] = {}
        self._by_stamp: dict[tuple[int, int], tuple[_Flight, int]] = {}
        self._stateful: dict[tuple[str, int], None] = {}

    async def open(self) -> None:
        """Open a UDP socket for each address family of this machine."""
        for version in (4, 6):
            with contextlib.suppress(OSError):
                one = self._sockets[version] = open_udp(version)
                one.queue_errors()
        self._start(*(one.fileno() for one in self._sockets.values()))

    async def close(self) -> None:
        """Give the sockets back; rounds still in flight end as timed out."""
        self._abandon()
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    async def measure(
        self,
        host: str,
        port: int,
        *,
        count: int,
        interval_ns: int,
        timeout_ns: int,
        packet_bytes: int,
        reflector: StampReflectorKind | None = None,
    ) -> StampRound:
        """Send `count` packets of `packet_bytes` octets `interval_ns` apart.

        reflector   what kind it is, where that is known; None finds out as far as it can

        A reflector that does not answer, does not exist or cannot be reached is a result, never an exception.
        """
        try:
            version, host = await resolve(host)
        except socket.gaierror as unknown:
            return _nothing(count, gai_name(unknown), reflector)
        if version not in self._sockets:
            return _nothing(count, "EAFNOSUPPORT", reflector)
        loop = self._running_loop()
        peer = (host, port)
        tokens = [secrets.randbits(64) for _ in range(count)]
        flight = _Flight(peer, next(self._ssids), packet_bytes, {token: number for number, token in enumerate(tokens)})
        started = self._session.begin(
            peer, tokens=tokens, interval_ns=interval_ns, timeout_ns=timeout_ns, payload_bytes=packet_bytes, now_ns=time.monotonic_ns()
        )
        self._flights[started] = flight
        future = self._waiting[started] = loop.create_future()
        self._arm()
        try:
            await future
        except asyncio.CancelledError:
            self._session.cancel(started)
            raise
        finally:
            self._waiting.pop(started, None)
            self._flights.pop(started, None)
            for key in flight.keys:
                self._by_stamp.pop(key, None)
        return self._result(flight, started.samples(), reflector)

    def rounds_so_far(self, reflector: StampReflectorKind | None) -> list[tuple[str, StampRound]]:
        """The rounds that somebody waits for, as rounds of those of their packets whose fate is known: (numeric address, round)."""
        return [(flight.peer[0], self._result(flight, begun.samples_so_far(), reflector)) for begun, flight in self._flights.items()]

    def _result(self, flight: _Flight, samples: tuple[PingSample, ...], kind: StampReflectorKind | None) -> StampRound:
        numbers = {packet: answer.number for packet, answer in flight.answers.items()}
        if kind is None:
            if proves_stateful(numbers):
                while len(self._stateful) >= _STATEFUL_KEPT:
                    del self._stateful[next(iter(self._stateful))]
                self._stateful[flight.peer] = None
            kind = "stateful" if flight.peer in self._stateful else None
        sent = [sample.sequence for sample in samples if sample.outcome != "send_failed"]
        is_fresh = any(answer.has_session for answer in flight.answers.values())
        own_ns = self._clock_error_ns()
        errors_ns = [answer.error_ns for answer in flight.answers.values()]
        known_ns = [error for error in errors_ns if error is not None]
        error_ns = own_ns + max(known_ns) if own_ns is not None and known_ns and len(known_ns) == len(errors_ns) else None
        return StampRound(
            samples=_samples(samples, flight.answers, error_ns),
            reflector=kind,
            lost=losses(sent, numbers, kind, is_fresh=is_fresh, spare=flight.spare),
            clock_error_ns=error_ns,
            unverified=flight.unverified,
        )

    def _clock_error_ns(self) -> int | None:
        if self._stated_error_ns is not None:
            return self._stated_error_ns
        now_ns = time.monotonic_ns()
        if now_ns - self._asked[0] >= _CLOCK_ASKED_NS:
            self._asked = (now_ns, clock_error_ns())
        return self._asked[1]

    def _transmit(self, probe: Probe) -> None:
        flight = self._flights[probe.round]
        host, port = flight.peer
        error_bits = wire.ErrorEstimate(self._clock_error_ns()).encode()
        timestamp = wire.to_timestamp(time.time_ns())
        request = wire.Request(sequence=probe.sequence, timestamp=timestamp, error_bits=error_bits, ssid=flight.ssid)
        packet = wire.encode_request(request, flight.packet_bytes, self._key)
        key = (probe.sequence, timestamp)
        self._by_stamp[key] = (flight, probe.token)
        flight.keys.append(key)
        self._sockets[6 if ":" in host else 4].send(packet, host, port, sent=probe)

    def _absorb(self) -> int:
        came = 0
        for one in self._sockets.values():
            for incoming in one.read():
                came += 1
                if incoming.is_queued_error:
                    self._error(incoming)
                else:
                    self._reply(incoming)
        return came

    def _reply(self, incoming: Incoming) -> None:
        peer, picked_up = (incoming.host, incoming.port), clocks()
        reply = wire.decode_reply(incoming.data, self._key)
        found = None if reply is None else self._by_stamp.get((reply.sender_sequence, reply.sender_timestamp))
        if reply is None or found is None or found[0].peer != peer:
            self._session.reply(None, peer, None, picked_up, None)  # foreign
            if reply is None and self._key is not None:
                for flight in self._flights.values():
                    flight.unverified += flight.peer == peer
            return
        flight, token = found
        estimate = wire.ErrorEstimate.decode(reply.error_bits)
        received_ns, replied_ns = (
            wire.from_timestamp(bits, is_ptp=estimate.is_ptp, near_ns=picked_up.real_ns)
            for bits in (reply.receive_timestamp, reply.timestamp)
        )
        verdict = self._session.reply(token, peer, incoming.beside.stamp_ns, picked_up, incoming.beside.ttl)
        packet = flight.by_token[token]
        known = flight.answers.get(packet)
        if verdict is Verdict.DUPLICATE or known is not None:
            if known is None or reply.sequence != known.number:
                flight.spare.append(reply.sequence)
            return
        flight.answers[packet] = Answer(
            number=reply.sequence,
            received_ns=received_ns,
            replied_ns=replied_ns,
            error_ns=estimate.error_ns,
            has_session=reply.ssid == flight.ssid,
            ttl=None if reply.sender_ttl == 255 else reply.sender_ttl,
            arrived_ns=incoming.beside.stamp_ns,
        )

    def _error(self, incoming: Incoming) -> None:
        """The queue quotes what follows the UDP header: our number and timestamp, unless a router cut them off."""
        beside = incoming.beside
        assert beside.icmp_type is not None, "queued errors are ICMP errors"
        assert beside.icmp_code is not None, "queued errors are ICMP errors"
        quoted = wire.decode_request(incoming.data)
        found = None if quoted is None or self._key is not None else self._by_stamp.get((quoted.sequence, quoted.timestamp))
        family = socket.AF_INET if len(beside.offender or b"") == 4 else socket.AF_INET6
        self._session.error(
            token=None if found is None else found[1],
            number=None,
            peer=(incoming.host, incoming.port),
            responder=None if beside.offender is None else socket.inet_ntop(family, beside.offender),
            icmp_type=beside.icmp_type,
            icmp_code=beside.icmp_code,
        )


def _residence_ns(answer: Answer, away_ns: int | None) -> int | None:
    """T3 - T2 of a packet that was away for so long; None when it cannot be: the reflector's clock was stepped, or is another's."""
    residence_ns = answer.residence_ns
    return residence_ns if away_ns is not None and 0 <= residence_ns <= away_ns + _T3_ERROR_NS else None


def _nothing(count: int, error: str, kind: StampReflectorKind | None) -> StampRound:
    return StampRound(
        samples=_samples(unsent(count, error), {}, None), reflector=kind, lost=Losses(0, 0, 0), clock_error_ns=None, unverified=0
    )


def _samples(samples: tuple[PingSample, ...], answers: dict[int, Answer], error_ns: int | None) -> tuple[StampSample, ...]:
    """Each packet with what its reply said."""
    raw: list[tuple[int, int] | None] = []
    for sample in samples:
        answer = answers.get(sample.sequence)
        # With the user's clock, or a stepped one, T1 and T4 are not good enough to tell anything by direction.
        is_good = answer is not None and sample.outcome == "reply" and sample.ts_source != "user" and answer.arrived_ns is not None
        if answer is None or not is_good or answer.arrived_ns is None:
            raw.append(None)
        else:
            raw.append((answer.received_ns - sample.sent_at_ns, answer.arrived_ns - answer.replied_ns))
    forward_pdv = variations([None if pair is None else pair[0] for pair in raw])
    backward_pdv = variations([None if pair is None else pair[1] for pair in raw])
    made = []
    for at, sample in enumerate(samples):
        answer, pair = answers.get(sample.sequence), raw[at] if error_ns is not None else None
        is_reply = answer is not None and sample.outcome == "reply"
        residence_ns = _residence_ns(answer, sample.rtt_ns) if answer is not None and is_reply else None
        made.append(
            StampSample(
                sequence=sample.sequence,
                outcome=sample.outcome,
                sent_at_ns=sample.sent_at_ns,
                rtt_ns=sample.rtt_ns if sample.rtt_ns is None else max(0, sample.rtt_ns - (residence_ns or 0)),
                ts_source=sample.ts_source,
                residence_ns=residence_ns,
                forward_ns=None if pair is None else pair[0],
                backward_ns=None if pair is None else pair[1],
                forward_pdv_ns=forward_pdv[at],
                backward_pdv_ns=backward_pdv[at],
                reflector_sequence=answer.number if answer is not None else None,
                forward_ttl=answer.ttl if answer is not None else None,
                reply_ttl=sample.reply_ttl,
                sched_lag_ns=sample.sched_lag_ns,
                duplicates=sample.duplicates,
                late=sample.late,
                icmp_type=sample.icmp_type,
                icmp_code=sample.icmp_code,
                responder=sample.responder,
                error=sample.error,
            )
        )
    return tuple(made)
