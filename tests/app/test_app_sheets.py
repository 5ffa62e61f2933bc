"""Tables of one-shot measurements, from results made by hand: what each cell says, and what gives way where it is narrow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.hop_sheets import hop_sheet
from app.measure_views import VIEWS, bars
from app.sheet import BAD, WARN, Column, Sheet, echo, text_of
from app.state import State
from probes.model import RoundUnderWay, Target, TraceUnderWay, Vantage
from probes.oneshot import measure
from records.errors import NotPermitted
from records.measurement import Hop, InferenceResult, MplsLabel, PingResult, PingSample, ThroughputResult, TracerouteResult, path_hash

MS = 1_000_000
HEADER: dict[str, Any] = {"agent": "cli", "src": "here", "dst": "there", "medium": "internet", "started_at_ns": 0, "engine": "x/1"}


def path(*addresses: str | None, flow: int = 0, reached: bool = True, reply_ttl: int = 64, **other: Any) -> TracerouteResult:
    """Hop n answers after n ms; None is silent, asked twice."""
    hops = tuple(
        Hop(ttl=n, address=None, rtt_ns=None, probes=2)
        if address is None
        else Hop(ttl=n, address=address, rtt_ns=n * MS, replies=1, ts_source="kernel_txrx", reply_ttl=reply_ttl - n + 1)
        for n, address in enumerate(addresses, 1)
    )
    base = {**HEADER, "id": "a-1", "target": "t", "protocol": "icmp", "flow": flow, "hops": hops, "reached": reached}
    return TracerouteResult(**{**base, "path_hash": path_hash(addresses), **other})


def texts(sheet: Sheet) -> list[list[str]]:
    return [[text_of(cell) for cell in row] for row in sheet.rows]


def test_flows_stand_together_hop_by_hop() -> None:
    """Four flows, two routers at hop 2, one flow silent there: a row for each, the most frequent first, silence last; the number once."""
    sheet = hop_sheet("t", [path("a", "b", "t"), path("a", "b", "t", flow=1), path("a", None, "t", flow=2), path("a", "c", "t", flow=3)])
    assert [column.name for column in sheet.columns] == ["hop", "address", "RTT ms", "max ms", "flows", "answered", "back"]
    assert texts(sheet) == [
        ["1", "a", "1.000", "1.000", "4/4", "4/4", "1"],
        ["2", "b", "2.000", "2.000", "2/4", "2/2", "2"],
        ["", "c", "2.000", "2.000", "1/4", "1/1", "2"],
        ["", "(silent)", "-", "-", "1/4", "0/2", "-"],
        ["3", "t", "3.000", "3.000", "4/4", "4/4", "3"],
    ]
    assert sheet.title == "t: icmp, 4 flows, reached, 3 different paths"


def test_a_changed_path_a_longer_way_back_and_labels() -> None:
    """Two rounds: the change is told with hop and both addresses; a way back of another length is marked; labels have a column."""
    labels = tuple(MplsLabel(label=n, traffic_class=0, bottom=n == 24, ttl=1) for n in (16, 24))
    labelled = Hop(ttl=1, address="a", rtt_ns=MS, replies=1, reply_ttl=60, mpls=labels)
    first, second = path("a", "b", "t"), path("a", "x", "t", hops=(labelled, *path("a", "x", "t").hops[1:]))
    sheet = hop_sheet("t", [first, second])
    assert "the path of flow 0 changed at hop 2: b, then x" in sheet.notes
    assert sheet.columns[-1].name == "MPLS"
    assert sheet.rows[0][-1] == "16 24"
    assert sheet.rows[0][-2] == ("1 5", WARN)


def test_why_a_path_ends_is_said() -> None:
    """A router's unreachable, and a packet that never left; a path that just goes silent has no reason."""
    refused = Hop(ttl=2, address="r", rtt_ns=MS, replies=1, icmp_type=3, icmp_code=13)
    told = hop_sheet("t", [path("a", "r", hops=(path("a").hops[0], refused), reached=False)])
    assert "hop 2 (r) says that the target cannot be reached: ICMP type 3 code 13" in told.notes
    assert hop_sheet("t", [path(reached=False, error="ENETUNREACH")]).notes == ["not sent: ENETUNREACH"]
    assert hop_sheet("t", [path("a", None, None, reached=False)]).notes == ["back: hops of the way back, guessed from the answer's TTL"]


def test_a_running_trace_shows_what_is_known_only() -> None:
    """Nothing behind the last answer; a hop that has not answered yet is not called silent."""
    target = Target(site="there", address="t")
    running = [TraceUnderWay("t", 0, path("a", None, "c", None, None).hops, reached=False)]
    (sheet,) = VIEWS["traceroute"](State([target], running=running))
    assert [row[1] for row in texts(sheet)] == ["a", "...", "c"]
    assert sheet.title == "t: tracing"
    (sheet,) = VIEWS["traceroute"](State([target], running=running, is_over=True))
    assert sheet.title == "t: interrupted, the hops so far"


def samples(*rtts_ms: float | None) -> tuple[PingSample, ...]:
    return tuple(
        PingSample(sequence=n, outcome="timeout", sent_at_ns=n)
        if rtt is None
        else PingSample(sequence=n, outcome="reply", sent_at_ns=n, rtt_ns=round(rtt * MS), ts_source="kernel_txrx")
        for n, rtt in enumerate(rtts_ms)
    )


