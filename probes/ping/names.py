"""How a failed call is named in a measurement: by its constant, which every machine and every reader knows."""

from __future__ import annotations

import errno
import socket

__all__ = ["errno_name", "gai_name"]


def errno_name(refused: OSError) -> str:
    """The name of an errno, such as ``ENETUNREACH``."""
    return errno.errorcode.get(refused.errno or 0, str(refused))


def gai_name(failed: socket.gaierror) -> str:
    """The name of a resolver's error, such as ``EAI_NONAME``."""
    names = (name for name in dir(socket) if name.startswith("EAI_") and getattr(socket, name) == failed.errno)
    return next(names, "EAI_FAIL")
