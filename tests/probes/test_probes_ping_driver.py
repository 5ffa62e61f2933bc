"""The engines' life on the event loop: what goes wrong in one turn does not keep the next from coming."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from probes.ping.driver import LoopDriver


class Engine(LoopDriver):
    """Something is due every 5 ms; what is to be done fails as `fails` says, once for each name, and only while the engine ticks or not."""

    def __init__(self, sock: socket.socket, *fails: str, while_ticking: bool) -> None:
        super().__init__()
        self._sock, self._fails, self._while_ticking = sock, list(fails), while_ticking
        self.sent = self.came = 0
        self._due_ns = time.monotonic_ns()

    def _stumble(self, what: str) -> None:
        if what in self._fails and self._is_ticking == self._while_ticking:
            self._fails.remove(what)
            raise KeyError(what)

    def _absorb(self) -> int:
        read = 0
        try:
            while self._sock.recv(1):
                read += 1
                self.came += 1
                self._stumble("absorb")
        except BlockingIOError:
            pass
        return read

    def _send_due(self, now_ns: int) -> bool:
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + 5_000_000
        self._stumble("send")
        self.sent += 1
        return True

    def _expire(self, now_ns: int) -> None:
        self._stumble("expire")

    def _announce(self) -> None:
        self._stumble("announce")

    def _next_ns(self) -> int | None:
        return self._due_ns

    def run(self) -> None:
        self._start(self._sock.fileno())
        self._arm()

    def stop(self) -> None:
        self._stop()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


@pytest.mark.parametrize("while_ticking", [True, False])
@pytest.mark.parametrize("where", ["absorb", "send", "expire", "announce"])
def test_an_exception_in_a_turn_is_told_and_the_next_turn_comes(
    pair: tuple[socket.socket, socket.socket], where: str, while_ticking: bool
) -> None:
    """Wherever a turn fails, three times: the loop's handler hears of each, and sending and reading go on.

    An engine that ticks has much to read. One that does not has nothing, unless reading is what fails: only its timer can wake it.
    """
    near, far = pair
    told: list[str] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        engine = Engine(near, *[where] * 3, while_ticking=while_ticking)
        engine.run()
        try:
            async with asyncio.timeout(10):
                while len(told) < 3 or engine.sent < 20 or (while_ticking and engine.came < 20):
                    if while_ticking or where == "absorb":
                        far.send(b"x")  # a socket that nobody reads any more fills up: BlockingIOError
                    await asyncio.sleep(0.002 if while_ticking else 0.02)
        finally:
            engine.stop()

    asyncio.run(run())
    assert told == [repr(where)] * 3
