"""Import files of measurements: the thin shell around the parsers. Reads, finds the sites, and stores what is new.

A measurement's id is made of what it says, so that it is stored once however often it comes: in the same file again, in
another that overlaps with it, after an import that was broken off, or when more sites are known the second time. One that
does not say when it was made could be another that looks the same: its id is made of its file's content and its place there.
The file goes in by chunks, each of them one transaction; nothing is held of it but the chunk being read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from records.batch import BatchName
from records.errors import UserError
from records.link import MEDIA, Medium
from records.measurement import PingResult, TracerouteResult
from records.place import Site, fibre_floor_ns
from warehouse.columns import Row, ping_rows, tables, throughput_rows, traceroute_rows
from warehouse.connect import Warehouse
from warehouse.importers.formats import PARSERS, Parser
from warehouse.importers.found import LEFT_OUT, Found, Given, Protocol, Record, Unfit
from warehouse.importers.names import Names
from warehouse.importers.report import ImportReport
from warehouse.importers.stream import digest_of, items, open_file
from warehouse.ingest import Batch, Reject, kept_text
from warehouse.queries import put_sites
from warehouse.statements import statement
from warehouse.store import Outcome, store, with_incoming

__all__ = ["Beside", "check_beside", "import_measurements"]

#: Measurements and probe packets of one transaction, whichever is reached first.
_CHUNK_MEASUREMENTS = 5_000
_CHUNK_ROWS = 100_000
_MOST_NAMES = 100
_TOLERANCE = 0.98
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the user says beside the files.

    src, dst  site of that end, whatever a file says
    medium    what joins the two sites
    at        when, of measurements that do not say; ``mtime``: the time of their file
    protocol, target, mapping, where   as in Given
    """

    src: str | None = None
    dst: str | None = None
    medium: Medium = "internet"
    at: datetime | Literal["mtime"] | None = None
    protocol: Protocol | None = None
    target: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)

    def given(self, path: str | Path) -> Given:
        """For the parser of one file."""
        at_ns = None
        if self.at == "mtime":
            at_ns = Path(path).stat().st_mtime_ns // 1000 * 1000
        elif self.at is not None:
            at_ns = (self.at - _EPOCH) // timedelta(microseconds=1) * 1000
        return Given(at_ns=at_ns, protocol=self.protocol, target=self.target, mapping=self.mapping, where=self.where)


