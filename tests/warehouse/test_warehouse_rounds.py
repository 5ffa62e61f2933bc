"""Rounds read in bulk become what they become one by one, whatever is in their lines; the record by record way is the oracle."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warehouse_builders import BOOT, NOW, at_ns, content, ping, put, trace

from records.batch import BatchName
from warehouse import Warehouse, ingest
from warehouse.ingest import Batch, TooLarge, Unreadable, parse
from warehouse.rounds import PING_PREFIX, ping_table

NAME = BatchName("sin-1", BOOT, 7)

#: Other values for a field, good and bad: as text, so that what no encoder writes is among them.
ODD = (
    "null", "true", '"x"', '"1"', "0", "-1", "-0", "1.0", "1e3", "01", "9223372036854775807", "9223372036854775808", "NaN", "[]", "{}",
    '"\\u0000"', '"\\ud800"', '"\\u00e9"', '"caf\\n"', '"é"', '"-5"', '"a-"', '"fra-1"', '"internet"',
    '"icmp"', '"tcp"', '"timeout"', '"reply"',
    '"user"', "-1772366340000000001", "[null]", "[[]]",
)  # fmt: skip


def _line(n: int) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(content([ping(n, [1000, None, 0], at=NOW)]))
    return made


def _text(value: object) -> str:
    return value.text if isinstance(value, _Raw) else json.dumps(value, separators=(",", ":"))


class _Raw:
    """Text that stands in a line as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def _written(line: dict[str, Any]) -> bytes:
    samples = ",".join("{" + ",".join(f'"{k}":{_text(v)}' for k, v in sample.items()) + "}" for sample in line["samples"])
    fields = ",".join(f'"{key}":[{samples}]' if key == "samples" else f'"{key}":{_text(value)}' for key, value in line.items())
    return b"{" + fields.encode() + b"}"


def _both(body: bytes, monkeypatch: pytest.MonkeyPatch, redate_ns: int = 0) -> tuple[Batch, Batch]:
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "_BULK_LINES", 1)
        bulk = parse(body, NAME, received_at=NOW, redate_ns=redate_ns)
        patched.setattr(ingest, "_BULK_LINES", 10**9)
        return bulk, parse(body, NAME, received_at=NOW, redate_ns=redate_ns)


def _agree(body: bytes, monkeypatch: pytest.MonkeyPatch, redate_ns: int = 0) -> None:
    bulk, single = _both(body, monkeypatch, redate_ns)
    assert (bulk.counts, bulk.sites, bulk.rejects, bulk.line_count) == (single.counts, single.sites, single.rejects, single.line_count)
    assert bulk.tables.keys() == single.tables.keys()
    for name, table in bulk.tables.items():
        assert table.combine_chunks().equals(single.tables[name].combine_chunks()), name


@given(
    where=st.sampled_from(("round", "sample")),
    field=st.integers(0, 20),
    value=st.sampled_from(ODD),
    is_dropped=st.booleans(),
    is_added=st.booleans(),
    redate_ns=st.sampled_from((0, 0, -3_600_000_000_001, -(1 << 62))),
)
def test_a_changed_field_is_read_alike(where: str, field: int, value: str, is_dropped: bool, is_added: bool, redate_ns: int) -> None:
    """One field of the middle one of three rounds is another, is not there, or a further one is."""
    lines = [_line(n) for n in range(3)]
    changed = lines[1] if where == "round" else lines[1]["samples"][1]
    key = list(changed)[field % len(changed)]
    if key == "samples":
        return
    if is_added:
        changed["extra"] = _Raw(value)
    elif is_dropped:
        del changed[key]
    else:
        changed[key] = _Raw(value)
    with pytest.MonkeyPatch.context() as patched:
        _agree(b"\n".join(map(_written, lines)) + b"\n", patched, redate_ns)


