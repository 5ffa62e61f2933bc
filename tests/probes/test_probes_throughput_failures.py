"""What a throughput test costs that fails: bytes that went stay in the books, and none go once it has said that it failed."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from probes.model import Target, Vantage, new_boot_id
from probes.throughput import ThroughputConfig, ThroughputProbe
from probes.throughput.attempt import Attempts, Failed
from probes.throughput.lease import Lease
from probes.throughput.wire import HELLO_BYTES, Grant, Hello
from records.measurement import ThroughputResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MB = 1_000_000
Answer = Callable[[Hello, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Far:
    """A far end that does with a greeting what `answer` does. came: bytes that it read; ended: streams that are over."""

    answer: Answer

    def __init__(self) -> None:
        self.port = self.came = self.greeted = self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            hello = Hello.decode(await reader.readexactly(HELLO_BYTES))
            self.greeted += 1
            await self.answer(hello, reader, writer)
        self.ended += 1
        writer.close()

    async def swallow(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 20):
            self.came += len(data)


@asynccontextmanager
async def far_end(answer: Callable[[Far], Answer]) -> AsyncIterator[Far]:
    far = Far()
    far.answer = answer(far)
    async with await asyncio.start_server(far.serve, "127.0.0.1", 0) as listening:
        far.port = listening.sockets[0].getsockname()[1]
        yield far


async def go(writer: asyncio.StreamWriter, hello: Hello, *, max_bytes: int | None = None, udp_port: int = 0) -> None:
    most = hello.max_bytes if max_bytes is None else max_bytes
    writer.write(Grant(verdict="go", duration_ms=hello.duration_ms, max_bytes=most, udp_port=udp_port).encode())
    await writer.drain()


def mute(far: Far) -> Answer:
    """Takes all of a bulk and ends without a report."""

    async def answer(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go(writer, hello)
        await far.swallow(reader)

    return answer


class Host:
    """A probe with a day's budget of so many bytes, and its books."""

    def __init__(self, folder: Path, budget: float = 1e12, **settings: object) -> None:
        self._books = folder / "spent.json"
        given = {"tool": "builtin", "direction": "up", "full_every": 1, "load_rtt": False, "busy_wait_s": 0, **settings}
        given |= {"bytes_per_day": {"all": budget}, "budget_file": str(self._books)}
        self.probe = ThroughputProbe(ThroughputConfig(**given), lease=Lease())  # type: ignore[arg-type]

    async def measure(self, port: int) -> ThroughputResult:
        await self.probe.open()
        try:
            target = Target(site="fra", address="127.0.0.1", throughput_port=port)
            (made,) = await self.probe.once(target, Vantage(agent="a", site="sin", boot=new_boot_id()))
        finally:
            await self.probe.close()
        assert isinstance(made, ThroughputResult)
        return made

    @property
    def booked(self) -> int:
        """0 as long as nothing was written down."""
        return int(json.loads(self._books.read_text())["bytes"]["all"]) if self._books.exists() else 0


def test_a_far_end_that_never_reports_gets_no_more_than_the_days_budget(tmp_path: Path) -> None:
    """5 MB a day, tests of 2 MB that fail after their last byte: two are made, all others skipped; 4 MB arrived and are in the books."""

    async def run() -> tuple[list[ThroughputResult], int, int]:
        host = Host(tmp_path, 5 * MB, max_bytes=2 * MB)
        async with far_end(mute) as far:
            made = [await host.measure(far.port) for _ in range(5)]
            return made, far.came, host.booked

    made, came, booked = asyncio.run(run())
    assert [one.stop_reason for one in made] == ["error", "error", "skipped", "skipped", "skipped"]
    assert (came, booked) == (4 * MB, 4 * MB)