@dataclass(slots=True)
class _Chunk:
    """What the next transaction stores."""

    records: list[tuple[int, Record]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    rows: int = 0

    def is_full(self) -> bool:
        return len(self.records) + len(self.rejects) >= _CHUNK_MEASUREMENTS or self.rows >= _CHUNK_ROWS


@dataclass(slots=True)
class _Tally:
    read: int = 0
    stored: int = 0
    already: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def check_beside(format_name: str, beside: Beside, files: Sequence[str | Path]) -> None:
    """Raise what import_measurements would raise about its arguments and files, before a warehouse is made for them."""
    if beside.medium not in MEDIA:
        raise UserError(f"medium {beside.medium!r} is not one of {', '.join(MEDIA)}")
    if (beside.mapping or beside.where) and not format_name.endswith("-matrix"):
        raise UserError(f"--map and --where are for matrices; {format_name} has no columns")
    for path in files:
        open_file(path).close()


def import_measurements(
    wh: Warehouse,
    format_name: str,
    files: Sequence[str | Path],
    *,
    known_sites: Mapping[str, Site],
    names: Names,
    beside: Beside,
    now: datetime,
    progress: Callable[[int], object] | None = None,
) -> ImportReport:
    """Store the measurements of files of one format.

    known_sites  sites by id; those that measurements name are stored too
    progress     called with the bytes read since the last call

    Raises UserError or InputError when an argument or a file cannot be used, before anything of that file is stored.
    """
    for option, site in (("--src", beside.src), ("--dst", beside.dst)):
        if site is not None and site not in known_sites:
            raise UserError(f"{option} {site!r} is no known site; --sites SITES.csv brings sites of your own")
    check_beside(format_name, beside, files)
    tally = _Tally()
    for path in files:
        _File(wh, format_name, path, known_sites, names, beside, now, tally, progress).run()
    return ImportReport(
        read=tally.read + tally.skipped,
        stored=tally.stored,
        already=tally.already,
        skipped=tally.skipped,
        rejected=dict(sorted(tally.rejected.items())),
        flagged=dict(sorted(tally.flagged.items())),
        unknown_names=dict(sorted(tally.unknown.items())),
    )


class _File:
    """One file on its way into the warehouse."""

    def __init__(
        self,
        wh: Warehouse,
        format_name: str,
        path: str | Path,
        known_sites: Mapping[str, Site],
        names: Names,
        beside: Beside,
        now: datetime,
        tally: _Tally,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._wh, self._path, self._sites, self._names = wh, str(path), known_sites, names
        self._beside, self._now, self._tally, self._progress = beside, now, tally, progress
        self._agent = f"import:{format_name}"
        self._parser: Parser = PARSERS[format_name]
        self._given = beside.given(path)
        self._format, self._file = format_name, digest_of(path)
        self._latest_ns = (now + timedelta(days=1) - _EPOCH) // timedelta(microseconds=1) * 1000
        self._read_bytes = 0

    def run(self) -> None:
        """Read, and store by chunks."""
        chunk, number = _Chunk(), 0
        with open_file(self._path) as file:
            for index, item in enumerate(items(self._parser, file, self._given)):
                number = index + 1
                if isinstance(item, Unfit) and item.reason == LEFT_OUT:
                    self._tally.skipped += 1
                    continue
                try:
                    if isinstance(item, Unfit):
                        raise item
                    record = self._placed(item, number)
                except Unfit as fault:
                    place = fault.place or (item.place if isinstance(item, Found) else None)
                    chunk.rejects.append(_reject(place, fault.reason, fault.detail))
                else:
                    chunk.records.append((number, record))
                    chunk.rows += len(record.samples) if isinstance(record, PingResult) else 1
                if chunk.is_full():
                    self._store(chunk)
                    chunk = _Chunk()
                    self._say(file.tell())
            if number == 0:
                chunk.rejects.append(_reject(None, "empty", "the file holds no measurement"))
            self._store(chunk)
            self._say(Path(self._path).stat().st_size)

    def _say(self, position: int) -> None:
        if self._progress is not None:
            self._progress(max(0, position - self._read_bytes))
            self._read_bytes = max(self._read_bytes, position)

    def _placed(self, found: Found, number: int) -> Record:
        """The measurement with its id and its sites; raises Unfit where one is not known."""
        record = found.record
        if _holds_nul(record):
            raise Unfit("bad_field", "a name holds a NUL character", found.place)
        if record.started_at_ns > self._latest_ns:
            raise Unfit("from_the_future", f"it began more than a day ahead, at Unix time {record.started_at_ns // 10**9}", found.place)
        ends = []
        for option, said, given_names in (("src", self._beside.src, found.src), ("dst", self._beside.dst, found.dst)):
            site = said or self._names.site(given_names)
            if site is None and not given_names:
                end = "source" if option == "src" else "target"
                raise Unfit(f"no_{end}", f"the file does not say the {end}; give --{option} SITE", found.place)
            if site is None or site not in self._sites:
                if given_names[0] in self._tally.unknown or len(self._tally.unknown) < _MOST_NAMES:
                    self._tally.unknown[given_names[0]] += 1
                raise Unfit("unknown_site", f"{option} {' = '.join(given_names)} is at no known site", found.place)
            ends.append(site)
        if ends[0] == ends[1]:
            raise Unfit("same_site", f"src and dst are both {ends[0]}", found.place)
        head: dict[str, Any] = {
            "id": f"{self._format}-{self._digest(found, ends, number)}",
            "agent": self._agent,
            "src": ends[0],
            "dst": ends[1],
            "medium": self._beside.medium,
            "target": record.target or ends[1],
        }
        return replace(record, **head)

    def _digest(self, found: Found, ends: Sequence[str], number: int) -> str:
        is_dated = found.record.started_at_ns != self._given.at_ns
        told = (found.record, found.src, found.dst, self._beside.medium, ends, None if is_dated else (self._file, number))
        return sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _store(self, chunk: _Chunk) -> None:
        if not chunk.records and not chunk.rejects:
            return
        _keep_what_fits(chunk, self._now)
        # Of what became of it: the same file read with more sites is another import, of the rows that are new.
        told = [[r.id, r.src, r.dst] for _, r in chunk.records], [[r.line_number, r.reason] for r in chunk.rejects]
        digest = sha256(json.dumps([self._agent, self._file, *told]).encode()).hexdigest()
        name = BatchName(self._agent, digest[:32], 0)
        self._tally.read += len(chunk.records) + len(chunk.rejects)
        self._tally.rejected.update(reject.reason for reject in chunk.rejects)
        kept = self._kept_before([record for _, record in chunk.records])
        fresh = list({record.id: record for _, record in chunk.records if record.id not in kept}.values())
        rows: dict[str, list[Row]] = {"reject": [reject.row(self._path, name, digest, self._now) for reject in chunk.rejects]}
        counts: Counter[str] = Counter()
        for record in fresh:
            table, made = _rows(record, name, self._now)
            rows.setdefault(table, []).extend(made)
            counts[table] += 1
        batch = Batch(
            name=name,
            source=self._path,
            content_sha256=digest,
            received_at=self._now,
            line_count=len(fresh) + len(chunk.rejects),
            rejects=tuple(chunk.rejects),
            tables=tables(rows),
            counts=dict(counts),
            sites=frozenset(site for record in fresh for site in (record.src, record.dst)),
        )
        put_sites(self._wh, [self._sites[site] for site in sorted(batch.sites)])
        is_stored = store(self._wh, [batch])[0] is Outcome.STORED
        self._tally.stored += len(fresh) if is_stored else 0
        self._tally.already += len(chunk.records) - (len(fresh) if is_stored else 0)
        impossible = sum(self._is_impossible(record) for record in fresh)
        if impossible and is_stored:
            self._tally.flagged["faster_than_light"] += impossible

    def _kept_before(self, records: Sequence[Record]) -> set[str]:
        """Ids among the records that an earlier import of the same content has stored."""
        kept: set[str] = set()
        with self._wh.cursor() as cursor:
            for table in {_table(record) for record in records}:
                some = [record for record in records if _table(record) == table]
                times = [record.started_at_ns for record in some]
                bounds: dict[str, object] = {"since": _time(min(times)), "until": _time(max(times))}
                incoming = pa.table({"measurement_id": pa.array([record.id for record in some], pa.string())})
                kept.update(str(row[0]) for row in with_incoming(cursor, incoming, statement(f"imports/kept_{table}"), bounds))
        return kept

    def _is_impossible(self, record: Record) -> bool:
        if not isinstance(record, PingResult):
            return False
        least = min((s.rtt_ns for s in record.samples if s.rtt_ns is not None), default=None)
        return least is not None and least < _TOLERANCE * fibre_floor_ns(self._sites[record.src], self._sites[record.dst])


def _reject(place: int | None, reason: str, detail: str) -> Reject:
    return Reject(place, reason, kept_text(detail.encode("utf-8", "replace")), None)


def _holds_nul(record: Record) -> bool:
    texts = [record.target, record.engine]
    if isinstance(record, TracerouteResult):
        texts += [hop.address for hop in record.hops if hop.address is not None]
    return any("\0" in text for text in texts)


def _keep_what_fits(chunk: _Chunk, now: datetime) -> None:
    """Reject the records that a column cannot hold: an integer beyond 64 bits, half a surrogate pair."""
    nobody = BatchName("", "", 0)
    try:
        rows: dict[str, list[Row]] = {}
        for _, record in chunk.records:
            table, made = _rows(record, nobody, now)
            rows.setdefault(table, []).extend(made)
        tables(rows)
    except (OverflowError, ValueError, TypeError):
        for entry in list(chunk.records):
            table, made = _rows(entry[1], nobody, now)
            try:
                tables({table: made})
            except (OverflowError, ValueError, TypeError) as error:
                chunk.records.remove(entry)
                chunk.rejects.append(_reject(None, "out_of_range", str(error)))


def _time(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _table(record: Record) -> str:
    return "ping_sample" if isinstance(record, PingResult) else "traceroute" if isinstance(record, TracerouteResult) else "throughput"


def _rows(record: Record, name: BatchName, received_at: datetime) -> tuple[str, list[Row]]:
    if isinstance(record, PingResult):
        return "ping_sample", ping_rows(record, name, received_at)
    if isinstance(record, TracerouteResult):
        return "traceroute", traceroute_rows(record, name, received_at)
    return "throughput", throughput_rows(record, name, received_at)
