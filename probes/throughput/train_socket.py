"""The sockets of packet trains: sending them with pauses, receiving them with the kernel's stamps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Sequence

from probes.ping import ancillary as linux
from probes.throughput import train

__all__ = ["TrainReceiver", "open_train_socket", "send_trains"]

_BUFFER_BYTES = 4 << 20
_RECEIVE_STAMPS = (1 << 3) | (1 << 4)  # SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE
_SOL_UDP, _UDP_SEGMENT = 17, 103
_SEGMENT = struct.pack("@H", train.PAYLOAD_BYTES)
#: Between trains: so long that a slow bottleneck's queue drains, in the time of a packet at 10 Mbit/s each.
_PAUSE_PER_PACKET_S = 0.0013


def open_train_socket(family: int, host: str) -> socket.socket:
    """A UDP socket on a free port whose receipts are stamped."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        with contextlib.suppress(OSError):  # then the program's clock is used
            sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, _RECEIVE_STAMPS)
        sock.bind((host, 0))
    except BaseException:
        sock.close()
        raise
    return sock


async def send_trains(sock: socket.socket, lengths: Sequence[int], lease: bytes, spend: Callable[[int], None] | None = None) -> int:
    """Send trains over a connected socket; returns the bytes handed to the kernel, and tells `spend` of them as they go.

    The kernel takes a train in one piece and cuts it into packets (UDP_SEGMENT, Linux 4.18), so that a busy host cannot tear it
    apart; where it does not, packets are handed over one by one and say when.
    """
    sent, is_whole = 0, True

    def went(count: int) -> None:
        nonlocal sent
        sent += count
        if spend is not None:
            spend(count)

    for number, length in enumerate(lengths):
        if is_whole:
            one_piece = b"".join(train.packet(lease, number, place, length) for place in range(length))
            try:
                went(sock.sendmsg((one_piece,), ((_SOL_UDP, _UDP_SEGMENT, _SEGMENT),)))
            except (BlockingIOError, ConnectionRefusedError):
                pass
            except OSError:
                is_whole = False
        if not is_whole:
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # a full buffer ends a train early
                for place in range(length):
                    went(sock.send(train.packet(lease, number, place, length, time.monotonic_ns())))
        await asyncio.sleep(_PAUSE_PER_PACKET_S * length)
    return sent


class TrainReceiver:
    """Keeps what arrives at a socket; `close` stops it and closes the socket."""

    def __init__(self, sock: socket.socket, lease: bytes) -> None:
        self.arrivals: list[train.Arrival] = []
        self.received_bytes = 0
        self.greeted: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._sock, self._lease = sock, lease
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        while True:
            try:
                data, messages, _, address = self._sock.recvmsg(2048, 256)
            except OSError:
                return
            stamp_ns = linux.read_ancillary(messages).stamp_ns
            arrival = train.decode_packet(data, self._lease, time.time_ns() if stamp_ns is None else stamp_ns)
            if arrival is None:
                continue
            if arrival.train == train.HELLO_TRAIN:
                if not self.greeted.done():
                    self.greeted.set_result(address)
                continue
            self.received_bytes += len(data)
            if len(self.arrivals) < 4096:
                self.arrivals.append(arrival)

    def close(self) -> None:
        """Idempotent."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        self.greeted.cancel()
