"""Benchmark: what the lab adds and what it carries, beside a plain veth pair and the kernel's own shaper.

Two hosts 20 ms apart (three links, two routers). Four claims, each the median of several runs:

delay       RTT above the configured one, by kernel stamps at the prober, at 200, 1,000 and 10,000 echoes a second (each
            echo crosses the fabric twice). Beside it: the same prober over a veth pair with no delay at all, what a bare
            timer is late by on this machine, and netem where the kernel has it.
forwarding  packets of 92 bytes a second that arrive when a host sends all it can, and the fabric's CPU for each;
            and the share lost when 50,000 a second are offered.
tcp         iperf3 with cubic, one stream and four.
rates       a link set to 10, 100 and 1,000 Mbit/s, and above, as iperf3 sees it (its payload is 1448 of every 1500 bytes of
            IP), and the loss of UDP at 1.2 times 100 Mbit/s. Beside it: `tc tbf` on a veth pair.

    python bench/lab.py [--only delay,tcp] [--runs 3] [--json]     (needs the lab's namespaces; no packet leaves them)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

# `python bench/SCRIPT.py` puts this folder first on the import path, where this file would stand for the package of its
# name: in this script, and in the others that import the package.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
if __name__ == "lab":
    del sys.modules["lab"]

from lab import namespaces  # noqa: E402
from lab.links import Change  # noqa: E402
from lab.namespace_lab import NamespaceLab  # noqa: E402
from lab.reading import parse_text  # noqa: E402
from lab.world import start  # noqa: E402

ROOT = Path(__file__).parents[1]
RTT_NS = 20_000_000
ECHOES_PER_S = (200, 1_000, 10_000)
RATES_MBPS = (10, 100, 1_000)
#: Tried in the lab only, to see where it stops keeping them.
HIGHER_MBPS = (2_000, 3_000, 4_000)
OFFERED_PER_S = 50_000
#: Payload in a packet of 1500 bytes of IPv4: headers and TCP's timestamps take 52.
PAYLOAD_SHARE = 1448 / 1500

WORLD = """
name = "bench"
sites = [
    { id = "a", kind = "pop", name = "A", lat = 0, lon = 0 },
    { id = "b", kind = "pop", name = "B", lat = 0, lon = 9 },
]
routers = [{ id = "r1", medium = "internet" }, { id = "r2", medium = "internet" }]
links = [
    { between = ["a", "r1"], delay_ms = 0.5 },
    { between = ["r1", "r2"], delay_ms = 9 },
    { between = ["r2", "b"], delay_ms = 0.5 },
]
"""

#: Echoes at a steady pace over one ping socket; prints RTTs in ns by the kernel's stamps of sending and receiving.
ECHO = """
import ctypes, json, select, socket, struct, sys, time
address, rate, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # exact timers
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.setblocking(False)
for option in (8, 33):  # SO_RCVBUF, and SO_RCVBUFFORCE where it is allowed: a prober that is kept waiting must not lose stamps
    try:
        s.setsockopt(socket.SOL_SOCKET, option, 64 << 20)
    except OSError:
        pass
s.setsockopt(socket.SOL_SOCKET, 37, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 11)  # stamps in software both ways, by number
s.connect((address, 0))
sent, received = {}, {}
def stamp(controls):
    seconds, ns = next(struct.unpack_from("=qq", data) for level, kind, data in controls if (level, kind) == (1, 37))
    return seconds * 10**9 + ns
def drain():
    try:
        while True:
            data, controls, _, _ = s.recvmsg(128, 256)
            received[struct.unpack_from("!Q", data, 8)[0]] = stamp(controls)
    except BlockingIOError:
        pass
    try:
        while True:
            _, controls, _, _ = s.recvmsg(1, 256, socket.MSG_ERRQUEUE)
            number = next(struct.unpack_from("=12xI", data)[0] for level, kind, data in controls if (level, kind) == (0, 11))
            sent[number] = stamp(controls)
    except BlockingIOError:
        pass
