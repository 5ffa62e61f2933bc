"""Questions to the warehouse, answered as the vocabulary's own Python would answer them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouse_builders import BOOT, NOW, SECOND, as_objects, at_ns, batch, ping, put, report, request, stamped, trace, transfer, visit

from records.errors import UserError
from records.histogram import Histogram
from records.link import MEDIA, LinkEstimate
from records.measurement import PingResult, PingSample
from records.place import Site
from records.statistics import percentile_ns
from warehouse import Warehouse, queries
from warehouse.columns import tables
from warehouse.store import insert

pytestmark = pytest.mark.usefixtures("all_cores")

HOUR = timedelta(hours=1)


def _links(wh: Warehouse, window: timedelta | None = None) -> dict[tuple[str, str, str], LinkEstimate]:
    return {link.key: link for link in queries.link_estimates(wh, now=NOW, window=window)}


def _import(wh: Warehouse, *rows: tuple[object, ...], received_at: datetime = NOW) -> None:
    """Rows of (src, dst, rtt_ns, min_ns, p50_ns, measured_at) as one import."""
    full = [
        (src, dst, "internet", rtt, least, p50, None, None, None, at, "m.csv", line, "sha", received_at)
        for line, (src, dst, rtt, least, p50, at) in enumerate(rows, 2)
    ]
    with wh.transaction() as cursor:
        insert(cursor, "rtt_matrix", tables({"rtt_matrix": full})["rtt_matrix"])


def test_link_estimates_of_nothing(wh: Warehouse) -> None:
    """An empty warehouse has no links, no range, and counts of zero."""
    assert queries.link_estimates(wh, now=NOW) == []
    assert queries.time_range(wh) is None
    assert set(queries.measurement_counts(wh).values()) == {0}
    assert queries.sites(wh) == []
    assert queries.latest_paths(wh, "sin", "fra") == []


def test_link_estimates_equal_pythons(wh: Warehouse) -> None:
    """Least, quantiles, loss, count, age and histogram are those of the samples, worked out in Python."""
    rng = random.Random(7)
    truth: dict[tuple[str, str, str], list[int | None]] = {}
    lines = []
    for n in range(120):
        dst, medium = rng.choice(["fra", "iad"]), rng.choice(["internet", "backbone"])
        rtts = [None if rng.random() < 0.2 else int(rng.lognormvariate(17, 1)) for _ in range(rng.randint(1, 9))]
        truth.setdefault(("sin", dst, medium), []).extend(rtts)
        lines.append(ping(n, rtts, at=NOW - timedelta(seconds=300 - n), dst=dst, medium=medium))
    put(wh, *lines)
    links = _links(wh)
    assert links.keys() == truth.keys()
    for key, all_rtts in truth.items():
        link, rtts = links[key], [rtt for rtt in all_rtts if rtt is not None]
        assert link.histogram == Histogram.of(rtts)
        assert link.rtt_min_ns == min(rtts)
        assert (link.rtt_p50_ns, link.rtt_p95_ns, link.rtt_p99_ns) == tuple(percentile_ns(rtts, q) for q in (0.5, 0.95, 0.99))
        assert link.loss_ratio == pytest.approx(1 - len(rtts) / len(all_rtts))
        assert link.sample_count == len(rtts)
        newest = max(s.sent_at_ns for line in lines if (line.src, line.dst, line.medium) == key for s in line.samples)
        assert link.age_s == pytest.approx((at_ns(NOW) - newest) / 1e9)
        assert (link.evidence, link.gate, link.fibre_floor_ns, link.inflation) == ("measured", "ok", None, None)
    assert [link.key for link in queries.link_estimates(wh, now=NOW)] == sorted(truth)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rtts=st.lists(st.integers(0, 10**12), min_size=1, max_size=60), q=st.sampled_from([0.05, 0.25, 0.5, 0.75, 0.95]))
def test_sql_quantiles_are_nearest_rank(shared: Warehouse, rtts: list[int], q: float) -> None:
    """DuckDB's quantile_disc is the nearest rank of records.statistics."""
    with shared.cursor() as cursor:
        row = cursor.execute(f"FROM (SELECT unnest($v::BIGINT[]) AS v) SELECT quantile_disc(v, {q})", {"v": rtts}).fetchone()
    assert row == (percentile_ns(rtts, q),)


