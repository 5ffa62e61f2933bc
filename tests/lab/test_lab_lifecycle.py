"""The life of a lab in namespaces: up, down, killed, in a user namespace, from the command line; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_tools import least_rtt_ms, run_at

from lab import namespaces
from lab.namespace_lab import NamespaceLab
from lab.namespace_lab import start as start_namespaces
from lab.reading import parse_text
from lab.state import REGISTER, LabState, clear_leftovers, process_start
from lab.topology import builtin
from lab.world import attach, start
from records.errors import UserError

pytestmark = [pytest.mark.lab, pytest.mark.waits]


def lab_traces(state: LabState) -> list[str]:
    """What is left of a lab: namespaces, processes, files."""
    left = [f"namespace {name}" for name in namespaces.existing(state.prefix)]
    left += [f"process {pid}" for pid in (state.pid, *state.servers.values()) if process_start(pid) is not None]
    left += [str(path) for path in (state.control, Path(state.state_dir) / "lab.json") if path.exists()]
    return left


@pytest.fixture
def own_register(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A register of labs of the test's own: in the one that all share, any lab that starts clears away what a killed one left."""
    with tempfile.TemporaryDirectory(prefix="iso") as folder:  # a socket's path may have but 107 characters
        (Path(folder) / "labs").mkdir()
        monkeypatch.setenv(REGISTER, folder)
        yield


