"""The network without sockets: packets in, packets and times out."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from lab_network import Network

from lab import control
from lab.addresses import pack
from lab.agenda import Agenda
from lab.congestion import NO_LOAD, Load
from lab.forwarding import Forwarder
from lab.links import Change
from lab.routers import RouterChange
from lab.topology import builtin
from records.errors import UserError

scapy = pytest.importorskip("scapy.all", reason="scapy builds and dissects the packets of these tests")

MS = 1_000_000


def echo(src: str, dst: str, ttl: int = 64, seq: int = 1) -> object:
    return scapy.IP(src=src, dst=dst, ttl=ttl) / scapy.ICMP(id=1, seq=seq)


def test_a_packet_arrives_after_the_configured_delay_with_its_ttl_counted_down() -> None:
    """a to b over the internet: 100 ms through one router; over the backbone: 34 ms through two."""
    network = Network()
    network.send("a", echo("10.1.1.1", "10.2.1.1"))
    network.send("a", echo("10.1.2.1", "10.2.2.1"))
    assert [(at, site, packet.ttl) for at, site, packet in network.run()] == [(34.0, "b", 62), (100.0, "b", 63)]


def test_time_exceeded_comes_from_each_router_in_turn() -> None:
    """With TTL n the n-th router answers, after the delay there and back, quoting the packet with TTL 1."""
    network = Network()
    for ttl in (1, 2, 3):
        network.send("a", echo("10.1.2.1", "10.2.2.1", ttl))
    first, last, second = network.run()
    assert (first[0], first[1], first[2].src) == (7.0, "a", "10.252.0.1")
    assert (second[0], second[1], second[2].src) == (67.0, "a", "10.252.0.2")
    assert (last[0], last[1], last[2].ttl) == (34.0, "b", 1)
    for _, _, packet in (first, second):
        assert (packet[scapy.ICMP].type, packet[scapy.IPerror].ttl, packet[scapy.ICMPerror].seq) == (11, 1, 1)


def test_no_way_is_answered_with_network_unreachable() -> None:
    """Unknown addresses, and media that do not join the pair, are answered by the nearest router."""
    for dst in ("8.8.8.8", "10.4.3.1"):
        network = Network()
        network.send("a", echo("10.1.1.1", dst))
        ((at, site, packet),) = network.run()
        assert (site, packet.src, packet[scapy.ICMP].type, packet[scapy.ICMP].code) == ("a", "10.251.0.2", 3, 0)
        assert at == pytest.approx(8.0, abs=0.01)
        assert packet[scapy.IPerror].dst == dst


def test_routers_answer_pings_and_refuse_ports() -> None:
    """A router's own address answers echo requests; a UDP datagram to it gets port unreachable."""
    network = Network()
    network.send("a", echo("10.1.2.1", "10.252.0.2", seq=42))
    network.send("a", scapy.IP(src="10.1.2.1", dst="10.252.0.2") / scapy.UDP(dport=9) / b"x")
    reply, refusal = network.run()
    assert (reply[0], reply[2].src, reply[2][scapy.ICMP].type, reply[2][scapy.ICMP].seq) == (67.0, "10.252.0.2", 0, 42)
    assert (refusal[2][scapy.ICMP].type, refusal[2][scapy.ICMP].code) == (3, 3)


def test_what_cannot_be_carried_is_dropped_and_counted() -> None:
    """IPv6, rubbish and a TTL of zero go nowhere and raise nothing; errors about errors are not made."""
    network = Network()
    for frame in (b"", bytes(10), bytes(10) + b"\x60" + bytes(60), bytes(10) + bytes(echo("10.1.1.1", "10.2.1.1", 0))):  # type: ignore[call-overload]
        network.forwarder.accept(0, bytearray(frame), 0)
    network.send("a", scapy.IP(src="10.1.1.1", dst="8.8.8.8") / scapy.ICMP(type=11) / echo("10.1.1.1", "10.2.1.1"))
    assert network.run() == []
    assert network.forwarder.refused == 4


def test_packets_of_one_path_stay_in_order_in_spite_of_jitter() -> None:
    """200 packets a 0.05 ms apart over a link with 0.5 ms of jitter arrive in the order they were sent."""
    network = Network()
    for seq in range(200):
        network.send("a", echo("10.1.1.1", "10.4.1.1", seq=seq), at_ms=seq * 0.05)
    arrivals = network.run()
    assert [packet[scapy.ICMP].seq for _, _, packet in arrivals] == list(range(200))
    assert max(at - seq * 0.05 for seq, (at, _, _) in enumerate(arrivals)) > 13.3


def test_a_slow_link_spaces_packets_by_their_bits() -> None:
    """Ten packets of 1250 bytes at once over the 100 Mbit/s link leave 0.1 ms apart."""
    network = Network()
    for seq in range(10):
        network.send("a", echo("10.1.1.1", "10.3.1.1", seq=seq) / scapy.Raw(bytes(1250 - 28)))
    times = [at for at, _, _ in network.run()]
    assert times[0] == pytest.approx(10.1)
    assert [round(b - a, 9) for a, b in pairwise(times)] == [0.1] * 9


