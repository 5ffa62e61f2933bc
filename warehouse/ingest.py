"""A batch as it came over the wire -> rows to store and lines to reject; bytes in, values out, no clock and no database.

Nothing vanishes: every line is either stored or becomes a reject with its reason.

===================  ==========================================================================================
reason               the line
===================  ==========================================================================================
not_json             is no JSON, or no UTF-8
not_an_object        is JSON, but no object with `v` and `type`
unknown_version      has a schema version this program does not know
unknown_type         has a `type` this program does not know
bad_field            lacks a field, or a field has the wrong type or contradicts another one
bad_text             holds a NUL character or half a surrogate pair
out_of_range         holds an integer beyond 64 bits, or a time span of more than a day: nothing that is measured takes as long
no_samples           is a ping without a single probe packet
wrong_agent          is of another agent than its batch
too_long             is longer than MAX_LINE_BYTES
from_the_future      is dated more than MAX_AHEAD_NS after it was received: the agent's clock is wrong, or the collector's
too_old              is dated more than MAX_BEHIND_NS before it
===================  ==========================================================================================
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pyarrow as pa

from records.batch import LINE_TYPES, SCHEMA_VERSION, BatchName
from records.dating import began_ns, ended_ns, longest_ns, redated
from records.measurement import AgentStatus
from records.units import DAY, SECOND
from warehouse.clocks import MAX_AHEAD_NS, MAX_BEHIND_NS
from warehouse.columns import (
    Row,
    agent_status_rows,
    http_rows,
    inference_rows,
    ping_rows,
    serving_rows,
    stamp_rows,
    tables,
    throughput_rows,
    traceroute_rows,
)
from warehouse.rounds import LONGEST_NS, PING_PREFIX, ping_table

__all__ = [
    "MAX_BATCH_LINES",
    "MAX_BATCH_ROWS",
    "MAX_BODY_BYTES",
    "MAX_LINE_BYTES",
    "MAX_MEMBERS",
    "Batch",
    "Reject",
    "TooLarge",
    "Unreadable",
    "decompress",
    "parse",
]

MAX_BODY_BYTES = 64 << 20
MAX_LINE_BYTES = 4 << 20
MAX_BATCH_ROWS = 500_000
#: More than the largest batch of an agent holds. A line that is rejected costs as much as one that is stored, and two bytes can be a line.
MAX_BATCH_LINES = 100_000
#: Most gzip members of a body. Agents write one; files that were joined have a few.
MAX_MEMBERS = 1000
#: So much of a body is unpacked at a time: zlib copies what it was given and does not belong to the member.
_PIECE_BYTES = 64 << 10
_KEPT_CHARACTERS = 4000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLLECTOR = "collector"
#: From this many lines of ping rounds on they are read in bulk.
_BULK_LINES = 16

_ROWS: dict[str, tuple[str, Callable[[Any, BatchName, datetime], list[Row]]]] = {
    "ping": ("ping_sample", ping_rows),
    "traceroute": ("traceroute", traceroute_rows),
    "throughput": ("throughput", throughput_rows),
    "inference": ("inference", inference_rows),
    "http": ("http", http_rows),
    "stamp": ("stamp", stamp_rows),
    "serving": ("serving", serving_rows),
    "status": ("agent_status", agent_status_rows),
}


class Unreadable(ValueError):
    """The batch as a whole cannot be read; `reason` is the word to count by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class TooLarge(ValueError):
    """The batch is larger than the collector takes."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One line (or, with line_number None, one whole batch or file) that cannot be stored, and why."""

    line_number: int | None
    reason: str
    detail: str
    line: str | None

    def row(self, source: str, name: BatchName | None, content_sha256: str, received_at: datetime) -> Row:
        """As a row of the table reject."""
        who = (name.agent, name.boot, name.sequence) if name else (None, None, None)
        return (source, *who, self.line_number, self.reason, self.detail, self.line, content_sha256, received_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction stores of a batch or of an imported file, all of it or nothing.

    tables        Arrow tables by table name, rejects among them
    counts        lines stored by type (ping, traceroute, ..., status)
    sites         the `src` of its measurements and the `site` of its reports
    redated_ns    how far its times were moved, for a clock that was wrong; None: they are the sender's own
    """

    name: BatchName
    source: str
    content_sha256: str
    received_at: datetime
    line_count: int
    rejects: tuple[Reject, ...]
    tables: dict[str, pa.Table]
    counts: dict[str, int]
    sites: frozenset[str] = frozenset()
    redated_ns: int | None = None

    @property
    def stored_count(self) -> int:
        """Lines stored."""
        return sum(self.counts.values())

    @property
    def row_count(self) -> int:
        """Rows in all tables."""
        return sum(table.num_rows for table in self.tables.values())

    @property
    def byte_count(self) -> int:
        """Bytes that all tables take in memory."""
        return sum(table.nbytes for table in self.tables.values())


def decompress(body: bytes, *, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The content of a gzip-compressed body (one or several members), never more than `limit_bytes` of it in memory.

    Takes time by the length of the body and the content, however many members there are.

    Raises TooLarge, or Unreadable when the body is no gzip, is cut off or has more than `MAX_MEMBERS` members.
    """
    out: list[bytes] = []
    size = members = at = 0
    whole = memoryview(body)
    while at < len(whole):
        members += 1
        if members > MAX_MEMBERS:
            raise Unreadable("too_many_members", f"the body has more than {MAX_MEMBERS} gzip members; pack the batch as one")
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            piece = whole[at : at + _PIECE_BYTES]
            if not piece:
                raise Unreadable("cut_off", f"the gzip stream ends after {size} bytes of content, before its end mark")
            try:
                out.append(stream.decompress(piece, limit_bytes - size + 1))
            except zlib.error as error:
                raise Unreadable("not_gzip", f"the body is no gzip: {error}") from error
            size += len(out[-1])
            if size > limit_bytes:
                raise TooLarge(f"the batch is larger than {limit_bytes} bytes uncompressed; send it in smaller ones")
            at += len(piece) - len(stream.unused_data)
    return b"".join(out)


class _Envelope(msgspec.Struct):
    v: int
    type: str


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(record) for name, record in LINE_TYPES.items()}


