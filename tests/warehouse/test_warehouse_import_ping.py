"""ping's text: each packet as it says, what it does not say of a packet a time-out, and no run of which something is missing."""

from __future__ import annotations

import json

import pytest
from importing import AT_NS, GIVEN, fault, one, public, read

from records.measurement import PingResult
from warehouse.importers.found import Found, Given, Unfit

STATISTICS = "\n--- h ping statistics ---\n"

#: Text -> per packet (outcome, RTT in us), worked out by eye.
RUNS = {
    "a packet lost, an ICMP error, a duplicate": (
        (
            "PING h (192.0.2.7) 56(84) bytes of data.\n"
            "64 bytes from h (192.0.2.7): icmp_seq=1 ttl=57 time=1.05 ms\n"
            "From r (192.0.2.1) icmp_seq=3 Destination Host Unreachable\n"
            "64 bytes from h (192.0.2.7): icmp_seq=4 ttl=57 time=2 ms\n"
            "64 bytes from h (192.0.2.7): icmp_seq=4 ttl=57 time=3 ms (DUP!)\n"
            f"{STATISTICS}4 packets transmitted, 2 received, +1 duplicates, +1 errors, 50% packet loss, time 3003ms\n"
        ),
        [("reply", 1050), ("timeout", None), ("unreachable", None), ("reply", 2000)],
    ),
    "BSD, from 0": (
        (
            "PING h (192.0.2.7): 56 data bytes\n"
            "64 bytes from 192.0.2.7: icmp_seq=0 ttl=57 time=32.100 ms\n"
            "Request timeout for icmp_seq 1\n"
            f"{STATISTICS}2 packets transmitted, 1 packets received, 50.0% packet loss\n"
        ),
        [("reply", 32100), ("timeout", None)],
    ),
    "busybox": (
        (
            "PING 192.0.2.7 (192.0.2.7): 56 data bytes\n64 bytes from 192.0.2.7: seq=0 ttl=57 time=0.641 ms\n"
            f"{STATISTICS}1 packets transmitted, 1 packets received, 0% packet loss\n"
        ),
        [("reply", 641)],
    ),
    "the carry that iputils forgot: 32.983 ms is printed as 32.10": (
        (
            "PING 192.0.2.7 (192.0.2.7) 56(84) bytes of data.\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=57 time=32.10 ms\n"
            f"{STATISTICS}1 packets transmitted, 1 received, 0% packet loss, time 0ms\n"
        ),
        [("reply", 33000)],
    ),
    "nobody answered": (
        f"PING  (192.0.2.7) 56(84) bytes of data.\n^C{STATISTICS}2 packets transmitted, 0 received, 100% packet loss, time 1001ms\n",
        [("timeout", None), ("timeout", None)],
    ),
}