@pytest.mark.parametrize(
    "body",
    [
        content([ping(n, [1000 + n, None, 0], at=NOW) for n in range(40)]),
        content([ping(1, [1]), trace(2), ping(3, [None, 5]), ping(4, [7], id="nodash"), ping(5, [7], id="-5"), ping(6, [7], id="a-b-6")]),
        content([ping(1, [1]), ping(2, []), ping(3, [2])]),
        content([ping(1, [1]), ping(2, [1], agent="fra-1")]),
        content([ping(1, [1], timeout_ns=None), ping(2, [1])]),
        content([ping(1, [1]), ping(2, [1], at=NOW + timedelta(minutes=11)), ping(3, [1], started_at_ns=2**62)]),
        content([ping(1, [1], started_at_ns=-1), ping(2, [1], started_at_ns=-1001)]),
        content([ping(1, [1], timeout_ns=2**63 - 1), ping(2, [1])]),
        content([ping(1, [1])]) + b"{oops\n\n \n" + content([ping(2, [1])]).replace(b"\n", b"\r\n"),
        content([ping(1, [1])]).strip() * 2 + b"\n" + content([ping(2, [1])]),
        content([ping(1, [1]), ping(2, [1])]).replace(b'"samples":[', b'"samples":[null,', 1),
        content([ping(1, [1]), ping(2, [1])]).replace(b"}]}\n", b"}]}}\n", 1),
        content([ping(1, [1]), ping(2, [1])]).replace(b'"rtt_ns":1,', b'"rtt_ns":1,"failure_source":"path",', 1),
        PING_PREFIX + b'"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n" + content([ping(2, [1])]),
    ],
    ids=[
        "good",
        "mixed",
        "no sample",
        "other agent",
        "no time-out",
        "of tomorrow",
        "before 1970",
        "time-out of centuries",
        "broken",
        "two on a line",
        "null",
        "brace",
        "failed reply",
        "deep",
    ],
)
def test_unusual_batches_are_read_alike(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same rows, same rejects, same counts."""
    for redate_ns in (0, -3_600_000_000_000):
        _agree(body, monkeypatch, redate_ns)


def test_what_an_agent_writes_is_read_in_bulk() -> None:
    """The bulk way takes what `encode_line` makes: else it would only cost time."""
    lines = content([ping(n, [1000 + n, None], at=NOW) for n in range(3)]).splitlines()
    table = ping_table(lines, NAME, NOW, between_ns=(0, at_ns(NOW) + 10**9))
    assert table is not None
    assert table.num_rows == 6
    assert ping_table([lines[0], lines[1].replace(b"sin", "sön".encode())], NAME, NOW, between_ns=(0, at_ns(NOW))) is None
    for between_ns in ((0, at_ns(NOW) - 10**12), (at_ns(NOW) + 10**12, 1 << 62)):
        assert ping_table(lines, NAME, NOW, between_ns=between_ns) is None


def test_a_batch_of_too_many_rows_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for both ways, and for what is no ping."""
    monkeypatch.setattr(ingest, "MAX_BATCH_ROWS", 40)
    for lines in ([ping(n, [1, 2, 3]) for n in range(20)], [trace(n) for n in range(41)], [ping(1, [1] * 41)]):
        with pytest.raises(TooLarge, match="more than 40 rows"):
            parse(content(lines), NAME, received_at=NOW)
    with pytest.raises(Unreadable):
        parse(b"\n", NAME, received_at=NOW)


def test_a_round_that_comes_again_is_marked_and_a_new_one_is_not(wh: Warehouse) -> None:
    """In one group, in a later one, and between new ones; each packet counts once."""
    put(wh, *[ping(n, [1, 2], at=NOW) for n in range(3)])
    put(wh, *[ping(n, [1, 2], at=NOW) for n in (2, 3)])
    put(wh, ping(4, [1], at=NOW), ping(4, [1], at=NOW))
    with wh.cursor() as cursor:
        rows = cursor.execute(
            "SELECT split_part(measurement_id, '-', 2)::INT AS n, count(*) FILTER (NOT is_duplicate_id), count(*) "
            "FROM ping_sample GROUP BY n ORDER BY n"
        ).fetchall()
    assert rows == [(0, 2, 2), (1, 2, 2), (2, 2, 4), (3, 2, 2), (4, 1, 2)]
