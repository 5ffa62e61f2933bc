"""Links that do not take every packet, and stamps of what is delivered: the network without sockets."""

from __future__ import annotations

import pytest
from lab_network import MS, Network, planes
from test_lab_wire import super_segment

from lab.links import Change
from lab.observed import Tally, merged, quantile, summary
from lab.wire import shape

scapy = pytest.importorskip("scapy.all", reason="scapy builds and dissects the packets of these tests")

SRC, DST = {4: "10.1.2.1", 6: "fd0a:1:2::1"}, {4: "10.2.2.1", 6: "fd0a:2:2::1"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def ip(version: int, **fields: object) -> object:
    layer = scapy.IP if version == 4 else scapy.IPv6
    return layer(src=SRC[version], dst=DST[version], **fields)


@VERSIONS
def test_a_packet_too_big_is_turned_back_at_the_link(version: int) -> None:
    """m1, 1 ms away, says after 2 ms that its next link takes 1400 bytes; a packet of exactly 1400 passes in 6 ms."""
    header = {"flags": "DF"} if version == 4 else {}
    network = Network(planes())
    size = 1400 - (28 if version == 4 else 48)
    network.send("a", ip(version, **header) / scapy.UDP(sport=1, dport=2) / bytes(size + 1))
    network.send("a", ip(version, **header) / scapy.UDP(sport=1, dport=2) / bytes(size))
    (at, site, error), (arrival, far, passed) = network.run()
    assert (round(at, 2), site, round(arrival, 2), far, len(passed)) == (2.0, "a", 6.0, "b", 1400)
    assert error.src == ("10.252.0.1" if version == 4 else "fd0a:ff02::1")
    mtu = error[scapy.ICMP].nexthopmtu if version == 4 else error[scapy.ICMPv6PacketTooBig].mtu
    assert mtu == 1400
    assert network.forwarder.routers["m1"].counters.sent == 1


def test_without_df_an_ipv4_packet_goes_on_in_fragments() -> None:
    """What scapy puts together from the fragments is the datagram that was sent; their TTL is that of the packet."""
    network = Network(planes())
    packet = ip(4, id=5, ttl=60) / scapy.UDP(sport=1, dport=2) / bytes(range(200)) / bytes(1300)
    network.send("a", packet)
    pieces = [packet for _, site, packet in network.run() if site == "b"]
    assert [len(piece) for piece in pieces] == [1396, 152]
    assert {piece.ttl for piece in pieces} == {58}
    (whole,) = scapy.defragment(pieces)
    assert bytes(whole.payload) == bytes(packet.payload)  # type: ignore[attr-defined]


def test_the_ttl_runs_out_before_the_size_counts() -> None:
    """A packet that expires at the router that could not pass it on is told so (RFC 1812, 5.2.7)."""
    network = Network(planes())
    network.send("a", ip(4, ttl=1, flags="DF") / scapy.UDP() / bytes(1460))
    ((_, site, error),) = network.run()
    assert (site, error.src, error[scapy.ICMP].type) == ("a", "10.252.0.1", 11)


@VERSIONS
def test_a_super_segment_is_judged_by_its_segments(version: int) -> None:
    """44 segments of 1500 bytes are answered once, quoting the first; of 1400 bytes they all pass in one frame."""
    headers = 40 if version == 4 else 60
    for size, passes in ((1500, False), (1400, True)):
        network = Network(planes())
        frame = super_segment(bytes(60_000), size - headers, version=version, ends=(SRC[version], DST[version]))
        network.put("a", frame)
        ((_, site, packet),) = network.run()
        assert site == ("b" if passes else "a")
        if passes:
            assert shape(network.frames[0]) == shape(frame)
        elif version == 4:
            assert (packet[scapy.ICMP].code, packet[scapy.IPerror].len, packet[scapy.TCPerror].seq) == (4, 1500, 1000)
        else:
            assert (packet[scapy.ICMPv6PacketTooBig].mtu, packet[scapy.IPerror6].plen, packet[scapy.TCPerror].seq) == (1400, 1460, 1000)


@VERSIONS
def test_for_a_hosts_own_link_its_far_end_speaks(version: int) -> None:
    """The router behind a small access link answers; on a private link without any router, the other host does."""
    network = Network("triangle")
    network.forwarder.change("a", "bb-eu", None, Change(op="degrade", mtu=1300))
    header = {"flags": "DF"} if version == 4 else {}
    network.send("a", ip(version, **header) / scapy.UDP() / bytes(1400))
    ((at, site, error),) = network.run()
    assert (at, site) == (7.0, "a")
    assert error.src == ("10.252.0.1" if version == 4 else "fd0a:ff02::1")
    network.forwarder.change("a", "bb-eu", None, Change(op="restore"))
    network.send("a", ip(version, **header) / scapy.UDP() / bytes(1400), at_ms=100)
    assert network.run()[1][1] == "b"


def test_delivered_packets_are_stamped() -> None:
    """Of ten packets written 40 us late over a path of 34 ms: lateness 40 us, transit 34.04 ms, by pair, medium and version."""
    forwarder = Network("triangle").forwarder
    packet = bytearray(10) + bytes(scapy.IP(src="10.1.2.1", dst="10.2.2.1") / scapy.UDP())
    for n in range(10):
        forwarder.accept(0, bytearray(packet), n * MS)
    while (due_ns := forwarder.due_ns) is not None:
        forwarder.advance(due_ns, lambda _host, _frame: due_ns + 40_000)
    (pair,) = forwarder.observed("a")
    assert (pair["src"], pair["dst"], pair["medium"], pair["version"], pair["delivered"]) == ("a", "b", "backbone", 4, 10)
    lateness, transit = pair["lateness"], pair["transit"]
    assert (lateness["min_ns"], lateness["mean_ns"], lateness["max_ns"], lateness["p99_ns"]) == (40_000, 40_000, 40_000, 40_000)  # type: ignore[index]
    assert (transit["min_ns"], transit["max_ns"]) == (34 * MS + 40_000, 34 * MS + 40_000)  # type: ignore[index]
    assert lateness["histogram"] == [[46341, 10]]  # type: ignore[index]  # 2^15.5
    assert forwarder.report()["observed"]["delivered"] == 10  # type: ignore[index]
    assert forwarder.observed("b") == []
    # A change finds all routes anew and keeps what was counted.
    forwarder.change("bb-eu", "bb-us", None, Change(op="degrade", delay_ns=MS))
    assert forwarder.observed("a") == [pair]
    links = {(link["src"], link["dst"]): link["carried"] for link in forwarder.report()["links"]}  # type: ignore[attr-defined]
    assert links == {("a", "bb-eu"): 10, ("bb-eu", "bb-us"): 10, ("bb-us", "b"): 10}


def test_histograms_bound_their_values_within_a_factor_of_root_two() -> None:
    """Any quantile is at or above the true one and less than 1.42 times it, also of two tallies together."""
    one, other = Tally(), Tally()
    values = [7 * n * n + 1 for n in range(1, 400)]
    for n, value in enumerate(values):
        (one if n % 3 else other).add(value, value + 1)
    whole = merged([one, other])
    assert (whole.count, whole.late_min, whole.late_max, whole.late_sum) == (399, min(values), max(values), sum(values))
    for ratio in (0.1, 0.5, 0.9, 0.99):
        exact = sorted(values)[max(0, -(-int(ratio * 1000) * 399 // 1000) - 1)]
        bound = quantile(whole.late, ratio)
        assert bound is not None
        assert exact <= bound <= 1.42 * exact
    assert summary(Tally()) == {"delivered": 0, "lateness": None, "transit": None}
