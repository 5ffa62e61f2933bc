"""Bytes of ping: layouts from the RFCs, worked by hand or dissected by scapy, and decoders that never crash."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.ping import ancillary, udp_wire, wire

versions = st.sampled_from([4, 6])
tokens = st.integers(0, 2**64 - 1)
words = st.integers(0, 0xFFFF)


def test_checksum_is_that_of_the_rfcs_own_example():
    """RFC 1071 section 3 adds 0001 f203 f4f5 f6f7 to ddf2; the checksum is its complement."""
    assert wire.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_odd_data_is_padded_with_zero():
    """RFC 1071: an odd last octet counts as if a zero followed: 0x0100 alone here."""
    assert wire.checksum(b"\x01") == 0xFFFF - 0x0100


@given(st.binary(max_size=200))
def test_checksum_equals_the_textbook_loop(data):
    """The modular shortcut equals the loop of RFC 1071 section 4.1, word by word with end-around carry."""
    padded = data + b"\0" * (len(data) % 2)
    total = 0
    for high, low in zip(padded[::2], padded[1::2], strict=True):
        total += (high << 8) + low
        total = (total & 0xFFFF) + (total >> 16)
    assert wire.checksum(data) == 0xFFFF - total


def test_echo_request_is_laid_out_as_rfc_792_says():
    """Type 8, code 0, the flow as checksum, identifier, sequence, token (its least octet first), balance, filler: offset by offset."""
    packet = wire.echo_request(4, 0x1234, 0x0007, 0x0807060504030201, 20, flow=0xBEEF)
    assert len(packet) == 8 + 20
    assert packet[0:2] == b"\x08\x00"
    assert packet[2:4] == b"\xbe\xef"
    assert packet[4:8] == b"\x12\x34\x00\x07"
    assert packet[8:16] == bytes(range(1, 9))
    assert packet[18:] == b"isochrone "
    # By hand: 0800+beef+1234+0007+0102+0304+0506+0708 = e93e; "isochrone " = 6973+6f63+6872+6f6e+6520 = 2 15d6, carried
    # round 15d8; together ff16, so that the balance must be 00e9 to reach ffff.
    assert packet[16:18] == b"\x00\xe9"


@given(versions, words, words, tokens, st.integers(wire.MIN_PAYLOAD_BYTES, 1500), st.integers(1, 0xFFFE))
def test_every_packet_of_a_flow_has_one_valid_checksum(version, identifier, number, token, size, flow):
    """Whatever the number and token, the checksum is the flow's: the message sums to ffff with it in place."""
    packet = wire.echo_request(version, identifier, number, token, size, flow)
    assert len(packet) == 8 + size
    filled = packet[:2] + flow.to_bytes(2, "big") + packet[4:]
    assert wire.checksum(filled) == 0
    if version == 4:
        assert packet == filled


def test_scapy_agrees_that_the_packet_is_sound():
    """scapy, dissecting independently, reads our fields and computes the same checksum."""
    inet = pytest.importorskip("scapy.layers.inet")
    packet = wire.echo_request(4, 77, 9, 2**63 + 5, 56, 0x4242)
    seen = inet.ICMP(packet)
    assert (seen.type, seen.code, seen.id, seen.seq, seen.chksum) == (8, 0, 77, 9, 0x4242)
    del seen.chksum
    assert bytes(seen) == packet


def test_reply_is_read_back():
    """An echo reply is the request with another type; token and number come back."""
    request = wire.echo_request(6, 5, 6, 7, 56)
    assert wire.decode_icmp(6, b"\x81" + request[1:]) == wire.EchoReply(5, 6, 7)
    assert wire.decode_icmp(6, request) is None, "our own request, seen on loopback, is no answer"


def test_time_exceeded_from_scapy_gives_back_the_probe():
    """A time exceeded built by scapy around our request: who it was for, its number and token."""
    inet = pytest.importorskip("scapy.layers.inet")
    request = wire.echo_request(4, 321, 654, 987, 32)
    quoted = bytes(inet.IP(src="192.0.2.1", dst="198.51.100.9", ttl=1, proto=1)) + request
    message = bytes(inet.ICMP(type=11, code=0)) + quoted
    error = wire.decode_icmp(4, message)
    assert isinstance(error, wire.IcmpError)
    assert (error.icmp_type, error.icmp_code, error.length_words) == (11, 0, 0)
    assert wire.decode_quoted_echo(4, error.quoted) == wire.QuotedEcho(bytes([198, 51, 100, 9]), 321, 654, 987)


