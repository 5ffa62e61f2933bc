"""The lab for real as an ordinary user: uid 65534 without a capability, /dev/net/tun open to all or closed.

The tests need root, only to become that user: each command runs in a mount namespace of its own, where /dev/net/tun is as
the test wants it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_tools import ROOT

from lab.state import process_start

pytestmark = [pytest.mark.lab, pytest.mark.waits]

_USER = "65534"
_BECOME = f"setpriv --reuid {_USER} --regid {_USER} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
_OPEN = f'mount -t tmpfs tmpfs /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun && exec {_BECOME} "$@"'
_CLOSED = f'mount -t tmpfs tmpfs /dev/net && mknod /dev/net/tun c 10 200 && chmod 600 /dev/net/tun && exec {_BECOME} "$@"'
_MISSING = f'mount -t tmpfs tmpfs /dev/net && exec {_BECOME} "$@"'

Isochrone = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder of that user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    folder = Path(tempfile.mkdtemp(prefix="isochrone-test-"))
    os.chown(folder, int(_USER), int(_USER))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def isochrone(place: Path) -> Isochrone:
    """The command line as that user; `device` says how it finds /dev/net/tun."""
    environment = {
        **os.environ,
        "HOME": str(place),
        "TMPDIR": str(place),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
    }

    def run(*argv: str, device: str = _OPEN) -> subprocess.CompletedProcess[str]:
        whole = ["unshare", "--mount", "sh", "-c", device, "sh", *argv]
        return subprocess.run(
            whole, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, cwd=ROOT, env=environment
        )

    # The interpreter of the tests may be in a home that is closed to others.
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        if run("sh", "-c", f"'{python}' -c 'import click, app.cli'").returncode == 0:
            return lambda *argv, device=_OPEN: run(python, "-m", "app.cli", *argv, device=device)
    pytest.skip(f"no interpreter that another user may run: neither {sys.executable} nor {system}")


def test_rootless_from_up_to_down_and_after_kill_9(place: Path, isochrone: Isochrone) -> None:
    """A user namespace of its own: hosts ping each other over both IP versions, the truth is told, down ends it, also after kill -9."""
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _OPEN, "sh", "unshare", "--user", "--net", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"this system gives ordinary users no user namespaces: {tried.stderr}")
    where = ("--state-dir", str(place / "lab"))
    for kill in (False, True):
        up = isochrone("lab", "up", "triangle", "--no-serving", "--json", *where)
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["lab"] == "namespaces"
        state = json.loads((place / "lab" / "lab.json").read_text())
        assert (state["user_namespace"], Path(f"/proc/{state['pid']}").stat().st_uid) == (True, int(_USER))
        (pair,) = json.loads(isochrone("lab", "truth", "--src", "a", "--dst", "b", "--medium", "backbone", "--json", *where).stdout)
        both = f"ping -n -c 2 -i 0.2 {pair['address']} && ping -n -c 2 -i 0.2 {pair['address_v6']}"
        ping = isochrone("lab", "exec", *where, "a", "--", "sh", "-c", both)
        assert ping.stdout.count("2 received") == 2, ping.stdout + ping.stderr
        if kill:
            os.kill(state["pid"], signal.SIGKILL)
            deadline = time.monotonic() + 5
            while process_start(state["pid"]) is not None and time.monotonic() < deadline:
                time.sleep(0.01)
        down = isochrone("lab", "down", *where)
        assert (down.returncode, "killed" in down.stderr) == (0, kill), down.stderr
        assert process_start(state["pid"]) is None
        assert [path for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts and path.stat().st_size] == []


def test_without_namespaces_a_loopback_lab_is_left_running_and_says_what_it_cannot(place: Path, isochrone: Isochrone) -> None:
    """world-24 on loopback: up returns, echoes take the configured RTT, changes are refused, down ends it, also after kill -9."""
    where = ("--state-dir", str(place / "loopback"))

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return isochrone(*argv, device=_CLOSED)

    for kill in (False, True):
        up = run("lab", "up", "world-24", "--no-serving", "--json", *where)
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["lab"] == "loopback"
        assert "/dev/net/tun is not open to this user" in up.stderr
        assert "no ICMP, no traceroute, no hop lists, no IPv6" in up.stderr
        state = json.loads((place / "loopback" / "loopback.json").read_text())
        if kill:
            os.kill(state["pid"], signal.SIGKILL)
            while process_start(state["pid"]) is not None:
                time.sleep(0.01)
            refused = run("lab", "truth", *where)
            assert (refused.returncode, "was killed" in refused.stderr) == (2, True), refused.stderr
        else:
            (pair,) = json.loads(run("lab", "truth", "--src", "fra", "--dst", "sin", "--medium", "backbone", "--json", *where).stdout)
            (ping,) = json.loads(run("ping", "--engine", "udp", "--port", "8622", "--json", pair["address"]).stdout)
            least_ns = min(sample["rtt_ns"] for sample in ping["measurement"]["samples"] if sample["outcome"] == "reply")
            assert pair["rtt_ns"] - 50_000 <= least_ns <= pair["rtt_ns"] + 10_000_000
            for wrong in (("lab", "up", "triangle"), ("lab", "change", "fail", "fra", "bb-fra"), ("lab", "status")):
                refused = run(*wrong, *where)
                assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
        down = run("lab", "down", *where)
        assert (down.returncode, "killed" in down.stderr) == (0, kill), down.stderr
        assert process_start(state["pid"]) is None
        assert list((place / "loopback").iterdir()) == []


@pytest.mark.parametrize("device", [_CLOSED, _MISSING], ids=["closed", "missing"])
def test_without_a_tun_device_one_line_says_why_and_nothing_is_made(place: Path, isochrone: Isochrone, device: str) -> None:
    """Asked for namespaces where /dev/net/tun is closed or absent: exit status 3, what is wrong and what to do instead."""
    refused = isochrone("lab", "up", "triangle", "--mode", "namespaces", "--state-dir", str(place / "none"), device=device)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (3, "", 1), refused.stderr
    assert "/dev/net/tun" in refused.stderr
    assert "--mode loopback" in refused.stderr
    assert not (place / "none").exists()


@pytest.mark.parametrize("folder", ["/root/lab", "/proc/lab", "/lab"])
def test_a_state_folder_that_cannot_be_written_is_named(isochrone: Isochrone, folder: str) -> None:
    """One line, exit status 2, and no lab."""
    refused = isochrone("lab", "up", "triangle", "--no-serving", "--state-dir", folder)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
    assert f"cannot keep the lab's state in {folder}" in refused.stderr
