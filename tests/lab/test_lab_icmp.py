"""What routers say, checked by scapy as an independent dissector."""

from __future__ import annotations

import pytest

from lab import icmp
from lab.addresses import pack

scapy = pytest.importorskip("scapy.all", reason="scapy is the independent dissector of these tests")
mpls = pytest.importorskip("scapy.contrib.mpls", reason="scapy dissects the label stack")

SRC, DST, ROUTER = ({4: v4, 6: v6} for v4, v6 in (("10.1.1.1", "fd0a:1:1::1"), ("10.2.1.1", "fd0a:2:1::1"), ("10.251.0.7", "fd0a:ff01::7")))
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def wired(packet: object) -> bytes:
    return bytes(packet)  # type: ignore[call-overload]


def ip(version: int, *, dst: str | None = None, **fields: object) -> object:
    layer = scapy.IP if version == 4 else scapy.IPv6
    return layer(src=SRC[version], dst=dst or DST[version], **fields)


def assert_checksums(packet: bytes) -> object:
    """Dissect an ICMP packet; scapy has to find no other checksum than the one it bears."""
    layer = scapy.IP if packet[0] >> 4 == 4 else scapy.IPv6
    seen = layer(packet)
    if packet[0] >> 4 == 4:
        assert scapy.checksum(packet[:20]) == 0
        assert scapy.checksum(packet[20:]) == 0
    else:
        assert scapy.in6_chksum(58, seen, packet[40:]) in (0, 0xFFFF)
    return seen


@VERSIONS
@pytest.mark.parametrize(
    ("reason", "in_v4", "in_v6"), [("expired", (11, 0), (3, 0)), ("no-route", (3, 0), (1, 0)), ("port", (3, 3), (1, 4))]
)
def test_an_error_quotes_the_packet(version: int, reason: icmp.Reason, in_v4: tuple[int, int], in_v6: tuple[int, int]) -> None:
    """It comes from the router, goes to the sender, has the type of RFC 792 or RFC 4443, and quotes the packet as it arrived."""
    packet = wired(ip(version) / scapy.UDP(sport=40000, dport=33434) / b"payload")
    answer = icmp.error(pack(ROUTER[version]), packet, reason)
    seen = assert_checksums(answer)
    assert (seen.src, seen.dst) == (ROUTER[version], SRC[version])
    at = 20 if version == 4 else 40
    assert tuple(answer[at : at + 2]) == (in_v4 if version == 4 else in_v6)
    assert answer[at + 4 :] == bytes(4) + packet


@VERSIONS
def test_too_big_says_the_mtu(version: int) -> None:
    """RFC 1191 and RFC 8201: the MTU of the next link, where each version has it, as scapy reads it."""
    packet = wired(ip(version) / scapy.UDP() / bytes(1460))
    seen = assert_checksums(icmp.error(pack(ROUTER[version]), packet, "too-big", 1400))
    if version == 4:
        assert (seen[scapy.ICMP].type, seen[scapy.ICMP].code, seen[scapy.ICMP].nexthopmtu, len(seen)) == (3, 4, 1400, 576)
    else:
        assert (seen[scapy.ICMPv6PacketTooBig].mtu, len(seen)) == (1400, 1280)