def test_a_far_end_that_resets_a_bulk_that_it_sends_is_paid_for_what_it_sent(tmp_path: Path) -> None:
    """300 kB of a MB come down, then a reset: at least those are in the books, and no more than was granted."""

    def cuts(_: Far) -> Answer:
        async def answer(hello: Hello, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go(writer, hello)
            writer.write(bytes(300_000))
            await writer.drain()
            await asyncio.sleep(0.2)  # they are read
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return answer

    async def run() -> tuple[ThroughputResult, int]:
        host = Host(tmp_path, direction="down", max_bytes=MB)
        async with far_end(cuts) as far:
            return await host.measure(far.port), host.booked

    one, booked = asyncio.run(run())
    assert one.stop_reason == "error"
    assert 300_000 <= booked <= MB


def test_a_test_that_is_cancelled_has_cost_what_it_sent(tmp_path: Path) -> None:
    """Called off while 100 MB are on their way: what arrived is in the books, and the connection is gone."""

    async def run() -> tuple[int, int]:
        host = Host(tmp_path, max_bytes=100 * MB, duration_s=10)
        async with far_end(mute) as far:
            test = asyncio.create_task(host.measure(far.port))
            while far.came < MB:  # noqa: ASYNC110  the far end counts and tells nobody
                await asyncio.sleep(0.001)
            test.cancel()
            with suppress(asyncio.CancelledError):
                await test
            booked = host.booked
            while not far.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return far.came, booked

    came, booked = asyncio.run(asyncio.wait_for(run(), 8))
    assert MB <= came <= booked <= 100 * MB


def test_where_one_stream_fails_the_others_stop_before_it_is_told() -> None:
    """Two streams of 10 s, the second is told to come back later: the first has ended by then, and has cost what it sent."""

    def half_busy(far: Far) -> Answer:
        async def answer(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if far.greeted == 2:
                await asyncio.sleep(0.1)
                writer.write(Grant(verdict="busy").encode())
                return
            await go(writer, hello)
            await far.swallow(reader)

        return answer

    async def run() -> tuple[object, int, int]:
        attempts = Attempts(ThroughputConfig(tool="builtin", streams=2, max_bytes=10**11, duration_s=10))
        async with far_end(half_busy) as far:
            made = await attempts.full("127.0.0.1", far.port, "up", b"abcdef")
            while far.ended < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return made, far.came, attempts.spent.up

    made, came, spent = asyncio.run(asyncio.wait_for(run(), 8))
    assert isinstance(made, Failed)
    assert made.is_busy
    assert 0 < came <= spent


def test_a_far_end_that_is_half_busy_again_and_again_gets_no_more_than_the_days_budget(tmp_path: Path) -> None:
    """Each try moves one of its two MB before the other stream is told to come back: after four the day's 5 MB are too few for one more."""

    def half_busy(far: Far) -> Answer:
        async def answer(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if far.greeted % 2 == 0:
                turn = far.greeted // 2
                while far.came < turn * MB:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                writer.write(Grant(verdict="busy").encode())
                return
            await go(writer, hello)
            await far.swallow(reader)
            await asyncio.sleep(0.5)  # the other one is to be the first to fail

        return answer

    async def run() -> tuple[ThroughputResult, int, int]:
        host = Host(tmp_path, 5 * MB, streams=2, max_bytes=2 * MB, duration_s=10, busy_wait_s=20)
        async with far_end(half_busy) as far:
            made = await host.measure(far.port)
            while far.ended < far.greeted:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            return made, far.came, host.booked

    made, came, booked = asyncio.run(asyncio.wait_for(run(), 25))
    assert made.stop_reason == "skipped"
    assert "byte budget of all clouds" in (made.error or "")
    assert (came, booked) == (4 * MB, 4 * MB)


def test_a_far_end_that_grants_more_than_was_asked_for_does_not_get_it(tmp_path: Path) -> None:
    """Asked for a MB it grants a hundred: a MB comes."""

    def generous(far: Far) -> Answer:
        async def answer(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go(writer, hello, max_bytes=100 * MB)
            await far.swallow(reader)

        return answer

    async def run() -> tuple[int, int]:
        host = Host(tmp_path, max_bytes=MB)
        async with far_end(generous) as far:
            await host.measure(far.port)
            return far.came, host.booked

    assert asyncio.run(run()) == (MB, MB)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_trains_without_a_report_have_cost_what_may_have_gone(tmp_path: Path, direction: str) -> None:
    """Up it is what was sent, at least what arrived; what left the other end nobody knows: all that was granted."""

    async def run() -> tuple[int, int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trains:
            trains.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MB)
            trains.bind(("127.0.0.1", 0))
            trains.setblocking(False)

            def lost(_: Far) -> Answer:
                async def answer(hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    await go(writer, hello, udp_port=trains.getsockname()[1])
                    if hello.direction == "up":
                        await reader.read()

                return answer

            host = Host(tmp_path, direction=direction, full_every=0, estimator="train", estimate_max_bytes=MB)
            async with far_end(lost) as far:
                await host.measure(far.port)
            came = 0
            with suppress(BlockingIOError):
                while True:
                    came += len(trains.recv(2048))
            return came, host.booked

    came, booked = asyncio.run(run())
    if direction == "up":
        assert 0 < came <= booked <= MB
    else:
        assert booked == MB


CONNECTED = '"connected": [{"socket": 5}], "test_start": {"protocol": "TCP"}'


@pytest.mark.parametrize(
    ("says", "booked"),
    [
        (f'{{"start": {{{CONNECTED}}}, "intervals": [], "error": "control socket has closed unexpectedly"}}', MB),
        (f'{{"start": {{{CONNECTED}}}, "end": {{"sum_rec', MB),
        ("", MB),
        ('{"start": {"connected": []}, "error": "unable to connect to server: Connection refused"}', 0),
        ('{"start": {"connected": []}, "error": "the server is busy running a test. try again later"}', 0),
        ('{"start": {"connected": []}, "error": "unable to receive cookie"}', 0),
    ],
)
def test_a_run_of_iperf3_that_fails_has_cost_all_that_it_might_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int, says: str, booked: int
) -> None:
    """Of 2 MB the first run may send half: they are booked unless iperf3 says that it had connected no stream."""
    tool = tmp_path / "iperf3"
    tool.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'iperf 3.12' || printf '%s' '{says}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    host = Host(tmp_path, tool="auto", max_bytes=2 * MB)
    one = asyncio.run(host.measure(unused_port))
    assert one.stop_reason == "error"
    assert host.booked == booked
