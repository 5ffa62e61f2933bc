"""A batch's bytes become rows and rejects: every line is one or the other, and no bytes make it fail otherwise."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import zlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse_builders import BOOT, NOW, at_ns, content, ping, reading, report, request, stamped, trace, transfer, visit

from records.batch import LINE_TYPES, BatchName, encode_line
from records.measurement import Hop
from warehouse.ingest import MAX_BATCH_LINES, MAX_LINE_BYTES, MAX_MEMBERS, TooLarge, Unreadable, decompress, parse

NAME = BatchName("sin-1", BOOT, 0)
PING = json.loads(encode_line(ping(1, [1000, None])))
FAR_HOP = Hop(ttl=1, address="10.0.0.1", rtt_ns=2 * 86_400 * 10**9, replies=1, ts_source="kernel_rx")


def _line(**changes: Any) -> bytes:
    """The good line PING with some fields changed; None removes one."""
    body = {key: value for key, value in {**PING, **changes}.items() if value is not None}
    return json.dumps(body).encode()


def _sample(**changes: Any) -> list[dict[str, Any]]:
    return [{**PING["samples"][0], **changes}]


BAD_LINES = {
    "no JSON": (b"{oops", "not_json"),
    "cut JSON": (content([ping(1, [1000])])[:-20], "not_json"),
    "no UTF-8": (b'{"v":1,"type":"ping","agent":"\xff\xfe"}', "not_json"),
    "raw NUL": (b'{"v":1,"type":"ping","agent":"a\x00"}', "not_json"),
    "two objects in one line": (_line() + _line(), "not_json"),
    "a list": (b"[1,2]", "not_an_object"),
    "a number": (b"17", "not_an_object"),
    "no version": (_line(v=None), "not_an_object"),
    "no type": (_line(type=None), "not_an_object"),
    "version 2": (_line(v=2), "unknown_version"),
    "a type of tomorrow": (_line(type="quic"), "unknown_type"),
    "a field missing": (_line(src=None), "bad_field"),
    "a number as text": (_line(timeout_ns="2000"), "bad_field"),
    "a medium that is none": (_line(medium="carrier-pigeon"), "bad_field"),
    "a lost packet with an RTT": (_line(samples=_sample(outcome="timeout")), "bad_field"),
    "a reply without an RTT": (_line(samples=[{"sequence": 0, "outcome": "reply", "sent_at_ns": 1}]), "bad_field"),
    "a negative RTT": (_line(samples=_sample(rtt_ns=-5)), "bad_field"),
    "no packets": (_line(samples=[]), "no_samples"),
    "another agent": (_line(agent="fra-1"), "wrong_agent"),
    "an RTT beyond 64 bits": (_line(samples=_sample(rtt_ns=2**63)), "out_of_range"),
    "a packet count beyond 64 bits": (_line(payload_bytes=10**30), "out_of_range"),
    "begun in eleven minutes": (_line(started_at_ns=at_ns(NOW) + 660 * 10**9), "from_the_future"),
    "sent in eleven minutes": (_line(samples=_sample(sent_at_ns=at_ns(NOW) + 660 * 10**9)), "from_the_future"),
    "begun beyond 64 bits": (_line(started_at_ns=10**30), "from_the_future"),
    "reported tomorrow": (content([report(NOW + timedelta(days=1))]).strip(), "from_the_future"),
    "traced tomorrow": (content([trace(4, at=NOW + timedelta(days=1))]).strip(), "from_the_future"),
    "a STAMP packet of tomorrow": (content([stamped(4, [1], at=NOW + timedelta(days=1))]).strip(), "from_the_future"),
    "begun 401 days ago": (_line(started_at_ns=at_ns(NOW) - 401 * 86_400 * 10**9), "too_old"),
    "sent before there was time": (_line(samples=_sample(sent_at_ns=0), started_at_ns=-(2**63)), "too_old"),
    "an RTT of two days": (_line(samples=_sample(rtt_ns=2 * 86_400 * 10**9)), "out_of_range"),
    "a first token after two days": (content([request(4, 2 * 86_400 * 10**9)]).strip(), "out_of_range"),
    "a hop two days away": (content([trace(4, hops=(FAR_HOP,))]).strip(), "out_of_range"),
    "an escaped NUL": (_line(target="a\0b"), "bad_text"),
    "nested without end": (b"[" * 100_000, "not_json"),
    "too long": (_line(target="x" * MAX_LINE_BYTES), "too_long"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_one_bad_line_costs_no_other(line: bytes, reason: str) -> None:
    """A bad line is rejected with its number and reason; the good ones around it are stored."""
    good = content([ping(2, [5000])])
    batch = parse(good + line + b"\n" + content([trace(3)]), NAME, received_at=NOW)
    assert [(reject.line_number, reject.reason) for reject in batch.rejects] == [(2, reason)]
    assert batch.counts == {"ping": 1, "traceroute": 1}
    assert batch.line_count == 3
    kept = batch.tables["reject"].to_pylist()[0]
    assert kept["detail"]
    assert len(kept["line"]) <= 4000
    assert kept["agent"] == "sin-1"
    assert "\0" not in kept["line"]


def test_more_lines_than_an_agent_sends_are_refused_at_once() -> None:
    """Two bytes can be a line, and a rejected one costs as much as a stored one: counted before they are taken apart."""
    for line in (b"1\n", b"\n"):
        with pytest.raises(TooLarge, match="at most 100000 are taken"):
            parse(line * (MAX_BATCH_LINES + 1), NAME, received_at=NOW)


def test_a_clock_that_is_a_little_ahead_costs_nothing() -> None:
    """Ten minutes are taken, and however long ago: an agent that was cut off for a year delivers what it kept."""
    ahead, old = NOW + timedelta(minutes=10), NOW - timedelta(days=365)
    lines = [_line(started_at_ns=at_ns(at), samples=_sample(sent_at_ns=at_ns(at))) for at in (ahead, old)]
    assert parse(b"\n".join(lines), NAME, received_at=NOW).counts == {"ping": 2}


def test_half_a_surrogate_pair_is_rejected_or_replaced() -> None:
    """Text that is no Unicode never reaches the database."""
    batch = parse(content([ping(2, [5000])]) + _line(target="X").replace(b"X", b"\\ud800"), NAME, received_at=NOW)
    assert batch.counts == {"ping": 1}
    assert [reject.line_number for reject in batch.rejects] == [2]


def test_unknown_fields_are_passed_over() -> None:
    """A field of tomorrow's agent does not cost today's collector the line."""
    batch = parse(_line(colour="blue"), NAME, received_at=NOW)
    assert batch.counts == {"ping": 1}


def test_a_backslash_before_u0000_is_text() -> None:
    """The six characters \\u0000 in a text are no NUL."""
    batch = parse(_line(target="a\\u0000b"), NAME, received_at=NOW)
    assert batch.counts == {"ping": 1}


def test_every_type_becomes_rows_that_hold_the_record() -> None:
    """What a row holds is what the record said, times in UTC and NULL for what is not known."""
    lines = [ping(1, [1000, None]), trace(2), transfer(3, 8_000_000), request(4, 9_000_000, [10, 20])]
    lines += [visit(5, 7_000, tls_resumed=False, address="192.0.2.7"), report(NOW, produced={"ping": 1})]
    lines += [stamped(6, [30_000, None], unverified=2)]
    lines += [reading(8, server_started_at_ns=at_ns(NOW)), request(7, 9_000_000, [], http_version="2", first_reasoning_ns=9_000_000)]
    batch = parse(content(lines), NAME, received_at=NOW)
    assert batch.rejects == ()
    assert set(batch.counts) == set(LINE_TYPES)
    assert batch.sites == {"sin"}
    rows = {name: table.to_pylist() for name, table in batch.tables.items()}
    first, second = rows["ping_sample"]
    assert (first["rtt_ns"], first["ts_source"], first["is_round_start"], first["outcome"]) == (1000, "kernel_txrx", True, "reply")
    assert (second["rtt_ns"], second["ts_source"], second["is_round_start"], second["outcome"]) == (None, None, False, "timeout")
    assert at_ns(second["sent_at"]) - at_ns(first["sent_at"]) == 10_000_000
    assert [hop["address"] for hop in rows["traceroute"][0]["hops"]] == ["10.0.0.1", None, "192.0.2.7"]
    assert [entry["label"] for entry in rows["traceroute"][0]["hops"][2]["mpls"]] == [16, 17]
    assert rows["throughput"][0]["throughput_bps"] == 8_000_000
    assert rows["inference"][0]["token_gaps_ns"] == [10, 20]
    assert (rows["inference"][1]["http_version"], rows["inference"][1]["first_reasoning_ns"]) == ("2", 9_000_000)
    assert (rows["inference"][1]["first_content_ns"], rows["inference"][1]["finish_reason"]) == (None, None)
    serving = rows["serving"][0]
    assert (serving["server"], serving["requests_waiting"], serving["kv_cache_ratio"]) == ("vllm", 3, 0.25)
    assert (serving["server_started_at"], serving["ttft_sum_ns"]) == (NOW, None)
    http = rows["http"][0]
    assert (http["tcp_rtt_ns"], http["tls_ns"], http["tls_resumed"], http["tls_verified"]) == (7_000, 14_000, False, True)
    assert (http["protocol"], http["address"], http["http_status"], http["error"]) == ("tls", "192.0.2.7", None, None)
    stamp = rows["stamp"][0]
    assert (stamp["sent_count"], stamp["reply_count"], stamp["forward_lost"], stamp["backward_lost"], stamp["unverified"]) == (
        2,
        1,
        0,
        1,
        2,
    )
    assert [(packet["outcome"], packet["forward_ns"]) for packet in stamp["samples"]] == [("reply", 10_000), ("timeout", None)]
    assert dict(rows["agent_status"][0]["produced"]) == {"ping": 1}
    assert rows["agent_status"][0]["clock_error_ns"] is None


def test_boot_of_a_row_is_that_of_its_measurement() -> None:
    """A measurement of the life before keeps its boot when a later life sends it."""
    batch = parse(content([ping(1, [1000])]), BatchName("sin-1", "feed", 7), received_at=NOW)
    row = batch.tables["ping_sample"].to_pylist()[0]
    assert (row["boot"], row["batch_boot"], row["batch_sequence"]) == (BOOT, "feed", 7)


@pytest.mark.parametrize("empty", [b"", b"\n\n", b"  \n\r\n"])
def test_an_empty_batch_is_unreadable(empty: bytes) -> None:
    """A batch without a line is no batch."""
    with pytest.raises(Unreadable, match="no line") as caught:
        parse(empty, NAME, received_at=NOW)
    assert caught.value.reason == "empty"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_lines_or_rejects(data: bytes) -> None:
    """Whatever comes, each line that is not blank is counted once, as stored or as rejected."""
    try:
        batch = parse(data, NAME, received_at=NOW)
    except Unreadable:
        assert not data.split()
        return
    assert batch.stored_count + len(batch.rejects) == batch.line_count


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(LINE_TYPES)), st.dictionaries(st.sampled_from([*sorted(PING), "hops", "at_ns", "produced"]), _JSON, max_size=6)
)
def test_any_field_may_hold_anything(kind: str, changes: dict[str, object]) -> None:
    """A line of the right shape with any JSON in any field is stored or rejected, and never an error."""
    line = json.dumps({**PING, **changes, "v": 1, "type": kind}).encode()
    batch = parse(line, NAME, received_at=NOW)
    assert batch.stored_count + len(batch.rejects) == 1


@settings(deadline=None)
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
def test_decompress_undoes_gzip(parts: list[bytes]) -> None:
    """One gzip member or several, as appended files have, give their contents joined."""
    assert decompress(b"".join(map(gzip.compress, parts))) == b"".join(parts)


def test_decompress_takes_as_many_members_as_joined_files_have() -> None:
    """A thousand are read; 16 MiB of empty ones, on which a reader was busy for minutes, are refused by their number."""
    one = gzip.compress(b"x", mtime=0)
    assert decompress(one * MAX_MEMBERS) == b"x" * MAX_MEMBERS
    # A member that ends within a piece, at the end of one and after several.
    parts = [random.Random(n).randbytes(n << 14) for n in (1, 4, 40)]
    assert decompress(b"".join(map(gzip.compress, parts))) == b"".join(parts)
    with pytest.raises(Unreadable, match="more than 1000 gzip members; pack the batch as one") as refused:
        decompress(gzip.compress(b"", mtime=0) * ((16 << 20) // 20))
    assert refused.value.reason == "too_many_members"


def test_decompress_stops_at_its_limit() -> None:
    """A megabyte of zeros in a kilobyte of gzip is refused before it is unpacked; exactly the limit is taken."""
    bomb = gzip.compress(bytes(1 << 20))
    with pytest.raises(TooLarge, match="larger than 1000 bytes"):
        decompress(bomb, limit_bytes=1000)
    assert len(decompress(bomb, limit_bytes=1 << 20)) == 1 << 20
    with pytest.raises(TooLarge):
        decompress(gzip.compress(bytes(600)) * 2, limit_bytes=1000)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"hello", "not_gzip"),
        (zlib.compress(b"zlib, not gzip"), "not_gzip"),
        (gzip.compress(bytes(5000))[:-3], "cut_off"),
        (gzip.compress(b"a")[:-8] + bytes(8), "not_gzip"),
        (gzip.compress(b"a") + b"rest", "not_gzip"),
    ],
    ids=["text", "zlib", "cut off", "wrong checksum", "something after it"],
)
def test_broken_gzip_is_unreadable(body: bytes, reason: str) -> None:
    """Each way to be no gzip has its reason."""
    with pytest.raises(Unreadable) as caught:
        decompress(body)
    assert caught.value.reason == reason


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_decompress_or_are_unreadable(data: bytes) -> None:
    """Decompressing anything raises nothing else."""
    with contextlib.suppress(Unreadable):
        decompress(data)
