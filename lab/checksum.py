"""The Internet checksum (RFC 1071). Pure."""

from __future__ import annotations

__all__ = ["checksum"]


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The checksum of bytes; over data that carries a right one it is 0.

    >>> hex(checksum(bytes.fromhex("0001f203f4f5f6f7")))
    '0x220d'
    """
    # The one's complement sum of 16-bit words is the number modulo 2^16 - 1, because 2^16 is 1 modulo that.
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    total = value % 0xFFFF
    if total == 0 and value != 0:
        total = 0xFFFF
    return total ^ 0xFFFF