def test_a_dead_link_is_a_loss_and_not_zero(wh: Warehouse) -> None:
    """All packets lost: loss 1, no RTT at all, and a histogram without values."""
    put(wh, ping(1, [None, None, None]))
    link = _links(wh)["sin", "fra", "internet"]
    assert (link.rtt_min_ns, link.rtt_p50_ns, link.rtt_p99_ns, link.loss_ratio, link.sample_count) == (None, None, None, 1.0, 0)
    assert link.histogram == Histogram()


def test_a_packet_that_never_left_is_no_loss(wh: Warehouse) -> None:
    """send_failed counts neither as sent nor as lost; with nothing sent, the loss is unknown."""
    failed = PingSample(sequence=0, outcome="send_failed", sent_at_ns=at_ns(NOW - HOUR), error="ENETUNREACH")
    answered = PingSample(sequence=1, outcome="reply", sent_at_ns=at_ns(NOW - HOUR), rtt_ns=5, ts_source="user")
    put(wh, ping(1, [], samples=(failed, answered)), ping(2, [], dst="iad", samples=(failed,)))
    links = _links(wh)
    assert links["sin", "fra", "internet"].loss_ratio == 0.0
    assert links["sin", "iad", "internet"].loss_ratio is None


def test_the_window_is_half_open_at_its_start(wh: Warehouse) -> None:
    """(now - window, now]: what is older or later is left out."""
    put(
        wh,
        ping(1, [1000], at=NOW - HOUR),
        ping(2, [2000], at=NOW - HOUR + timedelta(microseconds=1)),
        ping(3, [3000], at=NOW),
        ping(4, [4000], at=NOW + timedelta(microseconds=1)),
    )
    link = _links(wh, HOUR)["sin", "fra", "internet"]
    assert link.histogram == Histogram.of([2000, 3000])
    everything = _links(wh)["sin", "fra", "internet"]
    assert everything.sample_count == 3


def test_a_degraded_agents_packets_do_not_count_beside_good_ones(wh: Warehouse) -> None:
    """A report speaks of the time since the one before it; a link with degraded packets only is ungraded."""
    t = [NOW - timedelta(minutes=m) for m in (50, 40, 30, 20, 10)]
    put(wh, report(t[0]), report(t[2], grade="degraded"), report(t[4]))
    put(wh, ping(1, [1000], at=t[0]), ping(2, [9000], at=t[1]), ping(3, [9000], at=t[2]), ping(4, [2000], at=t[3]))
    put(wh, ping(5, [7000], at=t[1], dst="iad"))
    links = _links(wh)
    assert links["sin", "fra", "internet"].histogram == Histogram.of([1000, 2000])
    assert links["sin", "fra", "internet"].gate == "ok"
    assert links["sin", "iad", "internet"].gate == "ungraded"
    assert links["sin", "iad", "internet"].rtt_p50_ns == 7000
    with wh.cursor() as cursor:
        valid = cursor.execute("SELECT list(measurement_id ORDER BY measurement_id) FROM valid_ping").fetchone()
    assert valid == ([f"{BOOT}-1", f"{BOOT}-4"],)


def test_an_agent_keeps_its_last_grade(wh: Warehouse) -> None:
    """After its last report an agent that was degraded stays so; another boot begins anew."""
    put(wh, report(NOW - HOUR, grade="degraded"))
    put(wh, ping(1, [1000], at=NOW - timedelta(minutes=1)), ping(2, [1000], id="feed-2", dst="iad"))
    links = _links(wh)
    assert links["sin", "fra", "internet"].gate == "ungraded"
    assert links["sin", "iad", "internet"].gate == "ok"


