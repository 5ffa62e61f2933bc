"""The built-in throughput protocol, and iperf3's JSON as the tool really writes it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.throughput.iperf3 import iperf3_argv
from probes.throughput.iperf3_json import Iperf3Error, Iperf3Report, parse_iperf3
from probes.throughput.wire import GRANT_BYTES, HELLO_BYTES, REPORT_BYTES, Grant, Hello, Report, WireError, is_iperf3_answer

FORMATS = Path(__file__).parents[2].parent / "shared" / "data" / "formats"
names = st.one_of(st.none(), st.sampled_from(["bbr", "cubic", "reno", "highspeed"]))


def files(folder: str, pattern: str = "*") -> list[Path]:
    found = sorted((FORMATS / folder).glob(pattern))
    if not found:
        pytest.skip(f"no sample files in {FORMATS / folder}")
    return found


methods = st.sampled_from(["transfer", "sample", "train", "hold"])


@given(
    st.sampled_from(["up", "down"]), methods, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(min_size=6, max_size=6), names
)
def test_hello_comes_back_as_it_went(direction: str, method: str, duration_ms: int, max_bytes: int, lease: bytes, name: str | None) -> None:
    """A greeting decodes to itself and is as long as iperf3's cookie."""
    hello = Hello(
        direction=direction,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        duration_ms=duration_ms,
        max_bytes=max_bytes,
        lease=lease,
        congestion_control=name,
    )
    assert len(hello.encode()) == HELLO_BYTES == 37
    assert Hello.decode(hello.encode()) == hello


@given(st.sampled_from(["go", "busy", "refused"]), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_grant_comes_back_as_it_went(verdict: str, duration_ms: int, max_bytes: int) -> None:
    """A grant decodes to itself and never looks like iperf3."""
    grant = Grant(verdict=verdict, duration_ms=duration_ms, max_bytes=max_bytes)  # type: ignore[arg-type]
    assert len(grant.encode()) == GRANT_BYTES
    assert Grant.decode(grant.encode()) == grant
    assert not is_iperf3_answer(grant.encode())


counters = st.one_of(st.none(), st.integers(0, 2**32 - 2))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), counters, counters, counters, names)
def test_report_comes_back_as_it_went(
    total: int, duration_ns: int, retransmits: int | None, rtt: int | None, least: int | None, name: str | None
) -> None:
    """A report decodes to itself; unknown stays unknown."""
    report = Report(
        transferred_bytes=total, duration_ns=duration_ns, retransmits=retransmits, rtt_us=rtt, min_rtt_us=least, congestion_control=name
    )
    assert len(report.encode()) == REPORT_BYTES
    assert Report.decode(report.encode()) == report


@given(st.binary(max_size=80))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    """Foreign bytes raise WireError and nothing else."""
    for kind, size in ((Hello, HELLO_BYTES), (Grant, GRANT_BYTES), (Report, REPORT_BYTES)):
        for data in (raw, b"ISOTHRU2" + raw[: size - 8].ljust(size - 8, b"\xfe")):
            with contextlib.suppress(WireError):
                kind.decode(data)


def test_iperf3_answers_are_known() -> None:
    """iperf3 answers a cookie with PARAM_EXCHANGE (9) or, busy, ACCESS_DENIED (-1)."""
    assert is_iperf3_answer(b"\x09")
    assert is_iperf3_answer(b"\xff")
    assert not is_iperf3_answer(b"")


#: file -> (direction, bytes received, bits per second, retransmits, smoothed RTT and least RTT in us): read by eye out of the files
REAL = {
    "iperf3-json/00_baseline_host_target_direct_15.json": ("up", 108180992, 83944976, 0, 293475),
    "iperf3-json/04_baseline_target_host_direct_9.json": ("up", 7618415488, 6069714847, 2790, 2681),
    "iperf3-json/23_large_file_proxy_k8s2_host_direct.json": ("up", 200524672, 333033773, 0, 64827),
    "lab-generated/iperf3_tcp.json": ("up", 3808952320, 10155303760, 366, 43),
    "lab-generated/iperf3_p4_reverse.json": ("down", 4477484680, 17900827199, 1908, None),
}


@pytest.mark.parametrize("name", REAL)
def test_real_results_are_read_from_the_receivers_counters(name: str) -> None:
    """Rate and bytes are the receiver's, retransmissions and RTT the sender's."""
    path = FORMATS / name
    if not path.exists():
        pytest.skip(f"no sample file {path}")
    direction, received_bytes, rate_bps, retransmits, least_us = REAL[name]
    (report,) = parse_iperf3(path.read_text())
    assert (report.direction, report.transferred_bytes) == (direction, received_bytes)
    assert report.throughput_bps == pytest.approx(rate_bps, rel=1e-6)
    assert report.throughput_bps == pytest.approx(report.transferred_bytes * 8e9 / report.duration_ns, rel=1e-6)
    assert report.rtt_min_ns == (None if least_us is None else least_us * 1000)
    if retransmits:
        assert report.retransmits == retransmits
    assert report.congestion_control in ("cubic", "bbr")


