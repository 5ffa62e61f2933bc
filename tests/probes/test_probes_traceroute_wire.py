"""Bytes of traceroute: UDP probes and label stacks dissected by scapy or worked by hand; decoders that never crash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.ping.wire import checksum
from probes.traceroute import wire
from records.measurement import MplsLabel

SRC, DST = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 9])


def extension(*objects, check=None):
    """An RFC 4884 structure by hand: version 2, checksum over all of it, then the objects."""
    body = b"".join(objects)
    bare = b"\x20\x00\x00\x00" + body
    value = checksum(bare) if check is None else check
    return bare[:2] + value.to_bytes(2, "big") + body


def labels(*entries, kind=(1, 1)):
    """An MPLS object: length, class, type, 4 octets per entry (RFC 4950)."""
    body = b"".join(entry.to_bytes(4, "big") for entry in entries)
    return (4 + len(body)).to_bytes(2, "big") + bytes(kind) + body


def test_udp_probe_is_what_scapy_reads():
    """scapy, dissecting independently, finds our fields and agrees with the UDP checksum."""
    inet = pytest.importorskip("scapy.layers.inet")
    packet = wire.ipv4_udp(SRC, DST, 40001, 33435, 7, 0xABCD, 2**40 + 3)
    seen = inet.IP(packet)
    assert (seen.src, seen.dst, seen.ttl, seen.id, seen.proto, seen.len) == ("192.0.2.1", "198.51.100.9", 7, 0xABCD, 17, 60)
    assert (seen[inet.UDP].sport, seen[inet.UDP].dport, seen[inet.UDP].len) == (40001, 33435, 40)
    ours = seen[inet.UDP].chksum
    del seen[inet.UDP].chksum
    assert inet.IP(bytes(seen))[inet.UDP].chksum == ours


@given(st.integers(1, 0xFFFF), st.integers(0, 2**64 - 1), st.integers(1, 64))
def test_a_quoted_udp_probe_gives_back_its_number(number, token, ttl):
    """From the whole packet number and token; from the promised 28 octets the number alone; from less, nothing."""
    packet = wire.ipv4_udp(SRC, DST, 40001, 33434, ttl, number, token)
    assert wire.decode_quoted_udp(packet) == wire.QuotedUdp(DST, number, 40001, 33434, token)
    assert wire.decode_quoted_udp(packet[:28]) == wire.QuotedUdp(DST, number, 40001, 33434, None)
    assert wire.decode_quoted_udp(packet[:27]) is None


def test_label_stack_by_hand():
    """Labels 16001 (class 5, not bottom, TTL 1) and 24 (class 0, bottom, TTL 254): RFC 4950's bits, outermost first."""
    outer = 16001 << 12 | 5 << 9 | 0 << 8 | 1
    inner = 24 << 12 | 0 << 9 | 1 << 8 | 254
    assert wire.decode_labels(extension(labels(outer, inner))) == (
        MplsLabel(label=16001, traffic_class=5, bottom=False, ttl=1),
        MplsLabel(label=24, traffic_class=0, bottom=True, ttl=254),
    )


def test_label_stack_from_scapy():
    """The same structure built by scapy's own classes."""
    inet = pytest.importorskip("scapy.layers.inet")
    mpls = pytest.importorskip("scapy.contrib.mpls")
    built = bytes(inet.ICMPExtension_Header() / mpls.ICMPExtension_MPLS(stack=[mpls.MPLS(label=300, cos=2, s=1, ttl=9)]))
    assert wire.decode_labels(built) == (MplsLabel(label=300, traffic_class=2, bottom=True, ttl=9),)


def test_other_objects_are_stepped_over():
    """An interface object (class 2, RFC 5837) before the labels is skipped by its length."""
    entry = 7 << 12 | 1 << 8 | 3
    assert [label.label for label in wire.decode_labels(extension(labels(0xDEADBEEF, kind=(2, 0)), labels(entry)))] == [7]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x20\x00",
        b"\x10" + extension(labels(0x1000))[1:],  # version 1
        extension(labels(0x1000), check=0x1234),  # wrong checksum
        extension(b"\x00\x03\x01\x01"),  # an object shorter than its header
        extension(b"\x00\x40\x01\x01\x00\x00\x10\x00"),  # an object longer than the structure
        bytes(40),  # padding of a router that does not know RFC 4884
    ],
)
def test_what_is_no_extension_has_no_labels(data):
    """Malformed or absent: no labels, no exception."""
    assert wire.decode_labels(data) == ()


@given(st.binary(max_size=200))
def test_decoders_never_raise(data):
    """Any octets: an answer or None."""
    wire.decode_labels(data)
    wire.decode_labels(b"\x20\x00\x00\x00" + data)
    wire.decode_quoted_udp(data)
    wire.token_of(data)


def test_flows_have_checksums_of_their_own():
    """256 flows, 256 different checksums, none of them 0 or ffff."""
    flows = [wire.icmp_flow(flow) for flow in range(256)]
    assert len(set(flows)) == 256
    assert all(0 < flow < 0xFFFF for flow in flows)
