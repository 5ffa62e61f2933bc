"""Threads that nobody waits for: for calls that block and cannot be interrupted, such as a look-up at a dead resolver.

asyncio's own executor is joined when the loop and when the interpreter end, so that one hanging getaddrinfo would hold
a stopping agent for half a minute. These threads end with the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonThreads(ThreadPoolExecutor):
    """At most `most` threads, each started when there is work and no idle one. A ThreadPoolExecutor only in name: asyncio asks for one."""

    def __init__(self, most: int, name: str) -> None:
        super().__init__(max_workers=most, thread_name_prefix=name)
        self._most, self._name = most, name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._started = 0
        self._waiting = 0
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call in a thread. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._guard:
            if self._is_shut:
                raise RuntimeError("these threads are shut down")
            if self._waiting > 0:
                self._waiting -= 1
            elif self._started < self._most:
                self._started += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            self._jobs.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. Waits for nothing, whatever is asked; what is queued is still done if the process lives."""
        with self._guard:
            self._is_shut = True
            for _ in range(self._started):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call, args, kwargs = job
            if future.set_running_or_notify_cancel():
                try:
                    result = call(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001  it belongs to whoever waits for the future
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del job, future, call, args, kwargs
            with self._guard:
                # A job may be queued already that no thread was started for: then this thread is not idle.
                if self._jobs.qsize() == 0:
                    self._waiting += 1
