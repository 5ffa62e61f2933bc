"""The view serving_claims against the rule it states, records.claims, on readings and requests of every kind."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

from warehouse_builders import NOW, at_ns, put, reading, request

from records.claims import disagreements, wait_of
from warehouse import Warehouse

MS = 1_000_000


def test_the_view_says_what_the_rule_says(wh: Warehouse) -> None:
    """Readings 2 s apart, requests at any time between, a server that tells the truth or not, publishes or not, begins anew."""
    rng = random.Random(1)
    begin = NOW - timedelta(minutes=10)
    readings, requests = [], []
    count, total = 0, 0
    kinds = ("ttft", "queue", "none")
    for number in range(60):
        said: dict[str, Any] = {"took_ns": 3 * MS, "requests_running": rng.randrange(3), "requests_waiting": rng.choice([0, 1, None])}
        kind = kinds[number // 20]
        if kind == "ttft":
            said |= {"ttft_count": count, "ttft_sum_ns": total}
        elif kind == "queue":
            said |= {"queue_count": count, "queue_sum_ns": total // 3, "prefill_count": count, "prefill_sum_ns": total - total // 3}
        said["server_started_at_ns"] = at_ns(begin) - (10**9 if number < 50 else 0)
        readings.append(reading(number, at=begin + timedelta(seconds=2 * number), **said))
        for _ in range(rng.randrange(3)):
            ttft_ns, sent = rng.randrange(20, 1500) * MS, begin + timedelta(seconds=2 * number, milliseconds=rng.randrange(2000))
            requests.append(
                request(1000 + len(requests), ttft_ns, [], at=sent, tcp_ns=5 * MS, tcp_min_rtt_ns=rng.choice([5 * MS, 40 * MS, None]))
            )
            count, total = count + rng.choice([0, 0, 1, 1, 2]), total + int(ttft_ns * rng.choice([0.2, 1, 1, 1, 3]))
    put(wh, *readings, *requests)
    with wh.cursor() as cursor:
        rows = cursor.execute("SELECT started_at, disagreement FROM serving_claims ORDER BY started_at").fetchall()
    waits = [wait for one in requests if (wait := wait_of(one)) is not None]
    expected = [next((one.kind for one in disagreements(readings[:1], waits)), None)]
    for before, after in pairwise(readings):
        found = [one.kind for one in disagreements([before, after], waits) if one.at_ns == after.started_at_ns]
        expected.append(next((kind for kind in found if kind != "absent"), "absent" if found else None))
    assert [row[1] for row in rows] == expected
    assert {"unaccounted", "overstated", "uncounted", "absent", None} == set(expected)