def test_a_far_sender_does_not_delay_a_near_one_at_a_shared_slow_link() -> None:
    """A queue is served in the order of arrival: what is still on its way does not occupy it.

    hub sends to a through the 100 Mbit/s link 6 ms away; the region sends to a through it from 9 ms away, 1 ms before.
    """
    network = Network()
    network.forwarder.change("in-ah", "a", None, Change(op="degrade", rate_bps=1_000_000))
    network.send("aws:eu-west-2", echo("10.4.1.1", "10.1.1.1") / scapy.Raw(bytes(1222)), at_ms=0)
    network.send("hub", echo("10.3.1.1", "10.1.1.1") / scapy.Raw(bytes(1222)), at_ms=1)
    near, far = network.run()
    # 1 ms + 6 ms + 10 ms of bits + 4 ms; the other arrives at the link after 9 ms or more and waits for those bits.
    assert near[0] == pytest.approx(21.0)
    assert near[2].src == "10.3.1.1"
    assert far[0] == pytest.approx(31.0)


def test_loss_of_a_lossy_path() -> None:
    """hub to b loses 1 % one way: of 20,000 the number lost is within 4 sigma, and the counters say the same."""
    network = Network()
    frame = bytes(10) + bytes(echo("10.3.1.1", "10.2.1.1"))  # type: ignore[call-overload]
    for _ in range(20_000):
        network.forwarder.accept(2, bytearray(frame), 0)
    arrived = 0

    def count(_host: int, _frame: bytearray) -> int:
        nonlocal arrived
        arrived += 1
        return 10**12

    while network.forwarder.under_way:
        network.forwarder.advance(10**12, count)
    assert abs(20_000 - arrived - 200) < 4 * (20_000 * 0.01 * 0.99) ** 0.5
    links = {(link["src"], link["dst"]): link for link in network.forwarder.report()["links"]}  # type: ignore[attr-defined]
    assert links["in-hb", "b"]["lost"] == 20_000 - arrived
    assert links["in-hb", "b"]["carried"] == arrived


def test_failing_a_link_moves_the_traffic_and_restoring_brings_it_back() -> None:
    """Without its short way a packet takes the long one; without any it is unreachable."""
    network = Network("demo-14")
    packet = echo("10.1.2.1", "10.6.2.1")
    network.send("sin", packet)
    ((first, _, _),) = network.run()
    before = network.forwarder.finder.path("sin", "nrt", "backbone")
    assert before is not None
    network.forwarder.change("bb-sin", "bb-nrt", None, Change(op="fail"))
    network.received.clear()
    network.send("sin", packet)
    ((second, _, _),) = network.run()
    assert second > first + 10
    for neighbour in ("bb-syd", "bb-fra", "bb-jnb"):
        network.forwarder.change("bb-sin", neighbour, None, Change(op="fail"))
    network.received.clear()
    network.send("sin", packet)
    ((_, site, error),) = network.run()
    assert (site, error[scapy.ICMP].type) == ("sin", 3)
    for neighbour in ("bb-nrt", "bb-syd", "bb-fra", "bb-jnb"):
        network.forwarder.change("bb-sin", neighbour, None, Change(op="restore"))
    assert network.forwarder.finder.path("sin", "nrt", "backbone") == before
    assert network.forwarder.changed() == []


def test_a_site_is_cut_off_and_brought_back_as_a_whole() -> None:
    """While a site has failed nobody reaches it over any medium; restored, its links are as the topology says."""
    network = Network()
    network.forwarder.change_site("b", "fail")
    assert {link.medium for _, link in network.forwarder.changed()} == {"internet", "backbone"}
    for dst in ("10.2.1.1", "10.2.2.1"):
        network.send("a", echo(dst.replace("10.2", "10.1"), dst))
    assert [(site, packet[scapy.ICMP].type) for _, site, packet in network.run()] == [("a", 3), ("a", 3)]
    network.forwarder.change_site("b", "restore")
    assert network.forwarder.changed() == []


def test_a_silent_router_sends_nothing_and_still_forwards() -> None:
    """No time exceeded and no echo reply while it is silent, both again when it is restored; packets pass all the time."""
    network = Network()
    network.forwarder.change_router("bb-eu", RouterChange(op="set", silent=True))
    assert [router.id for router in network.forwarder.changed_routers()] == ["bb-eu"]
    probes = (echo("10.1.2.1", "10.2.2.1", 1), echo("10.1.2.1", "10.252.0.1"), echo("10.1.2.1", "10.2.2.1"))
    for probe in probes:
        network.send("a", probe)
    assert [site for _, site, _ in network.run()] == ["b"]
    network.forwarder.change_router("bb-eu", RouterChange(op="restore"))
    for probe in probes:
        network.send("a", probe, at_ms=100)
    assert sorted(site for _, site, _ in network.run()[1:]) == ["a", "a", "b"]


