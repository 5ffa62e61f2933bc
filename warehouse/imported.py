"""Links as columns: a dense mesh of a large network is half a million rows, and few of them are ever looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from records.link import MEDIA, Grain, RttFrom
from warehouse.connect import Warehouse
from warehouse.faults import reported
from warehouse.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LinkRows", "imported_rows", "measured_rows", "merged"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = ("src", "dst", "medium")
_GIVEN = ("rtt_min_ns", "rtt_p50_ns", "rtt_p95_ns", "loss_ratio")


@dataclass(frozen=True, slots=True)
class LinkRows:
    """What is known of each link, as records.link.LinkEstimate has it; NaN or None where it is not known.

    names              site ids
    src, dst           [N] index into names
    medium             [N] index into records.link.MEDIA
    rtt_*_ns           [N] whole ns
    is_ungraded        [N] from an agent that failed its own checks
    rtt_from, grain    [N] as in LinkEstimate
    bucket_from, _until  [N] which of `buckets` are the link's histogram; -1 for a link without one
    buckets            [B, 2] (bucket, samples), see records.histogram
    """

    names: list[str]
    src: NDArray[np.intp]
    dst: NDArray[np.intp]
    medium: NDArray[np.intp]
    rtt_min_ns: Floats
    rtt_p50_ns: Floats
    rtt_p95_ns: Floats
    rtt_p99_ns: Floats
    loss_ratio: Floats
    sample_count: Floats
    age_s: Floats
    is_ungraded: NDArray[np.bool_]
    rtt_from: NDArray[np.object_]
    grain: NDArray[np.object_]
    bucket_from: Ints
    bucket_until: Ints
    buckets: Ints

    def __len__(self) -> int:
        return len(self.src)


def imported_rows(wh: Warehouse | None, now: datetime) -> LinkRows:
    """A warehouse's imports, as view imported_links has them, by (src, dst, medium); none for no warehouse."""
    names: list[str] = []
    found: dict[str, Any] = dict.fromkeys((*_KEY, *_GIVEN, "measured_us"), np.empty(0))
    if wh is not None:
        with reported(), wh.cursor() as cursor:
            cursor.execute("BEGIN")  # of one snapshot: every row's ids are among the names
            try:
                listed = cursor.execute(statement("queries/link_import_names")).fetchall()
                rows = cursor.execute(statement("queries/link_import_columns")).fetchnumpy()
            finally:
                cursor.execute("ROLLBACK")
            names = [name for name, _ in listed]
            found = _newest(_coded(rows, np.array([hashed for _, hashed in listed], dtype=np.uint64)))
    count = len(found["src"])
    unknown = np.full(count, np.nan)
    return LinkRows(
        names=names,
        **{name: found[name].astype(np.intp, copy=False) for name in _KEY},
        **{name: found[name] for name in _GIVEN},
        rtt_p99_ns=unknown,
        sample_count=unknown,
        age_s=(_us(now) - found["measured_us"]) / 1e6,
        is_ungraded=np.zeros(count, dtype=np.bool_),
        rtt_from=np.full(count, "import", dtype=np.object_),
        grain=np.full(count, None, dtype=np.object_),
        bucket_from=np.full(count, -1),
        bucket_until=np.full(count, -1),
        buckets=np.empty((0, 2), dtype=np.int64),
    )


def _coded(rows: Mapping[str, Any], hashes: NDArray[np.uint64]) -> dict[str, Any]:
    """The columns of queries/link_import_columns, ends by their place among the names of these hashes."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    assert (ordered[1:] != ordered[:-1]).all()  # 64 bits: once in 10^13 times for a thousand ids
    columns = {name: np.asarray(values) for name, values in rows.items()}  # nothing is masked: there is no NULL
    ends = {end: order[np.searchsorted(ordered, columns[end])] for end in ("src", "dst")}
    return columns | ends | {"medium": columns["medium"].astype(np.intp) - 1}


def _newest(rows: dict[str, Any]) -> dict[str, Any]:
    """One row for each (src, dst, medium), in their order: of its rows of the newest import the medians and the least RTT."""
    by_name = np.array([sorted(MEDIA).index(name) for name in MEDIA])
    sites = int(max(rows["src"].max(initial=0), rows["dst"].max(initial=0))) + 1
    link = (rows["src"] * sites + rows["dst"]) * len(MEDIA) + by_name[rows["medium"]]
    if not (link[1:] > link[:-1]).all():  # files are mostly in order
        order = np.argsort(link, kind="stable")
        link, rows = link[order], {name: values[order] for name, values in rows.items()}
    first = np.ones(len(link), dtype=np.bool_)
    first[1:] = link[1:] != link[:-1]
    if first.all():
        return rows
    group = np.cumsum(first) - 1
    newest = rows["received_us"] == np.maximum.reduceat(rows["received_us"], np.flatnonzero(first))[group]
    group, rows = group[newest], {name: values[newest] for name, values in rows.items()}
    starts = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
    found = {name: rows[name][starts] for name in _KEY}
    for name in ("rtt_p50_ns", "rtt_p95_ns", "loss_ratio"):
        found[name] = _medians(rows[name], group, starts)
    for name in ("rtt_p50_ns", "rtt_p95_ns"):
        found[name] = np.rint(found[name])
    return found | {
        "rtt_min_ns": np.fmin.reduceat(rows["rtt_min_ns"], starts),
        "measured_us": np.fmax.reduceat(rows["measured_us"], starts),
    }


def _medians(values: Floats, group: Ints, starts: Ints) -> Floats:
    """The median of what is known in each group (rising numbers, from `starts` on); NaN where nothing is."""
    ordered = values[np.lexsort((values, group))]  # what is not known comes last
    known = np.add.reduceat(~np.isnan(values), starts, dtype=np.int64)
    low, high = (ordered[starts + np.maximum(0, known - 1 + up) // 2] for up in (0, 1))
    found: Floats = np.where(known > 0, low + (high - low) * 0.5, np.nan)
    return found


def _numbers(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Numbers or truths of a column, NaN for NULL.

    Not by pyarrow's own to_numpy where that can be: it loads pandas, a fifth of the time of a whole command.
    """
    import pyarrow as pa

    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_boolean(whole.type):
        whole = whole.cast("uint8")
    if not (pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type)):
        found: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
        return found
    if not len(whole):
        return np.empty(0)
    if not whole.null_count:
        return np.from_dlpack(whole)
    bare = pa.Array.from_buffers(whole.type, len(whole), [None, whole.buffers()[1]], offset=whole.offset)
    return np.where(_numbers(whole.is_valid()) != 0, np.from_dlpack(bare), np.nan)


