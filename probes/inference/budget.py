"""A day's budget of requests and tokens, kept in a file, so that a restart does not begin it anew.

The most that a request can take is taken before it is made, and what it did not take is given back afterwards: a process that
dies in between has spent too much, never too little. Days are UTC. Several processes may share a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from probes.model import Withheld
from records.errors import ConfigError

__all__ = ["Budget", "Spent"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a day (UTC, as 2026-01-31) has taken."""

    day: str
    requests: int = 0
    tokens: int = 0


class Budget:
    """At most so many requests and tokens a day; 0: any number.

    path   of the file; None keeps the count in memory
    clock  Unix time in seconds
    """

    def __init__(self, path: Path | None, *, requests: int, tokens: int, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._most_requests, self._most_tokens = requests, tokens
        self._clock = clock
        self._spent = Spent(self._today())

    @property
    def is_limited(self) -> bool:
        """There is a limit at all."""
        return bool(self._most_requests or self._most_tokens)

    def take(self, tokens: int) -> None:
        """Take one request of at most so many tokens. Raises Withheld when the day has no room for it, ConfigError for a bad file."""
        if not self.is_limited:
            return
        with self._kept() as spent:
            if 0 < self._most_requests <= spent.requests:
                raise Withheld(f"the budget of {self._most_requests} requests a day is used up until 00:00 UTC")
            if 0 < self._most_tokens < spent.tokens + tokens:
                left = max(0, self._most_tokens - spent.tokens)
                raise Withheld(f"{left} of {self._most_tokens} tokens a day are left, and a request may take {tokens}; next at 00:00 UTC")
            self._spent = replace(spent, requests=spent.requests + 1, tokens=spent.tokens + tokens)

    def give_back(self, tokens: int, *, request: bool = False) -> None:
        """What was taken and not used: tokens, and with `request` the request itself, which was never made.

        A negative number is what was used beyond what was taken. The day may be another one by now: then nothing is given back.
        """
        if not self.is_limited:
            return
        taken_on = self._spent.day
        with self._kept() as spent:
            if spent.day == taken_on:
                self._spent = replace(spent, requests=max(0, spent.requests - request), tokens=max(0, spent.tokens - tokens))

    def _today(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).date().isoformat()

    @contextmanager
    def _kept(self) -> Iterator[Spent]:
        """Today's count, locked; what `self._spent` is at the end is written down."""
        if self._path is None:
            self._spent = self._of_today(self._spent)
            yield self._spent
            return
        try:
            lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot keep the inference budget in {self._path}: {error.strerror}; give another budget_file") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._spent = before = self._of_today(self._read(self._path))
            yield before
            if self._spent != before:
                self._write(self._path)
        finally:
            os.close(lock)

    def _of_today(self, spent: Spent) -> Spent:
        # A day that lies ahead was written by a clock that has been set back: its count goes on, so that no day is spent twice.
        return spent if spent.day >= self._today() else Spent(self._today())

    def _read(self, path: Path) -> Spent:
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            return Spent(self._today())
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"cannot read the inference budget {path}: {getattr(error, 'strerror', None) or 'it is not plain text'}"
            ) from None
        try:
            body = json.loads(text)
            datetime.fromisoformat(body["day"])
            spent = Spent(body["day"], int(body["requests"]), int(body["tokens"]))
        except (ValueError, RecursionError, TypeError, LookupError):
            spent = Spent("", -1)
        if spent.requests < 0 or spent.tokens < 0:
            raise ConfigError(f"the inference budget {path} is damaged; delete the file to begin the day anew")
        return spent

    def _write(self, path: Path) -> None:
        draft = path.with_name(path.name + ".tmp")
        body = {"day": self._spent.day, "requests": self._spent.requests, "tokens": self._spent.tokens}
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(json.dumps(body) + "\n")
                file.flush()
                os.fsync(file.fileno())  # an empty file after a power cut would be a damaged budget
            draft.replace(path)
        except OSError as error:
            raise ConfigError(f"cannot keep the inference budget in {path}: {error.strerror}; give another budget_file") from None
