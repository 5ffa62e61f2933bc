"""A thread of the dashboard's server beside its sessions: begun once, ended in order."""

from __future__ import annotations

import threading

__all__ = ["Background"]


class Background:
    """What works in a thread of its own from `begin` on until `end`.

    A class of this kind holds `_change` while it looks at or changes what the thread shares, ends `_work` soon after `_is_over` is set, and
    forgets in `_forget`, which is called with `_change` held, what nobody will work on any more.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def begin(self) -> None:
        """Start to work; a second call does nothing."""
        with self._change:
            if self._thread is None:
                self._is_over = False
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Forget what waits, and wait for what is under way."""
        with self._change:
            thread, self._thread, self._is_over = self._thread, None, True
            self._forget()
            self._change.notify_all()
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        raise NotImplementedError
