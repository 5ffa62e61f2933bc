"""Name look-ups off the event loop, timed where they run, and given up without waiting for them.

getaddrinfo is asked, so that a name means here what it means to every program of this host (hosts file, search domains,
the resolver's order of addresses). It blocks, for ten seconds and more where the resolver is dead, and cannot be
interrupted; so it runs in threads that nobody waits for, neither a caller whose time is up nor the process at its end.
The clock is read inside the thread: the wait for a free one is no part of the look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["Addresses", "ResolveFailed", "Resolver", "numeric"]

_Job = tuple[str, int, "asyncio.Future[Addresses]", asyncio.AbstractEventLoop]


class ResolveFailed(Exception):
    """A name that gave no address; `eai` is the name of the resolver's error, such as ``EAI_NONAME``."""

    def __init__(self, eai: str, took_ns: int | None) -> None:
        super().__init__(eai)
        self.eai = eai
        self.took_ns = took_ns


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a name leads to, in the resolver's order: (family, socket address) pairs; took_ns None: nothing was looked up."""

    found: tuple[tuple[socket.AddressFamily, Any], ...]
    took_ns: int | None


def numeric(host: str, port: int) -> Addresses | None:
    """The address that a text is; None when it is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None
    return Addresses(tuple((family, address) for family, _, _, _, address in found), None)


class Resolver:
    """Looks names up in `threads` threads at most; each is started when it is first needed."""

    def __init__(self, threads: int = 8) -> None:
        self._most = threads
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    async def resolve(self, host: str, port: int) -> Addresses:
        """The addresses of a name. Raises ResolveFailed. Cancelled, it forgets the look-up, which ends by itself."""
        if (known := numeric(host, port)) is not None:
            return known
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Addresses] = loop.create_future()
        with self._lock:
            if self._idle == 0 and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name="resolver", daemon=True).start()
            else:
                self._idle = max(0, self._idle - 1)
        self._jobs.put((host, port, future, loop))
        return await future

    def close(self) -> None:
        """Let the threads end once they are through with what they are doing."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)
            self._threads = self._idle = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            host, port, future, loop = job
            if not future.cancelled():
                answer = _look_up(host, port)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                    loop.call_soon_threadsafe(_settle, future, answer)
            with self._lock:
                self._idle += 1


def _look_up(host: str, port: int) -> Addresses | ResolveFailed:
    began_ns = time.monotonic_ns()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return ResolveFailed(_eai(error), time.monotonic_ns() - began_ns)
    except (UnicodeError, ValueError):
        return ResolveFailed("EAI_NONAME", None)  # no name that DNS could hold
    except OSError:
        return ResolveFailed("EAI_SYSTEM", None)
    took_ns = time.monotonic_ns() - began_ns
    return Addresses(tuple((family, address) for family, _, _, _, address in found), took_ns)


def _settle(future: asyncio.Future[Addresses], answer: Addresses | ResolveFailed) -> None:
    if future.done():
        return
    if isinstance(answer, ResolveFailed):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _eai(error: socket.gaierror) -> str:
    names = (name for name in dir(socket) if name.startswith("EAI_") and getattr(socket, name) == error.errno)
    return next(names, "EAI_FAIL")
