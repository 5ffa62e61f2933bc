"""Many messages in one system call: Linux's recvmmsg(2) by ctypes, and the same by plain recvmsg where that is missing.

A busy engine reads two messages per probe packet, its reply and its transmit stamp. One call for 64 of them, into memory
that stays, costs a third of 64 calls. Layout of the kernel's structures on 64-bit Linux (linux/socket.h, bits/socket.h)::

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
from collections.abc import Callable
from dataclasses import dataclass

from probes.ping import ancillary as linux
from probes.ping.clock import clocks
from probes.ping.timing import Reading

__all__ = ["Inbox", "Incoming", "scoped"]

_SLOTS = 64
_NAME_BYTES = 32
#: Room for a stamp, a TTL, and an ICMP error with its offender; what does not fit the kernel leaves out.
_CONTROL_BYTES = 256
_HEADER = struct.Struct("@8xI4x8x8x8xQi4xI4x")
_POINTERS = struct.Struct("@QI4xQQQQi4xI4x")
_IOVEC = struct.Struct("@QQ")
_SCOPE = struct.Struct("@I")


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


def _library() -> Callable[..., int] | None:
    """recvmmsg of the C library; None on another system, or where its structures are laid out otherwise."""
    if sys.platform != "linux" or struct.calcsize("@P") != 8:
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):
        return None


_recvmmsg = _library()


class Inbox:
    """Reads whatever waits on a non-blocking socket.

    sock           it stays the caller's
    message_bytes  the most that is kept of a message
    plain          use recvmsg even where recvmmsg is there
    """

    def __init__(self, sock: socket.socket, message_bytes: int, *, plain: bool = False) -> None:
        self._sock = sock
        self._is_v4 = sock.family == socket.AF_INET
        self._message_bytes = message_bytes
        self._call = None if plain else _recvmmsg
        if self._call is not None:
            self._lay_out()

    def _lay_out(self) -> None:
        """One block of memory: all headers, all iovecs, and then address, control messages and data of each slot."""
        headers_bytes, iovecs_bytes = _SLOTS * _HEADER.size, _SLOTS * _IOVEC.size
        self._first = headers_bytes + iovecs_bytes
        self._stride = _NAME_BYTES + _CONTROL_BYTES + (self._message_bytes + 15) // 16 * 16
        self._memory = bytearray(self._first + _SLOTS * self._stride)
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
        assert self._call is not None
        found: list[Incoming] = []
        memory, headers = self._memory, self._headers
        for came in range(0, at_most, _SLOTS):
            headers[: self._used] = self._fresh[: self._used]
            count = self._call(self._sock.fileno(), self._headers_at, _SLOTS, flags, None)
            if count < 0:
                self._used = _HEADER.size
                number = ctypes.get_errno()
                if came or number in {errno.EAGAIN, errno.EINTR}:
                    break
                raise OSError(number, os.strerror(number))
            self._used = count * _HEADER.size
            picked_up = clocks()
            at = self._first
            for name_bytes, control_bytes, _, length in _HEADER.iter_unpack(headers[: self._used]):
                control = at + _NAME_BYTES
                if stamp is not None and (seen := linux.read_sent_stamp(memory, control, control + control_bytes)) is not None:
                    stamp(*seen)
                elif name_bytes:
                    host = socket.inet_ntoa(memory[at + 4 : at + 8]) if self._is_v4 else _host_v6(memory, at)
                    data = control + _CONTROL_BYTES
                    kept = bytes(memory[data : data + length])
                    beside = linux.read_control(memory, control, control + control_bytes)
                    found.append(Incoming(kept, host, (memory[at + 2] << 8) | memory[at + 3], beside, flags != 0, picked_up))
                at += self._stride
            if count < _SLOTS:
                break
        return found


def _host_v6(memory: bytearray, at: int) -> str:
    host = socket.inet_ntop(socket.AF_INET6, memory[at + 8 : at + 24])
    scope = _SCOPE.unpack_from(memory, at + 24)[0]
    return scoped(host, scope) if scope else host


def scoped(host: str, scope: int) -> str:
    """A link-local address with its interface, as people and getaddrinfo(3) write it; `scope` is the interface's number."""
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface is gone; nobody has asked through it lately
        return f"{host}%{scope}"
