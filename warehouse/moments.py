"""What some links' RTTs looked like at each moment: what the quantiles of a sum of legs are replayed from."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from records.histogram import Histogram
from records.link import Grain
from warehouse.asking import reading
from warehouse.connect import Warehouse
from warehouse.faults import reported
from warehouse.grain import plan
from warehouse.queries import EVER, PAIR_RAW_ROWS
from warehouse.statements import bound

__all__ = ["Moments", "link_moments"]

Key = tuple[str, str, str]
#: Start of a time bucket in seconds since 1970 -> the samples in it.
Moments = dict[int, Histogram]


def link_moments(
    wh: Warehouse, keys: Collection[Key], *, now: datetime, window: timedelta | None = None, grain: Grain | None = None
) -> dict[Key, Moments]:
    """The answered probe packets of links (src, dst, medium) over (now - window, now], by time bucket.

    Buckets are of one width for all links asked for: a minute to an hour, by how long the samples reach, so that the same
    bucket of two links holds what they measured at the same time. Links without an answered packet are left out. Where
    raw rows are too many or gone, from roll-ups (by minute or hour, see warehouse.grain; `grain` insists on one).
    """
    if not keys:
        return {}
    since = EVER if window is None else now - window
    with reported(), reading(wh) as cursor:
        chosen = plan(cursor, since, now, grain=grain, raw_rows=PAIR_RAW_ROWS, coarsest="hour", tables=("ping_sample",))
        if chosen.grain == "raw":
            text, rest = bound("queries/link_moments", {"links": tuple(sorted(keys)), "since": since, "now": now})
        else:
            width_s = {"minute": 60, "hour": 3600, "day": 86_400}[chosen.grain]
            asked = {**chosen.parameters, "links": tuple(sorted(keys)), "width_s": width_s}
            text, rest = bound("queries/link_moments_rollup", asked, chosen.empty)
        rows = cursor.execute(text, rest or None).fetchall()
    found: dict[Key, dict[int, list[tuple[int, int]]]] = {}
    for src, dst, medium, at_s, bucket, n in rows:
        found.setdefault((src, dst, medium), {}).setdefault(at_s, []).append((bucket, n))
    return {key: {at_s: Histogram.listed(counts) for at_s, counts in by_time.items()} for key, by_time in found.items()}
