"""TCP_INFO: the kernel's struct, read by offsets, against the kernel and against hand-made bytes."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from probes.tcp_info import BbrInfo, TcpInfo, available_congestion_controls, parse_bbr_info, parse_tcp_info, read_tcp_info


def test_fields_are_at_their_offsets() -> None:
    """A struct laid out by Linux' include/uapi/linux/tcp.h is read field by field."""
    head = bytes(8)
    words = list(range(1000, 1024))  # rto .. total_retrans: 24 words of 4 bytes
    raw = (
        head
        + struct.pack("=24I", *words)
        + struct.pack("=4Q", 1, 2, 777, 3)
        + struct.pack("=6I", 4, 5, 6, 99, 7, 8)
        + struct.pack("=Q", 125_000)
    )
    # unacked is word 4 after rto, rtt 15, rttvar 16, total_retrans the last; bytes_acked the third quad; min_rtt the fourth word after,
    # data_segs_in the one behind it; snd_mss is word 2
    assert parse_tcp_info(raw) == TcpInfo(
        rtt_ns=1015_000,
        rtt_variation_ns=1016_000,
        min_rtt_ns=99_000,
        retransmits=1023,
        acked_bytes=777,
        delivery_rate_bps=1_000_000,
        unacked_segments=1004,
        mss_bytes=1002,
        data_segments_in=7,
        is_app_limited=False,
    )
    assert parse_tcp_info(bytes(7) + b"\1" + raw[8:]).is_app_limited


def test_what_bbr_says() -> None:
    """struct tcp_bbr_info: 2^32 + 1 bytes a second, 20 ms, gains of its start (739/256) and of later (256/256); short is nothing."""
    assert parse_bbr_info(struct.pack("=5I", 1, 1, 20_000, 739, 739)) == BbrInfo(
        bandwidth_bps=8 * (2**32 + 1), min_rtt_ns=20_000_000, is_starting=True
    )
    later = parse_bbr_info(struct.pack("=5I", 125, 0, 0xFFFFFFFF, 256, 512))
    assert later == BbrInfo(bandwidth_bps=1000, min_rtt_ns=None, is_starting=False)
    assert parse_bbr_info(struct.pack("=5I", 0, 0, 1, 739, 739)) is None
    assert parse_bbr_info(bytes(19)) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read(raw: bytes) -> None:
    """Short, long and odd structs never fail; no sample is None, not 0."""
    info = parse_tcp_info(raw)
    assert info.rtt_ns != 0
    assert info.min_rtt_ns is None or 0 < info.min_rtt_ns < 0xFFFFFFFF * 1000


def test_kernel_counts_what_was_acknowledged() -> None:
    """On a real connection the acknowledged bytes are those that were sent, and there is an RTT; a closed one has nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x" * 5000)
            left = 5000
            while left:
                left -= len(accepted.recv(left))
            accepted.sendall(b"y")
            client.recv(1)
            info = read_tcp_info(client)
    assert info.acked_bytes in (5000, 5001)  # Linux counts the SYN
    assert info.rtt_ns is not None
    assert info.min_rtt_ns is not None
    assert info.min_rtt_ns <= 1_000_000_000
    assert read_tcp_info(client) == TcpInfo()
    assert available_congestion_controls()