def test_throughput_belongs_to_the_direction_the_bytes_flow(wh: Warehouse) -> None:
    """The median of the tests that ran; down is dst to src; failed tests do not pull it to zero."""
    put(wh, ping(1, [1000]), ping(2, [1000], src="fra", dst="sin"))
    rates = [(10, "up"), (30, "up"), (20, "up"), (7, "down"), (None, "up")]
    put(wh, *[transfer(10 + n, bps, direction=direction) for n, (bps, direction) in enumerate(rates)])
    links = _links(wh)
    assert links["sin", "fra", "internet"].throughput_bps == 20
    assert links["fra", "sin", "internet"].throughput_bps == 7


def test_imports_are_estimates_until_there_are_samples(wh: Warehouse) -> None:
    """A matrix gives what it has, without samples and without an age; the median wins over the mean; samples win over all."""
    dated = NOW - timedelta(days=2)
    _import(wh, ("sin", "fra", 5_000, None, None, None), ("sin", "iad", 9_000, 7_000, 8_000, dated))
    links = _links(wh, HOUR)
    one, other = links["sin", "fra", "internet"], links["sin", "iad", "internet"]
    assert (one.rtt_min_ns, one.rtt_p50_ns, one.rtt_p95_ns, one.age_s, one.sample_count, one.histogram) == (
        None,
        5_000,
        None,
        None,
        None,
        None,
    )
    assert (other.rtt_min_ns, other.rtt_p50_ns, other.age_s) == (7_000, 8_000, 2 * 86400.0)
    put(wh, ping(1, [1_000]))
    assert _links(wh, HOUR)["sin", "fra", "internet"].rtt_p50_ns == 1_000


def test_columns_of_links_say_what_the_estimates_say(wh: Warehouse) -> None:
    """Imports, pings answered and not, hand-shakes, rates and a degraded agent: each link by column is its estimate."""
    dated = NOW - timedelta(days=2, microseconds=1)
    _import(
        wh, ("sin", "fra", 5_000, None, None, None), ("sin", "iad", 9_000, 7_000, 8_000, dated), ("per", "sin", None, 3_000, None, None)
    )
    assert as_objects(wh) == queries.link_estimates(wh, now=NOW)
    put(wh, ping(1, [1_000, None, 3_000]), ping(2, [None, None], dst="iad"), ping(3, [None], dst="syd"), ping(4, [7], medium="backbone"))
    put(wh, visit(5, 4_000_000, dst="nrt"), visit(6, 5_000_000, dst="syd"), visit(7, None, dst="gru"), visit(8, 6_000_000, dst="fra"))
    put(wh, transfer(9, 7))
    put(wh, report(NOW - timedelta(minutes=10), grade="degraded", agent="sin-2"))
    put(wh, ping(10, [9_000], at=NOW - timedelta(minutes=11), dst="cpt", agent="sin-2"))
    for window in (None, HOUR):
        truth = queries.link_estimates(wh, now=NOW, window=window)
        assert as_objects(wh, window=window) == truth
        assert {link.rtt_from for link in truth} == {"ping", "tcp", "import"}
        assert any(link.throughput_bps for link in truth)
        assert any(link.gate == "ungraded" for link in truth)


def test_columns_of_imports_say_what_the_view_says(wh: Warehouse) -> None:
    """Links imported once, several times, and in rows of which each gives something else, in no order: each as view imported_links."""
    rng = random.Random(5)
    places = ["sin", "fra", "aws:us-east-1", "per", "cpt"]

    def given(low: float, high: float) -> float | None:
        return None if rng.random() < 0.3 else rng.uniform(low, high)

    for late in range(3):
        rows = []
        for line in range(120):
            src, dst = rng.sample(places, 2)
            values = [None if value is None else int(value) for value in (given(1, 50), given(1, 50), given(1, 50), given(1, 50))]
            at = None if rng.random() < 0.5 else NOW - timedelta(seconds=rng.randrange(10**6))
            loss, received = given(0, 1), NOW - HOUR + timedelta(minutes=late)
            rows.append((src, dst, rng.choice(MEDIA), *values, None, loss, at, "m.csv", line, "sha", received))
        with wh.transaction() as cursor:
            insert(cursor, "rtt_matrix", tables({"rtt_matrix": rows})["rtt_matrix"])
        assert as_objects(wh) == queries.link_estimates(wh, now=NOW)


