"""Everything that goes wrong, done to a running daemon between two hosts of their own: each is recorded as what it is, and it goes on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import namespaces

pytestmark = [pytest.mark.lab, pytest.mark.waits]

ROOT = Path(__file__).parents[2]

#: Two hosts, 10.99.0.1 (the agent's) and 10.99.0.2, which forwards, has nothing to forward to, and swallows 10.96.0.0/16.
#: The name server is the other host, where none runs. The agent's disk has a megabyte.
SET_UP = """
set -e
mount -t tmpfs -o size=1m tmpfs {disk}
echo "nameserver 10.99.0.2" > {disk}/resolv.conf
echo "options attempts:1 timeout:1" >> {disk}/resolv.conf
mount --bind {disk}/resolv.conf "$(readlink -f /etc/resolv.conf)"
ip link set lo up
unshare --net sleep 600 & peer=$!
while [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.02; done
ip link add v0 type veth peer name v1 netns $peer
ip address add 10.99.0.1/24 dev v0
ip link set v0 up
nsenter --target $peer --net sh -c "ip link set lo up; ip address add 10.99.0.2/24 dev v1; ip link set v1 up
    echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/icmp_ratemask; ip route add blackhole 10.96.0.0/16"
ip route add prohibit 10.95.0.0/16
{python} -c '{server}' $peer & server=$!
trap "kill $peer $server" EXIT
echo ready
read _
"""

ROUTES = "ip route add 10.96.0.0/16 via 10.99.0.2; ip route add 10.97.0.0/16 via 10.99.0.2"

#: Answers every connection, whatever it asks, with bytes of no protocol.
SERVER = """
import asyncio, os, sys
fd = os.open(f"/proc/{sys.argv[1]}/ns/net", os.O_RDONLY)
__import__("ctypes").CDLL(None, use_errno=True).setns(fd, 0)
async def nonsense(reader, writer):
    await reader.read(1)
    writer.write(bytes(range(256)) + b"\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    servers = [await asyncio.start_server(nonsense, "10.99.0.2", port) for port in (80, 5201, 8080)]
    await asyncio.Event().wait()
asyncio.run(main())
"""

CONFIG = """
[agent]
id = "sin-1"
site = "sin"
spool_dir = "disk/spool"
spool_max_bytes = 1000000
allow_private_targets = true
status_interval_s = 1
drain_s = 0
[collector]
url = "http+unix:///nobody.sock"
batch_max_bytes = 20000
batch_max_age_s = 0.5
[limits]
packets_per_second = 400
packets_per_second_per_target = 400
packets_per_second_per_network = 400
[[probe]]
type = "ping"
interval_s = 0.5
count = 2
interval_ms = 100
timeout_ms = 300
[[probe]]
type = "http"
interval_s = 1
timeout_ms = 500
[[probe]]
type = "inference"
interval_s = 1
timeout_ms = 1000
[[probe]]
type = "throughput"
interval_s = 1
tool = "builtin"
[[probe]]
type = "traceroute"
interval_s = 1
timeout_ms = 200
max_ttl = 3
"""

TARGETS = {
    "peer": '"10.99.0.2"\nhttp_url = "http://10.99.0.2/"\ninference_url = "http://10.99.0.2:8080/v1"\nthroughput_port = 5201',
    "refusing": '"10.99.0.2"\nhttp_url = "tcp://10.99.0.2:9"',
    "nameless": '"no-such-host.example"\nhttp_url = "https://no-such-host.example/"',
    "routeless": '"10.98.0.1"',
    "prohibited": '"10.95.0.1"',
    "lost": '"10.96.0.1"',
    "nowhere": '"10.97.0.1"',
}

#: What a ping of each must show before long; the error is of this host's own.
OUTCOMES = {
    "peer": ("reply", None),
    "routeless": ("send_failed", "ENETUNREACH"),
    "prohibited": ("send_failed", "EACCES"),
    "lost": ("timeout", None),
    "nowhere": ("unreachable", None),
}


@dataclass
class Hosts:
    """The two hosts: a process in the agent's namespaces, and the agent's folder as seen from outside."""

    pid: int
    is_user: bool
    folder: Path

    def command(self, *argv: str) -> list[str]:
        user = ["--user", "--preserve-credentials"] if self.is_user else []
        return ["nsenter", f"--target={self.pid}", *user, "--net", "--mount", "--", *argv]

    def run(self, script: str) -> None:
        subprocess.run(self.command("sh", "-ec", script), check=True, capture_output=True, timeout=20)

    def lines(self) -> list[dict[str, Any]]:
        """Everything in the spool, sealed or not."""
        found = []
        spool = Path(f"/proc/{self.pid}/root{self.folder}/disk/spool")
        for path in sorted(spool.glob("*.ndjson.gz")) + sorted(spool.glob("*.open")):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # sealed in this moment
                continue
            content = gzip.decompress(content) if path.suffix == ".gz" else content[: content.rfind(b"\n") + 1]
            found += [json.loads(line) for line in content.splitlines()]
        return found


@pytest.fixture
def hosts(namespace_support: namespaces.Support, tmp_path: Path) -> Iterator[Hosts]:
    (tmp_path / "disk").mkdir()
    is_user = namespace_support.how == "user-namespace"
    how = ["--user", "--map-root-user"] if is_user else []
    script = SET_UP.format(disk=tmp_path / "disk", python=sys.executable, server=SERVER.replace("'", '"'))
    with subprocess.Popen(
        ["unshare", *how, "--net", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stderr is not None
        try:
            assert holder.stdout.readline() == b"ready\n", holder.stderr.read()
            yield Hosts(holder.pid, is_user, tmp_path)
        finally:
            holder.stdin.close()
            holder.wait(timeout=20)


def seen(hosts: Hosts, agent: subprocess.Popen[str], wanted: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not wanted(hosts.lines()):
        assert agent.poll() is None, f"the daemon ended before: {what}; {(hosts.folder / 'log').read_text()}"
        assert time.monotonic() < deadline, f"never seen: {what}; last {hosts.lines()[-3:]}; {(hosts.folder / 'log').read_text()}"
        time.sleep(0.1)


def of(lines: list[dict[str, Any]], kind: str, site: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind and line["dst"] == site]


def outcomes(lines: list[dict[str, Any]], site: str) -> list[set[tuple[str, str | None]]]:
    """(outcome, error) of the packets of each ping."""
    return [{(sample["outcome"], sample.get("error")) for sample in line["samples"]} for line in of(lines, "ping", site)]


def test_what_goes_wrong_is_recorded_as_what_it_is_and_the_daemon_goes_on(hosts: Hosts, tmp_path: Path) -> None:
    """No name, no route, no permission, a router's answer, silence, refusal, nonsense; the interface down and up; the disk full."""
    config = tmp_path / "agent.toml"
    tables = "".join(f'[[target]]\nsite = "{site}"\naddress = {rest}\n' for site, rest in TARGETS.items())
    config.write_text(CONFIG + tables)
    hosts.run(ROUTES)
    argv = hosts.command(sys.executable, "-m", "app.cli", "agent", "run", "--config", str(config))
    log = tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as stderr, subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=stderr, text=True) as agent:
        try:
            kinds = [("ping", site) for site in TARGETS] + [("http", "nameless"), ("http", "refusing"), ("traceroute", "nowhere")]
            kinds += [(kind, "peer") for kind in ("http", "inference", "throughput", "traceroute")]
            seen(hosts, agent, lambda lines: all(of(lines, *kind) for kind in kinds), "each target by each probe")
            for site, outcome in OUTCOMES.items():
                seen(hosts, agent, lambda lines, site=site, outcome=outcome: {outcome} in outcomes(lines, site), f"{site} {outcome}")  # type: ignore[misc]
            check_records(hosts.lines())

            hosts.run("ip link set v0 down")
            gone = ("send_failed", "ENETUNREACH")
            seen(hosts, agent, lambda lines: outcomes(lines, "peer")[-1] == {gone}, "the interface is down")
            hosts.run(f"ip link set v0 up; {ROUTES}")
            seen(hosts, agent, lambda lines: outcomes(lines, "peer")[-1] == {("reply", None)}, "the interface is up again")

            disk = tmp_path / "disk"
            hosts.run(f"cat /dev/zero > {disk}/filler 2>/dev/null || true")
            time.sleep(1.5)  # three rounds of every ping, all of them lost: nothing shows when
            hosts.run(f"rm {disk}/filler")
            full_until_ns = time.time_ns()
            seen(hosts, agent, lambda lines: of(lines, "ping", "peer")[-1]["started_at_ns"] > full_until_ns, "there is room again")
            seen(hosts, agent, lambda lines: [line for line in lines if line["type"] == "status"][-1]["at_ns"] > full_until_ns, "a status")
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(timeout=30)
    said = log.read_text()
    assert agent.returncode == 0, said
    assert "Traceback" not in said
    assert "takes nothing more" in said
    status = [line for line in hosts.lines() if line["type"] == "status"][-1]
    assert {"resolver", "path", "target", "agent"} <= status["failures"].keys()
    assert status["dropped_measurements"] > 0
    assert status["spool_bytes"] <= 1_000_000


def check_records(lines: list[dict[str, Any]]) -> None:
    assert all(error in {"EAI_AGAIN", "EAI_NONAME"} for entry in outcomes(lines, "nameless") for _, error in entry)
    responders = {sample.get("responder") for line in of(lines, "ping", "nowhere") for sample in line["samples"]}
    assert responders <= {"10.99.0.2", None}
    assert {line["failure_source"] for line in of(lines, "http", "nameless")} == {"resolver"}
    assert {(line["outcome"], line["failure_source"]) for line in of(lines, "http", "refusing")} == {("refused", "target")}
    assert {(line["outcome"], line["failure_source"]) for line in of(lines, "http", "peer")} == {("protocol_error", "target")}
    assert {line["outcome"] for line in of(lines, "inference", "peer")} == {"protocol_error"}
    assert all(line["stop_reason"] == "error" and line["error"] for line in of(lines, "throughput", "peer"))
    assert all(line["reached"] for line in of(lines, "traceroute", "peer"))
    assert not any(line["reached"] for line in of(lines, "traceroute", "nowhere"))
