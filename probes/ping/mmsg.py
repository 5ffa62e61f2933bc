"""Many messages in one system call: Linux's recvmmsg(2) by ctypes, and the same by plain recvmsg where that is missing.

A busy engine reads two messages per probe packet, its reply and its transmit stamp. One call for 128 of them, into memory
that stays, costs a third of 128 calls. Layout of the kernel's structures on 64-bit Linux (linux/socket.h, bits/socket.h)::

    mmsghdr   offset  octets  field
              0       8       pointer to the address      16      8   pointer to the iovec
              8       4       its length                  24      8   number of iovecs
              32      8       pointer to the control messages
              40      8       their length                48      4   flags
              56      4       length of the message
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from probes.ping import ancillary as linux
from probes.ping.addresses import scoped
from probes.ping.clock import clocks
from probes.ping.timing import Reading

__all__ = ["HOST_AT", "Inbox", "Incoming", "library_call"]

_SLOTS = 128
_NAME_BYTES = 32
#: How many shapes of messages are remembered: a few lengths of packets, and the stamps of sent ones.
_SHAPES = 16
#: Room for a stamp, a TTL, and an ICMP error with its offender; what does not fit the kernel leaves out.
_CONTROL_BYTES = 256
_HEADER = struct.Struct("@8xI4x8x8x8xQi4xI4x")
_POINTERS = struct.Struct("@QI4xQQQQi4xI4x")
_IOVEC = struct.Struct("@QQ")
_LENGTH = struct.Struct("@I")
_SCOPE = struct.Struct("@I")
#: Where in a name (sockaddr_in, sockaddr_in6) what `Inbox.host` takes lies: IPv4's 4 octets; IPv6's 16 and those of its scope.
HOST_AT = {4: (4, 8), 6: (8, 28)}


@dataclass(slots=True)
class Incoming:
    """One thing read from a socket.

    data     the packet, cut at the inbox's size; or, for an error of the error queue, the quoted packet from its transport
             header on
    host, port   the packet's source; for a queued error, where the quoted packet was going
    beside   stamp, TTL and, for a queued error, the ICMP type and who sent it
    is_queued_error   came from the error queue
    picked_up   the clocks when the program had it
    """

    data: bytes
    host: str
    port: int
    beside: linux.Ancillary
    is_queued_error: bool
    picked_up: Reading


def library_call(name: str) -> Callable[..., int] | None:
    """recvmmsg or sendmmsg of the C library; None on another system, or where its structures are laid out otherwise."""
    if sys.platform != "linux" or struct.calcsize("@P") != 8:
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    return found


_recvmmsg = library_call("recvmmsg")


class Inbox:
    """Reads whatever waits on a non-blocking socket.

    sock           it stays the caller's
    message_bytes  the most that is kept of a message
    plain          use recvmsg even where recvmmsg is there

    `is_batched` says whether recvmmsg is what reads.
    """

    def __init__(self, sock: socket.socket, message_bytes: int, *, plain: bool = False) -> None:
        self._sock = sock
        self._is_v4 = sock.family == socket.AF_INET
        self._message_bytes = message_bytes
        self._host_at, self._host_end = HOST_AT[4 if self._is_v4 else 6]
        self._call = None if plain else _recvmmsg
        self.is_batched = self._call is not None
        if self._call is not None:
            self._lay_out()

    def _lay_out(self) -> None:
        """One block of memory: all headers, all iovecs, and then address, control messages and data of each slot."""
        headers_bytes, iovecs_bytes = _SLOTS * _HEADER.size, _SLOTS * _IOVEC.size
        self._first = headers_bytes + iovecs_bytes
        self._stride = _NAME_BYTES + _CONTROL_BYTES + (self._message_bytes + 15) // 16 * 16
        self._memory = bytearray(self._first + _SLOTS * self._stride)
        self._slots = memoryview(self._memory)[self._first :]
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for slot in range(_SLOTS):
            at = base + self._first + slot * self._stride
            iovec = headers_bytes + slot * _IOVEC.size
            control = at + _NAME_BYTES
            _IOVEC.pack_into(self._memory, iovec, control + _CONTROL_BYTES, self._message_bytes)
            _POINTERS.pack_into(self._memory, slot * _HEADER.size, at, _NAME_BYTES, base + iovec, 1, control, _CONTROL_BYTES, 0, 0)
        self._headers_at = ctypes.c_void_p(base)
        self._headers = memoryview(self._memory)[:headers_bytes]
        # The kernel overwrites lengths and flags of what it fills in; the next call begins from these.
        self._fresh = bytes(self._headers)
        self._used = 0
        self._shapes: dict[tuple[int, int, int, int], bytes] = {}

    def read(self, at_most: int) -> list[Incoming]:
        """The packets that wait, up to about `at_most` of them.

        Raises OSError for a pending error of the socket; BlockingIOError never. Packets that wait behind one that was read
        before such an error came up are left to the next call.
        """
        return self._plain(at_most, 0, None) if self._call is None else self._batched(at_most, 0, None)

    def read_queue(self, at_most: int, stamp: Callable[[int, int], None]) -> list[Incoming]:
        """The same of the error queue: ICMP errors. Transmit stamps go to `stamp`: number of the packet, wall clock in ns."""
        if self._call is None:
            return self._plain(at_most, socket.MSG_ERRQUEUE, stamp)
        return self._batched(at_most, socket.MSG_ERRQUEUE, stamp)

    def _plain(self, at_most: int, flags: int, stamp: Callable[[int, int], None] | None) -> list[Incoming]:
        found: list[Incoming] = []
        for came in range(at_most):
            try:
                data, messages, _, address = self._sock.recvmsg(self._message_bytes, _CONTROL_BYTES, flags)
            except BlockingIOError:
                break
            except OSError:
                if came:
                    break
                raise
            beside = linux.read_ancillary(messages)
            if stamp is not None and beside.tx_number is not None:
                if beside.stamp_ns is not None:
                    stamp(beside.tx_number, beside.stamp_ns)
            elif address:
                host = scoped(address[0], address[3]) if len(address) > 2 and address[3] else address[0]
                found.append(Incoming(data, host, address[1], beside, flags != 0, clocks()))
        return found

    def _batched(self, at_most: int, flags: int, stamp: Callable[[int, int], None] | None) -> list[Incoming]:
        found: list[Incoming] = []
        for count, picked_up in self.batches(at_most, flags):
            for slot in range(count):
                one = self.incoming(slot, picked_up, flags != 0, stamp)
                if one is not None:
                    found.append(one)
        return found

    def batches(self, at_most: int, flags: int) -> Iterator[tuple[int, Reading]]:
        """Read up to about `at_most` messages, some at a time: how many lie in memory now, and the clocks just then.

        Look at them by `rows` or `incoming` before the next batch takes their place. Raises what `read` raises; only where
        `is_batched`.
        """
        assert self._call is not None
        headers = self._headers
        for came in range(0, at_most, _SLOTS):
            headers[: self._used] = self._fresh[: self._used]
            count = self._call(self._sock.fileno(), self._headers_at, _SLOTS, flags, None)
            if count < 0:
                self._used = _HEADER.size
                number = ctypes.get_errno()
                if came or number in {errno.EAGAIN, errno.EINTR}:
                    return
                raise OSError(number, os.strerror(number))
            self._used = count * _HEADER.size
            yield count, clocks()
            if count < _SLOTS:
                return

    def rows(self, layout: struct.Struct, control_bytes: int, data_bytes: int = 0) -> Iterator[tuple[Any, ...]] | None:
        """The messages of this batch, all in one pass, each as `layout` takes it apart; None unless they are all of one shape.

        layout          of a whole slot, see `slot_layout`
        control_bytes, data_bytes   the least that must lie in each: what an earlier message left in memory is not read
        """
        said = bytes(self._headers[: self._used])
        name_bytes, said_bytes, flags, length = _HEADER.unpack_from(said)
        shape = (name_bytes, said_bytes, flags, length)
        alike = self._shapes.get(shape)
        if alike is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            alike = self._shapes[shape] = self._all_of(*shape)
        if said_bytes < control_bytes or length < data_bytes or said != alike[: self._used]:
            return None
        return layout.iter_unpack(self._slots[: self._used // _HEADER.size * self._stride])

    def _all_of(self, name_bytes: int, control_bytes: int, flags: int, length: int) -> bytes:
        """The headers as they are when the kernel has filled every slot with a message of this shape."""
        headers = bytearray(self._fresh)
        for at in range(0, len(headers), _HEADER.size):
            for place, value in ((8, name_bytes), (40, control_bytes), (48, flags), (56, length)):
                _LENGTH.pack_into(headers, at + place, value)
        return bytes(headers)

    def slot_layout(self, name: str, control: str, data: str) -> struct.Struct:
        """What `rows` takes a slot apart with, from the formats of the beginning of its address, control messages and data."""
        parts = ((name, _NAME_BYTES), (control, _CONTROL_BYTES), (data, self._stride - _NAME_BYTES - _CONTROL_BYTES))
        return struct.Struct("=" + "".join(f"{format_}{size - struct.calcsize('=' + format_)}x" for format_, size in parts))

    def incoming(self, slot: int, picked_up: Reading, is_queued: bool, stamp: Callable[[int, int], None] | None) -> Incoming | None:
        """One message of this batch; None for a transmit stamp, which goes to `stamp`, and for what has no source."""
        name_bytes, control_bytes, _, length = _HEADER.unpack_from(self._headers, slot * _HEADER.size)
        memory, at = self._memory, self._first + slot * self._stride
        control = at + _NAME_BYTES
        if stamp is not None and (seen := linux.read_sent_stamp(memory, control, control + control_bytes)) is not None:
            stamp(*seen)
            return None
        if not name_bytes:
            return None
        data = bytes(memory[control + _CONTROL_BYTES : control + _CONTROL_BYTES + length])
        beside = linux.read_control(memory, control, control + control_bytes)
        host = self.host(memory[at + self._host_at : at + self._host_end])
        return Incoming(data, host, (memory[at + 2] << 8) | memory[at + 3], beside, is_queued, picked_up)

    def host(self, name: bytes | bytearray) -> str:
        """The address in the part of a name that HOST_AT tells."""
        if self._is_v4:
            return socket.inet_ntoa(name)
        host, scope = socket.inet_ntop(socket.AF_INET6, name[:16]), _SCOPE.unpack_from(name, 16)[0]
        return scoped(host, scope) if scope else host