def test_of_several_imports_the_newest_wins_link_by_link(wh: Warehouse) -> None:
    """Rows of one import for one link make the median of their medians and the least of their leasts."""
    _import(wh, ("sin", "fra", 1_000, 900, None, None), ("sin", "iad", 2_000, None, None, None), received_at=NOW - HOUR)
    _import(
        wh, ("sin", "fra", 5_000, 4_000, None, None), ("sin", "fra", 9_000, 3_000, 7_000, None), ("sin", "fra", 6_000, None, None, None)
    )
    links = _links(wh)
    assert (links["sin", "fra", "internet"].rtt_p50_ns, links["sin", "fra", "internet"].rtt_min_ns) == (6_000, 3_000)
    assert links["sin", "iad", "internet"].rtt_p50_ns == 2_000


def test_hand_shakes_stand_in_where_no_packet_was_answered(wh: Warehouse) -> None:
    """Three kinds of evidence for one link each: pings win while any is answered, then TCP, then the import; never a mixture."""
    _import(wh, *(("sin", dst, 99, None, 99, None) for dst in ("fra", "iad", "nrt", "syd")))
    put(wh, *(visit(n, rtt, dst=dst) for n, (dst, rtt) in enumerate([("fra", 40), ("iad", 50), ("iad", 30), ("iad", 70), ("nrt", None)])))
    put(wh, ping(7, [10, 20], dst="fra"), ping(8, [None] * 4, dst="iad"))
    links = {link.dst: link for link in queries.link_estimates(wh, now=NOW)}
    assert as_objects(wh) == list(links.values())
    assert {dst: link.rtt_from for dst, link in links.items()} == {"fra": "ping", "iad": "tcp", "nrt": "import", "syd": "import"}
    assert (links["fra"].rtt_min_ns, links["fra"].sample_count) == (10, 2)
    iad = links["iad"]
    assert (iad.rtt_min_ns, iad.rtt_p50_ns, iad.rtt_p99_ns, iad.sample_count, iad.loss_ratio) == (30, 50, 70, 3, None)
    assert iad.histogram == Histogram.of([30, 50, 70])


def test_http_links_count_what_failed(wh: Warehouse) -> None:
    """The view has tries, failures, RTT and both hand-shakes apart, of the newest day."""
    put(wh, visit(1, 4_000_000, dns_ns=1_000_000), visit(2, 6_000_000, tls_resumed=True), visit(3, None))
    put(wh, visit(4, 1, at=NOW - timedelta(hours=30)))
    with wh.cursor() as cursor:
        rows = cursor.execute(
            "SELECT tried_count, failed_count, rtt_min_ms, rtt_p95_ms, dns_p50_ms, tls_full_p50_ms, tls_resumed_p50_ms FROM http_links"
        ).fetchall()
    assert rows == [(3, 1, 4.0, 6.0, 1.0, 8.0, 12.0)]


def test_ping_series_has_every_bucket(wh: Warehouse) -> None:
    """Buckets of [start, end) hold what was sent in them; empty ones are there with NULL and not with zero ms."""
    start = NOW - timedelta(minutes=10)
    inside = [(0, [1_000_000, 3_000_000, None]), (61, [2_000_000]), (599, [4_000_000])]
    put(wh, *[ping(n, rtts, at=start + timedelta(seconds=s)) for n, (s, rtts) in enumerate(inside)])
    put(
        wh,
        ping(50, [9_000_000], at=start - timedelta(seconds=1)),
        ping(51, [9_000_000], at=NOW),
        ping(52, [9], at=start, medium="backbone"),
    )
    rows = queries.ping_series(wh, "sin", "fra", "internet", start=start, end=NOW, bucket_count=10).to_pylist()
    assert [row["bucket_at"] for row in rows] == [start + timedelta(minutes=n) for n in range(10)]
    assert [(row["sent"], row["lost"]) for row in rows] == [(3, 1), (1, 0), *[(0, 0)] * 7, (1, 0)]
    assert (rows[0]["min_ms"], rows[0]["p5_ms"], rows[0]["p50_ms"], rows[0]["p95_ms"], rows[0]["max_ms"]) == (1.0, 1.0, 1.0, 3.0, 3.0)
    assert rows[9]["max_ms"] == 4.0
    assert {rows[5][name] for name in ("min_ms", "p5_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms", "max_ms")} == {None}


