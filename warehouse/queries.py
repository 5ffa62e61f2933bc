"""One typed function per question: parameters in, records or Arrow tables out; the SQL is in sql/queries.

Times in are aware datetimes; times out are UTC. Columns end in their unit; unknown is NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from records.errors import UserError
from records.histogram import Histogram
from records.link import MEDIA, Grain, LinkEstimate, Medium, RttFrom
from records.measurement import TracerouteResult
from records.place import Site
from records.serving import ServedRequest
from warehouse.arrived import MEASURED, arrived
from warehouse.asking import answer_rows, answer_table, check_parameters, reading, traceroute_of
from warehouse.connect import Warehouse
from warehouse.faults import reported
from warehouse.grain import DAY, HOUR, MINUTE, RAW_ROWS, Plan, floored, plan, plan_requests, raised, rolled_up_to
from warehouse.rollup import FAR_AHEAD, FAR_BACK
from warehouse.statements import bound, statement

if TYPE_CHECKING:
    import pyarrow as pa

    from warehouse.imported import LinkRows

__all__ = [
    "EVER",
    "PAIR_RAW_ROWS",
    "agents",
    "delivery",
    "inference_latest",
    "inference_series",
    "latest_paths",
    "link_columns",
    "link_estimates",
    "link_snapshot",
    "measurement_counts",
    "path_history",
    "ping_series",
    "put_sites",
    "reading",
    "reject_counts",
    "rejects",
    "served_requests",
    "sites",
    "throughput_series",
    "time_range",
]

EVER = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
#: One string for each, whoever reads it.
_MEDIUM: dict[str, Medium] = {name: name for name in MEDIA}
#: One pair's packets lie together in every file: a window may hold this many of all pairs and still be read raw.
PAIR_RAW_ROWS = 10_000_000


def _written(wh: Warehouse) -> set[str]:
    """The tables that hold rows, or once did. Planning a question over an empty table takes 0.1 s, this takes 0.01 s."""
    with reported(), wh.cursor() as cursor:
        return {str(name) for (name,) in cursor.execute(statement("queries/written_tables")).fetchall()}


_COUNTED = frozenset(MEASURED)
#: The rows of a question that need not be asked.
_NOTHING: Future[list[dict[str, Any]]] = Future()
_NOTHING.set_result([])


def sites(wh: Warehouse) -> list[Site]:
    """Every place the warehouse knows, by id: those imports brought and those that were put."""
    with reported(), wh.cursor() as cursor:  # not by Arrow, whose import takes longer than the question
        found = cursor.execute(statement("queries/sites"))
        columns = [column[0] for column in found.description or ()]
        return [Site(**dict(zip(columns, row, strict=True))) for row in found.fetchall()]


def put_sites(wh: Warehouse, new: Iterable[Site]) -> None:
    """Store sites; one that is known already takes the new description. Unchanged ones cost nothing."""
    from warehouse.columns import tables  # with pyarrow.compute and msgspec, which no reader needs
    from warehouse.store import insert

    known = {site.id: site for site in sites(wh)}
    changed = {site.id: site for site in new if known.get(site.id) != site}
    if not changed:
        return
    now = datetime.now(UTC)
    rows = [(s.id, s.kind, s.name, s.lat, s.lon, s.country, s.provider, s.metro, now) for s in changed.values()]
    table = tables({"site": rows})["site"]
    with wh.transaction() as cursor:
        insert(cursor, "site_delete", table)
        insert(cursor, "site", table)


def link_estimates(wh: Warehouse, *, now: datetime, window: timedelta | None = None, grain: Grain | None = None) -> list[LinkEstimate]:
    """What is known of every (src, dst, medium) from measurements in (now - window, now], and from imports; sorted by key.

    Least RTT and counts are exact; so are quantiles (nearest rank) where `grain` of the estimate is raw, else they are within 1 %
    and the window is widened to whole minutes: raw rows are read while the window holds few of them (see warehouse.grain), unless
    the argument `grain` insists on one. The histogram is beside them. Where a link has
    probe packets that were answered, they are the estimate; else the TCP hand-shakes of its connections are, which know
    no packet loss; else an imported matrix is. They are never mixed, and `rtt_from` says which. Packets or connections of
    a degraded agent count only where there are no others; the gate is then ``ungraded``, else ``ok``: the other gates are
    routing's. window None: everything up to `now`. An imported RTT without a number of samples has sample_count None,
    without a date age_s None.
    """
    none: list[dict[str, Any]] = []
    asked = _asked(wh, now, window, grain, lambda: answer_rows(wh, "link_imports"), lambda: none)
    rates = asked.rates
    links: dict[tuple[str, str, Medium], LinkEstimate] = {}
    for row in asked.imported:
        key = (row["src"], row["dst"], _MEDIUM[row["medium"]])
        links[key] = LinkEstimate(
            src=intern(row["src"]),
            dst=intern(row["dst"]),
            medium=key[2],
            rtt_min_ns=row["rtt_min_ns"],
            rtt_p50_ns=row["rtt_p50_ns"],
            rtt_p95_ns=row["rtt_p95_ns"],
            loss_ratio=row["loss_ratio"],
            throughput_bps=rates.get(key),
            age_s=None if row["measured_at"] is None else (now - row["measured_at"]).total_seconds(),
            rtt_from="import",
        )
    by_tcp = {one.key: one for one in _estimates(asked.http, now, rates, "tcp", asked.grain)}
    links |= by_tcp
    for one in _estimates(asked.pings, now, rates, "ping", asked.grain):
        if one.sample_count or one.key not in by_tcp:  # a target may answer no ping, as many clouds' do
            links[one.key] = one
    return [links[key] for key in sorted(links)]


def link_columns(
    wh: Warehouse, *, now: datetime, window: timedelta | None = None, grain: Grain | None = None
) -> tuple[LinkRows, dict[tuple[str, str, str], float]]:
    """As link_estimates, without an object for each link: (links by column and key, throughput by key in bps)."""
    from warehouse.imported import imported_rows, measured_rows, merged  # with NumPy, which the collector does without

    none = imported_rows(None, now)
    asked = _asked(wh, now, window, grain, lambda: imported_rows(wh, now), lambda: none)
    tcp = none if asked.http is None else measured_rows(asked.http, now, "tcp", asked.grain)
    pings = none if asked.pings is None else measured_rows(asked.pings, now, "ping", asked.grain)
    return merged(asked.imported, tcp, pings), asked.rates


@dataclass(frozen=True, slots=True)
class LinkSnapshot:
    """What one snapshot says of links (link_columns, as of `now` over `window`) and places."""

    snapshot: int
    now: datetime
    window: timedelta | None
    rows: LinkRows
    rates: dict[tuple[str, str, str], float]
    sites: list[Site]


_TRIES = 3


def link_snapshot(wh: Warehouse, *, now: datetime, window: timedelta | None = None) -> LinkSnapshot:
    """Links and places of the newest snapshot; asked again while others commit, and of the last two where they do at every turn."""
    for _ in range(_TRIES):
        snapshot = wh.snapshot_id()
        rows, rates = link_columns(wh, now=now, window=window)
        known = sites(wh)
        if wh.snapshot_id() == snapshot:  # nothing was committed between the questions
            break
    return LinkSnapshot(snapshot, now, window, rows, rates, known)


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Asked(Generic[_T]):
    """What the questions about links gave; None where there is nothing. Throughput by key, in bps."""

    imported: _T
    http: pa.Table | None
    pings: pa.Table | None
    rates: dict[tuple[str, str, str], float]
    grain: Grain


def _asked(
    wh: Warehouse, now: datetime, window: timedelta | None, grain: Grain | None, imports: Callable[[], _T], none: Callable[[], _T]
) -> _Asked[_T]:
    """`none` gives the imports of a warehouse without any."""
    since = EVER if window is None else now - window
    check_parameters({"now": now})
    http: pa.Table | None = None
    pings: pa.Table | None = None
    # Side by side: planning each over the lake's files takes longer than running it.
    written = _written(wh)
    with ThreadPoolExecutor(4) as threads, reading(wh) as cursor:
        throughput = threads.submit(answer_rows, wh, "link_throughput", since=since, now=now) if "throughput" in written else _NOTHING
        imported = threads.submit(imports if "rtt_matrix" in written else none)
        is_measured = bool(written & {"ping_sample", "http"})
        chosen = plan(cursor, since, now, grain=grain, raw_rows=RAW_ROWS) if is_measured else Plan("raw", {})
        if chosen.grain == "raw":
            visits = threads.submit(answer_table, wh, "link_http", since=since, now=now) if "http" in written else None
            pings = answer_table(wh, "link_pings", since=since, now=now) if "ping_sample" in written else None
            http = None if visits is None else visits.result()
        else:
            # In the snapshot that the mark was read in, or rows committed since would count twice.
            both = answer_table(cursor, "link_rollup", chosen.empty, **chosen.parameters)
            kind = both.column("probe_type").to_pylist()
            pings, http = (both.filter([at == name for at in kind]) for name in ("ping", "http"))
    rates = {(r["src"], r["dst"], r["medium"]): r["throughput_bps"] for r in throughput.result()}
    return _Asked(imported.result(), http, pings, rates, chosen.grain)


def _estimates(
    table: pa.Table | None, now: datetime, rates: Mapping[tuple[str, str, str], float], rtt_from: RttFrom, grain: Grain
) -> Iterator[LinkEstimate]:
    """The rows of queries/link_pings, link_http or link_rollup (of one probe type), read by column: a fleet has 122,000 of them, and to
    make objects of each row's buckets and times first takes longer than the question."""
    if table is None:
        return
    is_ping = rtt_from == "ping"
    newest = table.column("newest_sent_at" if is_ping else "newest_started_at").combine_chunks().view("int64")  # in us, as DuckDB counts
    now_us = (now - EVER) // timedelta(microseconds=1)
    listed = table.column("rtt_quantiles_ns").combine_chunks()
    quantiles = iter(listed.flatten().to_pylist())
    columns = ("src", "dst", "medium", "rtt_min_ns", "reply_count", "is_ungraded", *(("sent_count", "lost_count") if is_ping else ()))
    rows = zip(
        newest.to_pylist(),
        listed.is_valid().to_pylist(),
        _packed(table),
        *(table.column(name).to_pylist() for name in columns),
        strict=True,
    )
    for at_us, has_rtt, packed, src, dst, medium, rtt_min_ns, reply_count, is_ungraded, *counts in rows:
        p50, p95, p99 = (next(quantiles), next(quantiles), next(quantiles)) if has_rtt else (None, None, None)
        sent, lost = counts or (0, 0)
        yield LinkEstimate(
            src=intern(src),  # else each link has its own copy of its names
            dst=intern(dst),
            medium=_MEDIUM[medium],
            rtt_min_ns=rtt_min_ns,
            rtt_p50_ns=p50,
            rtt_p95_ns=p95,
            rtt_p99_ns=p99,
            loss_ratio=lost / sent if sent else None,
            throughput_bps=rates.get((src, dst, medium)),
            sample_count=reply_count,
            age_s=(now_us - at_us) / 1e6,
            gate="ungraded" if is_ungraded else "ok",
            histogram=Histogram(packed),
            rtt_from=rtt_from,
            grain=grain,
        )


