"""CSV of achieved rates between sites: ``src,dst,throughput_mbps``, one row a TCP test. Pure.

===================  ==========================================================================================
column               what it is
===================  ==========================================================================================
src, dst             sites; the data goes from src to dst
throughput_bps       payload bits per second; or throughput_mbps, in 10^6 of them
transferred_bytes, duration_s, retransmits, at   unknown where the column is missing or empty; at: --at then
===================  ==========================================================================================
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from records.measurement import ThroughputResult
from records.units import SECOND
from warehouse.importers.found import LEFT_OUT, Found, Given, Unfit, head, iso_ns

__all__ = ["COLUMNS", "parse"]

COLUMNS = ("src", "dst", "throughput_bps", "throughput_mbps", "transferred_bytes", "duration_s", "retransmits", "at")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MOST = float(1 << 62)


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The rows in the lines (number from 1, text); raises Unfit where the rest cannot be read."""
    numbers: list[int] = [0]

    def texts() -> Iterator[str]:
        for number, line in lines:
            numbers[0] = number
            yield line + "\n"

    rows = csv.reader(texts(), strict=True)
    header: list[str] = []
    columns: dict[str, int] = {}
    filters: list[tuple[int, str]] = []
    try:
        for fields in rows:
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = [name.strip() for name in fields]
                columns, filters = _columns(header, given), _filters(header, given)
            elif len(fields) != len(header):
                yield Unfit("bad_field", f"the row has {len(fields)} fields and the header {len(header)}", numbers[0])
            elif any(fields[index].strip() != value for index, value in filters):
                yield Unfit(LEFT_OUT, "--where leaves it out", numbers[0])
            else:
                yield _row({name: fields[index].strip() for name, index in columns.items()}, given, numbers[0])
    except csv.Error as error:
        raise Unfit("bad_field", f"line {numbers[0]} is not CSV from here: {error}", numbers[0]) from error


def _columns(header: list[str], given: Given) -> dict[str, int]:
    for name in given.mapping:
        if name not in COLUMNS:
            raise Unfit("bad_field", f"cannot map {name!r}: the columns of a throughput matrix are {', '.join(COLUMNS)}", 1)
    found = {name: header.index(theirs) for name in COLUMNS if (theirs := given.mapping.get(name, name)) in header}
    for needed in (("src",), ("dst",), ("throughput_bps", "throughput_mbps")):
        if not any(name in found for name in needed):
            raise Unfit("not_this_format", f"the header {','.join(header)} has no column {' or '.join(needed)}; --map {needed[0]}=NAME", 1)
    return found


def _filters(header: list[str], given: Given) -> list[tuple[int, str]]:
    filters = []
    for column, value in given.where.items():
        theirs = given.mapping.get(column, column)
        if theirs not in header:
            raise Unfit("not_this_format", f"there is no column {column!r} to filter by; the header is {','.join(header)}", 1)
        filters.append((header.index(theirs), value))
    return filters


def _row(fields: Mapping[str, str], given: Given, place: int) -> Found | Unfit:
    try:
        rate = _rate(fields)
        seconds = _number("duration_s", fields)
        at_ns = iso_ns(fields["at"]) if fields.get("at") else given.at_ns
        record = ThroughputResult(
            **head(fields["dst"], at_ns, "throughput-matrix"),
            tool="other",
            direction="up",
            transferred_bytes=_whole("transferred_bytes", fields),
            duration_ns=None if seconds is None else round(seconds * SECOND),
            throughput_bps=round(rate),
            stop_reason="time",
            retransmits=_whole("retransmits", fields),
        )
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, place)
    src, dst = (((fields[end],) if fields[end] else ()) for end in ("src", "dst"))
    return Found(record=record, src=src, dst=dst, place=place)


def _rate(fields: Mapping[str, str]) -> float:
    bps, mbps = _number("throughput_bps", fields), _number("throughput_mbps", fields)
    rate = bps if bps is not None else None if mbps is None else mbps * 1e6
    if rate is None:
        raise Unfit("missing_value", "neither throughput_bps nor throughput_mbps is given")
    if rate < 1:
        raise Unfit("no_bytes", "a rate of 0 is how some tools write that the test failed")
    return rate


def _number(column: str, fields: Mapping[str, str]) -> float | None:
    text = fields.get(column, "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise Unfit("bad_number", f"{column} {text!r} is not a number")
    value = float(text)
    if value < 0:
        raise Unfit("negative", f"{column} {text} is below zero")
    if value > _MOST:
        raise Unfit("out_of_range", f"{column} {text} is above {_MOST:g}")
    return value


def _whole(column: str, fields: Mapping[str, str]) -> int | None:
    value = _number(column, fields)
    return None if value is None else round(value)
