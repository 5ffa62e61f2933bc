"""The network between the lab's namespaces: addresses, media, errors, loss, and changes while it runs. RTTs are the least of several."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from lab_tools import MS, least_rtt_ms, needs, run_at, truth_of, twice

from lab import namespaces
from lab.links import Change
from lab.namespace_lab import NamespaceLab
from records.errors import UserError

pytestmark = [pytest.mark.lab, pytest.mark.waits]


def test_an_answer_returns_over_the_medium_of_the_question(wan: NamespaceLab) -> None:
    """sin reaches nrt over two media; each has its own address, its own RTT and its own routers on the way."""
    rtt_ms = {}
    for medium in ("internet", "backbone"):
        address = wan.address("sin", "nrt", medium)
        assert address is not None
        rtt_ms[medium] = least_rtt_ms(wan, "sin", address)
        text = run_at(wan, "sin", "ip", "route", "get", address)
        assert f"src {wan.address('nrt', 'sin', medium)}" in text
    truth = {medium: truth_of(wan, "sin", "nrt", medium).rtt_ns / MS for medium in rtt_ms}
    assert rtt_ms["internet"] - rtt_ms["backbone"] == pytest.approx(truth["internet"] - truth["backbone"], abs=2)
    assert wan.media("sin", "nrt") == ("internet", "backbone")
    assert wan.media("sin", "gcp:asia-southeast1") == ("internet", "direct-connect")
    assert wan.address("sin", "aws:us-east-1", "direct-connect") is None


def test_unreachable_and_foreign_addresses_are_answered_by_a_router(wan: NamespaceLab) -> None:
    """A ping to nobody gets a real network unreachable from the first router of the host."""
    first = truth_of(wan, "fra", "sin").hops[0]
    text = run_at(wan, "fra", "ping", "-n", "-c", "1", "-W", "2", "192.0.2.1")
    assert f"From {first} icmp_seq=1 Destination Net Unreachable" in text


def test_hosts_answer_every_port_unreachable(wan: NamespaceLab) -> None:
    """Fifty datagrams to closed ports bring fifty port-unreachables: no ICMP rate limit in the hosts."""
    code = (
        "import socket,sys\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_ICMP); s.settimeout(3)\n"
        "u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "[u.sendto(b'x',(sys.argv[1],20000+n)) for n in range(50)]\n"
        "print(sum(s.recv(600)[20]==3 for _ in range(50)))"
    )
    address = wan.address("iad", "aws:us-east-1", "direct-connect")
    assert address is not None
    assert run_at(wan, "iad", sys.executable, "-c", code, address).strip() == "50"


def test_an_ordinary_user_may_ping_in_a_host(wan: NamespaceLab, namespace_support: namespaces.Support) -> None:
    """The range of groups that may open ping sockets is open in every host."""
    text = run_at(wan, "jnb", "cat", "/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/icmp_ratelimit")
    assert text.split() == ["0", "2147483647" if namespace_support.how == "root" else "0", "0"]


def test_loss_is_the_set_one(triangle_lab: NamespaceLab) -> None:
    """1,500 pings over a path that loses 5 % one way: the loss is within 3 sigma, repeated once when it is not."""
    needs("fping")
    triangle_lab.change("in-hb", "b", Change(op="degrade", loss_ratio=0.05, delay_ns=0), both=False)
    triangle_lab.change("b", "in-hb", Change(op="degrade", loss_ratio=0.0), both=False)
    truth = truth_of(triangle_lab, "hub", "b")
    assert truth.loss_ratio == pytest.approx(0.05)

    def measure() -> None:
        text = run_at(triangle_lab, "hub", "fping", "-q", "-c", "1500", "-p", "1", "-i", "1", "-t", "1000", truth.address)
        found = re.search(r"xmt/rcv/%loss = (\d+)/(\d+)/", text)
        assert found, text
        lost = int(found[1]) - int(found[2])
        assert abs(lost - 75) <= 3 * (1500 * 0.05 * 0.95) ** 0.5

    twice(measure)


def test_tcp_survives_loss_of_single_segments(triangle_lab: NamespaceLab) -> None:
    """A megabyte through 2 % loss arrives unharmed: super-segments are cut so that TCP can mend them."""
    triangle_lab.change("a", "bb-eu", Change(op="degrade", loss_ratio=0.02))
    address = triangle_lab.address("a", "hub", "backbone")
    assert address is not None
    serve = (
        "import socket,hashlib\n"
        "s=socket.create_server(('0.0.0.0',7000)); print('up',flush=True)\n"
        "c,_=s.accept(); h=hashlib.sha256()\n"
        "while d:=c.recv(65536): h.update(d)\n"
        "print(h.hexdigest())"
    )
    send = (
        "import socket,hashlib,random,sys\n"
        "d=random.Random(5).randbytes(1_000_000); c=socket.create_connection((sys.argv[1],7000)); c.sendall(d); c.close()\n"
        "print(hashlib.sha256(d).hexdigest())"
    )
    server = subprocess.Popen(triangle_lab.command("hub", [sys.executable, "-c", serve]), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    sent = run_at(triangle_lab, "a", sys.executable, "-c", send, address)
    assert server.communicate(timeout=30)[0] == sent
    report = triangle_lab.status()
    assert sum(link["lost"] for link in report["links"] if {link["src"], link["dst"]} == {"a", "bb-eu"}) > 0


def test_a_failed_link_reroutes_and_a_restored_one_brings_it_back(wan: NamespaceLab) -> None:
    """fra to sin over the backbone: longer while the direct link is down, by exactly what the truth says, then as before."""
    before = truth_of(wan, "fra", "sin", "backbone")
    ends = before.nodes[:2]
    wan.change(*ends, Change(op="fail"))
    try:
        during = truth_of(wan, "fra", "sin", "backbone")
        assert during.rtt_ns > before.rtt_ns + 2 * MS
        assert least_rtt_ms(wan, "fra", before.address) == pytest.approx(during.rtt_ns / MS, abs=0.7)
    finally:
        wan.change(*ends, Change(op="restore"))
    assert truth_of(wan, "fra", "sin", "backbone") == before
    assert least_rtt_ms(wan, "fra", before.address) == pytest.approx(before.rtt_ns / MS, abs=0.7)


def test_degraded_links_are_in_the_truth_and_on_the_wire(triangle_lab: NamespaceLab) -> None:
    """A link that is slower one way by 30 ms makes the round trip 30 ms longer, and the truth says so."""
    triangle_lab.change("bb-eu", "bb-us", Change(op="degrade", delay_ns=60 * MS), both=False)
    truth = truth_of(triangle_lab, "a", "b", "backbone")
    assert (truth.rtt_ns, truth.forward_ns, truth.reverse_ns) == (98 * MS, 64 * MS, 34 * MS)
    assert least_rtt_ms(triangle_lab, "a", truth.address) == pytest.approx(98, rel=0.02)
    with pytest.raises(UserError, match="there is no link from 'a' to 'b'"):
        triangle_lab.change("a", "b", Change(op="fail"))