@dataclass(slots=True)
class _Parts:
    """What parsing gathers: rows with the line they came from, so that one bad value costs only its own line."""

    origins: list[tuple[int, bytes, str, list[Row]]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sites: set[str] = field(default_factory=set)


def kept_text(line: bytes) -> str:
    """A line as the table reject keeps it: cut, and nothing in it that a terminal or a catalog could stumble over."""
    text = line[:_KEPT_CHARACTERS].decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _reason_of(line: bytes, error: Exception) -> tuple[str, str]:
    """Why a line whose envelope cannot be read is rejected."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        return "not_json", str(why)
    return "not_an_object", f"expected an object with v and type, got {type(value).__name__}: {error}"


def _holds_nul(line: bytes) -> bool:
    # Only an escape can bring one into a JSON string; look closely only where one may be.
    return b"\\u0000" in line and "\0" in repr_texts(msgspec.json.decode(line))


def repr_texts(value: object) -> str:
    """All text in a decoded JSON value, keys too, joined by spaces."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(f"{key} {repr_texts(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(repr_texts(item) for item in value)
    return ""


def _decode(line: bytes, name: BatchName, received_at: datetime, redate_ns: int) -> tuple[str, str, list[Row]] | tuple[str, str]:
    """(type, site, rows) of a good line, (reason, detail) of a bad one."""
    if len(line) > MAX_LINE_BYTES:
        return "too_long", f"the line has {len(line)} bytes and at most {MAX_LINE_BYTES} are taken"
    try:
        envelope = _ENVELOPE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _reason_of(line, error)
    if envelope.v != SCHEMA_VERSION:
        return "unknown_version", f"schema version {envelope.v} is not {SCHEMA_VERSION}; upgrade the collector"
    if envelope.type not in _DECODERS:
        return "unknown_type", f"type {envelope.type!r} is not one of {', '.join(_DECODERS)}"
    try:
        record = _DECODERS[envelope.type].decode(line)
        if _holds_nul(line):
            return "bad_text", "the line holds a NUL character"
        if redate_ns:
            record = redated(record, lambda at_ns: at_ns + redate_ns)
    except UnicodeDecodeError as error:
        return "not_json", str(error)
    except (ValueError, RecursionError) as error:  # msgspec's own are ValueErrors
        return "bad_field", str(error)
    if record.agent != name.agent:
        return "wrong_agent", f"the line is of agent {record.agent!r} and the batch of {name.agent!r}"
    if (ahead_ns := ended_ns(record) - unix_ns(received_at)) > MAX_AHEAD_NS:
        said = f"it is dated {min(ahead_ns // SECOND, 10**12)} s after it was received, and at most {MAX_AHEAD_NS // SECOND} are taken"
        return "from_the_future", f"{said}; set the clock of {name.agent!r}"
    if ahead_ns < -MAX_BEHIND_NS or (ahead_ns := began_ns(record) - unix_ns(received_at)) < -MAX_BEHIND_NS:
        return "too_old", f"it is dated {-ahead_ns // DAY} days before it was received, and at most {MAX_BEHIND_NS // DAY} are taken"
    if (longest := longest_ns(record)) > LONGEST_NS:
        return "out_of_range", f"it says that something took {longest // SECOND} s, and at most {LONGEST_NS // SECOND} are believed"
    rows = _ROWS[envelope.type][1](record, name, received_at)
    if not rows:
        return "no_samples", "a ping without a single probe packet says nothing"
    return envelope.type, record.site if isinstance(record, AgentStatus) else record.src, rows


def unix_ns(at: datetime) -> int:
    """Unix time in ns."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _refuse_many(row_count: int) -> None:
    if row_count > MAX_BATCH_ROWS:
        raise TooLarge(f"the batch holds more than {MAX_BATCH_ROWS} rows; send it in smaller ones")


def parse(content: bytes, name: BatchName, *, received_at: datetime, redate_ns: int = 0) -> Batch:
    """The batch `name` from its uncompressed lines; empty lines are passed over.

    redate_ns   is added to all that the sender's wall clock dated (see warehouse.clocks)

    Raises Unreadable when it holds no line at all, TooLarge when it holds more than MAX_BATCH_LINES lines or MAX_BATCH_ROWS rows.
    """
    parts = _Parts()
    if (line_count := content.count(b"\n")) > MAX_BATCH_LINES:  # before they are taken apart: empty ones cost too
        raise TooLarge(f"the batch holds {line_count} lines and at most {MAX_BATCH_LINES} are taken; send it in smaller ones")
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise Unreadable("empty", "the batch holds no line")
    bulk = [line for _, line in lines if line.startswith(PING_PREFIX) and len(line) <= MAX_LINE_BYTES]
    rounds = None
    if len(bulk) >= _BULK_LINES:
        now_ns = unix_ns(received_at)
        rounds = ping_table(bulk, name, received_at, between_ns=(now_ns - MAX_BEHIND_NS, now_ns + MAX_AHEAD_NS), redate_ns=redate_ns)
    row_count = 0 if rounds is None else rounds.num_rows
    _refuse_many(row_count)
    for number, line in lines:
        if rounds is not None and line.startswith(PING_PREFIX) and len(line) <= MAX_LINE_BYTES:
            continue
        decoded = _decode(line, name, received_at, redate_ns)
        if len(decoded) == 2:
            parts.rejects.append(Reject(number, decoded[0], _clean(decoded[1]), kept_text(line)))
            continue
        kind, site, rows = decoded
        row_count += len(rows)
        _refuse_many(row_count)
        parts.sites.add(site)
        parts.origins.append((number, line, kind, rows))
    made = _fit(parts)
    if rounds is not None:
        others = [made["ping_sample"]] if "ping_sample" in made else []
        made["ping_sample"] = pa.concat_tables([rounds, *others])
        parts.counts["ping"] = parts.counts.get("ping", 0) + len(bulk)
        parts.sites |= set(rounds["src"].unique().to_pylist())
    digest = sha256(content).hexdigest()
    if parts.rejects:
        made |= tables({"reject": [reject.row(COLLECTOR, name, digest, received_at) for reject in parts.rejects]})
    return Batch(
        name=name,
        source=COLLECTOR,
        content_sha256=digest,
        received_at=received_at,
        line_count=len(lines),
        rejects=tuple(parts.rejects),
        tables=made,
        counts=parts.counts,
        sites=frozenset(parts.sites),
        redated_ns=redate_ns or None,
    )


def _fit(parts: _Parts) -> dict[str, pa.Table]:
    """Arrow tables of the decoded lines; when a value does not fit, the lines are tried one by one."""
    try:
        return _gather(parts, parts.origins)
    except (OverflowError, ValueError, TypeError):
        good = []
        for origin in parts.origins:
            try:
                tables({_ROWS[origin[2]][0]: origin[3]})
            except UnicodeError as error:
                parts.rejects.append(Reject(origin[0], "bad_text", _clean(str(error)), kept_text(origin[1])))
            except (OverflowError, ValueError, TypeError) as error:
                parts.rejects.append(Reject(origin[0], "out_of_range", _clean(str(error)), kept_text(origin[1])))
            else:
                good.append(origin)
        return _gather(parts, good)


def _gather(parts: _Parts, origins: Sequence[tuple[int, bytes, str, list[Row]]]) -> dict[str, pa.Table]:
    rows: dict[str, list[Row]] = {}
    parts.counts = {}
    for _, _, kind, some in origins:
        rows.setdefault(_ROWS[kind][0], []).extend(some)
        parts.counts[kind] = parts.counts.get(kind, 0) + 1
    return tables(rows)


def _clean(text: str) -> str:
    return kept_text(text.encode("utf-8", "replace"))
