"""Import RTTs between sites from CSV: ``src,dst,rtt_ms`` and optionally min_ms, p50_ms, p95_ms, stddev_ms, loss_ratio, at, medium.

A row that cannot be stored is kept among the rejects with its reason, file and line; a row that is stored but impossible
is flagged. A file is stored once: the same content with the same outcome again changes nothing.

===================  ==========================================================================================
reason               the row
===================  ==========================================================================================
missing_value        lacks src, dst, or every typical RTT (p50_ms and rtt_ms)
unknown_site         names a site that neither the inventory, the warehouse nor --sites knows
same_site            is from a site to itself
bad_number           has something else than a number where one belongs
negative             has a time below zero
zero_rtt             has an RTT of 0, which is how some tools write "no answer"
out_of_range         has a time of over ten minutes, or a loss ratio outside 0..1
bad_time             has an `at` that is no ISO 8601 time
from_the_future      has an `at` more than a day ahead
bad_medium           has a medium that is none
===================  ==========================================================================================
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from records.batch import BatchName
from records.errors import InputError, UserError
from records.link import MEDIA, Medium
from records.place import Site, fibre_floor_ns
from records.units import MS
from warehouse.columns import Row, tables
from warehouse.connect import Warehouse
from warehouse.importers.report import ImportReport
from warehouse.importers.table import CsvTable, read_csv
from warehouse.ingest import Batch, Reject, kept_text
from warehouse.queries import put_sites
from warehouse.store import Outcome, store

__all__ = ["COLUMNS", "ImportReport", "check_files", "import_files"]

#: Column -> what it is; rtt_ms or p50_ms is needed, all after it may be absent.
COLUMNS = {
    "src": "site the RTT was measured from",
    "dst": "site it was measured to",
    "rtt_ms": "typical RTT (mean or median)",
    "min_ms": "least RTT",
    "p50_ms": "median RTT",
    "p95_ms": "95th percentile of the RTT",
    "stddev_ms": "standard deviation of the RTT",
    "loss_ratio": "lost / sent, 0 to 1",
    "at": "when it was measured, ISO 8601, UTC where it has no offset",
    "medium": "internet, backbone or direct-connect",
}
_AGENT = "import:rtt-matrix"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MAX_MS = 600_000.0
_TOLERANCE = 0.98
_MOST_NAMES = 100


class _Bad(Exception):
    """A row that cannot be stored."""

    def __init__(self, reason: str, detail: str, name: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.name = reason, detail, name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """How to read rows: what import_files was given, checked."""

    known_sites: Mapping[str, Site]
    resolve: Callable[[str], str | None] | None
    mapping: Mapping[str, str]
    where: Mapping[str, str]
    medium: Medium
    at: datetime | None
    now: datetime


def check_files(
    files: Sequence[str | Path],
    *,
    mapping: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    medium: str = "internet",
) -> None:
    """Raise what import_files would raise about its arguments and files, before a warehouse is opened or made for them."""
    _check_options(mapping or {}, medium)
    for path in files:
        table = read_csv(path)
        _columns(table, mapping or {})
        _filters(table, mapping or {}, where or {})


def _check_options(mapping: Mapping[str, str], medium: str) -> None:
    if medium not in MEDIA:
        raise UserError(f"medium {medium!r} is not one of {', '.join(MEDIA)}")
    for column in mapping:
        if column not in COLUMNS:
            raise UserError(f"cannot map {column!r}: the columns of an RTT matrix are {', '.join(COLUMNS)}")


def import_files(
    wh: Warehouse,
    files: Sequence[str | Path],
    *,
    known_sites: Mapping[str, Site],
    resolve: Callable[[str], str | None] | None = None,
    mapping: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    medium: str = "internet",
    at: datetime | None = None,
    now: datetime,
) -> ImportReport:
    """Store the RTTs of CSV files, all of them in one transaction or, on an error, none.

    known_sites  sites by id; those that rows name are stored too
    resolve      site id for a name that is no id, such as a zone or an alias; None where it knows none
    mapping      our column -> the file's, where they differ: {"rtt_ms": "avg_rtt"}
    where        the file's column -> the value a row must have to be read
    medium, at   of rows whose file does not say

    Raises UserError or InputError (with file and line) when an argument or a file cannot be used.
    """
    _check_options(mapping or {}, medium)
    reader = _Reader(
        known_sites=known_sites,
        resolve=resolve,
        mapping=dict(mapping or {}),
        where=dict(where or {}),
        medium=next(m for m in MEDIA if m == medium),
        at=at,
        now=now,
    )
    read = [_read(read_csv(path), reader) for path in files]
    put_sites(wh, [known_sites[site] for one in read for site in sorted(one.batch.sites)])
    outcomes = store(wh, [one.batch for one in read])
    fresh = [one for one, outcome in zip(read, outcomes, strict=True) if outcome is Outcome.STORED]
    repeated = [one for one, outcome in zip(read, outcomes, strict=True) if outcome is not Outcome.STORED]
    return ImportReport(
        read=sum(one.batch.line_count + one.skipped for one in read),
        stored=sum(one.batch.stored_count for one in fresh),
        already=sum(one.batch.stored_count for one in repeated),
        skipped=sum(one.skipped for one in read),
        rejected=dict(sorted(Counter(reject.reason for one in read for reject in one.batch.rejects).items())),
        flagged={"faster_than_light": count} if (count := sum(one.impossible for one in read)) else {},
        unknown_names=dict(sorted(sum((one.unknown for one in read), Counter[str]()).items())),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    batch: Batch
    skipped: int
    impossible: int
    unknown: Counter[str]


def _read(table: CsvTable, reader: _Reader) -> _Read:
    columns = _columns(table, reader.mapping)
    filters = _filters(table, reader.mapping, reader.where)
    rows: list[Row] = []
    rejects: list[Reject] = []
    sites: set[str] = set()
    skipped = impossible = 0
    unknown: Counter[str] = Counter()
    for line, fields in table.rows:
        if any(fields[index].strip() != value for index, value in filters):
            skipped += 1
            continue
        try:
            row, is_impossible = _row({name: fields[index].strip() for name, index in columns.items()}, reader)
        except _Bad as bad:
            if bad.name is not None and (bad.name in unknown or len(unknown) < _MOST_NAMES):
                unknown[bad.name] += 1
            rejects.append(Reject(line, bad.reason, kept_text(bad.detail.encode()), kept_text(",".join(fields).encode())))
            continue
        rows.append((*row, line))
        sites.update((str(row[0]), str(row[1])))
        impossible += is_impossible
    # Of the content and of what became of it: the same file read with other sites or another mapping is another import.
    digest = sha256(table.content + repr((rows, [(r.line_number, r.reason) for r in rejects])).encode()).hexdigest()
    name = BatchName(_AGENT, digest, 0)
    made = tables(
        {
            "rtt_matrix": [(*row[:-1], table.path, row[-1], digest, reader.now) for row in rows],
            "reject": [reject.row(table.path, name, digest, reader.now) for reject in rejects],
        }
    )
    batch = Batch(
        name=name,
        source=table.path,
        content_sha256=digest,
        received_at=reader.now,
        line_count=len(rows) + len(rejects),
        rejects=tuple(rejects),
        tables=made,
        counts={"rtt_matrix": len(rows)},
        sites=frozenset(sites),
    )
    return _Read(batch, skipped, impossible, unknown)


def _columns(table: CsvTable, mapping: Mapping[str, str]) -> dict[str, int]:
    """Our columns that the file has -> their position."""
    found = {}
    for name in COLUMNS:
        theirs = mapping.get(name, name)
        if theirs in table.header:
            found[name] = table.header.index(theirs)
        elif name in mapping:
            raise InputError(table.path, 1, f"there is no column {theirs!r} to map {name} from; the header is {','.join(table.header)}")
    for needed in (("src",), ("dst",), ("rtt_ms", "p50_ms")):
        if not any(name in found for name in needed):
            raise InputError(
                table.path,
                1,
                f"the header {','.join(table.header)} has no column {' or '.join(needed)}; if it has another name: --map {needed[0]}=NAME",
            )
    return found


def _filters(table: CsvTable, mapping: Mapping[str, str], where: Mapping[str, str]) -> list[tuple[int, str]]:
    filters = []
    for column, value in where.items():
        theirs = mapping.get(column, column)
        if theirs not in table.header:
            raise InputError(table.path, 1, f"there is no column {column!r} to filter by; the header is {','.join(table.header)}")
        filters.append((table.header.index(theirs), value))
    return filters


def _row(fields: Mapping[str, str], reader: _Reader) -> tuple[Row, bool]:
    """(src, dst, medium, rtt_ns, min_ns, p50_ns, p95_ns, stddev_ns, loss_ratio, measured_at) and whether it is impossible."""
    src, dst = (_site(name, fields[name], reader) for name in ("src", "dst"))
    if src == dst:
        raise _Bad("same_site", f"src and dst are both {src}")
    rtt_ns, min_ns, p50_ns, p95_ns = (_rtt_ns(name, fields.get(name, "")) for name in ("rtt_ms", "min_ms", "p50_ms", "p95_ms"))
    typical_ns = p50_ns if p50_ns is not None else rtt_ns
    if typical_ns is None:
        raise _Bad("missing_value", "neither rtt_ms nor p50_ms is given")
    stddev = _number("stddev_ms", fields.get("stddev_ms", ""), _MAX_MS)
    loss_ratio = _number("loss_ratio", fields.get("loss_ratio", ""), 1.0)
    medium = fields.get("medium") or reader.medium
    if medium not in MEDIA:
        raise _Bad("bad_medium", f"medium {medium!r} is not one of {', '.join(MEDIA)}")
    measured_at = _time(fields.get("at", ""), reader)
    least_ns = min_ns if min_ns is not None else typical_ns
    is_impossible = least_ns < _TOLERANCE * fibre_floor_ns(reader.known_sites[src], reader.known_sites[dst])
    stddev_ns = None if stddev is None else round(stddev * MS)
    return (src, dst, medium, rtt_ns, min_ns, p50_ns, p95_ns, stddev_ns, loss_ratio, measured_at), is_impossible


def _site(column: str, text: str, reader: _Reader) -> str:
    if not text:
        raise _Bad("missing_value", f"{column} is empty")
    if text in reader.known_sites:
        return text
    site = reader.resolve(text) if reader.resolve is not None else None
    if site is None or site not in reader.known_sites:
        raise _Bad("unknown_site", f"{column} {text!r} is no known site", text)
    return site


def _number(column: str, text: str, most: float) -> float | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise _Bad("bad_number", f"{column} {text!r} is not a number")
    value = float(text)
    if value < 0:
        raise _Bad("negative", f"{column} {text} is below zero")
    if value > most:
        raise _Bad("out_of_range", f"{column} {text} is above {most:g}")
    return value


def _rtt_ns(column: str, text: str) -> int | None:
    value = _number(column, text, _MAX_MS)
    if value is None:
        return None
    ns = round(value * MS)
    if ns == 0:
        raise _Bad("zero_rtt", f"{column} {text}: no round trip takes no time; leave the field empty where nothing is known")
    return ns


def _time(text: str, reader: _Reader) -> datetime | None:
    if not text:
        return reader.at
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _Bad("bad_time", f"at {text!r} is no ISO 8601 time, as in 2026-04-16T12:00:00Z") from error
    if at > reader.now + timedelta(days=1):
        raise _Bad("from_the_future", f"at {text} is more than a day ahead")
    return at
