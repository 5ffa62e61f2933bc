"""Whom an agent may measure: lists of hosts, networks, and names that lead elsewhere."""

import asyncio
import ipaddress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.blame import failure_source
from probes.config import AgentConfig, parse_config
from probes.guard import Guard, OptedOut
from probes.hosts import HostList
from probes.policy import Policy, network_of, refusal
from records.batch import Line
from records.errors import ConfigError, NotPermitted
from records.measurement import Hop, InferenceResult, PingResult, PingSample, ThroughputResult, TracerouteResult

HEADER = {
    "id": "aa-0",
    "agent": "sin-1",
    "src": "sin",
    "dst": "fra",
    "medium": "internet",
    "target": "x",
    "started_at_ns": 0,
    "engine": "x/1",
}


@given(st.lists(st.ip_addresses(v=4), max_size=8), st.lists(st.integers(0, 32), min_size=8, max_size=8), st.ip_addresses(v=4))
def test_an_address_matches_the_longest_prefix_that_holds_it(bases: list, lengths: list[int], address: ipaddress.IPv4Address) -> None:
    """Against asking every network in turn."""
    networks = [ipaddress.ip_network((base, length), strict=False) for base, length in zip(bases, lengths, strict=False)]
    found = HostList(map(str, networks)).address_entry(address)
    holding = [network for network in networks if address in network]
    assert found == (str(max(holding, key=lambda network: network.prefixlen)) if holding else None)
    mapped = ip_address(f"::ffff:{address}")
    assert HostList(map(str, networks)).address_entry(mapped) == found, "an IPv4 address in IPv6 is that address"


def test_names_match_themselves_and_what_is_below() -> None:
    """Whole labels only, in any case, with or without the root's dot."""
    hosts = HostList(["example.org", "*.pops.example", "198.51.100.7"])
    for name in ("example.org", "EXAMPLE.org.", "a.b.example.org", "fra.pops.example"):
        assert hosts.name_entry(name), name
    for name in ("badexample.org", "org", "pops.example", "example.org.evil"):
        assert hosts.name_entry(name) is None, name


def test_a_file_of_hosts() -> None:
    """Comments and empty lines are passed over; a mistake names its line and says what to write."""
    assert len(HostList.parse("# who asked\n\n203.0.113.0/24  # ticket 7\n2001:db8::/32\nexample.org\n", "f")) == 3
    for text, said in (
        ("a b", "f:1: 'a b' is no address"),
        ("\n203.0.113.1/24\n", r"f:2: .* the prefix is 203.0.113.0/24"),
        ("10.0.0.256", "f:1"),
        ("*.", "f:1"),
    ):
        with pytest.raises(ConfigError, match=said):
            HostList.parse(text, "f")


@given(st.text(max_size=200))
def test_no_list_makes_it_fall_over(text: str) -> None:
    """Whatever stands in the file: a list or a ConfigError."""
    try:
        found: object = HostList.parse(text, "f")
    except ConfigError as error:
        found = str(error)
    assert isinstance(found, HostList) or str(found).startswith("f:")


@pytest.mark.parametrize(("address", "network"), [("198.51.100.7", "198.51.100.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48")])
def test_what_shares_a_cap(address: str, network: str) -> None:
    """An IPv4 /24, an IPv6 /48, also of an address in IPv6's clothes."""
    assert network_of(ip_address(address)) == network
    assert network_of(ip_address("::ffff:198.51.100.7")) == "198.51.100.0/24"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("64:ff9b::10.0.0.1", "private"),  # NAT64, RFC 6052
        ("64:ff9b::224.0.0.1", "multicast"),
        ("64:ff9b::8.8.8.8", None),
        ("2002:7f00:1::", "loopback"),  # 6to4 of 127.0.0.1, RFC 3056
        ("240.0.0.1", "private"),  # reserved
        ("ff0e::1", "multicast"),  # global multicast
    ],
)
def test_an_address_is_judged_by_where_its_packets_end_up(address: str, reason: str | None) -> None:
    """IPv4 inside IPv6 is no way round the rule."""
    found = refusal(ip_address(address), is_private_allowed=False)
    assert found == reason


def configured(folder: Path, policy: str, targets: str = "", *, private: str = "true") -> AgentConfig:
    text = f'[agent]\nid = "sin-1"\nsite = "sin"\nallow_private_targets = {private}\n[collector]\nurl = "http://127.0.0.1:8600"\n'
    targets = targets or '[[target]]\nsite = "fra"\naddress = "10.0.0.1"\n[[target]]\nsite = "iad"\naddress = "iad.example"\n'
    return parse_config(f'{text}[policy]\n{policy}[[probe]]\ntype = "ping"\ninterval_s = 10\n{targets}', folder / "agent.toml")


def test_who_opted_out_is_left_out_of_every_probe(tmp_path: Path) -> None:
    """By prefix and by name; the rest goes on; also when a probe names it."""
    (tmp_path / "out.txt").write_text("10.0.0.0/8\n")
    config = configured(tmp_path, 'opt_out_file = "out.txt"\n')
    assert [(target.site, entry) for target, entry in config.opted_out] == [("fra", "10.0.0.0/8")]
    assert [target.site for probe in config.probes for target in probe.targets] == ["iad"]
    (tmp_path / "out.txt").write_text("example\n10.0.0.1\n")
    assert configured(tmp_path, 'opt_out_file = "out.txt"\n').targets == ()