def _packed(table: pa.Table) -> Iterator[bytes]:
    """Each row's buckets as a histogram packs them: Arrow has them side by side in 8 bytes each, in order and without empty ones."""
    listed = table.column("buckets").combine_chunks()  # [[bucket, count], ...] or NULL
    flat = listed.flatten().flatten()
    data = flat.buffers()[1]
    view, at = memoryview(b"" if data is None else data).cast("B")[8 * flat.offset :], 0
    for length in listed.value_lengths().to_pylist():
        yield bytes(view[at : (at := at + 16 * (length or 0))])


def measurement_counts(wh: Warehouse) -> dict[str, int]:
    """Measurements by type (ping: rounds, not packets) and imported rows, as ``rtt_matrix``."""
    with reading(wh) as cursor:
        written = {str(name) for (name,) in cursor.execute(statement("queries/written_tables")).fetchall()}
        mark = rolled_up_to(cursor)
        came = arrived(cursor, mark, _COUNTED & written)
        since = {f"{name}_arrived": at for name, at in came.items()}
        (row,) = answer_table(cursor, "measurement_counts", _COUNTED - came.keys(), mark=mark, **since).to_pylist()
        return dict(row)


def ping_series(
    wh: Warehouse, src: str, dst: str, medium: str, *, start: datetime, end: datetime, bucket_count: int = 300, grain: Grain | None = None
) -> pa.Table:
    """One link over [start, end) in equal buckets: bucket_at, sent, lost, min_ms, p5_ms, p25_ms, p50_ms, p75_ms, p95_ms, max_ms, grain.

    Empty buckets are there, with 0 sent and NULL for every time. grain raw: exact. grain minute or hour: from roll-ups, quantiles within
    1 %; taken where the window holds many packets and a bucket is that wide (of hours, half of one), unless the argument `grain` insists on
    one; a bucket is then a multiple of the grain, so that there may be fewer, and they may begin before `start`. Raises UserError when
    end is not after start.
    """
    if end <= start or bucket_count < 1:
        raise UserError(f"the window [{start.isoformat()}, {end.isoformat()}) in {bucket_count} buckets is empty; end must be after start")
    link = {"src": src, "dst": dst, "medium": medium}
    width = (end - start) / bucket_count
    with reading(wh) as cursor:
        if grain is None and width < MINUTE:
            # Raw rows, unless they are gone.
            chosen = plan(cursor, start, end, grain=None, raw_rows=None, coarsest="hour", tables=("ping_sample",))
        else:
            chosen = plan(cursor, start, end, grain=grain, raw_rows=PAIR_RAW_ROWS, coarsest="hour", tables=("ping_sample",))
            if grain is None and chosen.grain == "hour" and width < HOUR / 2:
                chosen = plan(cursor, start, end, grain="minute", tables=("ping_sample",))
        if chosen.grain == "raw":
            return answer_table(cursor, "ping_series", **link, start=start, end=end, bucket_count=bucket_count)
        step = {"minute": MINUTE, "hour": HOUR, "day": DAY}[chosen.grain]
        first = floored(start, step)
        width = raised(FAR_BACK + width, step) - FAR_BACK
        count = -(-(end - first) // width)
        # Every bucket whole: the window is widened to the last one's end.
        whole = plan(cursor, first, first + count * width, grain=chosen.grain, tables=("ping_sample",))
        asked = {**link, **whole.parameters, "width": width, "bucket_count": count, "grain": chosen.grain}
        return answer_table(cursor, "ping_series_rollup", whole.empty, **asked)


def throughput_series(wh: Warehouse, src: str, dst: str, medium: str, *, start: datetime, end: datetime) -> pa.Table:
    """Every throughput test of a link in [start, end): started_at, direction, tool, throughput_bps, tcp_rtt_ms, error, ..."""
    return answer_table(wh, "throughput_series", src=src, dst=dst, medium=medium, start=start, end=end)


def inference_series(wh: Warehouse, src: str, dst: str, medium: str, *, start: datetime, end: datetime) -> pa.Table:
    """Every inference request of a link in [start, end): started_at, model, outcome, ttft_ms, tpot_ms, e2e_ms, tcp_rtt_ms, ..."""
    return answer_table(wh, "inference_series", src=src, dst=dst, medium=medium, start=start, end=end)


def latest_paths(wh: Warehouse, src: str, dst: str, medium: str | None = None) -> list[TracerouteResult]:
    """The newest trace of every flow from src to dst, over one medium or all of them."""
    return [traceroute_of(row) for row in answer_rows(wh, "latest_paths", src=src, dst=dst, medium=medium)]


def path_history(wh: Warehouse, src: str, dst: str, medium: str, start: datetime, end: datetime) -> pa.Table:
    """Every trace of a link in [start, end): started_at, flow, path_hash, hop_count, reached."""
    return answer_table(wh, "path_history", src=src, dst=dst, medium=medium, start=start, end=end)


def inference_latest(wh: Warehouse, *, now: datetime, window: timedelta | None = None, grain: Grain | None = None) -> pa.Table:
    """Serving by (src, dst, medium, model) over (now - window, now]: count, errors, ttft_p50_ms, ttft_p95_ms, tpot_p50_ms,
    tcp_rtt_p50_ms, last_at, grain.

    grain raw: exact. hour or day: from roll-ups, counts exact, quantiles within 1 %; taken where the window holds many requests, unless
    the argument `grain` insists on one.
    """
    return requests_table(wh, "inference_latest", since=EVER if window is None else now - window, until=now, grain=grain)


def requests_table(wh: Warehouse, name: str, *, since: datetime, until: datetime, grain: Grain | None) -> pa.Table:
    """The answer to a question about inference requests that is there of requests and of roll-ups (`name`_rollup)."""
    check_parameters({"since": since, "until": until})
    with reading(wh) as cursor:
        chosen = plan_requests(cursor, since, until, grain=grain)
        if chosen.grain == "raw":
            return answer_table(cursor, name, since=since, until=until)
        return answer_table(cursor, f"{name}_rollup", chosen.empty, **chosen.parameters, grain=chosen.grain)


def served_requests(wh: Warehouse, site: str, *, now: datetime, window: timedelta | None = None) -> dict[str, list[ServedRequest]]:
    """Model -> every answered inference request to it at a site in (now - window, now], in order of time."""
    rows = answer_rows(wh, "served_requests", site=site, since=EVER if window is None else now - window, now=now)
    found: dict[str, list[ServedRequest]] = {}
    for row in rows:
        model = row.pop("model")
        found.setdefault(model, []).append(ServedRequest(**row))
    return found


def agents(wh: Warehouse, now: datetime) -> pa.Table:
    """Every agent by its newest report: agent, site, version, last_seen_at, age_s, grade, reasons, spool_bytes,
    skipped_rounds, loop_lag_p99_ms, clock_error_ms, dropped_measurements.
    """
    return answer_table(wh, "agents", now=now)


def rejects(wh: Warehouse, limit: int = 200) -> pa.Table:
    """What could not be stored, newest first: received_at, source, agent, boot, batch_sequence, line_number, reason, detail, line."""
    return answer_table(wh, "rejects", limit=limit)


def reject_counts(wh: Warehouse) -> dict[str, int]:
    """Rejects by reason, the most frequent first."""
    return {row["reason"]: row["n"] for row in answer_rows(wh, "reject_counts")}


def time_range(wh: Warehouse) -> tuple[datetime, datetime] | None:
    """From the first to the last measurement, UTC; None when there is none.

    By the catalog's bounds of each file; of tables with files whose bounds cannot be trusted, only what reaches beyond is read.
    """
    with reading(wh) as cursor:
        bounds = cursor.execute(statement("queries/bounds")).fetchall()
        written = {str(name) for (name,) in cursor.execute(statement("queries/written_tables")).fetchall()}
        first = min((at for _, at, _, _ in bounds if at is not None), default=None)
        last = max((at for _, _, at, _ in bounds if at is not None), default=None)
        whole = {name for name, _, _, is_whole in bounds if is_whole or name not in written}
        if len(whole) < len(bounds):
            text, rest = bound("queries/beyond", {"first": first or FAR_AHEAD, "last": last or _FIRST}, whole)
            row = cursor.execute(text, rest or None).fetchone()
            assert row is not None
            first = min((at for at in (first, row[0]) if at is not None), default=None)
            last = max((at for at in (last, row[1]) if at is not None), default=None)
    return None if first is None or last is None else (first, last)


def delivery(wh: Warehouse) -> pa.Table:
    """By agent, boot and probe type: produced (by its newest report; NULL: none), stored, duplicated.

    Lost is produced - (stored - duplicated), once the agent has stopped and its spool is empty.
    """
    return answer_table(wh, "delivery")
