"""Many packets in one system call: Linux's sendmmsg(2) by ctypes; the other direction of `mmsg`, and the same structures.

All that differs from packet to packet is written into memory that stays: a destination and the octets of the packet.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from probes.ping.mmsg import library_call

__all__ = ["BURST", "Outbox"]

#: So many leave together. The program's own clocks are read once for all of them, so that where the kernel gives no transmit stamp
#: the last seems to leave earlier than it does by what the kernel takes for the others: some 5 us each.
BURST = 32
_NAME_BYTES = 32
_POINTERS = struct.Struct("@QI4xQQQQi4xI4x")
_IOVEC = struct.Struct("@QQ")
_LENGTH = struct.Struct("@Q")
_NAME_V4 = struct.Struct("=H2x4s8x")
_NAME_V6 = struct.Struct("=H6x16sI")
_NAMES_KEPT = 65_536
_sendmmsg = library_call("sendmmsg")


class Outbox:
    """Slots for BURST packets of up to `packet_bytes` octets; fill `memory` from `data_at[slot]` on, `address` it, and `send`.

    sock     it stays the caller's
    filler   what a packet holds behind whatever is written into its slot

    Raises OSError on a system without sendmmsg.
    """

    def __init__(self, sock: socket.socket, packet_bytes: int, filler: bytes) -> None:
        if _sendmmsg is None:
            raise OSError("this system has no sendmmsg")
        self._call = _sendmmsg
        self._sock = sock
        self._is_v4 = sock.family == socket.AF_INET
        name_bytes = _NAME_V4.size if self._is_v4 else _NAME_V6.size
        iovecs_at = BURST * _POINTERS.size
        self._iovecs_at = iovecs_at
        first, stride = iovecs_at + BURST * _IOVEC.size, _NAME_BYTES + (packet_bytes + 15) // 16 * 16
        self.memory = bytearray(first + BURST * stride)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._base = ctypes.c_void_p(base)
        self.packet_bytes = packet_bytes
        self.name_slices = [slice(at, at + name_bytes) for at in range(first, first + BURST * stride, stride)]
        self.data_at = [first + _NAME_BYTES + slot * stride for slot in range(BURST)]
        for slot, data in enumerate(self.data_at):
            iovec = iovecs_at + slot * _IOVEC.size
            _IOVEC.pack_into(self.memory, iovec, base + data, packet_bytes)
            _POINTERS.pack_into(self.memory, slot * _POINTERS.size, base + data - _NAME_BYTES, name_bytes, base + iovec, 1, 0, 0, 0, 0)
            self.memory[data : data + packet_bytes] = filler[:packet_bytes]
        self.sizes = [packet_bytes] * BURST
        self.names: dict[str, bytes] = {}

    def name(self, host: str) -> bytes:
        """The socket address of a numeric host. Raises OSError for what is none, and for an interface that is not there."""
        found = self.names.get(host)
        if found is None:
            if self._is_v4:
                found = _NAME_V4.pack(socket.AF_INET, socket.inet_aton(host))
            else:
                bare, _, interface = host.partition("%")
                found = _NAME_V6.pack(
                    socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare), socket.if_nametoindex(interface) if interface else 0
                )
            if len(self.names) >= _NAMES_KEPT:
                self.names.clear()
            if "%" not in host:  # an interface's number may change
                self.names[host] = found
        return found

    def resize(self, slot: int, size: int) -> None:
        """The packet in this slot has `size` octets."""
        if self.sizes[slot] != size:
            self.sizes[slot] = size
            _LENGTH.pack_into(self.memory, self._iovecs_at + slot * _IOVEC.size + 8, size)

    def send(self, count: int) -> int:
        """Hand the packets of the first `count` slots to the kernel: how many it took before it refused one; -1 for none."""
        return self._call(self._sock.fileno(), self._base, count, 0)
