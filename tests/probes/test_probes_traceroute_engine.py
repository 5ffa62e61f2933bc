"""The traceroute engine over a network in memory: what is believed, what is not, and what a refusal does."""

import asyncio
import errno
import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from probes.ping.sockets import clocks
from probes.ping.timing import Sent
from probes.traceroute import engine as engine_module
from probes.traceroute.engine import TracerouteEngine
from probes.traceroute.heard import Heard

TARGET = "192.0.2.9"
ROUTERS = ["10.0.0.1", "10.0.0.2"]


class Network:
    """A transport whose packets `answer` turns into what is heard of them; one socket pair wakes the loop."""

    describes = "memory"

    def __init__(self, answer: Callable[..., list[Heard]]) -> None:
        self.answer = answer
        self.heard: list[Heard] = []
        self.sent: list[tuple[str, int, int, int]] = []
        self.was_read = asyncio.Event()
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)

    def fileno(self) -> tuple[int, ...]:
        return (self._near.fileno(),)

    def prepare(self, flow: int) -> None:
        pass

    def marks(self) -> tuple[tuple[int, int], ...]:
        return ()

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        answers = self.answer(host=host, ttl=ttl, number=number, token=token)
        sent = Sent(clocks())
        self.sent.append((host, ttl, flow, number))
        self.heard += answers
        self._far.send(b"x")
        return sent

    def read(self) -> Iterator[Heard]:
        while True:
            try:
                if not self._near.recv(4096):
                    break
            except BlockingIOError:
                break
        heard, self.heard = self.heard, []
        yield from heard
        if heard:
            self.was_read.set()

    def close(self) -> None:
        self._near.close()
        self._far.close()


def said(host, number, token, responder, **other):
    base = {"is_reply": responder == host, "icmp_type": 0 if responder == host else 11, "icmp_code": 0, "ttl": 60}
    return Heard(host=host, number=number, token=token, responder=responder, received_ns=None, picked_up=clocks(), **{**base, **other})


def honest(host, ttl, number, token):
    return [said(host, number, token, [*ROUTERS, host][min(ttl, 3) - 1])]


def trace(monkeypatch, answer, hosts=(TARGET,), **options):
    """Outcomes of traces of these hosts at once, the engine's counters, and the network."""
    network = Network(answer)
    monkeypatch.setattr(engine_module, "open_transports", lambda *_: {4: network})

    async def work():
        engine = TracerouteEngine("icmp", packets_per_s=20_000)
        await engine.open()
        try:
            return await asyncio.gather(*(engine.trace(host, timeout_ns=300_000_000, **options) for host in hosts)), engine.counters
        finally:
            await engine.close()

    found, counters = asyncio.run(work())
    return found, counters, network


def test_an_honest_network(monkeypatch):
    """Two routers and the target, one packet each; nothing is left over."""
    (found,), counters, network = trace(monkeypatch, honest)
    assert [hop.address for hop in found.hops] == [*ROUTERS, TARGET]
    assert found.reached
    assert counters.answers == counters.sent == len(network.sent)


@pytest.mark.parametrize(
    "forge",
    [
        lambda answer: said(answer.host, answer.number, answer.token ^ 1, "203.0.113.66"),  # another token
        lambda answer: said("192.0.2.8", answer.number, answer.token, "203.0.113.66"),  # about a packet to somebody else
        lambda answer: said(answer.host, (answer.number + 1000) & 0xFFFF, None, "203.0.113.66"),  # a number not in flight
        lambda answer: said(answer.host, None, answer.token ^ 1, "203.0.113.66"),  # only a token, and a wrong one
    ],
)
def test_forged_and_foreign_answers_change_nothing(monkeypatch, forge):
    """One forged answer before every true one: none gets a hop, each is counted as unmatched."""

    def answer(**packet):
        true = honest(**packet)
        return [*map(forge, true), *true]

    (found,), counters, network = trace(monkeypatch, answer)
    assert [hop.address for hop in found.hops] == [*ROUTERS, TARGET]
    assert counters.unmatched == len(network.sent)
    assert {hop.replies for hop in found.hops} == {1}


def test_quotes_cut_to_eight_octets_are_enough(monkeypatch):
    """No token in the quote: the number tells the packet."""
    (found,), _, _ = trace(monkeypatch, lambda **packet: [said(packet["host"], packet["number"], None, honest(**packet)[0].responder)])
    assert [hop.address for hop in found.hops] == [*ROUTERS, TARGET]


def test_copies_of_an_answer_are_one_reply(monkeypatch):
    """Three copies of each answer: one reply per probe packet."""
    (found,), _, _ = trace(monkeypatch, lambda **packet: honest(**packet) * 3)
    assert {(hop.probes, hop.replies) for hop in found.hops} == {(1, 1)}


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EPERM])
def test_a_kernel_that_refuses_ends_the_trace(monkeypatch, number):
    """No route, or a firewall: the errno's name, no hop made up."""

    def refuse(**_packet):
        raise OSError(number, "no")

    (found,), counters, _ = trace(monkeypatch, refuse)
    assert (found.hops, found.reached, found.error) == ((), False, errno.errorcode[number])
    assert counters.sent == 0