def test_a_router_limits_its_errors_and_not_its_replies() -> None:
    """At 100 errors a second, of one probe a ms for 0.3 s the bucket's 10 and about 30 more are answered."""
    network = Network()
    network.forwarder.change_router("bb-eu", RouterChange(op="set", icmp_per_s=100))
    for ms in range(300):
        network.send("a", echo("10.1.2.1", "10.2.2.1", 1), at_ms=ms)
    assert 38 <= len(network.run()) <= 40
    for ms in range(300):
        network.send("a", echo("10.1.2.1", "10.252.0.1"), at_ms=2000 + ms)
    network.received.clear()
    assert len(network.run()) == 300
    (counts,) = network.forwarder.report()["routers"]  # type: ignore[misc]
    assert counts["sent"] + counts["withheld"] == 600


def test_a_change_to_no_link_says_what_there_is() -> None:
    """The message names the neighbours of the node, or that there is no such node."""
    forwarder = Forwarder(builtin("triangle"), Random(1).random)
    with pytest.raises(UserError, match="no link from 'a' to 'b'; a is joined to bb-eu, in-ab, in-ah"):
        forwarder.change("a", "b", None, Change(op="fail"))
    with pytest.raises(UserError, match="there is no site or router 'x'"):
        forwarder.change("x", "b", None, Change(op="fail"))


def test_the_same_seed_gives_the_same_run() -> None:
    """Two networks with the same seed lose and delay the same packets."""
    runs = []
    for _ in range(2):
        network = Network()
        for seq in range(300):
            network.send("b", echo("10.2.1.1", "10.3.1.1", seq=seq), at_ms=seq)
        runs.append([(at, packet[scapy.ICMP].seq) for at, _, packet in network.run()])
    assert runs[0] == runs[1]
    assert 250 < len(runs[0]) < 300


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"{", "malformed"),
        (b"[]", "malformed"),
        (b'{"op": "dance"}', "unknown operation 'dance'; there are status, changes, observed, do, play, stop"),
        (b'{"op": "do"}', "malformed"),
        (b'{"op": "do", "action": {"op": "explode"}}', "op: 'explode' is not one of fail, restore, degrade, shift, fail_site"),
        (b'{"op": "do", "action": {"op": "set_router", "router": "in-a", "silent": true}}', "no router 'in-a'; did you mean in-a"),
        (b'{"op": "do", "action": {"op": "set_router", "router": "in-ab"}}', "set changes nothing"),
        (b'{"op": "do", "action": {"op": "fail_site", "site": "x"}}', "there is no site 'x'"),
        (b'{"op": "do", "action": {"op": "fail", "between": ["a", "b"]}}', "no link from 'a' to 'b'; a is joined to bb-eu, in-ab, in-ah"),
        (b'{"op": "do", "action": {"op": "fail", "between": ["a", "bb-eu"], "mtu": 1400}}', "fail takes no mtu; it takes between"),
        (b'{"op": "play", "events": [{"at_s": 1, "op": "fail_site", "site": "x"}]}', "events[1].site: there is no site 'x'"),
    ],
)
def test_control_messages_that_make_no_sense_are_answered(message: bytes, error: str) -> None:
    """A wrong message is answered with what is wrong; the network goes on."""
    reply, stop = control.answer(message, Agenda(Forwarder(builtin("triangle"), Random(1).random), 0), 0)
    assert not stop
    assert not reply["ok"]
    assert error in reply["error"]


def test_every_address_of_a_host_reaches_it() -> None:
    """A host owns its /16: an address that names no medium is reached over the internet."""
    network = Network()
    network.send("a", echo("10.1.1.1", "10.3.200.7"))
    ((at, site, packet),) = network.run()
    assert (at, site, packet.dst) == (pytest.approx(10.0, abs=0.01), "hub", "10.3.200.7")
    assert pack(packet.dst) == bytes((10, 3, 200, 7))


def test_a_route_that_is_in_use_follows_its_links() -> None:
    """Load, degradation and restoration change the very next packet, and no packet overtakes one before it."""
    network = Network()
    packet = echo("10.1.2.1", "10.2.2.1")
    network.send("a", packet)
    network.forwarder.congest(("bb-eu", "bb-us", "backbone"), Load(delay_ns=7 * MS))
    network.send("a", packet, at_ms=1)
    network.forwarder.change("bb-us", "b", None, Change(op="degrade", delay_ns=2 * MS))
    network.send("a", packet, at_ms=2)
    network.forwarder.congest(("bb-eu", "bb-us", "backbone"), NO_LOAD)
    network.forwarder.change("bb-us", "b", None, Change(op="restore"))
    network.send("a", packet, at_ms=3)
    network.send("a", packet, at_ms=100)
    assert [at for at, _, _ in network.run()] == [34.0, 1 + 41.0, 2 + 42.5, 2 + 42.5, 134.0]
