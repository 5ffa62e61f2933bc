"""The batch: what an agent sends and a collector stores exactly once.

On the wire a batch is newline-delimited JSON, gzip-compressed, one measurement or status per line:
``{"v":1,"type":"ping",...}`` with the fields of the record. The batch's own name, (agent, boot, sequence), travels in
the HTTP headers below. `v` is the schema version; a reader refuses a version it does not know by name instead of
guessing. Floats are finite; unknown is null or absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import cast

from records.claims import ServingResult
from records.measurement import (
    AgentStatus,
    HttpResult,
    InferenceResult,
    PingResult,
    ThroughputResult,
    TracerouteResult,
)
from records.stamp import StampResult

__all__ = [
    "HEADER_AGENT",
    "HEADER_BOOT",
    "HEADER_CLOCK_SET",
    "HEADER_SENT_AT",
    "HEADER_SEQUENCE",
    "HEADER_VERSION",
    "LINE_TYPES",
    "SCHEMA_VERSION",
    "BatchName",
    "Line",
    "encode_line",
    "type_of",
]

SCHEMA_VERSION = 1
HEADER_AGENT = "Isochrone-Agent"
HEADER_BOOT = "Isochrone-Boot"
HEADER_SEQUENCE = "Isochrone-Sequence"
#: The sender's wall clock as it sends, Unix time in ns.
HEADER_SENT_AT = "Isochrone-Sent-At"
#: How far the sender's wall clock has been set since the batch's lines were dated, ns; forward is positive.
HEADER_CLOCK_SET = "Isochrone-Clock-Set"
#: The version of the sender's software, in every request of an agent.
HEADER_VERSION = "Isochrone-Version"

Line = PingResult | TracerouteResult | ThroughputResult | InferenceResult | HttpResult | ServingResult | StampResult | AgentStatus

#: The `type` of a line -> the record it decodes to.
LINE_TYPES: dict[str, type] = {
    "ping": PingResult,
    "traceroute": TracerouteResult,
    "throughput": ThroughputResult,
    "inference": InferenceResult,
    "http": HttpResult,
    "stamp": StampResult,
    "serving": ServingResult,
    "status": AgentStatus,
}
_TYPE_NAMES = {record: name for name, record in LINE_TYPES.items()}


@dataclass(frozen=True, slots=True)
class BatchName:
    """Names a batch for ever: agent, the boot id of its process (hex), and a sequence number from 0."""

    agent: str
    boot: str
    sequence: int


def type_of(record: Line) -> str:
    """The `type` a record travels under."""
    return _TYPE_NAMES[type(record)]


_SCALARS = frozenset({int, str, float, bool, type(None), dict})
#: The fields of each kind of record that was encoded, each with whether it may be left out.
_NAMES: dict[type, tuple[tuple[str, bool], ...]] = {}
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    """A record as JSON-ready values; fields at their default are left out, they decode to the same."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple or kind is list:
        return [_plain(item) for item in cast("Iterable[object]", value)]
    names = _NAMES.get(kind)
    if names is None:
        if not is_dataclass(value):
            return value
        names = _NAMES[kind] = tuple((field.name, field.default is None) for field in fields(value))
    out = {}
    for name, may_lack in names:
        item = getattr(value, name)
        if item is not None or not may_lack:
            out[name] = item if type(item) in _SCALARS else _plain(item)
    return out


def encode_line(record: Line) -> bytes:
    """One record as one line of JSON with its newline.

    Raises ValueError on a float that JSON cannot carry (NaN, infinity).
    """
    body = _plain(record)
    assert isinstance(body, dict)
    return _ENCODER.encode({"v": SCHEMA_VERSION, "type": type_of(record), **body}).encode() + b"\n"
