"""`isochrone agent` as real processes: with a real collector and warehouse, killed and restarted."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

CLI = [sys.executable, "-m", "app.cli"]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def isochrone(*argv: str, timeout: float = 60, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **(environ or {})}
    return subprocess.run([*CLI, *argv], capture_output=True, text=True, timeout=timeout, check=False, env=env)


def write_config(folder: Path, url: str, *, token_file: Path | None = None, drain_s: float = 5) -> Path:
    """An agent that pings its own UDP reflector five times a second."""
    port = free_port(socket.SOCK_DGRAM)
    path = folder / "agent.toml"
    path.write_text(f"""
[agent]
id = "sin-1"
site = "sin"
spool_dir = "spool"
allow_private_targets = true
status_interval_s = 1
drain_s = {drain_s}
[collector]
url = "{url}"
{f'token_file = "{token_file}"' if token_file else ""}
batch_max_age_s = 0.3
[serve]
host = "127.0.0.1"
udp_echo_port = {port}
[[probe]]
type = "ping"
engine = "udp"
interval_s = 0.2
count = 2
interval_ms = 10
timeout_ms = 500
[[target]]
site = "fra"
address = "127.0.0.1"
udp_echo_port = {port}
""")
    return path


@contextmanager
def collector(warehouse: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*CLI, "collector", "--warehouse", str(warehouse), "--port", str(port), *options], stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                        assert answer.status == 200
                        break
                except (OSError, urllib.error.URLError):
                    assert process.poll() is None, "the collector ended"
                    assert time.monotonic() < deadline, "the collector does not get ready"
                    time.sleep(0.1)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def rows(warehouse: Path, query: str) -> list[dict]:
    done = isochrone("sql", query, "--warehouse", str(warehouse), "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_over_kills_on_both_sides(tmp_path: Path) -> None:
    """Four lives of an agent, three ended by SIGKILL, and a collector killed and restarted in between.

    Every measurement id is in the warehouse once; for each life at least what its last status counted is there, and for
    the life that was stopped in order exactly that.
    """
    port, warehouse = free_port(), tmp_path / "wh"
    config = write_config(tmp_path, f"http://127.0.0.1:{port}")
    boots = []

    def life(seconds: float, end: signal.Signals) -> str:
        with subprocess.Popen([*CLI, "agent", "run", "--config", str(config)], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for text in process.stderr:
                if "boot " in text:
                    boots.append(text.split("boot ")[1].split(")")[0])
                    break
            time.sleep(seconds)
            process.send_signal(end)
            said = process.stderr.read()
            process.wait(timeout=30)
        if end is signal.SIGTERM:
            assert process.returncode == 0, said
        return said

    with collector(warehouse, port) as first:
        life(2.5, signal.SIGKILL)
        first.kill()
    life(1.2, signal.SIGKILL)  # nobody listens
    with collector(warehouse, port):
        life(1.7, signal.SIGKILL)
        said = life(2.5, signal.SIGTERM)
        assert "none wait" in said, said
        counted = rows(
            warehouse,
            "SELECT boot, max(produced['ping']) AS produced FROM agent_status GROUP BY boot",
        )
        stored = rows(
            warehouse,
            "SELECT boot, count(DISTINCT measurement_id) AS measured, count(*) AS samples, count(*) FILTER (is_duplicate_id) AS doubled "
            "FROM ping_sample GROUP BY boot",
        )
    assert len(set(boots)) == 4
    assert {row["boot"] for row in stored} == set(boots)
    measured = {row["boot"]: row["measured"] for row in stored}
    for row in stored:
        assert row["samples"] == 2 * row["measured"], "two packets a measurement: none is there twice"
        assert row["doubled"] == 0
    for row in counted:
        assert measured[row["boot"]] >= row["produced"]
    assert measured[boots[-1]] == {row["boot"]: row["produced"] for row in counted}[boots[-1]]
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["agent"]


def test_a_wrong_token_keeps_the_data_and_the_right_one_delivers_it(tmp_path: Path) -> None:
    """401: the agent runs on and keeps everything; with the token corrected the next start sends it."""
    port, warehouse = free_port(), tmp_path / "wh"
    tokens, token = tmp_path / "tokens.json", tmp_path / "token"
    tokens.write_text(json.dumps({"sin-1": "a-token-of-many-letters"}))
    tokens.chmod(0o600)
    token.touch(mode=0o600)
    token.write_text("not-the-token-of-this-agent")
    config = write_config(tmp_path, f"http://127.0.0.1:{port}", token_file=token, drain_s=3)
    with collector(warehouse, port, "--tokens", str(tokens)):
        refused = isochrone("agent", "run", "--config", str(config), "--seconds", "1.5")
        assert refused.returncode == 0
        assert "answered 401" in refused.stderr
        assert "collector.token_file" in refused.stderr
        assert "not-the-token" not in refused.stderr
        token.write_text("a-token-of-many-letters")
        accepted = isochrone("agent", "run", "--config", str(config), "--seconds", "1")
        assert "none wait" in accepted.stderr, accepted.stderr
        assert rows(warehouse, "SELECT count(DISTINCT boot) AS boots FROM ping_sample")[0]["boots"] == 2


def test_check_passes_with_everything_in_place(tmp_path: Path) -> None:
    """With a collector: every check ok and exit status 0; without: exit status 1, and the JSON says which."""
    port = free_port()
    config = write_config(tmp_path, f"http://127.0.0.1:{port}")
    with collector(tmp_path / "wh", port):
        done = isochrone("agent", "check", "--config", str(config), "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["ok"] is True
        assert all(check["ok"] for check in report["checks"])
        assert {"collector", "clock", "spool"} <= {check["name"] for check in report["checks"]}
    done = isochrone("agent", "check", "--config", str(config), "--json")
    assert done.returncode == 1
    assert [check["name"] for check in json.loads(done.stdout)["checks"] if not check["ok"]] == ["collector"]
    assert "1 of" in done.stderr


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """`check` fails and `run` sends nothing, both with the command that mends it; what was measured goes out after that."""
    port, warehouse, token = free_port(), tmp_path / "wh", tmp_path / "token"
    token.write_text("a-token-of-many-letters")
    config = write_config(tmp_path, f"http://127.0.0.1:{port}", token_file=token, drain_s=3)
    said = f"collector.token_file {token} can be read by others; chmod 600 {token}"
    with collector(warehouse, port):
        token.chmod(0o644)
        checked = isochrone("agent", "check", "--config", str(config), "--json")
        assert checked.returncode == 1
        (failed,) = [check for check in json.loads(checked.stdout)["checks"] if not check["ok"]]
        assert said in failed["detail"]
        token.chmod(0o666)
        assert said in isochrone("agent", "run", "--config", str(config), "--seconds", "1").stderr
        token.chmod(0o600)
        assert isochrone("agent", "check", "--config", str(config)).returncode == 0
        assert "none wait" in isochrone("agent", "run", "--config", str(config), "--seconds", "1").stderr
        assert rows(warehouse, "SELECT count(DISTINCT boot) AS boots FROM ping_sample")[0]["boots"] == 2


@pytest.mark.parametrize(("offset_s", "said"), [(3600, "ahead of the collector's: from ten minutes on"), (-3600, "behind the collector's")])
def test_check_compares_the_clocks(tmp_path: Path, offset_s: int, said: str) -> None:
    """A host whose clock is an hour from the collector's is told so, and how to mend it."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("needs libfaketime: apt-get install faketime")
    port = free_port()
    config = write_config(tmp_path, f"http://127.0.0.1:{port}")
    environ = {"LD_PRELOAD": str(library), "FAKETIME": f"{offset_s:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    with collector(tmp_path / "wh", port):
        done = isochrone("agent", "check", "--config", str(config), "--json", environ=environ)
    assert done.returncode == 1
    (wrong,) = (check for check in json.loads(done.stdout)["checks"] if not check["ok"])
    assert wrong["name"] == "clock"
    assert said in wrong["detail"]
    assert 3598 <= int(wrong["detail"].split()[0]) <= 3601


def test_mistakes_end_with_status_2_and_one_line(tmp_path: Path) -> None:
    """A missing file, a wrong key, a second agent on the same spool: one clear line, no traceback."""
    done = isochrone("agent", "run", "--config", str(tmp_path / "none.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.toml" in done.stderr
    (tmp_path / "bad.toml").write_text("[agent]\nid = 5\n[collector]\n")
    done = isochrone("agent", "check", "--config", str(tmp_path / "bad.toml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "bad.toml [agent]: id is 5" in done.stderr


def test_two_agents_on_one_spool(tmp_path: Path) -> None:
    """The second one is refused with status 2 while the first one runs on."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    with subprocess.Popen([*CLI, "agent", "run", "--config", str(config)], stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        for text in first.stderr:
            if "boot " in text:
                break
        second = isochrone("agent", "run", "--config", str(config))
        assert second.returncode == 2
        assert "in use by another running agent" in second.stderr
        first.send_signal(signal.SIGINT)
        time.sleep(0.2)
        first.send_signal(signal.SIGINT)  # the second signal does not wait for the collector
        first.stderr.read()
        assert first.wait(timeout=20) in {0, 130}


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    """A collector that takes the connection and never answers, a minute to drain: the first SIGTERM waits for it, the second ends it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = write_config(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", drain_s=60)
        with subprocess.Popen([*CLI, "agent", "run", "--config", str(config)], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for text in process.stderr:
                if "boot " in text:
                    break
            connection, _ = silent.accept()
            process.send_signal(signal.SIGHUP)
            for text in process.stderr:
                if "reloaded" in text:
                    break
            process.send_signal(signal.SIGTERM)
            for text in process.stderr:
                if "stopping" in text:
                    break
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(timeout=30) == 130
            assert time.monotonic() - began < 20, "far below the minute it was given"
            assert "Traceback" not in said
        connection.close()
    assert list((tmp_path / "spool").glob("*.gz")) or list((tmp_path / "spool").glob("*.open")), "what was measured stays"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user needs root")
def test_an_ordinary_user_without_icmp_gets_the_reason_and_status_3(tmp_path: Path) -> None:
    """No permission for ICMP sockets: one line with what to grant, exit status 3."""
    if Path("/proc/sys/net/ipv4/ping_group_range").read_text().split() != ["1", "0"]:
        pytest.skip("ping sockets are open to everybody here")
    script = (
        "import os, sys\nimport app.cli, app.commands.measure, probes.ping, probes.oneshot, probes.uplink, encodings.idna\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['isochrone', 'ping', '-c', '1', '127.0.0.1']\napp.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "ping_group_range" in done.stderr
    assert "CAP_NET_RAW" in done.stderr