def measured_rows(table: pa.Table, now: datetime, rtt_from: RttFrom, grain: Grain) -> LinkRows:
    """The rows of queries/link_pings, link_http or link_rollup (of one probe type)."""
    count = table.num_rows
    is_ping = rtt_from == "ping"
    newest = table.column("newest_sent_at" if is_ping else "newest_started_at")
    # As numbers: a time with a zone would have pyarrow load pandas, a quarter of a second of every command's start.
    at_us = _numbers(newest.combine_chunks().view("int64"))  # in us, as DuckDB counts
    loss = np.full(count, np.nan)
    if is_ping:
        sent = _column(table, "sent_count")
        np.divide(_column(table, "lost_count"), sent, out=loss, where=sent > 0)
    quantiles = np.full((count, 3), np.nan)
    listed = table.column("rtt_quantiles_ns").combine_chunks()
    quantiles[_numbers(listed.is_valid()).astype(np.bool_)] = _numbers(listed.flatten()).reshape(-1, 3)
    index: dict[str, int] = {}
    src, dst = (_encoded(table, name, index) for name in ("src", "dst"))
    each = table.column("buckets").combine_chunks()  # [[bucket, samples], ...] or NULL
    until = np.cumsum(np.nan_to_num(_numbers(each.value_lengths()))).astype(np.int64)
    return LinkRows(
        names=list(index),
        src=src,
        dst=dst,
        medium=_encoded(table, "medium", _media()),
        rtt_min_ns=_column(table, "rtt_min_ns"),
        rtt_p50_ns=quantiles[:, 0],
        rtt_p95_ns=quantiles[:, 1],
        rtt_p99_ns=quantiles[:, 2],
        loss_ratio=loss,
        sample_count=_column(table, "reply_count"),
        age_s=(_us(now) - at_us) / 1e6,
        is_ungraded=_numbers(table.column("is_ungraded")).astype(np.bool_),
        rtt_from=np.full(count, rtt_from, dtype=np.object_),
        grain=np.full(count, grain, dtype=np.object_),
        bucket_from=np.concatenate(([0], until[:-1])) if count else until,
        bucket_until=until,
        buckets=_numbers(each.flatten().flatten()).astype(np.int64).reshape(-1, 2),
    )


def merged(imported: LinkRows, tcp: LinkRows, pings: LinkRows) -> LinkRows:
    """One row for each link, by (src, dst, medium): its pings if any was answered or there is nothing else that was
    measured, else its TCP hand-shakes, else an import."""
    if not (len(tcp) or len(pings)):
        return imported  # in order already
    parts = (imported, tcp, pings)
    lengths = [len(part) for part in parts]
    names = sorted({name for part in parts for name in part.names})
    rank = {name: at for at, name in enumerate(names)}
    columns: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(LinkRows) if f.name not in ("names", "src", "dst")
    }
    for end in ("src", "dst"):
        columns[end] = np.concatenate([np.array([rank[name] for name in part.names], dtype=np.intp)[getattr(part, end)] for part in parts])
    offset = np.repeat(np.cumsum([0, *(len(part.buckets) for part in parts)])[:3], lengths)
    for name in ("bucket_from", "bucket_until"):
        columns[name] = np.where(columns[name] < 0, -1, columns[name] + offset)
    # Of equal links the one that stands last: pings that nobody answered stand before hand-shakes.
    kind = np.repeat([0.0, 1.0, 2.0], lengths)
    kind[(kind == 2) & (columns["sample_count"] == 0)] = 0.5
    medium = np.array([sorted(MEDIA).index(name) for name in MEDIA])[columns["medium"]]
    link = (columns["src"] * len(names) + columns["dst"]) * len(MEDIA) + medium
    order = np.lexsort((kind, link))
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = link[order][1:] != link[order][:-1]
    chosen = order[last]
    return LinkRows(names=names, **{name: values if name == "buckets" else values[chosen] for name, values in columns.items()})


def _media() -> dict[str, int]:
    return {medium: at for at, medium in enumerate(MEDIA)}


def _codes(values: Iterable[str], index: dict[str, int]) -> NDArray[np.intp]:
    return np.array([index.setdefault(value, len(index)) for value in values], dtype=np.intp)


def _encoded(table: pa.Table, name: str, index: dict[str, int]) -> NDArray[np.intp]:
    found = table.column(name).combine_chunks().dictionary_encode()
    codes: NDArray[np.intp] = _codes(found.dictionary.to_pylist(), index)[_numbers(found.indices).astype(np.intp)]
    return codes


def _us(at: datetime) -> int:
    return (at - _EPOCH) // datetime.resolution


def _column(table: pa.Table, name: str) -> Floats:
    """Integers below 2^53 are exact."""
    return np.asarray(_numbers(table.column(name)), dtype=np.float64)
