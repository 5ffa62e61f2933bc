"""The main job as a user runs it: real hosts, real packets, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lab.state import running
from lab.topology import builtin
from lab.truth import pair_truths
from records.measurement import PROBE_TYPES

pytestmark = pytest.mark.alone

WORLD = "world-24"


def isochrone(*argv: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *argv]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def left_over(marker: str) -> list[str]:
    """Command lines of running processes that mention `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def namespaces() -> set[str]:
    run = Path("/run/netns")
    return {path.name for path in run.iterdir()} if run.is_dir() else set()


def wait_for(url: str, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback address
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.lab
@pytest.mark.timeout(180)
def test_once_measures_the_world_as_it_is(tmp_path: Path) -> None:
    """`demo --once --json`: the contract's document, nothing lost, least RTTs as the topology sets them, nothing left behind."""
    before = namespaces()
    warehouse = str(tmp_path / "w")
    result = subprocess.run(
        isochrone("demo", "--once", "--seconds", "25", "--json", "--warehouse", warehouse),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert set(summary) == {"lab", "hosts", "measurements", "links", "routes", "best", "warehouse", "lost", "duplicated"}
    assert summary["hosts"] == 24
    assert set(summary["measurements"]) == set(PROBE_TYPES)
    assert (summary["lost"], summary["duplicated"]) == (0, 0)
    assert summary["routes"] > 0
    assert summary["best"]["ttft_ms"]["p50"] > summary["best"]["rtt_ms"]["p50"] > 0
    assert summary["warehouse"] == warehouse
    # Labs of other tests may come and go beside this one.
    living = {state.id for state in running()}
    assert [name for name in namespaces() - before if name.split("-")[1] not in living] == []
    assert not left_over("isochrone-demo-")

    links = json.loads(
        subprocess.run(
            isochrone("links", "--json", "--warehouse", warehouse), capture_output=True, text=True, timeout=60, check=True
        ).stdout
    )
    truth_ms = {(t.src, t.dst, t.medium): t.rtt_ns / 1e6 for t in pair_truths(builtin(WORLD))}
    measured_ms = {(link["src"], link["dst"], link["medium"]): link["rtt_ms"]["min"] for link in links if link["rtt_ms"]["min"] is not None}
    assert summary["links"]["measured"] == len(links)
    assert set(measured_ms) <= set(truth_ms)
    assert len(measured_ms) >= 0.9 * len(truth_ms)
    added_ms = sorted(measured_ms[pair] - truth_ms[pair] for pair in measured_ms)
    assert added_ms[0] > -0.05, "a packet cannot be faster than its links"
    assert added_ms[len(added_ms) // 2] < 5, "most pairs are near their truth, on a busy machine too"
    if summary["lab"] == "namespaces":
        assert summary["measurements"]["traceroute"] > 0
    assert summary["measurements"]["ping"] > 0
    assert summary["measurements"]["inference"] > 0
    assert summary["measurements"]["http"] > 0


@pytest.mark.waits
def test_a_world_there_is_not_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """A misspelt world is the user's mistake: what there is, exit status 2, and no warehouse."""
    argv = isochrone("demo", "--world", "wrold-24", "--once", "--warehouse", str(tmp_path / "w"))
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "there is no built-in world 'wrold-24'; there are" in result.stderr
    assert "triangle" in result.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.waits
@pytest.mark.timeout(180)
def test_ctrl_c_ends_every_process_it_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The demo of a small world with its dashboard on the loopback lab: pages answer; one SIGINT, and all is gone with exit status 0."""
    tmp_path = tmp_path_factory.mktemp("demo")  # a short name: a socket's path has at most 107 octets (unix(7))
    port, collector_port = free_port(), free_port()
    argv = isochrone(
        "demo",
        "--world",
        "triangle",
        "--lab",
        "loopback",
        "--port",
        str(port),
        "--collector-port",
        str(collector_port),
        "--warehouse",
        str(tmp_path / "w"),
    )
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as process:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/_stcore/health", 90) == b"ok"
            deadline = time.monotonic() + 60
            while b'isochrone_rows_total{table="ping_sample"}' not in (
                metrics := wait_for(f"http://127.0.0.1:{collector_port}/metrics", 10)
            ):
                assert time.monotonic() < deadline, metrics.decode()
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        except OSError as error:
            process.terminate()
            pytest.fail(f"{error}; the demo said:\n{process.communicate(timeout=60)[1]}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "delivery     0 lost, 0 duplicated" in out
    assert not left_over(str(tmp_path))
