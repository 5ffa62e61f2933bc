"""traceroute's text: every TTL that was tried, silent ones too, with the least RTT of the address that answered most."""

from __future__ import annotations

import json

import pytest
from importing import AT_NS, GIVEN, fault, one, public

from records.measurement import Hop, TracerouteResult
from warehouse.importers.found import Given, normal


def _hop(
    ttl: int, address: str | None, us: int | None, probes: int, replies: int, icmp: tuple[int | None, int | None] = (None, None)
) -> Hop:
    rtt_ns = None if us is None else us * 1000
    source = None if us is None else "user"
    return Hop(
        ttl=ttl, address=address, rtt_ns=rtt_ns, probes=probes, replies=replies, ts_source=source, icmp_type=icmp[0], icmp_code=icmp[1]
    )


#: Text -> hops, worked out by eye.
PATHS = {
    "names, silence, two hosts at one TTL, a mark": (
        (
            "traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n"
            " 1  gw (10.0.0.1)  1.5 ms  0.9 ms  1.1 ms\n"
            " 2  * * *\n"
            " 3  a (10.0.0.3)  3.0 ms b (10.0.0.4)  2.0 ms a (10.0.0.3)  2.5 ms\n"
            " 4  10.0.0.5 (10.0.0.5) [AS64500]  4 ms *  5 ms\n"
            " 5  h (192.0.2.7)  9.25 ms !X  9.5 ms !X  9.75 ms !X\n"
        ),
        [
            _hop(1, "10.0.0.1", 900, 3, 3),
            _hop(2, None, None, 3, 0),
            _hop(3, "10.0.0.3", 2500, 3, 3),
            _hop(4, "10.0.0.5", 4000, 3, 2),
            _hop(5, "192.0.2.7", 9250, 3, 3, (3, 13)),
        ],
        True,
    ),
    "-n -q1, the target stays silent": (
        "traceroute to 192.0.2.7 (192.0.2.7), 3 hops max, 60 byte packets\n 1  10.0.0.1  1 ms\n 2  *\n 3  *\n",
        [_hop(1, "10.0.0.1", 1000, 1, 1), _hop(2, None, None, 1, 0), _hop(3, None, None, 1, 0)],
        False,
    ),
    "BSD gives another host a line of its own": (
        "traceroute to h (192.0.2.7), 64 hops max, 52 byte packets\n 1  a (10.0.0.1)  2 ms\n    b (10.0.0.2)  1 ms  1.5 ms\n",
        [_hop(1, "10.0.0.2", 1000, 3, 3)],
        False,
    ),
}


@pytest.mark.parametrize(("text", "hops", "reached"), PATHS.values(), ids=PATHS)
def test_each_hop_as_it_says(text: str, hops: list[Hop], reached: bool) -> None:
    """Hops by hand; UDP unless told otherwise; at the time given."""
    record = one("traceroute", text).record
    assert isinstance(record, TracerouteResult)
    assert list(record.hops) == hops
    assert (record.reached, record.protocol, record.started_at_ns) == (reached, "udp", AT_NS)


@pytest.mark.parametrize(
    ("text", "given", "reason"),
    [
        ("tracert: unknown host\n", Given(at_ns=AT_NS), "not_this_format"),
        ("traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n", Given(at_ns=AT_NS), "no_hops"),
        ("traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n 1  1.0 ms\n", Given(at_ns=AT_NS), "bad_field"),
        ("traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n 1  10.0.0.1  1.0 ms\n", Given(), "no_time"),
        (
            "traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n 1  a (10.0.0.1)  1 ms  2 ms\n 2  a (10.0.0.2)  3 ms",
            GIVEN,
            "cut_off",
        ),
        ("traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n 1  a (10.0.0.1)  1 ms  2 ms\n 2  a.exam", GIVEN, "cut_off"),
        ("traceroute to h (192.0.2.7), 30 hops max, 60 byte packets\n 1  a.exam", GIVEN, "cut_off"),
    ],
)
def test_what_cannot_be_stored_says_why(text: str, given: Given, reason: str) -> None:
    """No path, or no time."""
    assert fault("traceroute", text, given) == reason


def test_jc_reads_the_same() -> None:
    """The public transcripts: for every TTL the addresses, RTTs and answers that jc's own expected JSON has."""
    for path in public("jc-ping-traceroute/*/traceroute*.out"):
        record = one("traceroute", path).record
        assert isinstance(record, TracerouteResult)
        expected = {h["hop"]: h["probes"] for h in json.loads(path.with_suffix(".json").read_text())["hops"]}
        assert [h.ttl for h in record.hops] == list(expected), path
        for hop in record.hops:
            answers = [(p["ip"] or p["name"], p["rtt"]) for p in expected[hop.ttl] if p["rtt"] is not None]
            assert hop.replies == len(answers), (path, hop)
            if any(name for name, _ in answers):  # jc has no name for a host that is neither an address nor a domain
                assert hop.address is not None
                assert hop.rtt_ns is not None
                mine = [rtt for name, rtt in answers if normal(name or "") == normal(hop.address)]
                assert hop.rtt_ns == round(min(mine) * 1e6), (path, hop)
                assert all(len(mine) >= sum(other == name for other, _ in answers) for name, _ in answers)