@settings(deadline=None, max_examples=20)
@given(width_s=st.integers(1, 10**6), count=st.integers(1, 1500))
def test_ping_series_has_as_many_buckets_as_asked_for(shared: Warehouse, width_s: int, count: int) -> None:
    """Any window in any number of buckets: that many, in order, from the start on."""
    start = NOW - timedelta(seconds=width_s)
    table = queries.ping_series(shared, "a", "b", "internet", start=start, end=NOW, bucket_count=count)
    times = table["bucket_at"].to_pylist()
    assert len(times) == count
    assert times[0] == start
    assert times == sorted(times)
    assert times[-1] < NOW


def test_ping_series_refuses_windows_without_sense(wh: Warehouse) -> None:
    """An end before the start, and a time without a zone, are the caller's mistakes."""
    with pytest.raises(UserError, match="end must be after start"):
        queries.ping_series(wh, "a", "b", "internet", start=NOW, end=NOW)
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(UserError, match="no time zone"):
        queries.ping_series(wh, "a", "b", "internet", start=naive, end=naive + HOUR)


def test_a_question_with_odd_text_finds_nothing(wh: Warehouse) -> None:
    """Site names from an address bar are data: quotes find nothing, a NUL is refused."""
    put(wh, ping(1, [1]))
    assert queries.latest_paths(wh, "'; DROP TABLE site; --", "fra") == []
    with pytest.raises(UserError, match="NUL"):
        queries.latest_paths(wh, "a\0b", "fra")


def test_latest_paths_give_back_the_record(wh: Warehouse) -> None:
    """The newest trace of each flow comes back as the very record that was sent."""
    old, new = trace(1, at=NOW - HOUR), trace(2, path_hash="cd34")
    other_flow, other_medium = trace(3, flow=1), trace(4, medium="backbone")
    put(wh, old, new, other_flow, other_medium, trace(5, dst="iad"))
    assert queries.latest_paths(wh, "sin", "fra", "internet") == [new, other_flow]
    assert queries.latest_paths(wh, "sin", "fra") == [other_medium, new, other_flow]
    history = queries.path_history(wh, "sin", "fra", "internet", NOW - 2 * HOUR, NOW).to_pylist()
    assert [(row["flow"], row["path_hash"], row["hop_count"], row["reached"]) for row in history] == [
        (0, "ab12", 3, True),
        (0, "cd34", 3, True),
        (1, "ab12", 3, True),
    ]


def test_inference_by_serving_site(wh: Warehouse) -> None:
    """TTFT over answered requests, TPOT as the mean gap of each, errors counted; no answer is no zero."""
    put(
        wh,
        request(1, 10_000_000, [1_000_000, 3_000_000], tcp_rtt_ns=5_000_000),
        request(2, 30_000_000, [4_000_000]),
        request(3, None),
        request(4, 20_000_000),
        request(5, None, dst="iad"),
    )
    fra, iad = queries.inference_latest(wh, now=NOW, window=HOUR).to_pylist()
    assert (fra["count"], fra["errors"], fra["ttft_p50_ms"], fra["ttft_p95_ms"]) == (4, 1, 20.0, 30.0)
    assert (fra["tpot_p50_ms"], fra["tcp_rtt_p50_ms"]) == (2.0, 5.0)
    assert (iad["count"], iad["errors"], iad["ttft_p50_ms"], iad["tpot_p50_ms"], iad["tcp_rtt_p50_ms"]) == (1, 1, None, None, None)
    series = queries.inference_series(wh, "sin", "fra", "internet", start=NOW - HOUR, end=NOW).to_pylist()
    assert sorted((row["ttft_ms"] or 0, row["tpot_ms"]) for row in series) == [(0, None), (10.0, 2.0), (20.0, None), (30.0, 4.0)]


