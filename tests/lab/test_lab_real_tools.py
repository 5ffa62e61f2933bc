"""Other people's tools, and our own, measure in the lab what its truth says: RTTs, hops and rates.

An RTT is the least of a few, and may lie 0.5 ms or 2 % above the truth; below it only by what the tool rounds to three digits.
A measurement that fails is taken once more before it counts: the machine that runs the tests adds what it likes. For the
same reason rates are held to 500 Mbit/s here; bench/lab.py shows up to which rate the fabric keeps them on a quiet one.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab_tools import MS, address_of, allowed_ms, needs, run_together, twice, visible_paths

from lab.namespace_lab import NamespaceLab
from lab.truth import PairTruth

pytestmark = pytest.mark.lab


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tool says of one target: its least RTT, and the address of every hop (None: silent); None where it says none."""

    rtt_ms: float | None
    hops: tuple[str | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A command to which the address of a target is added, or those of all, and how its output is read."""

    name: str
    argv: tuple[str, ...]
    read: Callable[[str], list[Seen]]
    takes_all: bool = False


def _ping(text: str) -> list[Seen]:
    found = re.search(r"= ([0-9.]+)/", text)
    return [Seen(float(found[1]) if found else None)]


def _fping(text: str) -> list[Seen]:
    lines = [line.split(" : ")[1].split() for line in text.splitlines() if " : " in line]
    return [Seen(min((float(field) for field in fields if field != "-"), default=None)) for fields in lines]


def _mtr(text: str) -> list[Seen]:
    hubs = json.loads(text)["report"]["hubs"]
    return [Seen(hubs[-1]["Best"], tuple(None if hub["host"] == "???" else hub["host"] for hub in hubs))]


def _traceroute(text: str) -> list[Seen]:
    lines = [line for line in text.splitlines() if re.match(r" *\d+ ", line)]
    hops = [re.search(r" ([0-9a-f]*[.:][0-9a-f.:]+) ", f"{line} ") for line in lines]
    rtts = [float(rtt) for rtt in re.findall(r"([0-9.]+) ms", lines[-1])]
    return [Seen(min(rtts, default=None), tuple(hop[1] if hop else None for hop in hops))]


def _our_ping(text: str) -> list[Seen]:
    rtts = [[sample["rtt_ns"] for sample in one["measurement"]["samples"] if sample["outcome"] == "reply"] for one in json.loads(text)]
    return [Seen(min(some) / MS if some else None) for some in rtts]


def _our_traceroute(text: str) -> list[Seen]:
    return [Seen(one["summary"]["rtt_ms"], tuple(hop.get("address") for hop in one["measurement"]["hops"])) for one in json.loads(text)]


_MTR = ("mtr", "-n", "-j", "-c", "3", "-i", "0.2", "-G", "1", "-Z", "1")
_TRACEROUTE = ("traceroute", "-n", "-q", "3", "-w", "1", "-N", "32")
_OURS = (sys.executable, "-m", "app.cli")
TOOLS = [
    Tool("ping", ("ping", "-n", "-q", "-c", "8", "-i", "0.05", "-W", "2"), _ping),
    Tool("fping", ("fping", "-C", "8", "-q", "-p", "50", "-t", "2000"), _fping, takes_all=True),
    Tool("mtr icmp", _MTR, _mtr),
    Tool("mtr udp", (*_MTR, "-u"), _mtr),
    Tool("mtr tcp", (*_MTR, "-T"), _mtr),
    Tool("traceroute icmp", (*_TRACEROUTE, "-I"), _traceroute),
    Tool("traceroute udp", (*_TRACEROUTE, "-U"), _traceroute),
    Tool("traceroute tcp", (*_TRACEROUTE, "-T"), _traceroute),
    Tool("isochrone ping", (*_OURS, "ping", "-c", "8", "-i", "50ms", "--json"), _our_ping, takes_all=True),
    Tool("isochrone traceroute icmp", (*_OURS, "traceroute", "--json"), _our_traceroute, takes_all=True),
    Tool("isochrone traceroute udp", (*_OURS, "traceroute", "--protocol", "udp", "--json"), _our_traceroute, takes_all=True),
    Tool("isochrone traceroute tcp", (*_OURS, "traceroute", "--protocol", "tcp", "--json"), _our_traceroute, takes_all=True),
]


@pytest.fixture(scope="module")
def truths(wan: NamespaceLab) -> list[PairTruth]:
    """All of the session's lab; nobody changes it during this module."""
    return wan.truth()


@pytest.fixture(scope="module")
def pairs(truths: list[PairTruth]) -> list[PairTruth]:
    """From one site to four others: the nearest, the farthest, that over most hops, and the farthest over the backbone."""
    on_backbone = {truth.src for truth in truths if truth.medium == "backbone"}
    src = max((truth for truth in truths if truth.src in on_backbone), key=lambda truth: truth.rtt_ns).src
    near_first = sorted((truth for truth in truths if truth.src == src), key=lambda truth: truth.rtt_ns)
    chosen = [near_first[0], near_first[-1]]
    chosen.append(max((t for t in near_first if t.dst not in {c.dst for c in chosen}), key=lambda truth: len(truth.hops)))
    chosen.append([t for t in near_first if t.medium == "backbone" and t.dst not in {c.dst for c in chosen}][-1])
    return chosen


@pytest.fixture(scope="module")
def pairs_back(truths: list[PairTruth], pairs: list[PairTruth]) -> list[PairTruth]:
    """The same seen from the other ends: from four sites to one."""
    by_key = {(truth.src, truth.dst, truth.medium): truth for truth in truths}
    return [by_key[truth.dst, truth.src, truth.medium] for truth in pairs]


def check(seen: Seen, truth: PairTruth, version: int) -> None:
    """Hold what a tool saw against the truth; among equally good paths each flow has its own."""
    assert seen.rtt_ms is not None
    least_ms, most_ms = truth.rtt_min_ns / MS, truth.rtt_max_ns / MS
    assert least_ms - max(0.001, 0.005 * least_ms) <= seen.rtt_ms <= most_ms + allowed_ms(truth)
    assert seen.hops is None or seen.hops in visible_paths(truth, version)


VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@pytest.mark.waits
@VERSIONS
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_sees_the_truth(wan: NamespaceLab, pairs: list[PairTruth], pairs_back: list[PairTruth], tool: Tool, version: int) -> None:
    """RTT and, of the tools that show a path, every hop in its order and then the target.

    A tool that takes one target runs at four sites, once at each: mtr takes the answers to another at its host for its own.
    """
    needs(tool.argv[0])
    chosen = pairs if tool.takes_all else pairs_back

    def measure() -> None:
        commands = [wan.command(truth.src, [*tool.argv, address_of(truth, version)]) for truth in chosen]
        if tool.takes_all:
            commands = [[*commands[0], *(command[-1] for command in commands[1:])]]
        seen = [one for text in run_together(commands) for one in tool.read(text)]
        for one, truth in zip(seen, chosen, strict=True):
            check(one, truth, version)

    twice(measure)


@contextlib.contextmanager
def serving(lab: NamespaceLab, site: str, *argv: str, ready: str) -> Iterator[None]:
    """A server at a site, from the line that says it is ready to its end."""
    with subprocess.Popen(
        lab.command(site, argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            assert any(ready in line for line in server.stdout), f"{argv[0]} ended"
            yield
        finally:
            server.terminate()


@pytest.mark.waits
@VERSIONS
def test_curl_opens_in_one_round_trip_and_reads_in_two(wan: NamespaceLab, pairs: list[PairTruth], tmp_path: Path, version: int) -> None:
    """A page from a server at the far end: the hand-shake takes the RTT, the first byte comes an RTT later."""
    needs("curl")
    (tmp_path / "page").write_text("a page\n")
    truth = pairs[-1]
    server = (sys.executable, "-u", "-m", "http.server", "8000", "--bind", "::", "--directory", str(tmp_path))
    address = address_of(truth, version)
    url = f"http://[{address}]:8000/page" if version == 6 else f"http://{address}:8000/page"
    loop = "for n in 1 2 3; do curl -g -s -o /dev/null -w '%{http_code} %{time_connect} %{time_starttransfer}\\n' \"$0\"; done"

    def measure() -> None:
        (text,) = run_together([wan.command(truth.src, ["sh", "-c", loop, url])])
        rows = [line.split() for line in text.splitlines()]
        assert [row[0] for row in rows] == ["200"] * 3
        connect_ms, first_byte_ms = (min(float(row[n]) * 1000 for row in rows) for n in (1, 2))
        check(Seen(connect_ms), truth, version)
        # What the server itself takes is not the network's.
        assert 2 * truth.rtt_ns / MS <= first_byte_ms <= 2 * (truth.rtt_ns / MS + allowed_ms(truth)) + 10

    with serving(wan, truth.dst, *server, ready="Serving HTTP"):
        twice(measure)


@pytest.fixture(scope="module")
def bottlenecks(truths: list[PairTruth]) -> dict[int, PairTruth]:
    """For 100 and 500 Mbit/s the nearest pair without loss whose narrowest links, there and back, have that rate."""
    rate_of = {(truth.src, truth.dst, truth.medium): truth.bottleneck_bps for truth in truths}
    fit = [
        truth
        for truth in truths
        if rate_of.get((truth.dst, truth.src, truth.medium)) == truth.bottleneck_bps and not truth.loss_ratio and truth.path_count == 1
    ]
    return {
        rate: min((truth for truth in fit if truth.bottleneck_bps == rate), key=lambda truth: truth.rtt_ns)
        for rate in (100_000_000, 500_000_000)
    }


def _iperf3(text: str) -> list[float]:
    report = json.loads(text)
    assert "error" not in report, report["error"]
    return [report["end"]["sum_received"]["bits_per_second"]]


def _iperf3_udp(text: str) -> list[float]:
    total = json.loads(text)["end"]["sum"]
    # What is sent is what a link gets; of that the part that arrives.
    return [total["bits_per_second"] * (1 - total["lost_percent"] / 100)]


def _our_throughput(text: str) -> list[float]:
    return [one["measurement"]["throughput_bps"] for one in json.loads(text)]


RATES = [
    ("iperf3 tcp over IPv6", 6, 100_000_000, ("iperf3", "-t", "2", "-O", "1", "-J", "-C", "cubic", "-c"), _iperf3),
    ("iperf3 tcp at 500 Mbit/s", 4, 500_000_000, ("iperf3", "-t", "2", "-O", "1", "-J", "-C", "cubic", "-c"), _iperf3),
    ("iperf3 tcp reverse", 4, 500_000_000, ("iperf3", "-R", "-t", "2", "-O", "1", "-J", "-C", "cubic", "-c"), _iperf3),
    ("iperf3 udp", 4, 100_000_000, ("iperf3", "-u", "-b", "120M", "-l", "1448", "-t", "2", "-J", "-c"), _iperf3_udp),
    ("isochrone throughput", 4, 100_000_000, (*_OURS, "throughput", "-t", "2s", "--max-bytes", "60MB", "--json"), _our_throughput),
]


@pytest.mark.parametrize(("version", "rate_bps", "argv", "read"), [case[1:] for case in RATES], ids=[case[0] for case in RATES])
def test_a_bottleneck_is_read_as_configured(
    wan: NamespaceLab,
    bottlenecks: dict[int, PairTruth],
    version: int,
    rate_bps: int,
    argv: tuple[str, ...],
    read: Callable[[str], list[float]],
) -> None:
    """Within 10 % of the configured rate, headers not taken out; above it by no more than the queue still holds at the end."""
    needs("iperf3")
    truth = bottlenecks[rate_bps]

    def measure() -> None:
        (text,) = run_together([wan.command(truth.src, [*argv, address_of(truth, version)])])
        rates = read(text)
        assert rates
        for measured_bps in rates:
            assert 0.9 * rate_bps <= measured_bps <= 1.02 * rate_bps

    with serving(wan, truth.dst, "iperf3", "-s", "--forceflush", ready="Server listening"):
        twice(measure)