@pytest.mark.parametrize(("text", "packets"), RUNS.values(), ids=RUNS)
def test_each_packet_as_it_says(text: str, packets: list[tuple[str, int | None]]) -> None:
    """One sample for every packet that was sent, in order, from 0."""
    found = one("ping", text)
    assert isinstance(found.record, PingResult)
    samples = found.record.samples
    assert [(s.outcome, None if s.rtt_ns is None else s.rtt_ns // 1000) for s in samples] == packets
    assert [s.sequence for s in samples] == list(range(len(packets)))
    assert (found.record.target, found.record.timeout_ns, found.record.started_at_ns) == ("192.0.2.7", None, AT_NS)


def test_what_the_first_run_says_besides() -> None:
    """The ICMP error with its sender, the duplicate, and packets spread over the run's 3,003 ms."""
    found = one("ping", RUNS["a packet lost, an ICMP error, a duplicate"][0])
    assert isinstance(found.record, PingResult)
    samples = found.record.samples
    assert (samples[2].responder, samples[2].icmp_type, samples[2].icmp_code) == ("192.0.2.1", 3, 1)
    assert [s.duplicates for s in samples] == [0, 0, 0, 1]
    assert [s.sent_at_ns - AT_NS for s in samples] == [0, 1_001_000_000, 2_002_000_000, 3_003_000_000]
    assert (found.src, found.dst, found.record.payload_bytes) == ((), ("192.0.2.7", "h"), 56)


BROKEN = {
    "no ping": ("connect: Network is unreachable\n", "not_this_format"),
    "cut off": ("PING h (192.0.2.7) 56(84) bytes of data.\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=57 time=1 ms\n", "cut_off"),
    "-q": (
        f"PING h (192.0.2.7) 56(84) bytes of data.\n{STATISTICS}4 packets transmitted, 4 received, 0% packet loss, time 3ms\n",
        "summary_only",
    ),
    "fewer replies than it counts": (
        (
            "PING h (192.0.2.7) 56(84) bytes of data.\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=57 time=1 ms\n"
            f"64 bytes from 192.0.2.7: strange{STATISTICS}2 packets transmitted, 2 received, 0% packet loss, time 3ms\n"
        ),
        "bad_field",
    ),
    "another host answers": (
        (
            "PING h (192.0.2.255) 56(84) bytes of data.\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=57 time=1 ms\n"
            f"{STATISTICS}1 packets transmitted, 1 received, 0% packet loss, time 0ms\n"
        ),
        "wrong_source",
    ),
    "zero": (
        (
            "PING h (192.0.2.7) 56(84) bytes of data.\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=57 time=0.000 ms\n"
            f"{STATISTICS}1 packets transmitted, 1 received, 0% packet loss, time 0ms\n"
        ),
        "zero_rtt",
    ),
    "binary": (b"PING\0\1\2", "not_text"),
    "Latin-1": (b"PING m\xfcnchen (192.0.2.7)\n", "not_text"),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_stored_says_why(text: str | bytes, reason: str) -> None:
    """A run that is not whole, or not of the host asked, is no measurement."""
    assert fault("ping", text) == reason


def test_a_run_without_a_time_needs_one() -> None:
    """Nothing is dated by guess."""
    assert fault("ping", RUNS["busybox"][0], Given()) == "no_time"


def test_jc_reads_the_same() -> None:
    """The public transcripts: RTT, TTL and time of each reply as jc's own expected JSON has them; the broken ones by name."""
    broken = {"ping-ip-O-unparsedlines", "ping6-ip-O-p-unparsable", "ping-ip-dup", "ping6-ip-dup"}
    for path in public("jc-ping-traceroute/*/ping*.out"):
        (found,) = read("ping", path, GIVEN)
        if path.stem in broken:
            assert isinstance(found, Unfit), path
            continue
        assert isinstance(found, Found), (path, found)
        assert isinstance(found.record, PingResult)
        expected = json.loads(path.with_suffix(".json").read_text())
        replies = {r["icmp_seq"]: r for r in reversed(expected["responses"]) if r["type"] == "reply" and not r.get("duplicate")}
        assert len(found.record.samples) == expected["packets_transmitted"], path
        ours = {s.sequence + 1: s for s in found.record.samples if s.outcome == "reply"}
        assert {n: (s.rtt_ns, s.reply_ttl) for n, s in ours.items()} == {
            n: (round(r["time_ms"] * 1e6), r["ttl"]) for n, r in replies.items()
        }, path
        for number, reply in replies.items():
            if reply.get("timestamp") is not None:
                sample = ours[number]
                assert sample.rtt_ns is not None
                assert abs(sample.sent_at_ns + sample.rtt_ns - reply["timestamp"] * 1e9) < 1000, path


def test_every_public_run_between_clouds() -> None:
    """The runs between clouds: as many replies as the summary counts, their mean as it has it, to the digits printed."""
    for path in public("ping-text/*.txt"):
        record = one("ping", path).record
        assert isinstance(record, PingResult)
        rtts = [s.rtt_ns / 1e6 for s in record.samples if s.rtt_ns is not None]
        text = path.read_text()
        assert f"{len(record.samples)} packets transmitted, {len(rtts)} received" in text
        if rtts:
            mean = float(text.rpartition("= ")[2].split("/")[1])
            assert sum(rtts) / len(rtts) == pytest.approx(mean, abs=0.5 if mean >= 100 else 0.05), path


def test_a_broken_line_of_fping_is_told() -> None:
    """A packet's line that was cut costs that packet alone, and not without a word."""
    found, cut = sorted(
        read("fping", "h : [0], 64 bytes, 0.5 ms (0.5 avg, 0% loss)\nh : [1], 64 byt"), key=lambda item: isinstance(item, Unfit)
    )
    assert isinstance(found, Found)
    assert isinstance(found.record, PingResult)
    assert len(found.record.samples) == 1
    assert isinstance(cut, Unfit)
    assert (cut.reason, cut.place) == ("cut_off", 2)
