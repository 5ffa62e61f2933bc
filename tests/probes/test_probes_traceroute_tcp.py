"""Bytes of TCP traceroute, of its filters and of the evidence: built or dissected by scapy, and by random octets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.ping.wire import IcmpError, decode_icmp, extension_of
from probes.traceroute import tcp_wire, wire
from probes.traceroute.evidence import marks_of
from probes.traceroute.filters import error_filter, evidence_filter, segment_filter
from records.measurement import MplsLabel

scapy = pytest.importorskip("scapy.all", reason="scapy builds the packets of these tests")
inet6 = pytest.importorskip("scapy.layers.inet6")
mpls = pytest.importorskip("scapy.contrib.mpls")

SRC, DST = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "198.51.100.9", 6: "2001:db8:9::9"}
ROUTER = {4: "203.0.113.3", 6: "2001:db8:3::3"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def ip(version, **fields):
    return (scapy.IP if version == 4 else scapy.IPv6)(src=SRC[version], dst=DST[version], **fields)


def raw(packet):
    return scapy.raw(packet)


def expired(version, packet, cut=None):
    """A time-exceeded message about a packet as scapy builds it, from its IP header on; `cut` octets are quoted."""
    quote = raw(packet)[:cut]
    head = (scapy.IP if version == 4 else scapy.IPv6)(src=ROUTER[version], dst=SRC[version])
    return head / (scapy.ICMP(type=11, code=0) if version == 4 else inet6.ICMPv6TimeExceeded()) / scapy.Raw(quote)


def test_a_syn_is_what_scapy_reads():
    """scapy finds our fields, the option of RFC 9293 and the same checksum."""
    source, destination = (bytes(map(int, host[4].split("."))) for host in (SRC, DST))
    segment = tcp_wire.syn(40001, 443, 0xABCD1234, tcp_wire.pseudo_header_v4(source, destination))
    seen = scapy.IP(raw(scapy.IP(src=SRC[4], dst=DST[4], proto=6) / scapy.Raw(segment)))
    tcp = seen[scapy.TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack, str(tcp.flags), tcp.options) == (40001, 443, 0xABCD1234, 0, "S", [("MSS", 1460)])
    ours = tcp.chksum
    del tcp.chksum
    assert scapy.IP(raw(seen))[scapy.TCP].chksum == ours


@VERSIONS
@pytest.mark.parametrize("cut", [0, 8])
def test_a_quoted_syn_is_known_by_eight_octets(version, cut):
    """The whole packet or the promised 8 octets behind the IP header give ports and sequence; 7 give nothing."""
    probe = ip(version) / scapy.TCP(sport=40001, dport=443, seq=0xFFFE0007, flags="S")
    header = 20 if version == 4 else 40
    error = decode_icmp(version, raw(expired(version, probe, header + cut if cut else None))[header:])
    assert isinstance(error, IcmpError)
    quoted = tcp_wire.decode_quoted_syn(version, error.quoted)
    assert (quoted.source_port, quoted.port, quoted.sequence) == (40001, 443, 0xFFFE0007)
    assert quoted.destination == raw(probe)[16:20] if version == 4 else raw(probe)[24:40]
    assert tcp_wire.decode_quoted_syn(version, error.quoted[: header + 7]) is None


def test_a_quote_behind_ip_options_is_found():
    """A router that quotes a header with options (here 8 octets of them) does not move the ports."""
    probe = scapy.IP(src=SRC[4], dst=DST[4], options=[scapy.IPOption_RR(routers=["0.0.0.0"])]) / scapy.TCP(sport=5, dport=6, seq=7)
    assert tcp_wire.decode_quoted_syn(4, raw(probe)) == tcp_wire.QuotedSyn(raw(probe)[16:20], 5, 6, 7)


@pytest.mark.parametrize(("flags", "is_open"), [("SA", True), ("RA", False)])
def test_answers_of_the_target(flags, is_open):
    """SYN and ACK: open; RST and ACK: closed; both acknowledge our sequence plus one, also past the end of 32 bits."""
    for sequence in (1, 0xFFFFFFFF):
        segment = raw(scapy.TCP(sport=443, dport=40001, seq=9, ack=(sequence + 1) & 0xFFFFFFFF, flags=flags))
        assert tcp_wire.decode_syn_answer(segment) == tcp_wire.SynAnswer(443, 40001, sequence, is_open)


@pytest.mark.parametrize("flags", ["S", "A", "R", "FA", "PA", ""])
def test_other_segments_answer_no_syn(flags):
    """Data, a plain ACK of another SYN, our own SYN, a RST that acknowledges nothing."""
    assert tcp_wire.decode_syn_answer(raw(scapy.TCP(sport=443, dport=40001, ack=1, flags=flags))) is None


def test_labels_of_a_whole_error_over_ipv6():
    """RFC 4884 over IPv6 counts the quote in 8 octets: scapy's extension behind 128 octets is found by the length 16."""
    quote = raw(ip(6) / scapy.TCP(sport=1, dport=2))[:128].ljust(128, b"\0")
    extension = raw(scapy.ICMPExtension_Header() / mpls.ICMPExtension_MPLS(stack=[mpls.MPLS(label=77, cos=3, s=1, ttl=2)]))
    error = decode_icmp(6, bytes([3, 0, 0, 0, 16, 0, 0, 0]) + quote + extension)
    assert isinstance(error, IcmpError)
    assert wire.decode_labels(extension_of(6, error)) == (MplsLabel(label=77, traffic_class=3, bottom=True, ttl=2),)


