"""What cannot be true cannot be written down; what can be is carried over the wire unchanged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.batch import LINE_TYPES, SCHEMA_VERSION, encode_line, type_of
from records.claims import ServingResult
from records.measurement import (
    AgentStatus,
    Hop,
    HttpResult,
    InferenceResult,
    PingResult,
    PingSample,
    ThroughputResult,
    TracerouteResult,
    path_hash,
)
from records.ping import answered

HEADER = {
    "id": "b-1",
    "agent": "sin",
    "src": "sin",
    "dst": "aws:us-east-1",
    "medium": "internet",
    "target": "192.0.2.1",
    "started_at_ns": 1,
    "engine": "test/1",
}


def test_a_lost_packet_has_no_rtt() -> None:
    """An RTT with a time-out, or a reply without one, is refused at construction."""
    with pytest.raises(ValueError, match="a reply has an RTT and nothing else has one"):
        PingSample(sequence=0, outcome="timeout", sent_at_ns=1, rtt_ns=0, ts_source="user")
    with pytest.raises(ValueError, match="a reply has an RTT"):
        PingSample(sequence=0, outcome="reply", sent_at_ns=1)


def test_an_rtt_says_how_it_was_timed_and_is_never_negative() -> None:
    """A number without its clock, or a clock that went backwards, is refused."""
    with pytest.raises(ValueError, match="ts_source"):
        PingSample(sequence=0, outcome="reply", sent_at_ns=1, rtt_ns=5)
    with pytest.raises(ValueError, match="negative"):
        PingSample(sequence=0, outcome="reply", sent_at_ns=1, rtt_ns=-5, ts_source="user")


def test_a_silent_hop_has_neither_address_nor_rtt() -> None:
    """A hop answers with both or is silent."""
    assert Hop(ttl=3, address=None, rtt_ns=None).address is None
    with pytest.raises(ValueError, match="silent hop"):
        Hop(ttl=3, address=None, rtt_ns=5)


def test_a_failed_transfer_has_no_throughput() -> None:
    """A test that failed achieved nothing known, not 0 bit/s."""
    with pytest.raises(ValueError, match="no throughput"):
        ThroughputResult(
            **HEADER,
            tool="builtin",
            direction="up",
            transferred_bytes=0,
            duration_ns=1,
            throughput_bps=0,
            stop_reason="error",
            error="refused",
        )


def test_an_answered_request_has_a_ttft_and_a_failed_one_says_why() -> None:
    """Outcome, TTFT and error agree."""
    with pytest.raises(ValueError, match="time to first token"):
        InferenceResult(**HEADER, model="m", outcome="ok", connection="cold")
    with pytest.raises(ValueError, match="error that says why"):
        InferenceResult(**HEADER, model="m", outcome="timeout", connection="cold")


times = st.integers(0, 2**62)
samples = st.one_of(
    st.builds(
        lambda n, at, rtt: PingSample(sequence=n, outcome="reply", sent_at_ns=at, rtt_ns=rtt, ts_source="kernel_txrx"),
        st.integers(0, 99),
        times,
        times,
    ),
    st.builds(lambda n, at: PingSample(sequence=n, outcome="timeout", sent_at_ns=at), st.integers(0, 99), times),
)
hops = st.one_of(
    st.builds(lambda t: Hop(ttl=t, address=None, rtt_ns=None), st.integers(1, 64)),
    st.builds(lambda t, r: Hop(ttl=t, address="198.51.100.7", rtt_ns=r, replies=1), st.integers(1, 64), times),
)
lines = st.one_of(
    st.builds(lambda s: PingResult(**HEADER, method="icmp", timeout_ns=10**9, samples=tuple(s)), st.lists(samples, max_size=5)),
    st.builds(
        lambda h, r: TracerouteResult(**HEADER, protocol="icmp", flow=0, hops=tuple(h), reached=r, path_hash="x"),
        st.lists(hops, max_size=5),
        st.booleans(),
    ),
    st.builds(
        lambda b: ThroughputResult(
            **HEADER, tool="iperf3", direction="down", transferred_bytes=b, duration_ns=10**9, throughput_bps=b * 8, stop_reason="time"
        ),
        st.integers(0, 2**50),
    ),
    st.builds(
        lambda t, g: InferenceResult(**HEADER, model="m", outcome="ok", connection="cold", ttft_ns=t, token_gaps_ns=tuple(g)),
        times,
        st.lists(times),
    ),
    st.builds(
        lambda rtt, tls, resumed: HttpResult(
            **HEADER, protocol="tls", outcome="ok", tcp_ns=rtt, tcp_rtt_ns=rtt, tls_ns=tls, tls_resumed=resumed, tls_verified=True
        ),
        times,
        times,
        st.sampled_from([None, True, False]),
    ),
    st.builds(
        lambda running, ratio: ServingResult(**HEADER, outcome="ok", server="vllm", requests_running=running, kv_cache_ratio=ratio),
        st.integers(0, 99) | st.none(),
        st.floats(0, 1) | st.none(),
    ),
    st.builds(
        lambda p, r: AgentStatus(
            agent="sin",
            site="sin",
            boot="b",
            at_ns=1,
            version="1",
            uptime_ns=1,
            produced=p,
            skipped_rounds=0,
            spool_bytes=0,
            dropped_measurements=0,
            reasons=tuple(r),
        ),
        st.dictionaries(st.sampled_from(["ping", "traceroute"]), st.integers(0, 99)),
        st.lists(st.text(max_size=20), max_size=3),
    ),
)


def test_a_connection_that_failed_says_where_and_whose_failure_it_was() -> None:
    """Phase, source and error belong to a failure and to nothing else; a refused certificate says why."""
    with pytest.raises(ValueError, match="needs a failed phase, a source and an error"):
        HttpResult(**HEADER, protocol="tcp", outcome="refused", error="connection refused")
    with pytest.raises(ValueError, match="nothing failed"):
        HttpResult(**HEADER, protocol="tcp", outcome="ok", tcp_ns=5, error="?")
    with pytest.raises(ValueError, match="give tcp_ns"):
        HttpResult(**HEADER, protocol="tcp", outcome="ok")
    with pytest.raises(ValueError, match="which one was answered is not known"):
        HttpResult(**HEADER, protocol="tcp", outcome="ok", tcp_ns=5, tcp_rtt_ns=5, tcp_retransmits=1)
    with pytest.raises(ValueError, match="says why"):
        HttpResult(**HEADER, protocol="tls", outcome="ok", tcp_ns=5, tls_verified=False)


def test_a_reading_knows_its_server_or_says_why_not() -> None:
    """Server and error exclude each other, and a share is a share."""
    for wrong in ({"outcome": "ok"}, {"outcome": "timeout"}, {"outcome": "ok", "server": "vllm", "error": "?"}):
        with pytest.raises(ValueError, match="reading"):
            ServingResult(**HEADER, **wrong)
    with pytest.raises(ValueError, match="share"):
        ServingResult(**HEADER, outcome="ok", server="vllm", kv_cache_ratio=1.5)


@given(lines)
def test_a_line_decodes_to_the_record_it_was_made_from(record) -> None:
    """Encode, decode with an independent JSON reader and a strict converter: the same record comes back."""
    line = encode_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    body = json.loads(line)
    assert body.pop("v") == SCHEMA_VERSION
    assert msgspec.convert(body, LINE_TYPES[body.pop("type")], strict=True) == record


def test_every_line_type_has_a_name() -> None:
    """The table of types and the records agree in both directions, and no field is called `v` or `type`."""
    for record in LINE_TYPES.values():
        assert not {"v", "type"} & {f.name for f in fields(record)}
    status = AgentStatus(
        agent="a",
        site="a",
        boot="b",
        at_ns=1,
        version="1",
        uptime_ns=1,
        produced={},
        skipped_rounds=0,
        spool_bytes=0,
        dropped_measurements=0,
    )
    assert type_of(status) == "status"


def test_a_float_that_json_cannot_carry_is_refused() -> None:
    """NaN never leaves an agent."""
    bad = AgentStatus(
        agent="a",
        site="a",
        boot="b",
        at_ns=1,
        version="1",
        uptime_ns=1,
        produced={"ping": float("nan")},
        skipped_rounds=0,
        spool_bytes=0,
        dropped_measurements=0,
    )
    with pytest.raises(ValueError, match="JSON"):
        encode_line(bad)


def test_path_hash_is_of_addresses_in_order_with_silent_hops() -> None:
    """SHA-256 of the addresses joined by newlines, a star for silence, cut to 16 digits; order and silence matter."""
    path = ["192.0.2.1", None, "198.51.100.9"]
    assert path_hash(path) == hashlib.sha256(b"192.0.2.1\n*\n198.51.100.9").hexdigest()[:16]
    others = [["192.0.2.1", "198.51.100.9"], path[::-1], ["192.0.2.1", None, None], []]
    assert len({path_hash(other) for other in [path, *others]}) == 5


def test_an_answered_sample_is_what_the_constructor_makes():
    """Every field of the quick way is set, to the same as by the slow one."""
    told = {"sequence": 3, "sent_at_ns": 5, "rtt_ns": 7, "ts_source": "kernel_txrx", "sched_lag_ns": None, "reply_ttl": 61}
    assert answered(**told) == PingSample(outcome="reply", **told)
    assert {name for name in PingSample.__slots__ if not hasattr(answered(**told), name)} == set()
