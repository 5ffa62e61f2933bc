"""Import RTTs between sites from CSV: ``src,dst,rtt_ms`` and optionally min_ms, p50_ms, p95_ms, stddev_ms, loss_ratio, at, medium.

A row that cannot be stored is kept among the rejects with its reason, file and line; a row that is stored but impossible
is flagged. A file is stored once: the same content with the same outcome again changes nothing.
A file may be of any size: it is read piece by piece, and stored by chunks.

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

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from warehouse.statements import statement
from warehouse.store import Outcome, store

__all__ = ["COLUMNS", "PASSES", "ImportReport", "check_files", "import_files"]

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
#: Rows and rejects of one transaction.
_CHUNK_ROWS = 100_000
#: How often a file is read: is it text, what would become of it, and to be stored.
PASSES = 3


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
    progress: Callable[[int], object] | None = None,
) -> None:
    """Raise what import_files would raise about its arguments and files, before a warehouse is opened or made for them."""
    _check_options(mapping or {}, medium)
    for path in files:
        table = read_csv(path, progress)
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
    progress: Callable[[int], object] | None = None,
) -> ImportReport:
    """Store the RTTs of CSV files. All of them are read to their end first, so that one that cannot be read leaves nothing of any; then
    each goes in by chunks of a transaction each, and nothing is held of it but the chunk.

    known_sites  sites by id; those that rows name are stored too
    resolve      site id for a name that is no id, such as a zone or an alias; None where it knows none
    mapping      our column -> the file's, where they differ: {"rtt_ms": "avg_rtt"}
    where        the file's column -> the value a row must have to be read
    medium, at   of rows whose file does not say
    progress     called with the bytes read since the last call; each file is read PASSES times

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
    checked = [(table := read_csv(path), _outcome(table, reader, progress)) for path in files]
    tally = _Tally()
    for table, digest in checked:
        _store(wh, table, digest, reader, tally, progress)
    return ImportReport(
        read=tally.stored + tally.already + tally.skipped + sum(tally.rejected.values()),
        stored=tally.stored,
        already=tally.already,
        skipped=tally.skipped,
        rejected=dict(sorted(tally.rejected.items())),
        flagged={"faster_than_light": tally.impossible} if tally.impossible else {},
        unknown_names=dict(sorted(tally.unknown.items())),
    )


@dataclass(slots=True)
class _Tally:
    stored: int = 0
    already: int = 0
    skipped: int = 0
    impossible: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Good:
    """A row to store: its columns up to measured_at, and whether they are impossible."""

    line: int
    row: Row
    is_impossible: bool


def _items(table: CsvTable, reader: _Reader, progress: Callable[[int], object] | None, tally: _Tally) -> Iterator[_Good | Reject]:
    """What each row of a file is: good, or to be rejected; those that are left out are counted."""
    columns = _columns(table, reader.mapping)
    filters = _filters(table, reader.mapping, reader.where)
    for line, fields in table.rows(progress):
        if any(fields[index].strip() != value for index, value in filters):
            tally.skipped += 1
            continue
        try:
            row, is_impossible = _row({name: fields[index].strip() for name, index in columns.items()}, reader)
        except _Bad as bad:
            if bad.name is not None and (bad.name in tally.unknown or len(tally.unknown) < _MOST_NAMES):
                tally.unknown[bad.name] += 1
            yield Reject(line, bad.reason, kept_text(bad.detail.encode()), kept_text(",".join(fields).encode()))
        else:
            yield _Good(line, row, is_impossible)


def _outcome(table: CsvTable, reader: _Reader, progress: Callable[[int], object] | None) -> str:
    """A digest of a file and of what becomes of it: the same file read with other sites or another mapping is another import."""
    digest = sha256(table.content_sha256.encode())
    for item in _items(table, reader, progress, _Tally()):
        digest.update(repr((item.line, item.row) if isinstance(item, _Good) else (item.line_number, item.reason)).encode())
    return digest.hexdigest()


def _store(wh: Warehouse, table: CsvTable, digest: str, reader: _Reader, tally: _Tally, progress: Callable[[int], object] | None) -> None:
    """Store a file by chunks, each of them once. Chunks of an import that was broken off before are of its time."""
    received_at = _began_at(wh, digest) or reader.now
    items = _items(table, reader, progress, tally)
    for number in itertools.count():
        chunk = list(itertools.islice(items, _CHUNK_ROWS))
        if not chunk and number:
            return
        good = [item for item in chunk if isinstance(item, _Good)]
        rejects = [item for item in chunk if isinstance(item, Reject)]
        name = BatchName(_AGENT, digest, number)
        made = tables(
            {
                "rtt_matrix": [(*item.row, table.path, item.line, digest, received_at) for item in good],
                "reject": [reject.row(table.path, name, digest, received_at) for reject in rejects],
            }
        )
        sites = frozenset(str(site) for item in good for site in item.row[:2])
        batch = Batch(
            name=name,
            source=table.path,
            content_sha256=digest,
            received_at=received_at,
            line_count=len(chunk),
            rejects=tuple(rejects),
            tables=made,
            counts={"rtt_matrix": len(good)},
            sites=sites,
        )
        put_sites(wh, [reader.known_sites[site] for site in sorted(sites)])
        if store(wh, [batch]) == [Outcome.STORED]:
            tally.stored += len(good)
        else:
            tally.already += len(good)
        tally.rejected.update(reject.reason for reject in rejects)
        tally.impossible += sum(item.is_impossible for item in good)


def _began_at(wh: Warehouse, digest: str) -> datetime | None:
    """When the first chunk of this very import was stored; None: none was."""
    with wh.cursor() as cursor:
        row = cursor.execute(statement("imports/began"), {"agent": _AGENT, "boot": digest}).fetchone()
    return None if row is None else row[0]


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
