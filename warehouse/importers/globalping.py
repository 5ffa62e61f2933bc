"""Answers of the Globalping API to ``GET /v1/measurements/ID``: ping, traceroute and mtr by its probes. Pure.

A probe is called by where it is, ``Auckland,NZ``, and with its network before that, ``AS61138@Auckland,NZ``; the second is
the more telling one. What its tool printed says which packets were lost and which hops stayed silent; where that cannot be read,
the answer's own figures are taken, with the losses last.
Source: https://globalping.io/docs/api.globalping.io
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from records.measurement import Hop, PingSample
from warehouse.importers import ping as ping_text
from warehouse.importers import traceroute as traceroute_text
from warehouse.importers.found import Found, Given, Protocol, Reply, Unfit, hop, iso_ns, ping, read, rtt_ns, sample, traceroute

__all__ = ["document"]

_PROTOCOLS: dict[str, Protocol] = {"ICMP": "icmp", "UDP": "udp", "TCP": "tcp"}
_MAX_PACKETS = 1000


class _Probe(msgspec.Struct):
    city: str | None = None
    country: str | None = None
    asn: int | None = None


class _Timing(msgspec.Struct):
    rtt: float | None = None
    ttl: int | None = None


class _Stats(msgspec.Struct):
    total: int | None = None
    rcv: int | None = None


class _Hop(msgspec.Struct):
    resolvedAddress: str | None = None  # noqa: N815 - the API's name
    timings: list[_Timing] = []
    stats: _Stats | None = None


class _Outcome(msgspec.Struct):
    status: str
    rawOutput: str = ""  # noqa: N815
    resolvedAddress: str | None = None  # noqa: N815
    timings: list[_Timing] = []
    stats: _Stats | None = None
    hops: list[_Hop] = []


class _Result(msgspec.Struct):
    probe: _Probe
    result: _Outcome


class _Options(msgspec.Struct):
    protocol: str = "ICMP"


class _Measurement(msgspec.Struct):
    id: str
    type: str
    createdAt: str  # noqa: N815
    target: str
    results: list[dict[str, Any]]
    measurementOptions: _Options = msgspec.field(default_factory=_Options)  # noqa: N815


def document(value: object, given: Given) -> Iterator[Found | Unfit]:
    """What the probes of one measurement found, each apart; raises Unfit."""
    measurement = read(value, _Measurement)
    if measurement.type not in ("ping", "traceroute", "mtr"):
        raise Unfit("not_this_format", f"a measurement of type {measurement.type!r}; ping, traceroute and mtr are read")
    protocol = _PROTOCOLS.get(measurement.measurementOptions.protocol.upper())
    if protocol is None:
        raise Unfit("bad_field", f"protocol {measurement.measurementOptions.protocol!r} is not one of {', '.join(_PROTOCOLS)}")
    at_ns = iso_ns(measurement.createdAt)
    if not measurement.results:
        raise Unfit("no_samples", "no probe took part")
    for entry in measurement.results:
        try:
            yield _found(measurement, read(entry, _Result), protocol, at_ns)
        except Unfit as fault:
            yield fault


def _found(measurement: _Measurement, result: _Result, protocol: Protocol, at_ns: int) -> Found:
    outcome, probe = result.result, result.probe
    place = f"{probe.city},{probe.country}"
    if outcome.status != "finished":
        raise Unfit("measurement_failed", f"the probe at {place}: {outcome.status}: {outcome.rawOutput[:200]}")
    target = outcome.resolvedAddress or measurement.target
    engine = f"globalping/{measurement.type} measurement {measurement.id}"
    if measurement.type == "ping":
        record: Any = ping(target, at_ns, engine, _samples(outcome, at_ns), method=protocol)
    else:
        record = traceroute(target, at_ns, engine, _hops(outcome, measurement.type, at_ns), protocol=protocol)
    src = (f"AS{probe.asn}@{place}", place) if probe.asn is not None else (place,)
    return Found(record=record, src=src, dst=tuple(dict.fromkeys((target, measurement.target))))


def _printed(outcome: _Outcome, parse: Any, at_ns: int) -> Any:
    """The record that what the tool printed says; None where it cannot be read whole."""
    found = list(parse(enumerate(outcome.rawOutput.splitlines(), 1), Given(at_ns=at_ns)))
    return found[0].record if len(found) == 1 and isinstance(found[0], Found) else None


def _samples(outcome: _Outcome, at_ns: int) -> list[PingSample]:
    if (printed := _printed(outcome, ping_text.parse, at_ns)) is not None:
        return list(printed.samples)
    total = outcome.stats.total if outcome.stats is not None and outcome.stats.total is not None else len(outcome.timings)
    if not len(outcome.timings) <= total <= _MAX_PACKETS:
        raise Unfit("bad_field", f"{len(outcome.timings)} replies to {total} packets")
    rtts = [None if timing.rtt is None else rtt_ns(timing.rtt) for timing in outcome.timings]
    rtts += [None] * (total - len(rtts))
    return [sample(index, at_ns, rtt) for index, rtt in enumerate(rtts)]


def _hops(outcome: _Outcome, kind: str, at_ns: int) -> list[Hop]:
    if kind == "traceroute" and (printed := _printed(outcome, traceroute_text.parse, at_ns)) is not None:
        return list(printed.hops)
    hops = []
    for ttl, one in enumerate(outcome.hops, 1):
        rtts = [rtt_ns(timing.rtt, may_be_zero=True) for timing in one.timings if timing.rtt is not None]
        replies = [Reply(address=one.resolvedAddress, rtt_ns=rtt) for rtt in rtts] if one.resolvedAddress is not None else []
        sent = one.stats.total if one.stats is not None and one.stats.total is not None else len(one.timings)
        hops.append(hop(ttl, sent, replies))
    return hops
