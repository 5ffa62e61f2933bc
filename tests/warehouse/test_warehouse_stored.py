"""What a process remembers of the stored batches: the same answers as from looking through all of them, whoever else writes."""

from __future__ import annotations

import random

import pytest
from warehouse_builders import batch, ping

from warehouse import Warehouse, open_warehouse, stored
from warehouse.maintain import verify
from warehouse.store import Outcome, store

#: What maintenance does to the names of batches: from the catalog to files, and files to fewer.
TIDY = ("CALL ducklake_flush_inlined_data('wh', table_name => 'batch')", "CALL ducklake_merge_adjacent_files('wh', 'batch')")


def test_two_processes_agree_with_a_plain_list(own: Warehouse) -> None:
    """Batches in any order, again, under a name used before; by two writers, with maintenance between: each outcome is the list's."""
    chance, listed = random.Random(5), dict[tuple[str, int], int]()
    with open_warehouse(own.location, mode="write") as other:
        for _ in range(24):
            writer = chance.choice((own, own, other))
            if chance.random() < 0.25:
                with writer.lock.held(), writer.cursor() as cursor:
                    for call in TIDY:
                        cursor.execute(call)
                continue
            expected, group = [], []
            for _batch in range(chance.randint(1, 4)):
                name, text = (chance.choice(("aa", "bb")), chance.randrange(12)), chance.randrange(6) // 5
                is_new = name not in listed
                expected.append(Outcome.STORED if is_new else Outcome.ALREADY if listed[name] == text else Outcome.CONFLICT)
                listed.setdefault(name, text)
                group.append(batch([ping(name[1], [1000 + text], id=f"{name[0]}-{name[1]}")], boot=name[0], sequence=name[1]))
            assert store(writer, group) == expected
    with own.cursor() as cursor:
        rows = cursor.execute("SELECT boot, sequence FROM batch").fetchall()
        packets = cursor.execute("SELECT count(*), count(DISTINCT measurement_id) FROM valid_ping").fetchall()
    assert sorted(rows) == sorted(listed)
    assert packets == [(len(listed), len(listed))]
    assert verify(own) == []


def test_batches_in_order_are_not_looked_for(own: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first batch those of a boot cost no look through the warehouse, whatever maintenance does, until one comes again."""
    first, *later = (batch([ping(n, [1000])], sequence=n) for n in range(4))
    assert store(own, [first]) == [Outcome.STORED]
    asked: list[object] = []
    ask = stored._ask
    monkeypatch.setattr(stored, "_ask", lambda *given: asked.append(given) or ask(*given))
    for one in later:
        assert store(own, [one]) == [Outcome.STORED]
        with own.transaction() as cursor:
            cursor.execute("UPDATE rollup_mark SET rolled_at = now()")
    assert not asked
    assert store(own, [later[0]]) == [Outcome.ALREADY]
    assert asked