def test_estimates_stand_in_only_where_there_is_no_full_test(wh: Warehouse) -> None:
    """A link's throughput is the median of its full TCP tests; estimates speak where there is none, a UDP test never does."""
    estimate = {"is_estimate": True, "method": "bbr"}
    put(wh, transfer(1, 10), transfer(2, 30, **estimate), transfer(3, 50, protocol="udp"))
    put(wh, transfer(4, 70, dst="iad", **estimate), transfer(5, 80, dst="iad", **estimate), transfer(6, 5, dst="iad", protocol="udp"))
    put(wh, transfer(7, None, dst="nrt", stop_reason="skipped"), ping(8, [1]), ping(9, [1], dst="iad"), ping(10, [1], dst="nrt"))
    links = _links(wh)
    assert [links["sin", dst, "internet"].throughput_bps for dst in ("fra", "iad", "nrt")] == [10, 75, None]
    with wh.cursor() as cursor:
        marks = cursor.execute("SELECT throughput_bps FROM valid_throughput WHERE is_estimate ORDER BY ALL").fetchall()
    assert marks == [(30,), (70,), (80,)]


def test_stamp_by_direction(wh: Warehouse) -> None:
    """A link by STAMP: losses add up by direction where rounds tell it, delays are those of the packets, old rounds are left out."""
    put(
        wh,
        stamped(1, [30_000_000, None, 36_000_000]),
        stamped(2, [None, 33_000_000], forward_lost=None, backward_lost=None, undirected_lost=1),
    )
    put(wh, stamped(3, [1_000_000], at=NOW - timedelta(hours=30)))
    with wh.cursor() as cursor:
        link = cursor.execute("""
            SELECT rtt_min_ms, rtt_p50_ms, forward_p50_ms, backward_p50_ms, clock_error_ms, sent_count, reply_count,
                forward_lost, backward_lost, undirected_lost FROM stamp_links""").fetchall()
        packets = cursor.execute(
            "SELECT measurement_id, sequence, outcome, rtt_ns FROM stamp_packets ORDER BY started_at, measurement_id, sequence"
        ).fetchall()
    assert link == [(30.0, 33.0, 11.0, 22.0, 0.1, 5, 3, 0, 1, 1)]
    assert packets[0] == (f"{BOOT}-3", 0, "reply", 1_000_000)
    assert [packet[1:] for packet in packets[1:4]] == [(0, "reply", 30_000_000), (1, "timeout", None), (2, "reply", 36_000_000)]


def test_throughput_series(wh: Warehouse) -> None:
    """Every test of a link is there, the failed ones with their error and no rate."""
    put(wh, transfer(1, 8_000_000, at=NOW - HOUR), transfer(2, None))
    rows = queries.throughput_series(wh, "sin", "fra", "internet", start=NOW - 2 * HOUR, end=NOW).to_pylist()
    assert [(row["throughput_bps"], row["error"], row["duration_s"]) for row in rows] == [
        (8_000_000, None, 1.0),
        (None, "connection refused", 1.0),
    ]


def test_agents_by_their_newest_report(wh: Warehouse) -> None:
    """One row an agent, with its age; what it does not know is NULL."""
    put(wh, report(NOW - HOUR), report(NOW - timedelta(seconds=30), grade="degraded", spool_bytes=77, loop_lag_p99_ns=2_000_000))
    put(wh, report(NOW - HOUR, agent="fra-1", site="fra"))
    fra, sin = queries.agents(wh, NOW).to_pylist()
    assert (fra["agent"], fra["site"], fra["grade"], fra["age_s"], fra["clock_error_ms"]) == ("fra-1", "fra", "ok", 3600.0, None)
    assert (sin["grade"], sin["reasons"], sin["age_s"], sin["spool_bytes"], sin["loop_lag_p99_ms"]) == (
        "degraded",
        ["loop lag 900 ms"],
        30.0,
        77,
        2.0,
    )


def test_delivery_holds_what_was_produced_against_what_is_here(wh: Warehouse) -> None:
    """By agent, boot and probe type: produced from the newest report, stored from the rows; a type without rows is there."""
    put(wh, report(NOW - HOUR, produced={"ping": 1}), report(NOW, produced={"ping": 3, "traceroute": 1}))
    put(wh, ping(1, [1, 2, 3]), ping(2, [None]), ping(9, [1], id="feed-9"))
    rows = {(r["boot"], r["probe_type"]): (r["produced"], r["stored"], r["duplicated"]) for r in queries.delivery(wh).to_pylist()}
    assert rows == {(BOOT, "ping"): (3, 2, 0), (BOOT, "traceroute"): (1, 0, 0), ("feed", "ping"): (None, 1, 0)}


