"""The batch: what an agent sends and a collector stores exactly once.

On the wire a batch is newline-delimited JSON, gzip-compressed, one measurement or status per line:
``{"v":1,"type":"ping",...}`` with the fields of the record. The batch's own name, (agent, boot, sequence), travels in
the HTTP headers below. `v` is the schema version; a reader refuses a version it does not know by name instead of
guessing. Floats are finite; unknown is null or absent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass

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
    "HEADER_SEQUENCE",
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


def _plain(value: object) -> object:
    """A record as JSON-ready values; fields at their default are left out, they decode to the same."""
    if is_dataclass(value) and not isinstance(value, type):
        out = {}
        for field in fields(value):
            item = getattr(value, field.name)
            if item is None and field.default is None:
                continue
            out[field.name] = _plain(item)
        return out
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def encode_line(record: Line) -> bytes:
    """One record as one line of JSON with its newline.

    Raises ValueError on a float that JSON cannot carry (NaN, infinity).
    """
    body = _plain(record)
    assert isinstance(body, dict)
    return json.dumps({"v": SCHEMA_VERSION, "type": type_of(record), **body}, separators=(",", ":"), allow_nan=False).encode() + b"\n"