def runs(program, packet):
    """What a classic BPF program lets in, by the rules of McCanne and Jacobson (1993); a load past the end drops the packet."""
    a = x = at = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code in {0x30, 0x28, 0x50, 0x48}:
            start, size = k + (x if code in {0x50, 0x48} else 0), 1 if code in {0x30, 0x50} else 2
            if start + size > len(packet):
                return False
            a = int.from_bytes(packet[start : start + size], "big")
        elif code == 0xB1:
            if k >= len(packet):
                return False
            x = (packet[k] & 15) * 4
        elif code in {0x54, 0x64, 0x74, 0x0C}:
            a = {0x54: a & k, 0x64: a << k, 0x74: a >> k, 0x0C: a + x}[code]
        elif code == 0x07:
            x = a
        elif code == 0x05:
            at += k
        elif code == 0x15:
            at += yes if a == k else no
        elif code == 0x06:
            return k > 0
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


PORTS = [40001, *range(50000, 50255)]


@VERSIONS
@pytest.mark.parametrize("ports", [PORTS[:1], PORTS])
def test_filters_let_in_what_is_ours_and_nothing_else(version, ports):
    """Errors about, and segments to, any of 1 or 256 ports; not about others, other protocols, or cut quotes."""
    header = 20 if version == 4 else 40
    skip = 0 if version == 4 else header  # raw IPv6 sockets hand over no IP header
    errors, segments = error_filter(version, 6, ports), segment_filter(version, ports)
    for port, protocol in itertools.product((ports[0], ports[-1], 39999), (scapy.TCP, scapy.UDP)):
        error = raw(expired(version, ip(version) / protocol(sport=port, dport=443), header + 8))
        assert runs(errors, error[skip:]) == (port in ports and protocol is scapy.TCP)
        assert not runs(errors, error[skip:-8])
        back = raw((scapy.IP if version == 4 else scapy.IPv6)(src=DST[version], dst=SRC[version]) / scapy.TCP(sport=443, dport=port))
        assert runs(segments, back[skip:]) == (port in ports)
    echo = raw(ip(version) / (scapy.ICMP() if version == 4 else inet6.ICMPv6EchoRequest()))
    assert not runs(errors, echo[skip:])


@VERSIONS
@pytest.mark.parametrize("layer", ["TCP", "UDP", "echo"])
def test_evidence_knows_its_packets(version, layer):
    """Probe packet, answer and error each bear the mark of ours and pass the filter; other ports and identifiers do not."""
    echo = (
        (lambda n, reply: scapy.ICMP(type=0 if reply else 8, id=n))
        if version == 4
        else (lambda n, reply: (inet6.ICMPv6EchoReply if reply else inet6.ICMPv6EchoRequest)(id=n))
    )
    protocol = {"TCP": 6, "UDP": 17, "echo": 1 if version == 4 else 58}[layer]
    program = evidence_filter(protocol, [777])
    for number in (777, 778):
        there = ip(version) / (echo(number, False) if layer == "echo" else getattr(scapy, layer)(sport=number, dport=33434))
        back = (scapy.IP if version == 4 else scapy.IPv6)(src=DST[version], dst=SRC[version])
        back /= echo(number, True) if layer == "echo" else getattr(scapy, layer)(sport=33434, dport=number)
        for packet in (there, back, expired(version, there)):
            assert ((protocol, 777) in marks_of(raw(packet))) == (number == 777)
            if number == 777:
                assert runs(program, raw(packet))
    assert not runs(program, raw(ip(version) / scapy.GRE()))
    about_an_error = expired(version, expired(version, there))
    assert marks_of(raw(about_an_error)) == frozenset()


@given(st.binary(max_size=120), st.sampled_from([4, 6]), st.sampled_from([b"", b"\x45", b"\x60"]))
def test_decoders_never_raise(data, version, first):
    """Any octets, also such as begin like a packet: an answer or None."""
    data = first + data
    tcp_wire.decode_quoted_syn(version, data)
    tcp_wire.decode_syn_answer(data)
    assert all(0 <= mark <= 0xFFFF for _, mark in marks_of(data))


@given(st.data())
def test_decoders_never_raise_on_broken_packets(data):
    """A true error, cut anywhere and with octets changed, is read or not; it never gives a port of another packet when whole."""
    version = data.draw(st.sampled_from([4, 6]))
    probe = ip(version) / scapy.TCP(sport=data.draw(st.integers(0, 0xFFFF)), dport=443)
    packet = bytearray(raw(expired(version, probe)))
    for at in data.draw(st.lists(st.integers(0, len(packet) - 1), max_size=4)):
        packet[at] ^= data.draw(st.integers(1, 255))
    message = bytes(packet[: data.draw(st.integers(0, len(packet)))])[20 if version == 4 else 40 :]
    error = decode_icmp(version, message)
    if isinstance(error, IcmpError):
        tcp_wire.decode_quoted_syn(version, error.quoted)
        wire.decode_quoted_udp(error.quoted)
        wire.decode_labels(extension_of(version, error))
    marks_of(bytes(packet))
