"""The traceroute probe type on loopback: one result per round, flows in turn, settings checked."""

import asyncio

import pytest

from probes.model import Target, Vantage
from probes.traceroute import TracerouteConfig, TracerouteProbe
from records.batch import encode_line
from records.errors import ConfigError, NotPermitted
from records.measurement import path_hash

VANTAGE = Vantage(agent="test-agent", site="here", boot="00ff")


def once(config, target, rounds=1):
    async def work():
        probe = TracerouteProbe(config)
        try:
            await probe.open()
        except NotPermitted as denied:
            pytest.skip(str(denied))
        try:
            return [line for _ in range(rounds) for line in await probe.once(target, VANTAGE)]
        finally:
            await probe.close()

    return asyncio.run(work())


@pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback_is_one_hop(protocol, address):
    """The machine itself is one hop away and reached; the result goes on the wire."""
    (result,) = once(TracerouteConfig(protocol=protocol, timeout_ms=500), Target(site="there", address=address))
    assert (result.protocol, result.flow, result.reached, result.dst) == (protocol, 0, True, "there")
    assert [hop.address for hop in result.hops] == [address]
    assert result.path_hash == path_hash([address])
    assert encode_line(result).endswith(b"}\n")


def test_flows_take_turns():
    """Three flows: rounds 0, 1, 2, 0."""
    results = once(TracerouteConfig(flows=3, timeout_ms=500), Target(site="there", address="127.0.0.1"), rounds=4)
    assert [result.flow for result in results] == [0, 1, 2, 0]


def test_flows_of_a_round_are_traced_together():
    """Five flows, two a round: 0 and 1, then 2 and 3, then 4 and 0, each two of one moment and with ids of their own."""
    config = TracerouteConfig(flows=5, flows_at_once=2, timeout_ms=500)
    results = once(config, Target(site="there", address="127.0.0.1"), rounds=3)
    assert [result.flow for result in results] == [0, 1, 2, 3, 4, 0]
    begun = [result.started_at_ns for result in results]
    assert begun[::2] == begun[1::2] == sorted(set(begun))
    assert len({result.id for result in results}) == 6


def test_a_name_that_does_not_exist_is_a_result():
    """No hops, not reached, no exception."""
    (result,) = once(TracerouteConfig(), Target(site="there", address=f"{'x' * 70}.invalid"))
    assert (result.hops, result.reached) == ((), False)


BAD = [
    ("protocol", "sctp"),
    ("max_ttl", 0),
    ("max_ttl", 65),
    ("attempts", 1.5),
    ("flows", 257),
    ("flows_at_once", 0),
    ("flows_at_once", 2),
    ("port", 65536),
    ("timeout_ms", 1),
    ("packets_per_s", 0),
]


@pytest.mark.parametrize(("setting", "value"), BAD)
def test_bad_settings_are_refused_with_value_and_limits(setting, value):
    """What, value, what is allowed."""
    with pytest.raises(ConfigError, match=rf"traceroute\.{setting} is {value!r}; (give|choose)"):
        TracerouteConfig(**{setting: value})
