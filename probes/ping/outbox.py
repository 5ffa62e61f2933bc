"""Many packets in one system call: Linux's sendmmsg(2) by ctypes; the other direction of `mmsg`, and the same structures.

All that differs from packet to packet is written into memory that stays: a destination and the octets of the packet.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from probes.ping.mmsg import library_call

__all__ = ["BURST", "Outbox", "socket_name"]

#: So many leave together. The program's own clocks are read once for all of them: see StampQueue on those that get no stamp.
BURST = 128
_NAME_BYTES = 32
_POINTERS = struct.Struct("@QI4xQQQQi4xI4x")
_IOVEC = struct.Struct("@QQ")
_LENGTH = struct.Struct("@Q")
_NAME_V4 = struct.Struct("=H2x4s8x")
_NAME_V6 = struct.Struct("=H6x16sI")
_sendmmsg = library_call("sendmmsg")


def socket_name(family: socket.AddressFamily | int, host: str) -> bytes:
    """The socket address of a numeric host. Raises OSError for what is none, and for an interface that is not there."""
    if family == socket.AF_INET:
        return _NAME_V4.pack(family, socket.inet_aton(host))
    bare, _, interface = host.partition("%")
    return _NAME_V6.pack(family, socket.inet_pton(family, bare), socket.if_nametoindex(interface) if interface else 0)


class Outbox:
    """Slots for BURST packets of up to `packet_bytes` octets; fill `memory` from `slots_at[slot]` on, and `send`.

    A slot is a socket address, in 32 octets, and behind it the packet, of `sizes[slot]` octets.

    sock     it stays the caller's
    filler   what a packet holds behind whatever is written into its slot

    Raises OSError on a system without sendmmsg.
    """

    def __init__(self, sock: socket.socket, packet_bytes: int, filler: bytes) -> None:
        if _sendmmsg is None:
            raise OSError("this system has no sendmmsg")
        self._call = _sendmmsg
        self._sock = sock
        name_bytes = _NAME_V4.size if sock.family == socket.AF_INET else _NAME_V6.size
        iovecs_at = BURST * _POINTERS.size
        self._iovecs_at = iovecs_at
        first, stride = iovecs_at + BURST * _IOVEC.size, _NAME_BYTES + (packet_bytes + 15) // 16 * 16
        self.memory = bytearray(first + BURST * stride)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._base = ctypes.c_void_p(base)
        self.slots_at = range(first, first + BURST * stride, stride)
        for slot, at in enumerate(self.slots_at):
            iovec, data = iovecs_at + slot * _IOVEC.size, at + _NAME_BYTES
            _IOVEC.pack_into(self.memory, iovec, base + data, packet_bytes)
            _POINTERS.pack_into(self.memory, slot * _POINTERS.size, base + at, name_bytes, base + iovec, 1, 0, 0, 0, 0)
            self.memory[data : data + packet_bytes] = filler[:packet_bytes]
        self.sizes = [packet_bytes] * BURST

    def resize(self, slot: int, size: int) -> None:
        """The packet in this slot has `size` octets."""
        self.sizes[slot] = size
        _LENGTH.pack_into(self.memory, self._iovecs_at + slot * _IOVEC.size + 8, size)

    def send(self, count: int) -> int:
        """Hand the packets of the first `count` slots to the kernel: how many it took before it refused one; -1 for none."""
        return self._call(self._sock.fileno(), self._base, count, 0)
