"""The uplink against a real HTTP server that answers what each test tells it to."""

import asyncio
import contextlib
import gzip
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probes_collector import Collector, served, served_on_a_socket

from probes.client import Answer, CollectorClient, check_collector_url
from probes.clock import wall_offset_ns
from probes.secret import SecretFile
from probes.spool import QUARANTINE, Spool
from probes.uplink import Backoff, Uplink, Verdict, judge
from records.batch import HEADER_AGENT, HEADER_BOOT, HEADER_CLOCK_SET, HEADER_SENT_AT, HEADER_SEQUENCE, BatchName
from records.errors import CollectorUnreachable, ConfigError
from records.units import SECOND

BOOT = "00000000000000aa"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with served() as one:
        yield one


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool", agent="sin-1", boot=BOOT, max_bytes=10**6, segment_bytes=10**5) as one:
        yield one


def fill(spool: Spool, batches: int) -> None:
    for n in range(batches):
        spool.append([b'{"v":1,"type":"ping","n":%d}\n' % n] * 2, measurements=2, now_ns=0)
        spool.seal()


async def _drain(spool: Spool, url: str, token_file: Path | None = None, turns: int = 1) -> tuple[Uplink, list[float | None]]:
    client = CollectorClient(url, token_file=token_file, timeout_s=5)
    uplink = Uplink(spool, client, rng=random.Random(1))
    try:
        return uplink, [await uplink.drain() for _ in range(turns)]
    finally:
        await client.close()


def drain(*args: object, **kwargs: object) -> tuple[Uplink, list[float | None]]:
    return asyncio.run(_drain(*args, **kwargs))  # type: ignore[arg-type]


def test_a_batch_arrives_with_its_name_its_token_and_its_lines(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    """Headers name (agent, boot, sequence), the bearer token is the file's, the body is the gzipped lines; then it is deleted."""
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("s3cret\n")
    fill(spool, 3)
    uplink, pauses = drain(spool, collector.url, tmp_path / "token")
    assert pauses == [None]
    headers, body = collector.requests[0]
    assert (headers[HEADER_AGENT], headers[HEADER_BOOT], headers[HEADER_SEQUENCE]) == ("sin-1", BOOT, "0")
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert gzip.decompress(body) == b'{"v":1,"type":"ping","n":0}\n' * 2
    assert collector.sequences[0] == "0"
    assert sorted(collector.sequences) == ["0", "1", "2"]
    assert (uplink.stored_batches, spool.waiting, spool.size_bytes) == (3, 0, 0)


def test_it_speaks_over_a_unix_socket(spool: Spool, tmp_path: Path) -> None:
    """http+unix:///path reaches a collector that listens on no port (the lab's agents live in other namespaces)."""
    path = tmp_path / "c.sock"
    with served_on_a_socket(path) as collector:
        fill(spool, 1)
        drain(spool, f"http+unix://{path}")
        assert collector.sequences == ["0"]


@pytest.mark.parametrize("status", [500, 502, 503, 404, 301, 204])
def test_an_unexpected_answer_keeps_the_batch_and_repeats_it_byte_for_byte(collector: Collector, spool: Spool, status: int) -> None:
    """Anything but the known answers: nothing is deleted, the same bytes under the same name go again, in order."""
    fill(spool, 2)
    collector.answers = [(status, {}), (status, {})]
    uplink, pauses = drain(spool, collector.url, turns=3)
    assert pauses[2] is None
    assert pauses[0] is not None
    assert 0.5 <= pauses[0] <= 1
    assert pauses[1] is not None
    assert 1 <= pauses[1] <= 2
    assert collector.sequences == ["0", "0", "0", "1"]
    assert collector.requests[0][1] == collector.requests[1][1] == collector.requests[2][1]
    assert uplink.trouble is None


def test_nobody_listens(spool: Spool, unused_port: int) -> None:
    """Without a collector batches are kept, the trouble has a name, and pauses grow."""
    fill(spool, 1)
    uplink, pauses = drain(spool, f"http://127.0.0.1:{unused_port}", turns=4)
    assert spool.waiting == 1
    assert all(later > earlier for earlier, later in pairwise(pauses))  # type: ignore[operator]
    assert uplink.trouble is not None
    assert f"127.0.0.1:{unused_port}" in uplink.trouble


def test_what_the_collector_rejects_is_deleted_and_counted(collector: Collector, spool: Spool) -> None:
    """400: the collector keeps it as a reject; it must not block the batches behind it."""
    fill(spool, 2)
    collector.answers = [(400, {})]
    uplink, pauses = drain(spool, collector.url)
    assert pauses == [None]
    assert (uplink.rejected_measurements, uplink.stored_batches, spool.waiting) == (2, 1, 0)


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b'{"stored":1,"rejected":1,"already":false}', 1),
        (b'{"stored":2,"rejected":0,"already":true}', 0),
        (b'{"stored":2,"already":true,"more":[1]}', 0),
        (b'{"stored":0,"rejected":"x","already":false}', 0),
    ],
)
def test_lines_rejected_out_of_a_stored_batch_are_counted(collector: Collector, spool: Spool, body: bytes, rejected: int) -> None:
    """200 with some lines among the collector's rejects: the batch is done, the lines are counted."""
    fill(spool, 1)
    collector.body = body
    uplink, pauses = drain(spool, collector.url)
    assert (pauses, uplink.stored_batches, uplink.rejected_measurements) == ([None], 1, rejected)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda body: body[:-3],
    lambda body: body[:20] + b"\xff" + body[21:],
    lambda _: b"",
    lambda _: b"\0" * 50,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_segment_that_the_disk_damaged_is_put_aside(collector: Collector, spool: Spool, damage: Callable[[bytes], bytes]) -> None:
    """Cut short, flipped, empty, zeros: not sent, kept for whoever wants to look, counted; the others arrive."""
    fill(spool, 3)
    middle = sorted(spool.directory.glob("*.gz"))[1]
    middle.write_bytes(damage(middle.read_bytes()))
    uplink, _ = drain(spool, collector.url)
    assert [headers["Isochrone-Sequence"] for headers, _ in collector.requests] == ["0", "2"]
    assert uplink.quarantined_measurements == 2
    assert [path.name for path in (spool.directory / QUARANTINE).iterdir()] == [middle.name]
    assert spool.size_bytes == 0