def test_down_leaves_nothing(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """After stop there is no namespace, process, socket or state, also of what others ran in the hosts; twice is fine."""
    lab = start(builtin("triangle"), tmp_path, "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    # It ignores SIGTERM, so it has to be killed.
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    guest = subprocess.Popen(lab.command("a", [sys.executable, "-c", code]), stdout=subprocess.PIPE)
    assert guest.stdout is not None
    guest.stdout.readline()
    assert attach(tmp_path).topology == lab.topology
    with pytest.raises(UserError, match="already running"):
        start(builtin("triangle"), tmp_path, "namespaces", serving=False)
    lab.stop()
    lab.stop()
    assert guest.wait(5) == -signal.SIGKILL
    guest.stdout.close()
    assert lab_traces(lab.state) == []
    with pytest.raises(UserError, match="no lab is running"):
        attach(tmp_path)


def test_inference_servers_answer_across_the_network_and_end_with_the_lab(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """Sites that serve answer an HTTP request from another host over either medium; nothing of them is left after stop."""
    pytest.importorskip("xllamacpp", reason="the inference servers need the extra 'lab'")
    pytest.importorskip("gguf", reason="the inference servers need the extra 'lab'")
    lab = start(builtin("triangle"), tmp_path, "namespaces")
    assert isinstance(lab, NamespaceLab)
    try:
        assert lab.inference_url("hub", "a") is None
        for src, dst, medium in (("a", "hub", "backbone"), ("a", "aws:eu-west-2", "internet"), ("hub", "aws:eu-west-2", "direct-connect")):
            url = lab.inference_url(src, dst, medium)  # type: ignore[arg-type]
            assert url is not None
            code = "import sys,urllib.request; print(urllib.request.urlopen(sys.argv[1]+'/models', timeout=20).status)"
            assert run_at(lab, src, sys.executable, "-c", code, url).strip() == "200"
        assert len(lab.state.servers) == 2
    finally:
        lab.stop()
    assert lab_traces(lab.state) == []


def test_a_lab_in_a_user_namespace_of_its_own(tmp_path: Path) -> None:
    """The same hosts and delays, and guests that end with it after kill -9; test_lab_ordinary_user.py does it as one."""
    support = namespaces.Support("user-namespace", "asked for by the test")
    argv = ["unshare", "--user", "--map-root-user", "--mount", "--net", "ip", "link", "show"]
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK) or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("no unprivileged user namespaces, or /dev/net/tun is closed to this user")
    lab = start_namespaces(builtin("triangle"), tmp_path, support, lambda _line: None, serving=False, detached=False)
    address = lab.address("a", "b", "backbone")
    assert address is not None
    assert least_rtt_ms(lab, "a", address) == pytest.approx(68, rel=0.02)
    assert namespaces.existing(lab.state.prefix) == []
    guest = subprocess.Popen(lab.command("a", [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"]), stdout=-1)
    assert guest.stdout is not None
    guest.stdout.readline()
    os.kill(lab.state.pid, signal.SIGKILL)
    lab.stop()
    assert guest.wait(5) == -signal.SIGTERM
    guest.stdout.close()
    assert lab_traces(lab.state) == []


def test_a_lab_ends_with_the_process_that_started_it(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """When the starter is killed the lab notices and takes itself down."""
    code = (
        "import sys,pathlib,time\nfrom lab.topology import builtin\nfrom lab.world import start\n"
        "start(builtin('triangle'), pathlib.Path(sys.argv[1]), 'namespaces', serving=False)\nprint('up', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        state = LabState.read(tmp_path)
        assert state is not None
        starter.kill()
    deadline = time.monotonic() + 10
    while lab_traces(state) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lab_traces(state) == []


def isochrone(*argv: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )


def test_the_command_line_from_up_to_down(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """up leaves a lab running; exec, truth and change work on it; down ends it; mistakes end with status 2."""
    place = ("--state-dir", str(tmp_path / "state"))
    up = isochrone("lab", "up", "triangle", "--no-serving", *place)
    assert up.returncode == 0, up.stderr
    try:
        assert "hub" in up.stdout
        assert isochrone("lab", "up", "triangle", *place).returncode == 2
        ping = isochrone("lab", "exec", *place, "a", "--", "ping", "-n", "-c", "1", "10.3.2.1")
        assert "1 received" in ping.stdout
        assert isochrone("lab", "exec", *place, "a", "--", "sh", "-c", "exit 7").returncode == 7
        pairs = json.loads(isochrone("lab", "truth", "--json", *place).stdout)
        assert {(p["src"], p["dst"], p["medium"]): p["rtt_ms"] for p in pairs}["a", "b", "internet"] == 200
        assert isochrone("lab", "change", "fail", "a", "in-ab", *place).returncode == 0
        left = json.loads(isochrone("lab", "truth", "--json", "--src", "a", "--dst", "b", *place).stdout)
        assert [p["medium"] for p in left] == ["backbone"]
        for wrong in (
            ["exec", "nowhere", "--", "ls"],
            ["change", "fail", "a", "b"],
            ["change", "degrade", "a", "in-ab"],
            ["truth", "--src", "x"],
        ):
            refused = isochrone("lab", wrong[0], *place, *wrong[1:])
            assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    finally:
        down = isochrone("lab", "down", *place)
    assert (down.returncode, down.stderr) == (0, "the lab is down\n")
    assert isochrone("lab", "truth", *place).returncode == 2


@pytest.mark.usefixtures("own_register")
def test_a_killed_lab_is_cleared_away_by_the_next_down(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """After kill -9 of the lab's process its namespaces and guests are still there; down removes them all."""
    place = ("--state-dir", str(tmp_path))
    assert isochrone("lab", "up", "triangle", "--no-serving", *place).returncode == 0
    state = LabState.read(tmp_path)
    assert state is not None
    guest = subprocess.Popen(attach(tmp_path).command("a", ["sleep", "600"]))
    os.kill(state.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while state.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = isochrone("lab", "truth", *place)
    assert (refused.returncode, "was killed; clear it away with `isochrone lab down`" in refused.stderr) == (2, True), refused.stderr
    down = isochrone("lab", "down", *place)
    assert (down.returncode, "killed" in down.stderr) == (0, True), down.stderr
    assert guest.wait(5) == -signal.SIGTERM
    assert lab_traces(state) == []


@pytest.mark.usefixtures("own_register")
def test_the_next_lab_clears_away_what_a_killed_one_left(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """A new lab in another place finds the remains of a killed one in the register; living labs are left alone."""
    living = start(builtin("triangle"), tmp_path / "living", "namespaces", serving=False)
    killed = start(builtin("triangle"), tmp_path / "killed", "namespaces", serving=False, detached=True)
    assert isinstance(living, NamespaceLab)
    assert isinstance(killed, NamespaceLab)
    try:
        os.kill(killed.state.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while killed.state.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        said: list[str] = []
        start(builtin("triangle"), tmp_path / "next", "namespaces", said.append, serving=False).stop()
        assert any(killed.state.id in line for line in said)
        assert lab_traces(killed.state) == []
        assert "1 received" in run_at(living, "a", "ping", "-n", "-c", "1", "10.3.2.1")
        assert living.state.id not in clear_leftovers()
    finally:
        living.stop()


def test_a_world_of_the_users_own_may_join_sites_directly(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """Two sites without any router: the configured RTT, and nothing left after stop."""
    world = parse_text(
        """
        name = "two"
        sites = [
            { id = "x", kind = "pop", name = "X", lat = 0, lon = 0 },
            { id = "gcp:y", kind = "region", name = "Y", lat = 0, lon = 1 },
        ]
        links = [{ between = ["x", "gcp:y"], medium = "internet", delay_ms = 2 }]
        """,
        "two.toml",
    )
    lab = start(world, tmp_path, "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    try:
        address = lab.address("x", "gcp:y")
        assert address is not None
        assert 4.0 <= least_rtt_ms(lab, "x", address) < 6
    finally:
        lab.stop()
    assert lab_traces(lab.state) == []