def test_ping_counts_the_packets_whose_fate_is_known() -> None:
    """One target at work (by its numeric address), one done, one that has not begun: counts, loss with its meaning, unknown as '-'."""
    named, done, new = (Target(site="there", address=address) for address in ("pop.example", "192.0.2.2", "192.0.2.3"))
    result = PingResult(**HEADER, id="a-1", target="192.0.2.2", method="icmp", timeout_ns=1, samples=samples(None, None))
    state = State(
        [named, done, new],
        results={done: [result]},
        running=[RoundUnderWay("198.51.100.7", samples(2.0, 4.0, None), lambda *_: result)],
        hosts={"pop.example": "198.51.100.7"},
    )
    (sheet,) = VIEWS["ping"](state)
    assert [row[:7] for row in texts(sheet)] == [
        ["pop.example", "3", "2", "33.3%", "lost", "2.000", "2.000"],
        ["192.0.2.2", "2", "0", "100.0%", "lost", "-", "-"],
        ["192.0.2.3", "0", "0", "-", "-", "-", "-"],
    ]
    assert [row[3] for row in sheet.rows][:2] == [("33.3%", WARN), ("100.0%", BAD)]


def test_bars_show_a_path_that_is_steady_as_steady() -> None:
    """A millionth more is no full bar; twice the RTT is; a lost packet is a cross; at most the last sixteen."""
    assert bars([1_000_000, 1_000_001]) == "▁▁"
    assert bars([4, None, 8]) == "▁×█"
    assert bars([None]) == "×"
    assert len(bars([1] * 40)) == 16


def test_a_failed_transfer_is_not_a_slow_one() -> None:
    """Up failed, down ran: the cell names it in red, the reason is below, the state counts; an estimate bears a tilde."""
    target = Target(site="there", address="t")
    base = {**HEADER, "target": "t", "tool": "builtin"}
    failed = {"transferred_bytes": 0, "duration_ns": 0, "throughput_bps": None, "stop_reason": "error", "error": "refused"}
    ran = {
        "transferred_bytes": 1,
        "duration_ns": 1,
        "throughput_bps": 12_340_000,
        "stop_reason": "time",
        "method": "bbr",
        "is_estimate": True,
    }
    up = ThroughputResult(**base, **failed, id="a-1", direction="up")
    down = ThroughputResult(**base, **ran, id="a-2", direction="down")
    (sheet,) = VIEWS["throughput"](State([target], count=2, results={target: [up, down]}, started_s={target: 0.0}, is_over=True))
    assert sheet.rows[0][1] == ("error", BAD)
    assert sheet.rows[0][2] == "~12.34"
    assert sheet.rows[0][-1] == ("1 of 2 failed", WARN)
    assert sheet.notes == ["t: up: refused"]


def test_tokens_a_second_are_of_the_time_after_the_first() -> None:
    """Two requests of 11 tokens in 100 and 300 ms after the first one, bunched: 20 tokens in 400 ms are 50 a second. One of three ended
    so far and no more to come: interrupted."""
    target = Target(site="there", address="t", inference_url="http://t/v1")
    base = {**HEADER, "target": "http://t/v1", "model": "m", "outcome": "ok", "connection": "cold", "output_tokens": 11}
    lines = [InferenceResult(**base, id=f"a-{ms}", ttft_ns=50 * MS, e2e_ns=(50 + ms) * MS, token_gaps_ns=(0,) * 10) for ms in (100, 300)]
    (sheet,) = VIEWS["inference"](State([target], count=3, results={target: lines}, started_s={target: 0.0}, is_over=True))
    assert texts(sheet)[0][2:4] == ["2/3", "50.000"]
    assert texts(sheet)[0][7:] == ["50.0", "interrupted"]


def test_columns_give_way_by_rank_and_rank_zero_never(capsys: pytest.CaptureFixture[str]) -> None:
    """Widths 6, 4 and 9 with gaps of two make 23 columns; one less and the last rank goes; in a file all stand."""
    sheet = Sheet((Column("target", is_number=False), Column("a", 1), Column("b", 2)), [["t", "1234", "123456789"]], notes=["said"])
    assert [sheet.fitting(width) for width in (23, 22, 12, 11, 3)] == [[0, 1, 2], [0, 1], [0, 1], [0], [0]]
    echo([sheet])
    assert capsys.readouterr().out == "target     a          b\nt       1234  123456789\n  said\n"


def test_what_one_target_raises_ends_the_others() -> None:
    """Targets that are measured together: an exception of one comes out, and nothing is left running."""

    class Probe:
        name = "ping"
        running = 0

        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def once(self, target: Target, vantage: Vantage) -> tuple[Any, ...]:
            if target.address == "192.0.2.2":
                raise NotPermitted("closed")
            self.running += 1
            try:
                await asyncio.sleep(60)
            finally:
                self.running -= 1
            return ()

    probe = Probe()

    async def work() -> None:
        targets = [Target(site="x", address=f"192.0.2.{n}") for n in (1, 2, 3)]
        async for _ in measure(probe, targets, Vantage(agent="a", site="here", boot="00"), together=True):
            pass

    with pytest.raises(NotPermitted, match="closed"):
        asyncio.run(work())
    assert probe.running == 0
