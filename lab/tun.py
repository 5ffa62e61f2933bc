"""TUN devices with the virtio header, made inside the network namespace of a host (Linux, drivers/net/tun.c)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from records.errors import NotPermitted

__all__ = ["DEVICE", "MAX_FRAME", "NAME", "enter", "entered", "open_tun"]

DEVICE = Path("/dev/net/tun")
#: What the interface is called in every host.
NAME = "wan0"
#: The longest frame a read can return: virtio header and the largest IPv6 packet.
MAX_FRAME = 10 + 40 + 65535

_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
#: Leave checksums to us, and hand over TCP super-segments, so that one read may carry 64 kB.
_OFFLOADS = 0x01 | 0x02 | 0x04 | 0x08  # TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int) -> None:
    """Move the calling thread into a network namespace, given as an open file descriptor of it."""
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextmanager
def entered(namespace: Path) -> Iterator[None]:
    """The calling thread inside a network namespace, and back afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(there)
        yield
    finally:
        enter(home)
        os.close(there)
        os.close(home)


def open_tun() -> int:
    """A new TUN called NAME in the namespace of the calling thread; it exists as long as the descriptor is open.

    Non-blocking. Raises NotPermitted when the device is closed to this user or the kernel has none.
    """
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotPermitted(f"cannot open {DEVICE}: {error.strerror}; run as root, or use the loopback lab") from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", NAME.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermitted(f"cannot make a TUN device: {error.strerror}; it needs CAP_NET_ADMIN") from error
        raise
    return fd