def test_every_real_result_is_a_rate_or_says_why_not() -> None:
    """Each real file gives a positive rate, or an error; a receiver that counted nothing is not zero."""
    for path in files("iperf3-json", "*.json"):
        received = json.loads(path.read_text())["end"]["sum_received"]["bytes"]
        if received == 0:
            with pytest.raises(Iperf3Error, match="counted no bytes"):
                parse_iperf3(path.read_text())
        else:
            assert parse_iperf3(path.read_text())[0].transferred_bytes == received


def test_dirty_files_are_errors_of_one_sentence() -> None:
    """Truncated, empty, interrupted and foreign output is refused with a reason; nothing crashes."""
    reasons = {}
    for path in files("iperf3-dirty", "*.txt"):
        try:
            parse_iperf3(path.read_text(errors="replace"))
        except Iperf3Error as error:
            reasons[path.name] = str(error)
    assert not any("\n" in reason for reason in reasons.values())
    assert "00_bw_proxy_target_direct.txt" not in reasons  # whole, only its name is odd
    assert "no JSON" in reasons["02_bw_host_target_direct.txt"]
    assert "cut short" in reasons["07_10k_file_reverse_host_target_direct_1.txt"]
    assert reasons["09_large_file_proxy_target_direct.txt"] == "interrupt - the client has terminated"


def test_errors_are_no_rates() -> None:
    """An error of iperf3 is quoted, a busy server is known as such, a foreign protocol is named."""
    with pytest.raises(Iperf3Error, match="timed out"):
        parse_iperf3(files("lab-generated", "iperf3_error.json")[0].read_text())
    with pytest.raises(Iperf3Error, match="over SCTP, neither TCP nor UDP"):
        parse_iperf3('{"start":{"test_start":{"protocol":"SCTP"}},"end":{}}')
    with pytest.raises(Iperf3Error) as busy:
        parse_iperf3('{"start":{},"error":"error - the server is busy running a test. try again later"}')
    assert busy.value.is_busy


def test_what_was_sent_is_told_beside_what_the_receiver_counted() -> None:
    """A run of ``iperf3 -n 2000000`` over loopback whose server counted too early; UDP before 3.10 has one sum, of what was sent."""
    sums = '"sum_sent":{"bytes":2097152},"sum_received":{"bytes":131072,"seconds":0.026}'
    (one,) = parse_iperf3(f'{{"start":{{"test_start":{{"protocol":"TCP"}}}},"end":{{{sums}}}}}')
    assert (one.transferred_bytes, one.sent_bytes) == (131_072, 2_097_152)
    lossy = '{"start":{"test_start":{"protocol":"UDP"}},"end":{"sum":{"bytes":1000,"seconds":1,"packets":10,"lost_packets":4}}}'
    (one,) = parse_iperf3(lossy)
    assert (one.transferred_bytes, one.sent_bytes) == (600, 1000)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "start",
                    "test_start",
                    "end",
                    "sum_received",
                    "sum_sent",
                    "bytes",
                    "seconds",
                    "intervals",
                    "streams",
                    "rtt",
                    "sender",
                    "min_rtt",
                    "error",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


#: A real document's shape, with anything in the places that are read.
_odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
_sums = st.dictionaries(
    st.sampled_from(["bytes", "seconds", "retransmits", "packets", "lost_packets", "jitter_ms", "rtt", "min_rtt"]), _odd
)
_tests = st.dictionaries(st.sampled_from(["protocol", "reverse", "num_streams"]), st.sampled_from(["TCP", "UDP", 1, 0, -3]))
_names = ["sum", "sum_sent", "sum_received", "sum_bidir_reverse", "sum_received_bidir_reverse", "sender_tcp_congestion"]
_documents = st.fixed_dictionaries(
    {"start": st.fixed_dictionaries({"test_start": _tests}), "end": st.dictionaries(st.sampled_from(_names), _sums)}
)
_texts = st.one_of(
    st.text(max_size=60),
    json_values.map(json.dumps),
    _documents.map(json.dumps),
    st.builds(lambda document, size: json.dumps(document)[:size], _documents, st.integers(0, 200)),
)


def _report_or_error(text: str) -> None:
    reports: tuple[Iperf3Report, ...] = ()
    try:
        reports = parse_iperf3(text)
    except Iperf3Error as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    if said:
        return
    assert 1 <= len(reports) <= 2
    for report in reports:
        assert report.transferred_bytes > 0
        assert report.duration_ns > 0
        assert report.streams >= 1


@given(_texts)
def test_any_text_is_a_report_or_an_error(text: str) -> None:
    """Whatever the tool writes, cut off wherever it is: positive rates, or Iperf3Error in one line."""
    _report_or_error(text)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(_texts)
def test_any_text_ten_thousand_times(text: str) -> None:
    """As above."""
    _report_or_error(text)


def test_command_keeps_the_byte_budget() -> None:
    """By time the rate is held so that the seconds carry the budget; by bytes the budget ends the test."""
    by_time = iperf3_argv("iperf3", "192.0.2.1", 5201, direction="up", duration_s=2.0, max_bytes=1_000_000, by_bytes=False)
    assert by_time[by_time.index("-t") + 1] == "2"
    assert int(by_time[by_time.index("-b") + 1]) * 2 == 8_000_000
    by_bytes = iperf3_argv(
        "iperf3", "192.0.2.1", 5201, direction="down", duration_s=0.5, max_bytes=9, by_bytes=True, congestion_control="bbr"
    )
    assert by_bytes[-5:] == ["-n", "9", "-R", "-C", "bbr"]