def test_an_error_about_another_packet_is_not_taken_for_a_refusal(monkeypatch):
    """Every other send fails with what an ICMP error about an earlier packet makes of it (EHOSTUNREACH): the path is whole all the same."""
    turn = itertools.count()

    def answer(**packet):
        if next(turn) % 2:
            raise OSError(errno.EHOSTUNREACH, "a router said so of another packet")
        return honest(**packet)

    (found,), counters, _ = trace(monkeypatch, answer)
    assert [hop.address for hop in found.hops] == [*ROUTERS, TARGET]
    assert (found.error, counters.send_failed) == (None, 0)


def test_a_kernel_without_room_is_asked_again(monkeypatch):
    """The first twenty sends find no room: all packets leave later."""
    left = iter([True] * 20)

    def answer(**packet):
        if next(left, False):
            raise BlockingIOError(errno.EAGAIN, "full")
        return honest(**packet)

    (found,), _, _ = trace(monkeypatch, answer)
    assert [hop.address for hop in found.hops] == [*ROUTERS, TARGET]


def test_a_router_behind_a_limit_is_asked_until_it_answers_and_a_silent_one_is_not(monkeypatch):
    """Of five targets the second router answers one at once, and the others' fourth packet: 4 packets. The mute one of another
    path never answers anybody: the two attempts of the setting."""
    hosts = [f"192.0.2.{n}" for n in range(1, 6)]
    asked: dict[str, int] = {}

    def answer(host, ttl, number, token):
        if ttl == 2 and host != hosts[0]:
            asked[host] = asked.get(host, 0) + 1
            if asked[host] < 4:
                return []
        return honest(host, ttl, number, token) if host != "198.51.100.1" or ttl != 2 else []

    found, _, _ = trace(monkeypatch, answer, hosts, max_ttl=5)
    for host, one in zip(hosts, found, strict=True):
        assert [hop.address for hop in one.hops] == [*ROUTERS, host]
        assert one.hops[1].probes == (1 if host == hosts[0] else 4)
    (alone,), _, _ = trace(monkeypatch, lambda **p: [] if p["ttl"] == 2 else honest(**p), max_ttl=5)
    assert (alone.hops[1].address, alone.hops[1].probes) == (None, 2)


def test_what_runs_can_be_watched(monkeypatch):
    """While the second router is silent the trace shows the others, by the address as it was given."""
    network = Network(lambda **packet: [] if packet["ttl"] == 2 else honest(**packet))
    monkeypatch.setattr(engine_module, "open_transports", lambda *_: {4: network})

    async def work():
        engine = TracerouteEngine("icmp", packets_per_s=20_000)
        await engine.open()
        running = asyncio.ensure_future(engine.trace(TARGET, timeout_ns=300_000_000, flow=7))
        await network.was_read.wait()
        await asyncio.sleep(0)  # the answers that were read are told to the trace in the same turn of the loop
        seen = engine.under_way()
        await running
        left = engine.under_way()
        await engine.close()
        return seen, left

    (seen,), left = asyncio.run(work())
    assert (seen.address, seen.flow) == (TARGET, 7)
    assert [hop.address for hop in seen.hops] == [ROUTERS[0], None, TARGET]
    assert left == []


@pytest.mark.parametrize("more_hops", [0, 1])
def test_what_lies_behind_a_neighbours_distance_is_asked_last(monkeypatch, more_hops):
    """After a trace of three hops its neighbour costs three packets, and one that is farther away is found whole all the same."""
    neighbour = "192.0.2.10"
    path = [*ROUTERS, *["10.0.0.3"][:more_hops], neighbour]
    network = Network(
        lambda host, ttl, number, token: [said(host, number, token, ([*ROUTERS, host] if host == TARGET else path)[:ttl][-1])]
    )
    monkeypatch.setattr(engine_module, "open_transports", lambda *_: {4: network})

    async def work():
        engine = TracerouteEngine("icmp", packets_per_s=20_000)
        await engine.open()
        try:
            await engine.trace(TARGET)
            return await engine.trace(neighbour)
        finally:
            await engine.close()

    found = asyncio.run(work())
    assert found.reached
    assert [hop.address for hop in found.hops] == path
    asked = [ttl for host, ttl, *_ in network.sent if host == neighbour]
    assert sorted(asked)[: len(path)] == list(range(1, len(path) + 1))
    if not more_hops:
        assert len(asked) == len(path)


def test_a_distance_that_no_longer_holds_is_forgotten(monkeypatch):
    """Ten silent hops that become twelve: the trace of the old size ends at the gap, and the next one asks as if nothing were known."""
    distance = [10]
    network = Network(lambda host, ttl, number, token: [said(host, number, token, host)] if ttl >= distance[0] else [])
    monkeypatch.setattr(engine_module, "open_transports", lambda *_: {4: network})

    async def work():
        engine = TracerouteEngine("icmp", packets_per_s=20_000)
        await engine.open()
        try:
            found = [await engine.trace(TARGET, timeout_ns=100_000_000, attempts=1)]
            distance[0] = 12
            return [*found, *[await engine.trace(TARGET, timeout_ns=100_000_000, attempts=1) for _ in range(2)]]
        finally:
            await engine.close()

    assert [(one.reached, len(one.hops)) for one in asyncio.run(work())] == [(True, 10), (False, 10), (True, 12)]