@VERSIONS
def test_labels_are_reported_behind_128_bytes_of_quote(version: int) -> None:
    """RFC 4884 and RFC 4950, dissected by scapy: the length of the quote in its unit, the stack, the checksum of the structure."""
    packet = wired(ip(version) / scapy.UDP(sport=1, dport=2) / b"short")
    answer = icmp.error(pack(ROUTER[version]), packet, "expired", labels=(16004, 24))
    assert_checksums(answer)
    at = 20 if version == 4 else 40
    assert answer[at + (5 if version == 4 else 4)] == (128 // 4 if version == 4 else 128 // 8)
    assert answer[at + 8 : at + 8 + 128] == packet.ljust(128, b"\0")
    structure = answer[at + 8 + 128 :]
    assert scapy.checksum(structure) == 0
    header = scapy.ICMPExtension_Header(structure)
    assert (header.version, header.payload.classnum, header.payload.classtype, header.payload.len) == (2, 1, 1, 12)
    outer, inner = mpls.MPLS(structure[8:12]), mpls.MPLS(structure[12:16])
    assert [(entry.label, entry.s, entry.ttl) for entry in (outer, inner)] == [(16004, 0, 1), (24, 1, 1)]
    assert icmp.error(pack(ROUTER[version]), packet, "no-route", labels=(16004,)) == icmp.error(pack(ROUTER[version]), packet, "no-route")


def test_what_is_not_answered_over_ipv4() -> None:
    """RFC 1122: no error about an ICMP error, a later fragment, multicast or an unknown sender; one about everything else."""
    echo = ip(4) / scapy.ICMP()
    assert icmp.may_be_answered(wired(echo), "expired")
    assert icmp.may_be_answered(wired(ip(4, flags="MF") / scapy.UDP() / bytes(64)), "expired")
    assert not icmp.may_be_answered(wired(ip(4) / scapy.ICMP(type=11) / echo), "expired")
    assert not icmp.may_be_answered(wired(ip(4, frag=10) / b"tail"), "expired")
    assert not icmp.may_be_answered(wired(ip(4, dst="224.0.0.1") / scapy.ICMP()), "expired")
    assert not icmp.may_be_answered(wired(scapy.IP(src="0.0.0.0", dst=DST[4]) / scapy.ICMP()), "expired")


def test_what_is_not_answered_over_ipv6() -> None:
    """RFC 4443, 2.4 e: no error about an error, a redirect, multicast (but packet too big), or a sender that is none."""
    udp = scapy.UDP() / bytes(64)
    assert icmp.may_be_answered(wired(ip(6) / scapy.ICMPv6EchoRequest()), "expired")
    assert icmp.may_be_answered(wired(ip(6) / scapy.IPv6ExtHdrFragment(m=1, id=7) / udp), "expired")
    assert icmp.may_be_answered(wired(ip(6) / scapy.IPv6ExtHdrHopByHop() / scapy.IPv6ExtHdrDestOpt() / udp), "expired")
    assert icmp.may_be_answered(wired(ip(6) / scapy.IPv6ExtHdrFragment(nh=17, offset=10, id=7) / bytes(64)), "expired")
    assert not icmp.may_be_answered(wired(ip(6) / scapy.IPv6ExtHdrFragment(nh=58, offset=10, id=7) / bytes(64)), "expired")
    for error in (scapy.ICMPv6TimeExceeded(), scapy.ICMPv6PacketTooBig(), scapy.ICMPv6ND_Redirect()):
        assert not icmp.may_be_answered(wired(ip(6) / error), "expired")
        assert not icmp.may_be_answered(wired(ip(6) / scapy.IPv6ExtHdrHopByHop() / error), "expired")
    multicast = wired(ip(6, dst="ff0e::1") / udp)
    assert not icmp.may_be_answered(multicast, "expired")
    assert icmp.may_be_answered(multicast, "too-big")
    assert not icmp.may_be_answered(wired(scapy.IPv6(src="::", dst=DST[6]) / udp), "expired")


@VERSIONS
def test_a_router_answers_a_ping_of_its_own(version: int) -> None:
    """The echo reply has the request's identifier, sequence and payload; a damaged request and a datagram get none."""
    echo = scapy.ICMP(id=7, seq=9) if version == 4 else scapy.ICMPv6EchoRequest(id=7, seq=9)
    request = wired(ip(version, dst=ROUTER[version]) / echo / b"abcdefgh")
    reply = icmp.echo_reply(request)
    assert reply is not None
    seen = assert_checksums(reply)
    assert (seen.src, seen.dst) == (ROUTER[version], SRC[version])
    answer = seen[scapy.ICMP] if version == 4 else seen[scapy.ICMPv6EchoReply]
    assert (answer.type, answer.id, answer.seq, reply[-8:]) == (0 if version == 4 else 129, 7, 9, b"abcdefgh")
    assert icmp.echo_reply(request[:-1] + b"!") is None
    assert icmp.echo_reply(wired(ip(version, dst=ROUTER[version]) / scapy.UDP())) is None
