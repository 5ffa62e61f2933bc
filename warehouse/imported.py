"""Imported links as columns: a dense matrix of a large network is half a million rows, and few of them are ever looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.link import MEDIA
from warehouse.connect import Warehouse, reported
from warehouse.statements import statement

__all__ = ["ImportedLinks", "imported_links"]

Floats = NDArray[np.float64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ImportedLinks:
    """What imported matrices say of each link, by (src, dst, medium); NaN where it is not known.

    names              site ids
    src, dst           [N] index into names
    medium             [N] index into records.link.MEDIA
    rtt_*_ns           [N] whole ns
    loss_ratio, age_s  [N]
    """

    names: list[str]
    src: NDArray[np.intp]
    dst: NDArray[np.intp]
    medium: NDArray[np.intp]
    rtt_min_ns: Floats
    rtt_p50_ns: Floats
    rtt_p95_ns: Floats
    loss_ratio: Floats
    age_s: Floats


def imported_links(wh: Warehouse | None, now: datetime) -> ImportedLinks:
    """The columns of a warehouse's imports; none for no warehouse."""
    found: dict[str, Any] = {}
    if wh is not None:
        with reported(), wh.cursor() as cursor:
            found = cursor.execute(statement("queries/link_import_columns")).fetchnumpy()
    index: dict[str, int] = {}
    src, dst = (_codes(found.get(name, ()), index) for name in ("src", "dst"))
    media: dict[str, int] = {medium: i for i, medium in enumerate(MEDIA)}
    now_us = (now - _EPOCH) // (datetime.resolution)
    measured_us = _floats(found.get("measured_us", ()))
    return ImportedLinks(
        names=list(index),
        src=src,
        dst=dst,
        medium=_codes(found.get("medium", ()), media),
        rtt_min_ns=_floats(found.get("rtt_min_ns", ())),
        rtt_p50_ns=_floats(found.get("rtt_p50_ns", ())),
        rtt_p95_ns=_floats(found.get("rtt_p95_ns", ())),
        loss_ratio=_floats(found.get("loss_ratio", ())),
        age_s=(now_us - measured_us) / 1e6,
    )


def _codes(values: Iterable[str], index: dict[str, int]) -> NDArray[np.intp]:
    return np.array([index.setdefault(value, len(index)) for value in values], dtype=np.intp)


def _floats(values: Any) -> Floats:
    """Integers below 2^53 are exact."""
    return np.asarray(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan), dtype=np.float64)