@pytest.mark.parametrize("status", [409, 413])
def test_what_will_never_be_taken_is_put_aside(collector: Collector, spool: Spool, status: int) -> None:
    """409 and 413: into the quarantine folder, counted, and on with the next batch."""
    fill(spool, 2)
    collector.answers = [(status, {})]
    uplink, pauses = drain(spool, collector.url)
    assert pauses == [None]
    assert (uplink.quarantined_measurements, uplink.stored_batches) == (2, 1)
    assert [path.name.split("-")[2] for path in (spool.directory / QUARANTINE).iterdir()] == ["00000000"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_agent_keeps_everything_and_says_what_to_check(collector: Collector, spool: Spool, status: int) -> None:
    """401 and 403: nothing is deleted, the pause is a minute, the trouble names the keys to look at."""
    fill(spool, 1)
    collector.answers = [(status, {})]
    uplink, pauses = drain(spool, collector.url)
    assert pauses[0] is not None
    assert pauses[0] >= 60
    assert spool.waiting == 1
    assert uplink.trouble is not None
    assert "token_file" in uplink.trouble


@pytest.mark.parametrize(
    ("headers", "at_least"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, 0.5),
        ({"Retry-After": "99999999"}, 600.0),
        ({}, 0.5),
    ],
)
def test_a_busy_collector_is_given_the_time_it_asks_for(
    collector: Collector, spool: Spool, headers: dict[str, str], at_least: float
) -> None:
    """429: Retry-After in seconds or as a date is kept (at most ten minutes), nonsense falls back to the usual pause."""
    fill(spool, 1)
    collector.answers = [(429, headers)]
    _, pauses = drain(spool, collector.url)
    assert pauses[0] is not None
    assert at_least <= pauses[0] <= at_least + 1
    assert spool.waiting == 1