def test_sites_are_put_once_and_changed_when_they_change(wh: Warehouse) -> None:
    """Putting the same sites again is no commit; a new description replaces the old one."""
    sin = Site(id="sin", kind="pop", name="Singapore", lat=1.35, lon=103.8, country="SG")
    iad = Site(id="aws:us-east-1", kind="region", name="N. Virginia", lat=39, lon=-77, provider="aws")
    queries.put_sites(wh, [sin, iad, sin])
    before = wh.snapshot_id()
    queries.put_sites(wh, [iad, sin])
    assert wh.snapshot_id() == before
    moved = Site(id="sin", kind="pop", name="Singapore 2", lat=1.3, lon=103.9)
    queries.put_sites(wh, [moved])
    assert queries.sites(wh) == [iad, moved]


def test_people_views(wh: Warehouse) -> None:
    """links, latest_ping, paths and hops say the same as the functions."""
    sites = [Site(id=name, kind="pop", name=name, lat=lat, lon=lon) for name, lat, lon in (("sin", 1.35, 103.8), ("fra", 50.1, 8.7))]
    queries.put_sites(wh, sites)
    put(wh, ping(1, [1_000_000, None], at=NOW - HOUR), ping(2, [160_000_000, 170_000_000]), trace(3))
    with wh.cursor() as cursor:
        link = cursor.execute("SELECT rtt_min_ms, rtt_p50_ms, loss_ratio, sent_count, is_faster_than_light FROM links").fetchall()
        ping_row = cursor.execute("SELECT rtt_min_ms, rtt_max_ms, sent_count, reply_count FROM latest_ping").fetchall()
        path = cursor.execute("SELECT addresses, hop_count, last_hop_rtt_ms FROM paths").fetchall()
        hops = cursor.execute("SELECT ttl, address, rtt_ms FROM hops ORDER BY ttl").fetchall()
    assert link == [(1.0, 160.0, 0.25, 4, True)]
    assert ping_row == [(160.0, 170.0, 2, 2)]
    assert path == [(["10.0.0.1", "*", "192.0.2.7"], 3, 9.0)]
    assert hops == [(1, "10.0.0.1", 1.0), (2, None, None), (3, "192.0.2.7", 9.0)]


def test_rounds_are_counted_once_however_many_packets_they_have(wh: Warehouse) -> None:
    """A ping round is one measurement."""
    put(wh, ping(1, [1] * 5), ping(2, [None] * 3), trace(3), request(4, 5))
    assert queries.measurement_counts(wh) == {
        "ping": 2,
        "traceroute": 1,
        "throughput": 0,
        "inference": 1,
        "http": 0,
        "stamp": 0,
        "serving": 0,
        "rtt_matrix": 0,
    }
    assert queries.time_range(wh) == (NOW - timedelta(minutes=1), NOW - timedelta(minutes=1) + timedelta(milliseconds=40))


def test_times_before_1970_and_now_are_no_trouble(wh: Warehouse) -> None:
    """Two clocks that say 1969 are stored as they say."""
    put(wh, ping(1, [5], at=datetime(1969, 7, 20, tzinfo=UTC)), received_at=datetime(1969, 7, 21, tzinfo=UTC))
    assert queries.time_range(wh) == (datetime(1969, 7, 20, tzinfo=UTC),) * 2


def test_the_records_of_the_tests_are_those_of_the_wire() -> None:
    """A batch of the builders parses without a reject, so that the tests above test what agents send."""
    made = batch([ping(1, [1, None]), trace(2), transfer(3, 1), transfer(4, None), request(5, 1, [1]), request(6, None)])
    made_too = batch([visit(7, 1), visit(8, None), report(NOW)])
    assert made.rejects == made_too.rejects == ()
    assert isinstance(ping(1, [SECOND]), PingResult)