def test_only_what_is_allowed_may_be_a_target(tmp_path: Path) -> None:
    """A target on no list is a mistake; a missing list is one too, for it is not known whom it would have named."""
    (tmp_path / "allow.txt").write_text("10.0.0.0/24\niad.example\n")
    assert len(configured(tmp_path, 'allow_file = "allow.txt"\n').targets) == 2
    (tmp_path / "allow.txt").write_text("10.0.1.0/24\niad.example\n")
    with pytest.raises(ConfigError, match=r"\[\[target\]\] 1: address 10.0.0.1 is not on the list of policy.allow_file"):
        configured(tmp_path, 'allow_file = "allow.txt"\n')
    (tmp_path / "allow.txt").write_text("fra.example\n")
    with pytest.raises(ConfigError, match=r"iad.example is not on the list"):
        configured(tmp_path, 'allow_file = "allow.txt"\n', '[[target]]\nsite = "iad"\naddress = "iad.example"\n')
    with pytest.raises(ConfigError, match=r"\[policy\]: opt_out_file .*none.txt cannot be read"):
        configured(tmp_path, 'opt_out_file = "none.txt"\n')


def test_the_lists_hold_behind_a_name(tmp_path: Path) -> None:
    """localhost leads to 127.0.0.1 (or ::1): opted out by that prefix, and not on a list of allowed networks elsewhere."""
    nobody, everywhere = HostList(), HostList(["127.0.0.0/8", "::1/128"])

    async def asked(allowed: HostList | None, opted_out: HostList) -> object:
        guard = Guard(Policy(is_private_allowed=True, allowed=allowed, opted_out=opted_out))
        try:
            return await guard.check(["localhost"])
        finally:
            guard.close()

    assert asyncio.run(asked(None, nobody)) is not None
    assert asyncio.run(asked(everywhere, nobody)) is not None
    assert asyncio.run(asked(HostList(["localhost"]), nobody)) is not None
    with pytest.raises(OptedOut, match=r"localhost leads to .* opted out \((127.0.0.0/8|::1/128)\)"):
        asyncio.run(asked(None, everywhere))
    with pytest.raises(OptedOut, match=r"localhost opted out \(localhost\)"):
        asyncio.run(asked(None, HostList(["localhost"])))
    with pytest.raises(NotPermitted, match=r"not on the list of policy.allow_file"):
        asyncio.run(asked(HostList(["10.0.0.0/8"]), nobody))


def test_a_name_without_an_address_is_no_refusal() -> None:
    """It is the probe's to find and to record: the guard lets it pass and knows no address."""
    guard = Guard(Policy(is_private_allowed=False, allowed=None, opted_out=HostList()))
    assert asyncio.run(guard.check(["no-such-host.invalid"])).address is None


def ping(*samples: dict[str, object]) -> PingResult:
    made = tuple(PingSample(sequence=n, sent_at_ns=0, **sample) for n, sample in enumerate(samples))  # type: ignore[arg-type]
    return PingResult(**HEADER, method="icmp", timeout_ns=1, samples=made)  # type: ignore[arg-type]


REPLY = {"outcome": "reply", "rtt_ns": 1, "ts_source": "user"}
LOST = {"outcome": "timeout"}
HOP = Hop(ttl=1, address="10.0.0.9", rtt_ns=1)


def inference(**more: object) -> InferenceResult:
    return InferenceResult(**HEADER, model="m", connection="cold", **more)  # type: ignore[arg-type]


def throughput(error: str) -> ThroughputResult:
    none = {"transferred_bytes": None, "duration_ns": None, "throughput_bps": None}
    return ThroughputResult(**HEADER, tool="builtin", direction="up", stop_reason="error", error=error, **none)  # type: ignore[arg-type]


def trace(*hops: Hop, reached: bool = False) -> TracerouteResult:
    return TracerouteResult(**HEADER, protocol="icmp", flow=0, hops=hops, reached=reached, path_hash="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "is_resolved", "source"),
    [
        (ping(REPLY, LOST), True, None),
        (ping(LOST, LOST), True, "path"),
        (ping({"outcome": "unreachable", "responder": "10.0.0.1"}), True, "target"),
        (ping({"outcome": "unreachable", "responder": "10.9.9.9"}, LOST), True, "path"),
        (ping({"outcome": "send_failed", "error": "ENETUNREACH"}), True, "agent"),
        (ping({"outcome": "send_failed", "error": "EPERM"}), True, "agent"),
        (ping({"outcome": "send_failed", "error": "EAI_AGAIN"}), True, "resolver"),
        (ping({"outcome": "send_failed", "error": "EAI_NONAME"}), False, "resolver"),
        (trace(HOP, reached=True), True, None),
        (trace(HOP), True, "path"),
        (trace(), True, "agent"),
        (trace(), False, "resolver"),
        (throughput("10.0.0.1 port 5201: Connection refused"), True, "target"),
        (throughput("10.0.0.1 port 5201: Connection timed out"), True, "path"),
        (throughput("10.0.0.1 port 5201: Network is unreachable"), True, "path"),
        (throughput("cannot resolve 'x'"), False, "resolver"),
        (throughput("the server ended the test without a report"), True, "target"),
        (inference(outcome="ok", ttft_ns=1), True, None),
        (inference(outcome="http_error", error="500"), True, "target"),
        (inference(outcome="timeout", error="no hand-shake"), True, "path"),
        (inference(outcome="timeout", error="no token", tcp_ns=5), True, "target"),
        (inference(outcome="connect_failed", error="cannot connect: Too many open files"), True, "agent"),
    ],
)
def test_whose_failure_it_was(line: Line, is_resolved: bool, source: str | None) -> None:
    """The table of probes/blame.py, row by row; a lost packet among answered ones is nobody's failure."""
    assert failure_source(line, is_resolved=is_resolved, address="10.0.0.1") == source
