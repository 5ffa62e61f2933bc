"""Records dated anew: all times that the agent's clock gave move, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warehouse_builders import NOW, at_ns, ping, reading, report, request, stamped, trace, transfer, visit

from records.batch import LINE_TYPES, Line, encode_line, type_of
from records.dating import began_ns, ended_ns, redated

RECORDS = (
    ping(1, [1000, None]),
    trace(2),
    transfer(3, 1000),
    request(4, 1000),
    visit(5, 1000),
    stamped(6, [1000, None]),
    reading(7),
    report(NOW),
)
#: What the agent's wall clock gives, by the wire's names (docs/agent.md, "What an agent writes").
DATED = {"started_at_ns", "sent_at_ns", "at_ns"}


def leaves(value: Any, name: str = "", place: str = "") -> Iterator[tuple[str, str, Any]]:
    """(place, field, value) of everything in a JSON document."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, key, f"{place}/{key}")
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from leaves(item, name, f"{place}/{n}")
    else:
        yield place, name, value


def test_the_records_here_are_of_every_kind() -> None:
    """Else the tests below say nothing of the missing ones."""
    assert {type_of(record) for record in RECORDS} == set(LINE_TYPES)


@pytest.mark.parametrize("record", RECORDS, ids=type_of)
@given(by_ns=st.integers(-(10**18), 10**18))
def test_what_the_clock_dated_moves_and_nothing_else(record: Line, by_ns: int) -> None:
    """Field by field of the document that travels."""
    before, after = (list(leaves(json.loads(encode_line(each)))) for each in (record, redated(record, lambda at_ns: at_ns + by_ns)))
    assert [place for place, _, _ in after] == [place for place, _, _ in before]
    moved = [value + by_ns if name in DATED else value for _, name, value in before]
    assert [value for _, _, value in after] == moved


def test_a_round_ends_with_its_last_packet() -> None:
    """And what has no packets of its own when it began."""
    assert [ended_ns(record) - began_ns(record) > 0 for record in (RECORDS[0], RECORDS[5], RECORDS[1], RECORDS[7])] == [
        True,
        True,
        False,
        False,
    ]
    assert ended_ns(RECORDS[0]) == max(packet.sent_at_ns for packet in RECORDS[0].samples)
    assert began_ns(RECORDS[7]) == at_ns(NOW)
