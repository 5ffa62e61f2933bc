"""What this machine allows, as the doctor will say it: each line agrees with an attempt of the test's own."""

import socket

import pytest

from probes.capabilities import inspect


@pytest.fixture(scope="module")
def found():
    return {capability.name: capability for capability in inspect()}


@pytest.mark.parametrize(("name", "kind"), [("ping socket IPv4", socket.SOCK_DGRAM), ("raw ICMP IPv4", socket.SOCK_RAW)])
def test_sockets_agree_with_an_attempt(found, name, kind):
    """It works exactly where a plain socket call works; where it does not, the grant is named."""
    try:
        socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        allowed = True
    except PermissionError:
        allowed = False
    assert found[name].works == allowed
    if not allowed:
        assert found[name].grant
        assert ("ping_group_range" if kind == socket.SOCK_DGRAM else "CAP_NET_RAW") in found[name].grant


def test_the_summary_follows_from_the_parts(found):
    """Ping and traceroute work where any of the four sockets does."""
    parts = [found[f"{kind} IPv{version}"].works for kind in ("ping socket", "raw ICMP") for version in (4, 6)]
    assert found["ping and traceroute"].works == any(parts)


def test_what_works_needs_no_grant(found):
    """Every line says what was seen; a grant stands only where something fails."""
    assert all(capability.detail for capability in found.values())
    assert all(capability.grant is None for capability in found.values() if capability.works)


def test_linux_stamps_loopback_packets(found):
    """Every Linux since 5.1 stamps both ends on loopback and queues ICMP errors, for any user."""
    assert found["kernel timestamps IPv4"].works, found["kernel timestamps IPv4"].detail
    assert found["error queue IPv4"].works, found["error queue IPv4"].detail