begin = time.monotonic_ns() + 1_000_000
n = 0
while n < count:
    now = time.monotonic_ns()
    while n < count and begin + n * 10**9 // rate <= now:
        s.send(struct.pack("!BBHHHQ", 8, 0, 0, 0, n & 0xFFFF, n) + bytes(48))
        n += 1
    drain()
    select.select([s], [], [], max(0, begin + n * 10**9 // rate - time.monotonic_ns()) / 1e9)
end = time.monotonic() + 0.3
while time.monotonic() < end:
    drain()
    time.sleep(0.01)
# The first twentieth warms caches and neighbour tables up.
rtts = [received[n] - sent[n] for n in range(count // 20, count) if n in received and n in sent]
print(json.dumps({"rtts": rtts, "lost": count - len(received)}))
"""

#: What a bare thread of the fabric's priority is late by when it asks to be woken every millisecond: nothing that runs here
#: and waits can be more exact. Prints ns, sorted.
TIMER = """
import ctypes, json, os, select, time
ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
except OSError:
    pass
late, due = [], time.monotonic_ns()
for _ in range(2000):
    due += 1_000_000
    select.select([], [], [], max(0, due - time.monotonic_ns()) / 1e9)
    late.append(time.monotonic_ns() - due)
print(json.dumps(sorted(late)))
"""

#: Datagrams of 64 bytes to a port, as fast as they go (rate 0) or at a pace; prints how many were sent and in what time.
FLOOD = """
import json, socket, sys, time
address, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((address, 9))
data, n, begin = bytes(64), 0, time.monotonic()
while (passed := time.monotonic() - begin) < seconds:
    due = int(rate * passed) if rate else n + 64
    while n < due:
        try:
            s.send(data)
        except OSError:
            pass
        n += 1
print(json.dumps({"sent": n, "seconds": time.monotonic() - begin}))
"""

#: A port that takes datagrams and throws them away, so that nobody answers them.
SINK = "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',9)); print(1,flush=True); time.sleep(600)"


class Network(Protocol):
    """Two hosts, `a` and `b`."""

    def command(self, site: str, argv: list[str]) -> list[str]: ...
    def address(self, src: str, dst: str) -> str | None: ...


class Veth:
    """Two namespaces joined by a veth pair: the kernel alone, without delay."""

    def __init__(self) -> None:
        self._names = {site: f"isobench{os.getpid()}{site}" for site in "ab"}
        self._batch(*(f"netns add {name}" for name in self._names.values()))
        a, b = self._names.values()
        self._batch(f"-n {a} link add wan0 type veth peer name wan0 netns {b}")
        for number, name in enumerate(self._names.values(), start=1):
            self._batch(f"-n {name} link set lo up", f"-n {name} address add 10.0.0.{number}/24 dev wan0", f"-n {name} link set wan0 up")
            at = ["ip", "netns", "exec", name, "sysctl", "-qw"]
            subprocess.run([*at, "net.ipv4.ping_group_range=0 2147483647", "net.ipv4.tcp_no_metrics_save=1"], check=True)

    @staticmethod
    def _batch(*lines: str) -> None:
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True, capture_output=True)

    def command(self, site: str, argv: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self._names[site], *argv]

    def address(self, src: str, dst: str) -> str:
        return f"10.0.0.{'ab'.index(dst) + 1}"

    def shape(self, *discipline: str) -> bool:
        """Put a queueing discipline on both ends; False where the kernel has none such."""
        done = [
            subprocess.run(
                self.command(site, ["tc", "qdisc", "replace", "dev", "wan0", "root", *discipline]), check=False, capture_output=True
            )
            for site in "ab"
        ]
        return all(one.returncode == 0 for one in done)

    def close(self) -> None:
        namespaces.delete(self._names.values())


def at(network: Network, site: str, *argv: str, timeout_s: float = 90.0) -> str:
    """What a command at a host prints."""
    done = subprocess.run(
        network.command(site, list(argv)), capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode and not done.stdout:
        raise SystemExit(f"{' '.join(argv[:3])}: {done.stderr.strip()}")
    return done.stdout


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    """Key by key."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def echo(network: Network, rate: int, configured_ns: int) -> dict[str, float]:
    """One run of echoes: what the RTTs are above the configured one, in ms."""
    count = rate * 3
    found = json.loads(at(network, "a", sys.executable, "-c", ECHO, str(network.address("a", "b")), str(rate), str(count)))
    added = sorted((rtt - configured_ns) / 1e6 for rtt in found["rtts"])
    return {
        "p50_ms": added[len(added) // 2],
        "p90_ms": added[len(added) * 9 // 10],
        "p99_ms": added[len(added) * 99 // 100],
        "max_ms": added[-1],
        "least_ms": added[0],
        "lost": found["lost"],
        "stamped_share": len(added) / (count - count // 20),
    }


def delay(lab: NamespaceLab, veth: Veth, runs: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    def measured(network: Network, configured_ns: int) -> dict[str, Any]:
        return {f"{rate}_per_s": median([echo(network, rate, configured_ns) for _ in range(runs)]) for rate in ECHOES_PER_S}

    def timer() -> dict[str, float]:
        late = json.loads(at(veth, "a", sys.executable, "-c", TIMER))
        return {f"p{percent}_ms": late[len(late) * percent // 100] / 1e6 for percent in (50, 90, 99)}

    top = f"{ECHOES_PER_S[-1]}_per_s"
    ours, others = measured(lab, RTT_NS), {"veth_without_delay": measured(veth, 0)}
    others["bare_timer"] = {top: median([timer() for _ in range(runs)])}
    if veth.shape("netem", "delay", f"{RTT_NS // 2000}us", "limit", "100000"):
        others["netem"] = measured(veth, RTT_NS)
        veth.shape("pfifo")
    return ours, others, {name: other[top]["p50_ms"] / ours[top]["p50_ms"] for name, other in others.items()}


def received(network: Network) -> int:
    """Packets that have come in at b's interface."""
    found = re.search(r"wan0: *\d+ +(\d+)", at(network, "b", "cat", "/proc/net/dev"))
    assert found
    return int(found[1])


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def flood(network: Network, rate: int, pid: int | None) -> dict[str, float]:
    """One run of datagrams one way."""
    before, cpu_before = received(network), cpu_ns(pid) if pid else 0
    sent = json.loads(at(network, "a", sys.executable, "-c", FLOOD, str(network.address("a", "b")), str(rate), "3"))
    time.sleep(0.2)
    arrived = received(network) - before
    row = {
        "packets_per_s": arrived / sent["seconds"],
        "offered_per_s": sent["sent"] / sent["seconds"],
        "lost_share": 1 - arrived / sent["sent"],
    }
    if pid:
        row["fabric_cpu_us_per_packet"] = (cpu_ns(pid) - cpu_before) / 1e3 / arrived
        row["fabric_cpu_share"] = (cpu_ns(pid) - cpu_before) / 1e9 / (sent["seconds"] + 0.2)
    return row


def forwarding(lab: NamespaceLab, veth: Veth, runs: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    def measured(network: Network, pid: int | None) -> dict[str, Any]:
        with subprocess.Popen(network.command("b", [sys.executable, "-c", SINK]), stdout=subprocess.PIPE) as sink:
            assert sink.stdout is not None
            sink.stdout.readline()
            try:
                return {
                    name: median([flood(network, rate, pid) for _ in range(runs)])
                    for name, rate in (("saturated", 0), (f"offered_{OFFERED_PER_S}", OFFERED_PER_S))
                }
            finally:
                sink.terminate()

    ours, others = measured(lab, lab.state.pid), {"veth_without_delay": measured(veth, None)}
    return ours, others, {name: ours["saturated"]["packets_per_s"] / other["saturated"]["packets_per_s"] for name, other in others.items()}


def iperf3(network: Network, *options: str) -> dict[str, Any]:
    """The end report of one iperf3 test from a to b."""
    with subprocess.Popen(
        network.command("b", ["iperf3", "-s", "-1", "--forceflush"]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.stdout.readline()
        report = json.loads(at(network, "a", "iperf3", "-c", str(network.address("a", "b")), "-J", *options))
        server.terminate()
    if "error" in report:
        raise SystemExit(f"iperf3: {report['error']}")
    end = report["end"]
    assert isinstance(end, dict)
    return end


def tcp_bps(network: Network, seconds: int, *options: str) -> float:
    """Payload bits per second at the receiver, after a second of warming up."""
    return float(iperf3(network, "-C", "cubic", "-O", "1", "-t", str(seconds), *options)["sum_received"]["bits_per_second"])


def tcp(lab: NamespaceLab, veth: Veth, runs: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    def measured(network: Network, pid: int | None) -> dict[str, float]:
        rows = []
        for _ in range(runs):
            before = cpu_ns(pid) if pid else 0
            row = {"one_stream_gbps": tcp_bps(network, 4) / 1e9, "four_streams_gbps": tcp_bps(network, 4, "-P", "4") / 1e9}
            rows.append(row | ({"fabric_cpu_s": (cpu_ns(pid) - before) / 1e9} if pid else {}))
        return median(rows)

    ours, others = measured(lab, lab.state.pid), {"veth_without_delay": measured(veth, None)}
    return ours, others, {name: ours["one_stream_gbps"] / other["one_stream_gbps"] for name, other in others.items()}


def rates(lab: NamespaceLab, veth: Veth, runs: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    def measured(network: Network, limit: Callable[[int], object]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for rate in RATES_MBPS if network is veth else (*RATES_MBPS, *HIGHER_MBPS):
            limit(rate)
            share = statistics.median(tcp_bps(network, 3) / (rate * 1e6) for _ in range(runs))
            found[f"{rate}_mbps"] = {"payload_of_set": share, "ip_of_set": share / PAYLOAD_SHARE, "error": share / PAYLOAD_SHARE - 1}
        if network is veth:
            # A shaper at the sender's own interface makes its socket wait; datagrams are only lost by one further on.
            return found
        limit(100)
        lost = statistics.median(
            iperf3(network, "-u", "-b", "120M", "-l", "1000", "-t", "3")["sum"]["lost_percent"] / 100 for _ in range(runs)
        )
        # 1000 bytes of payload are 1028 of IP; what stands in the queue of 50 ms at the end of the 3 s still arrives.
        found["udp_120_into_100"] = {"lost_share": lost, "expected_share": 1 - 100 * 3.05 / (120 * 3 * 1.028)}
        return found

    def limit_link(rate: int) -> None:
        lab.change("r1", "r2", Change(op="degrade", rate_bps=rate * 1_000_000))

    # tbf counts Ethernet's 14 bytes too, and needs a bucket that holds what comes in one tick and in one super-segment.
    def limit_veth(rate: int) -> None:
        veth.shape("tbf", "rate", f"{rate}mbit", "burst", str(max(16_000, rate * 125)), "latency", "50ms")

    ours = measured(lab, limit_link)
    lab.change("r1", "r2", Change(op="restore"))
    others = {"tc_tbf": measured(veth, limit_veth)}
    veth.shape("pfifo")
    worst = {name: max(abs(one[f"{rate}_mbps"]["error"]) for rate in RATES_MBPS) for name, one in (("ours", ours), *others.items())}
    return ours, others, {name: worst[name] / worst["ours"] for name in others}


Part = Callable[[NamespaceLab, Veth, int], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]
PARTS: dict[str, Part] = {"delay": delay, "forwarding": forwarding, "tcp": tcp, "rates": rates}


@contextlib.contextmanager
def networks() -> Iterator[tuple[NamespaceLab, Veth]]:
    """The lab and the veth pair."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        lab = start(parse_text(WORLD, "bench.toml"), Path(folder, "lab"), mode="namespaces", serving=False)
        stack.callback(lab.stop)
        assert isinstance(lab, NamespaceLab)
        veth = Veth()
        stack.callback(veth.close)
        yield lab, veth


def show(name: str, figures: dict[str, Any], indent: int = 2) -> None:
    """One line for every level of figures."""
    plain = {key: value for key, value in figures.items() if not isinstance(value, dict)}
    print(" " * indent + f"{name:{max(4, 24 - indent)}}" + "  ".join(f"{key} {value:.4g}" for key, value in plain.items()))
    for key, value in figures.items():
        if isinstance(value, dict):
            show(key, value, indent + 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=3, help="runs of each measurement, of which the median counts (default 3)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if shutil.which("iperf3") is None and {"tcp", "rates"} & set(chosen):
        parser.error("iperf3 is not installed; `apt-get install iperf3`, or choose others with --only")
    ours: dict[str, Any] = {}
    others: dict[str, Any] = {}
    ratio: dict[str, Any] = {}
    with networks() as (lab, veth):
        for part in chosen:
            ours[part], theirs, ratio[part] = PARTS[part](lab, veth, options.runs)
            for name, figures in theirs.items():
                others.setdefault(name, {})[part] = figures
            if not options.json:
                print(part)
                for name, figures in {"isochrone": ours[part], **theirs}.items():
                    show(name, figures)
    document = {
        "claim": f"two hosts {RTT_NS / 1e6:g} ms apart: delay added, packets and bits carried, rates kept",
        "ours": ours,
        "others": others,
        "ratio": ratio,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