def test_after_an_outage_everything_arrives_in_order(collector: Collector, spool: Spool) -> None:
    """Twenty batches, every third try fails: all arrive, the first one first, and what is sealed later too."""
    fill(spool, 20)
    collector.answers = [(503 if n % 3 == 1 else 200, {}) for n in range(40)]

    async def run() -> None:
        client = CollectorClient(collector.url)
        pauses = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(0)

        uplink = Uplink(spool, client, rng=random.Random(3), sleep=sleep)
        task = asyncio.create_task(uplink.run())

        async def watch() -> None:
            while spool.waiting:  # noqa: ASYNC110  the spool has no event: it is watched from outside
                await asyncio.sleep(0.01)

        await asyncio.wait_for(watch(), 20)
        # And it wakes for what is sealed later.
        spool.append([b'{"v":1,"type":"ping","n":99}\n'], measurements=1, now_ns=0)
        spool.seal()
        uplink.wake()
        await asyncio.wait_for(watch(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
        assert max(pauses) <= 2, "successes in between reset the back-off: never more than two failures on end"

    asyncio.run(run())
    assert collector.sequences[0] == "0"
    assert {int(sequence) for sequence in collector.sequences} == set(range(21))


def test_batches_fly_together_only_after_one_has_landed(collector: Collector, spool: Spool) -> None:
    """A collector that takes 100 ms a batch (a commit): the first goes alone, then up to eight at once; after a failure one again."""
    collector.delay_s = 0.1
    fill(spool, 12)
    drain(spool, collector.url)
    assert collector.in_flight[0] == 1
    assert 1 < max(collector.in_flight) <= 8
    fill(spool, 9)
    collector.answers = [(200, {}), *[(503, {})] * 8]
    collector.in_flight.clear()
    _, pauses = drain(spool, collector.url, turns=3)
    assert pauses[-1] is None
    assert (spool.waiting, max(collector.in_flight) <= 8) == (0, True)


def test_a_cancelled_send_is_sent_again_the_same(collector: Collector, spool: Spool) -> None:
    """The agent is stopped while a batch is in flight: the spool keeps it and the next life sends the same bytes."""
    fill(spool, 1)

    async def run() -> None:
        client = CollectorClient(collector.url)
        task = asyncio.create_task(Uplink(spool, client, rng=random.Random(1)).drain())
        while not collector.requests:  # noqa: ASYNC110  the server lives in a thread
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()

    asyncio.run(run())
    if spool.waiting:
        drain(spool, collector.url)
        assert collector.requests[0][1] == collector.requests[1][1]
        assert collector.sequences == ["0", "0"]


def test_a_token_that_cannot_be_read_keeps_the_batch(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    """Missing, empty, two words, a control character, open to others: the batch waits, the trouble names the file, no request goes out."""
    fill(spool, 1)
    path = tmp_path / "token"
    for content in (None, "", "two words", "q7x\x01ret", "q7x\x7fret", "q7xr\u00e9t"):
        if content is not None:
            path.touch(mode=0o600)
            path.write_text(content)
        uplink, _ = drain(spool, collector.url, path)
        assert uplink.trouble is not None
        assert str(path) in uplink.trouble
        assert "q7x" not in uplink.trouble
    path.write_text("s3cret")
    for mode in (0o644, 0o666, 0o640, 0o602):
        path.chmod(mode)
        uplink, _ = drain(spool, collector.url, path)
        assert f"{path} can be read by others; chmod 600 {path}" in str(uplink.trouble)
    assert (spool.waiting, collector.requests) == (1, [])


def test_a_credential_of_the_unit_is_the_agents_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd shows the mask of an access list as the group's mode; beside its folder that is refused."""
    for folder in ("credentials", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text("s3cret")
        (tmp_path / folder / "token").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert SecretFile(tmp_path / "credentials" / "token").read() == "s3cret"
    with pytest.raises(ConfigError, match="chmod 600"):
        SecretFile(tmp_path / "elsewhere" / "token").read()


def test_send_raises_when_there_is_no_answer(unused_port: int) -> None:
    """The client alone says who did not answer and what to start."""

    async def run() -> None:
        client = CollectorClient(f"http://127.0.0.1:{unused_port}")
        try:
            await client.send(BatchName("a", "b", 0), b"")
        finally:
            await client.close()

    with pytest.raises(CollectorUnreachable, match="isochrone collector"):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["localhost:8600", "ftp://x", "http://", "http+unix://x/y", "http://user:pw@host", "", "http://h?x=1"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    """The message lists what is allowed and never shows a password."""
    with pytest.raises(ConfigError, match="http://HOST:PORT") as caught:
        check_collector_url(url)
    assert "pw" not in str(caught.value)


def test_addresses_that_are() -> None:
    """TCP with and without TLS, and a unix socket."""
    assert check_collector_url("https://c.example/") == ("https://c.example", None)
    assert check_collector_url("http+unix:///run/c.sock") == ("http://collector", "/run/c.sock")


@given(st.integers(), st.integers(1, 30))
def test_pauses_grow_and_stay_below_a_minute(seed: int, failures: int) -> None:
    """The n-th pause is between half and all of min(60, 2^n) seconds, whatever the seed; a success starts over."""
    backoff = Backoff(random.Random(seed))
    for n in range(failures):
        assert 0.5 * min(60, 2**n) <= backoff.next_s() <= min(60, 2**n)
    backoff.reset()
    assert backoff.next_s() <= 1


def answered(status: int, body: object = None, *, code: str = "") -> Answer:
    return Answer(status=status, retry_after_s=None, text="", code=code, body=body if isinstance(body, dict) else {})


STORED = {"stored": 2, "rejected": 0, "already": False}


@given(st.integers(100, 599), st.sampled_from(({}, STORED)), st.sampled_from(("", "unreadable", "conflict", "cut_off")))
def test_only_a_collectors_own_word_deletes(status: int, body: dict[str, object], code: str) -> None:
    """200 with its counts, 400 with its code; no other answer is ever taken for an acknowledgement or a reject."""
    verdict = judge(answered(status, body, code=code))
    assert (verdict is Verdict.STORED) == (status == 200 and body == STORED)
    assert (verdict is Verdict.REJECTED) == ((status, code) == (400, "unreadable"))
    assert (verdict is Verdict.QUARANTINED) == (status == 413 or (status, code) == (409, "conflict"))


@pytest.mark.parametrize("body", [{"stored": True, "already": False}, {"stored": 1}, {"stored": 1, "already": 0}, {"already": True}, [1]])
def test_200_without_a_collectors_counts_is_none(body: object) -> None:
    """A page that happens to be JSON, or half of an answer."""
    assert judge(answered(200, body)) is Verdict.FAILED


@pytest.mark.parametrize("status", [200, 400, 409])
def test_what_is_no_collector_costs_nothing(collector: Collector, spool: Spool, status: int) -> None:
    """A portal that answers everything: every batch is kept, and the trouble says what to look at."""
    fill(spool, 2)
    collector.body = b"<html>Welcome to the hotel</html>"
    collector.answers = [(status, {"Content-Type": "text/html"})]
    uplink, pauses = drain(spool, collector.url)
    assert pauses[0] is not None
    assert (spool.waiting, uplink.stored_batches, uplink.rejected_measurements, uplink.quarantined_measurements) == (2, 0, 0, 0)
    assert "no collector's answer" in (uplink.trouble or "")
    assert "check collector.url" in (uplink.trouble or "")


def test_a_batch_says_what_the_clock_shows_and_how_far_it_was_set(collector: Collector, spool: Spool) -> None:
    """Set by an hour since its lines were dated, not set but slewed, and not known."""
    for n, offset_ns in enumerate((wall_offset_ns() + 3600 * SECOND, wall_offset_ns() - SECOND // 2, None)):
        spool.append([b'{"v":1,"type":"ping","n":%d}\n' % n], measurements=1, now_ns=0, wall_offset_ns=offset_ns)
        spool.seal()
    before_ns = time.time_ns()
    drain(spool, collector.url)
    said = {headers[HEADER_SEQUENCE]: headers for headers, _ in collector.requests}
    assert all(before_ns <= int(headers[HEADER_SENT_AT]) <= time.time_ns() for headers in said.values())
    assert abs(int(said["0"][HEADER_CLOCK_SET]) + 3600 * SECOND) < SECOND
    assert [HEADER_CLOCK_SET in said[n] for n in "012"] == [True, False, False]


def test_while_clocks_are_apart_batches_are_kept(collector: Collector, spool: Spool) -> None:
    """425: nothing is deleted, what the collector says is said, and it is sent again when the collector wants it."""
    fill(spool, 2)
    collector.body = b'{"error":"the agent\'s clock is 3600 s ahead","code":"clock_ahead"}'
    collector.answers = [(425, {"Retry-After": "10"})]
    uplink, pauses = drain(spool, collector.url)
    assert pauses[0] is not None
    assert 10 <= pauses[0] <= 11
    assert (spool.waiting, uplink.rejected_measurements, uplink.quarantined_measurements) == (2, 0, 0)
    assert "425: the agent's clock is 3600 s ahead" in (uplink.trouble or "")
    collector.body = None
    assert drain(spool, collector.url)[1] == [None]
    assert spool.waiting == 0


def test_an_answer_that_dribbles_is_given_up(spool: Spool) -> None:
    """A byte now and then, for ever: after twice the time-out it counts as none, and the batch is kept."""

    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)

    async def go() -> Uplink:
        server = await asyncio.start_server(dribble, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        client = CollectorClient(f"http://{host}:{port}", timeout_s=0.4)
        uplink = Uplink(spool, client, rng=random.Random(1))
        try:
            assert await asyncio.wait_for(uplink.drain(), 30) is not None
        finally:
            await client.close()
            server.close()
        return uplink

    fill(spool, 1)
    assert "no whole answer" in (asyncio.run(go()).trouble or "")
    assert spool.waiting == 1
