"""A survey's manners, with a scripted network: caps, gaps, order, second names, giving up, and the deadline."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from typing import Any

import pytest

from probes.http.client import Known
from probes.http.config import WebEndpoint
from probes.http.survey import Manners, Outcome, Spot, survey
from probes.model import Header, Vantage
from records.errors import OutsideError
from records.measurement import HttpResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

FAST = Manners(start_gap_ms=0, own_gap_ms=0)
OK: dict[str, Any] = {"outcome": "ok", "tcp_ns": 5, "tcp_rtt_ns": 5}
NO_NAME: dict[str, Any] = {"outcome": "no_such_name", "failed_phase": "dns", "failure_source": "resolver", "error": "no address"}
NO_RESOLVER = {**NO_NAME, "outcome": "resolver_failed"}
NO_ROUTE: dict[str, Any] = {"outcome": "agent_failed", "failed_phase": "tcp", "failure_source": "agent", "error": "network is unreachable"}
REFUSED: dict[str, Any] = {"outcome": "refused", "failed_phase": "tcp", "failure_source": "target", "error": "refused"}


class Network:
    """Stands where the Visitor does: what a host name gives, how long it takes, and who was there at the same time."""

    def __init__(self, says: dict[str, dict[str, Any]] | None = None, *, takes_s: float = 0.0) -> None:
        self.says = says or {}
        self.takes_s = takes_s
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.asked: list[tuple[str, str, bool]] = []  # host, protocol, with a known session
        self.started_s: dict[str, list[float]] = defaultdict(list)

    async def visit(
        self, endpoint: WebEndpoint, header: Header, known: Known | None = None, *, keep_session: bool = False
    ) -> tuple[HttpResult, Known]:
        provider = endpoint.host.partition(".")[2]
        self.asked.append((endpoint.host, endpoint.protocol, known is not None and known.tls_error == "kept"))
        self.started_s[endpoint.host].append(time.monotonic())
        for name in (provider, "all"):
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        await asyncio.sleep(self.takes_s)
        for name in (provider, "all"):
            self.now[name] -= 1
        result = HttpResult(**header, protocol=endpoint.protocol, **self.says.get(endpoint.host, OK))
        return result, Known(tls_error="kept")


def spot(name: str, provider: str = "p", *, others: int = 0, protocol: str = "https") -> Spot:
    hosts = [f"{name}.{provider}", *(f"{name}-{n}.{provider}" for n in range(2, 2 + others))]
    ends = tuple(WebEndpoint(protocol=protocol, host=host, port=443, path="/" if protocol == "https" else "") for host in hosts)  # type: ignore[arg-type]
    return Spot(site=name, provider=provider, endpoints=ends)


def run(spots: list[Spot], network: Network, manners: Manners = FAST) -> Outcome:
    return asyncio.run(survey(spots, network, Vantage(agent="a", site="s", boot="b"), manners))  # type: ignore[arg-type]


def test_caps_hold_in_all_and_for_each_provider() -> None:
    """Never more at once than allowed, of all and of one provider, and no fewer connections than asked for."""
    network = Network(takes_s=0.005)
    spots = [spot(f"a{n}", "p") for n in range(12)] + [spot(f"b{n}", "q") for n in range(12)]
    manners = Manners(start_gap_ms=0, own_gap_ms=0, at_once=5, at_once_per_provider=3)
    done = run(spots, network, manners)
    assert (network.most["all"], network.most["p"], network.most["q"]) == (5, 3, 3)
    assert Counter(result.dst for result in done.results) == dict.fromkeys((s.site for s in spots), 3)


def test_first_a_request_then_a_resumed_session_then_tcp() -> None:
    """What goes to one endpoint, in this order, with what the first connection learnt; a tcp endpoint gets TCP only."""
    network = Network()
    run([spot("web"), spot("plain", "q", protocol="tcp")], network)
    assert [one[1:] for one in network.asked if one[0] == "web.p"] == [("https", False), ("tls", True), ("tcp", True)]
    assert [one[1] for one in network.asked if one[0] == "plain.q"] == ["tcp", "tcp", "tcp"]


def test_connections_are_paced() -> None:
    """However late the loop runs, no start comes before its slot, and none to an endpoint before its own gap is over."""
    network = Network()
    run([spot("a"), spot("b", "q")], network, Manners(start_gap_ms=10, own_gap_ms=60))
    every = sorted(at for starts in network.started_s.values() for at in starts)
    assert every[-1] - every[0] >= 0.025, "six starts are five gaps of 10 ms; the first may be late itself"
    for starts in network.started_s.values():
        assert min(later - earlier for earlier, later in itertools.pairwise(starts)) >= 0.059


def test_providers_take_turns() -> None:
    """The first connections go to every provider before the second region of any."""
    network = Network()
    run([spot("a1"), spot("a2"), spot("a3"), spot("b1", "q"), spot("b2", "q")], network, Manners(start_gap_ms=1, own_gap_ms=100))
    assert [host for host, _, _ in network.asked[:5]] == ["a1.p", "b1.q", "a2.p", "b2.q", "a3.p"]


@pytest.mark.parametrize(
    ("first", "kept", "tries_of_first"),
    [(OK, "x.p", 3), (NO_NAME, "x-2.p", 1), (REFUSED, "x-2.p", 1), (NO_RESOLVER, "x.p", 3)],
    ids=["ok", "no-name", "refused", "no-resolver"],
)
def test_a_second_name_is_tried_where_the_first_is_wrong(first: dict[str, Any], kept: str, tries_of_first: int) -> None:
    """Not where the resolver is what fails: another name would not help."""
    network = Network({"x.p": first})
    run([spot("x", others=1), spot("good", "q")], network)
    hosts = [host for host, _, _ in network.asked if host.startswith("x")]
    assert hosts.count("x.p") == tries_of_first
    assert hosts[-1] == kept


def test_where_no_name_exists_nothing_is_asked_again() -> None:
    """Each name once; where one is refused and the other unknown, the refused one has its further tries."""
    network = Network({"x.p": NO_NAME, "x-2.p": NO_NAME, "y.p": REFUSED, "y-2.p": NO_NAME})
    run([spot("x", others=1), spot("y", others=1), spot("good", "q")], network)
    assert Counter(host for host, _, _ in network.asked if host[0] in "xy") == {"x.p": 1, "x-2.p": 1, "y.p": 3, "y-2.p": 1}


@pytest.mark.parametrize(("says", "words"), [(NO_RESOLVER, "could be looked up"), (NO_ROUTE, "could not send to any")])
def test_a_host_without_a_network_is_found_out_early(says: dict[str, Any], words: str) -> None:
    """After as many as may be under way at once; one answer, even a refusal, and the survey goes on."""
    spots = [spot(f"a{n}") for n in range(60)]
    network = Network({s.endpoints[0].host: says for s in spots})
    with pytest.raises(OutsideError, match=words):
        run(spots, network, Manners(start_gap_ms=0, own_gap_ms=50, at_once=10, at_once_per_provider=10))
    assert len(network.asked) <= 20
    network = Network({s.endpoints[0].host: says for s in spots[1:]} | {spots[0].endpoints[0].host: REFUSED})
    assert len(run(spots, network).results) == 180


def test_the_deadline_keeps_what_is_there() -> None:
    """Whoever is not through by then is left out, and the outcome says so."""
    network = Network(takes_s=0.02)
    done = run([spot(f"a{n}") for n in range(50)], network, Manners(start_gap_ms=0, own_gap_ms=0, at_once_per_provider=2, deadline_s=0.2))
    assert done.is_cut_short
    assert 0 < len(done.results) < 150
    assert not run([spot("a")], Network()).is_cut_short