def test_quote_of_eight_octets_still_identifies_the_probe():
    """RFC 792 promises the IP header and 8 octets only: number yes, token no."""
    inet = pytest.importorskip("scapy.layers.inet")
    request = wire.echo_request(4, 321, 654, 987, 32)
    quoted = bytes(inet.IP(dst="198.51.100.9", proto=1, options=[inet.IPOption(b"\x01\x01\x01\x00")]))
    assert wire.decode_quoted_echo(4, quoted + request[:8]) == wire.QuotedEcho(bytes([198, 51, 100, 9]), 321, 654, None)


def test_ipv6_error_from_scapy_gives_back_the_probe():
    """RFC 4443: an ICMPv6 error quotes the IPv6 header, 40 octets, and then our request."""
    inet6 = pytest.importorskip("scapy.layers.inet6")
    request = wire.echo_request(6, 1, 2, 3, 32)
    quoted = bytes(inet6.IPv6(src="2001:db8::1", dst="2001:db8::2", nh=58, plen=len(request))) + request
    error = wire.decode_icmp(6, b"\x03\x00\x00\x00\x00\x00\x00\x00" + quoted)
    assert isinstance(error, wire.IcmpError)
    found = wire.decode_quoted_echo(6, error.quoted)
    assert found == wire.QuotedEcho(bytes.fromhex("20010db8000000000000000000000002"), 1, 2, 3)


@given(versions, st.binary(max_size=300))
def test_decoders_never_raise(version, data):
    """Anything may arrive on a raw socket: every decoder answers or says None."""
    message = wire.decode_icmp(version, data)
    if isinstance(message, wire.IcmpError):
        wire.decode_quoted_echo(version, message.quoted)
        wire.extension_of(version, message)
    wire.decode_quoted_echo(version, data)
    wire.decode_echo_header(version, data, b"")
    wire.strip_ipv4(data)
    udp_wire.decode(data)
    udp_wire.reply_to(data, 5)
    ancillary.read_ancillary([(level, kind, data) for level in (0, 1, 41) for kind in (2, 11, 25, 52, 65)])


@given(st.binary(min_size=20, max_size=100), st.integers(0, 255))
def test_ipv4_header_is_stripped_by_its_own_length(rest, ttl):
    """RFC 791: the header's length is in its low nibble, in words of 4; the TTL is octet 8."""
    header = bytes([0x46]) + bytes(7) + bytes([ttl]) + bytes(15)
    assert wire.strip_ipv4(header + rest) == (rest, ttl)


@given(tokens, st.integers(udp_wire.HEADER_BYTES, 1472), st.integers(-5, 2 * udp_wire.MAX_DWELL_NS))
def test_udp_reply_has_exactly_the_length_of_its_request(token, size, dwell_ns):
    """A reflector amplifies nothing, returns the token, and says a dwell only when it is plausible."""
    request = udp_wire.request(token, size)
    reply = udp_wire.reply_to(request, dwell_ns)
    assert reply is not None
    assert len(reply) == len(request) == size
    echo = udp_wire.decode(reply)
    assert echo is not None
    assert (echo.is_reply, echo.token) == (True, token)
    assert echo.dwell_ns == (dwell_ns if 0 < dwell_ns <= udp_wire.MAX_DWELL_NS else None)


def test_a_reply_is_never_answered():
    """Two reflectors that hear each other must not play ping-pong for ever."""
    reply = udp_wire.reply_to(udp_wire.request(1, 40), 0)
    assert reply is not None
    assert udp_wire.reply_to(reply, 0) is None


def test_stamps_and_errors_are_read_as_the_kernel_lays_them_out():
    """Layouts of linux/errqueue.h by hand: a stamp with its number, an ICMP error with offender and RFC 4884 offset."""
    stamp = struct.pack("@qqqqqq", 12, 34, 0, 0, 0, 0)
    timestamping = struct.pack("@IBBBBII", 42, 4, 0, 0, 0, 0, 99)
    seen = ancillary.read_ancillary([(1, 65, stamp), (0, 11, timestamping)])
    assert (seen.stamp_ns, seen.tx_number, seen.icmp_type) == (12_000_000_034, 99, None)
    offender = struct.pack("@H", 2) + b"\0\0" + bytes([192, 0, 2, 7]) + bytes(8)
    error = struct.pack("@IBBBBIHBB", 113, 2, 11, 0, 0, 0, 120, 0, 0) + offender
    seen = ancillary.read_ancillary([(0, 11, error), (0, 2, struct.pack("@i", 61))])
    assert (seen.icmp_type, seen.icmp_code, seen.offender, seen.extension_offset, seen.ttl) == (11, 0, bytes([192, 0, 2, 7]), 120, 61)
    assert seen.tx_number is None
