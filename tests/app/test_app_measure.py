"""`isochrone ping / traceroute / throughput / infer` and `doctor`: real packets on loopback, plain values, exit statuses."""

import asyncio
import gzip
import http.server as http_server
import json
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import root
from app.commands.doctor import doctor
from app.commands.enrol import invite, require
from app.commands.measure import http, infer, ping, throughput, traceroute
from app.measure_text import summary_of, unresolved
from probes.capabilities import inspect
from probes.ping import UdpEchoReflector
from records.errors import CollectorUnreachable, NoAnswer, NotPermitted, UserError
from records.measurement import InferenceResult, PingResult, PingSample, ThroughputResult, TracerouteResult

HEADER = {
    "id": "aa-0",
    "agent": "cli",
    "src": "here",
    "dst": "there",
    "medium": "internet",
    "target": "192.0.2.1",
    "started_at_ns": 0,
    "engine": "x/1",
}

needs_icmp = pytest.mark.skipif(
    not any(capability.works for capability in inspect() if capability.name == "ping and traceroute"),
    reason="no ICMP socket may be opened here",
)


def call(command: object, *argv: str) -> Result:
    return CliRunner().invoke(command, list(argv))  # type: ignore[arg-type]


@contextmanager
def reflector() -> Iterator[int]:
    """A UDP reflector of ours on loopback, on a loop of its own; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    one = UdpEchoReflector("127.0.0.1", 0)
    asyncio.run_coroutine_threadsafe(one.start(), loop).result(10)
    try:
        yield one.port
    finally:
        asyncio.run_coroutine_threadsafe(one.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@needs_icmp
def test_ping_for_a_person() -> None:
    """Each packet, then sent, received, loss, the RTT's spread, jitter, and how it was timed."""
    result = call(ping, "127.0.0.1", "-c", "3", "-i", "10ms")
    assert result.exit_code == 0, result.output
    assert result.output.count(" ms  ttl ") == 3
    assert "3 sent, 3 received, loss 0.0%" in result.output
    assert "timed by " in result.output


def test_ping_as_json_agrees_with_its_own_samples() -> None:
    """The summary is the samples': count, min, median by nearest rank, max; one JSON document and nothing else."""
    with reflector() as port:
        result = call(ping, "127.0.0.1", "--engine", "udp", "--port", str(port), "-c", "5", "-i", "5ms", "--json")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)
    rtts = [sample["rtt_ns"] / 1e6 for sample in entry["measurement"]["samples"]]
    summary = entry["summary"]
    assert (summary["sent"], summary["received"], summary["loss_ratio"]) == (5, 5, 0.0)
    assert (summary["rtt_ms"]["min"], summary["rtt_ms"]["max"]) == (min(rtts), max(rtts))
    assert summary["rtt_ms"]["median"] == pytest.approx(statistics.median_low(rtts))
    assert entry["measurement"]["v"] == 1
    assert entry["measurement"]["method"] == "udp"


def test_a_target_that_does_not_answer_is_status_1(unused_port: int) -> None:
    """Nobody reflects: 100 % loss is shown, RTT is absent and not zero, and the answer is no."""
    result = call(ping, "127.0.0.1", "--engine", "udp", "--port", str(unused_port), "-c", "2", "-i", "5ms", "--timeout", "50ms", "--json")
    assert isinstance(result.exception, NoAnswer)
    assert "127.0.0.1" in str(result.exception)
    (entry,) = json.loads(result.stdout)
    assert entry["summary"]["loss_ratio"] == 1.0
    assert entry["summary"]["rtt_ms"] == {"min": None, "median": None, "p95": None, "max": None}
    assert entry["summary"]["jitter_ms"] is None
    text = call(ping, "127.0.0.1", "--engine", "udp", "--port", str(unused_port), "-c", "2", "-i", "5ms", "--timeout", "50ms").output
    assert "2 sent, 0 received, loss 100.0%" in text
    assert "RTT" not in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["224.0.0.1"], "is multicast"),
        (["255.255.255.255"], "broadcast"),
        (["0.0.0.0"], "unspecified"),
        (["10.0.0.256"], "neither an IP address nor a host name"),
        (["127.0.0.1", "--engine", "udp"], "--engine udp needs --port"),
        (["127.0.0.1", "--store", "http://127.0.0.1:9"], "give --src SITE, and --dst SITE"),
        (["127.0.0.1", "--dst", "a", "--dst", "b"], "--dst is given 2 times for 1 targets"),
    ],
)
def test_mistakes_of_the_user(argv: list[str], said: str) -> None:
    """Each is a UserError (status 2) that says what is wrong; no packet is sent."""
    result = call(ping, *argv)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ping", "-s", "0", "127.0.0.1"], "--size is 0 bytes; give a number from"),
        (["ping", "-i", "99999d", "127.0.0.1"], "--interval is 8639913600000 ms; give a number from"),
        (["stamp", "-s", "5", "127.0.0.1"], "--size is 5 bytes; give 0, 44, or"),
        (["throughput", "--duration", "999d", "127.0.0.1"], "--duration is 86313600 s; give seconds from"),
        (["throughput", "--max-bytes", "1B", "127.0.0.1"], "--max-bytes is 1 bytes; give a whole number from"),
        (["infer", "--timeout", "0ms", "http://127.0.0.1/v1"], "--timeout is 0 ms; give a whole number from"),
        (["survey", "--timeout", "99d"], "--timeout is 8553600000 ms; give a whole number from"),
    ],
)
def test_a_range_is_told_by_the_options_name(argv: list[str], said: str) -> None:
    """Nobody who types an option knows the key of a configuration."""
    result = CliRunner().invoke(root, argv, standalone_mode=False)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(said)


def test_a_site_that_nobody_knows_is_told_and_taken(unused_port: int, tmp_path: Path) -> None:
    """An inventory may follow; a slip of the finger is seen at once."""
    argv = ["127.0.0.1", "--engine", "udp", "--port", str(unused_port), "-c", "1", "--timeout", "50ms", "--store", str(tmp_path / "wh")]
    told = call(ping, *argv, "--src", "snn", "--dst", "fra").stderr
    assert "unknown site 'snn'; did you mean" in told
    assert "fra" not in told.partition("\n")[0].partition("taken")[2]
    assert "stored 1 measurement at" in told
    tokens = ["--tokens", str(tmp_path / "tokens.json")]
    made = call(invite, "snn", *tokens)
    assert made.exit_code == 0
    assert "unknown site 'snn'; did you mean" in made.stderr
    assert "unknown" not in call(invite, "sin", *tokens).stderr


def test_invite_and_require_in_json(tmp_path: Path) -> None:
    """The secret is in the document, or in the file that it names."""
    tokens = ["--tokens", str(tmp_path / "tokens.json"), "--json"]
    document = json.loads(call(invite, "sin", "--agent", "sin-1", *tokens).stdout)
    assert (document["site"], document["agent"], document["file"]) == ("sin", "sin-1", None)
    assert len(document["invitation"]) > 20
    assert datetime.fromisoformat(document["expires_at"]) > datetime.now(UTC)
    document = json.loads(call(invite, "sin", "--out", str(tmp_path / "invitation"), *tokens).stdout)
    assert (document["invitation"], document["file"]) == (None, str(tmp_path / "invitation"))
    assert (tmp_path / "invitation").read_text().strip()
    assert json.loads(call(require, "0.1.0", *tokens).stdout) == {"min_agent_version": "0.1.0"}
    assert json.loads(call(require, "--any", *tokens).stdout) == {"min_agent_version": None}


@pytest.mark.parametrize("argv", [[], ["-c", "0", "127.0.0.1"], ["-i", "5", "127.0.0.1"], ["-i", "soon", "127.0.0.1"], ["-s", "1XB", "x"]])
def test_options_that_cannot_be_read(argv: list[str]) -> None:
    """click's own message and status 2."""
    assert call(ping, *argv).exit_code == 2


def test_a_name_without_an_address_is_said() -> None:
    """A round of resolver errors is the user's mistake (or the resolver's), told by name."""
    samples = tuple(PingSample(sequence=n, outcome="send_failed", sent_at_ns=0, error="EAI_NONAME") for n in range(2))
    line = PingResult(**{**HEADER, "target": "nowhere.invalid"}, method="icmp", timeout_ns=1, samples=samples)
    assert unresolved(line) == "nowhere.invalid"
    assert summary_of(line)["loss_ratio"] is None, "nothing was sent: loss is unknown, not 0 and not 1"
    assert summary_of(line)["send_failed"] == 2


@needs_icmp
def test_traceroute_of_loopback() -> None:
    """One hop, reached; as text and as JSON."""
    assert "reached" in call(traceroute, "127.0.0.1").output
    (entry,) = json.loads(call(traceroute, "127.0.0.1", "--json").stdout)
    assert entry["summary"]["reached"] is True
    assert entry["summary"]["hops"] == len(entry["measurement"]["hops"]) == 1


@needs_icmp
def test_every_flow_of_a_traceroute_is_stored(tmp_path: Path) -> None:
    """Three flows of one moment: a row each in the warehouse, and one hop that all three met."""
    from warehouse import open_warehouse

    folder = str(tmp_path / "kept")
    result = call(traceroute, "127.0.0.1", "--flows", "3", "--store", folder, "--src", "sin", "--dst", "fra", "--json")
    assert result.exception is None, result.output
    with open_warehouse(folder) as kept, kept.cursor() as cursor:
        rows = cursor.execute("SELECT flow, started_at, path_hash, error FROM traceroute ORDER BY flow").fetchall()
        hops = cursor.execute("SELECT ttl, addresses, flow_count FROM hop_diversity").fetchall()
    sent = [entry["measurement"] for entry in json.loads(result.stdout)]
    assert [row[0] for row in rows] == [one["flow"] for one in sent] == [0, 1, 2]
    assert len({row[1] for row in rows}) == len({row[2] for row in rows}) == 1
    assert {row[3] for row in rows} == {None}
    assert hops == [(1, ["127.0.0.1"], 3)]


def test_the_evidence_of_a_traceroute(tmp_path: Path) -> None:
    """--pcap: the file holds the echo request and the reply of the hop, and a line says how many packets; a file that cannot be
    written is the user's mistake, before a packet is sent."""
    utils = pytest.importorskip("scapy.all")
    path = tmp_path / "path.pcap"
    result = call(traceroute, "127.0.0.1", "--pcap", str(path))
    if isinstance(result.exception, NotPermitted):
        pytest.skip(str(result.exception))
    assert result.exception is None, result.output
    packets = list(utils.rdpcap(str(path)))
    assert {packet[utils.ICMP].type for packet in packets} == {0, 8}
    assert f"kept {len(packets)} packets in {path}" in result.output
    refused = call(traceroute, "127.0.0.1", "--pcap", str(tmp_path / "no" / "path.pcap"))
    assert isinstance(refused.exception, UserError)
    assert "give --pcap a file in a folder of yours" in str(refused.exception)


def test_throughput_and_inference_without_a_server(unused_port: int) -> None:
    """Nothing listens: the failure is shown as a result, and the status is 1."""
    result = call(throughput, "127.0.0.1", "-p", str(unused_port), "-t", "200ms")
    assert isinstance(result.exception, NoAnswer)
    assert "failed" in result.output
    result = call(infer, f"http://127.0.0.1:{unused_port}/v1")
    assert isinstance(result.exception, NoAnswer)
    assert "connect_failed" in result.output


def test_throughput_with_our_own_server() -> None:
    """The built-in transfer on loopback: both directions give a rate from bytes and time."""
    from probes.throughput import ThroughputServer

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = ThroughputServer("127.0.0.1", port)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        result = call(throughput, "127.0.0.1", "-p", str(port), "-t", "200ms", "--max-bytes", "2MB", "--json")
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert result.exception is None, result.output
    entries = json.loads(result.stdout)
    assert {entry["measurement"]["direction"] for entry in entries} == {"up", "down"}
    for entry in entries:
        measured = entry["measurement"]
        assert measured["throughput_bps"] == pytest.approx(measured["transferred_bytes"] * 8e9 / measured["duration_ns"], rel=0.01)


def test_summaries_keep_unknown_apart_from_zero() -> None:
    """A failed transfer has no rate; a request without a token has no TTFT; a path not reached has no RTT."""
    failed = ThroughputResult(
        **HEADER, tool="builtin", direction="up", transferred_bytes=0, duration_ns=0, throughput_bps=None, stop_reason="error", error="x"
    )
    assert summary_of(failed)["throughput_mbps"] is None
    silent = InferenceResult(**HEADER, model="m", outcome="timeout", connection="cold", error="x")
    assert (summary_of(silent)["ttft_ms"], summary_of(silent)["tpot_ms"]) == (None, None)
    lost = TracerouteResult(**HEADER, protocol="icmp", flow=0, hops=(), reached=False, path_hash="")
    assert summary_of(lost)["rtt_ms"] is None


@contextmanager
def collector(status: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            body = b'{"stored": 1, "rejected": 0, "already": false}' if status == 200 else b'{"error": "no such agent"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()
        thread.join()


def test_store_sends_one_batch_under_the_given_names(tmp_path: Path) -> None:
    """--store: a gzip batch of the same measurements that were printed, with agent, sites, medium and token."""
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("s3cret")
    names = ["--agent", "laptop", "--src", "ber", "--dst", "fra", "--medium", "backbone", "--token-file", str(tmp_path / "token")]
    with reflector() as port, collector(200) as (url, got):
        result = call(ping, "127.0.0.1", "--engine", "udp", "--port", str(port), "-c", "1", "--json", "--store", url, *names)
    assert result.exception is None, result.output
    ((headers, body),) = got
    assert (headers["Isochrone-Agent"], headers["Isochrone-Sequence"]) == ("laptop", "0")
    assert headers["Authorization"] == "Bearer s3cret"
    (sent,) = [json.loads(line) for line in gzip.decompress(body).splitlines()]
    assert sent == json.loads(result.stdout)[0]["measurement"]
    assert (sent["src"], sent["dst"], sent["medium"], sent["agent"]) == ("ber", "fra", "backbone", "laptop")
    assert sent["id"].startswith(headers["Isochrone-Boot"])


def test_what_a_collector_refuses_is_said(unused_port: int) -> None:
    """403 is the user's mistake (2), no collector is an outside one (3); the measurement is still printed."""
    with reflector() as port:
        base = ["127.0.0.1", "--engine", "udp", "--port", str(port), "-c", "1", "--src", "a", "--dst", "b", "--store"]
        with collector(403) as (url, _):
            refused = call(ping, *base, url)
        absent = call(ping, *base, f"http://127.0.0.1:{unused_port}")
    assert isinstance(refused.exception, UserError)
    assert "no such agent" in str(refused.exception)
    assert "1 received" in refused.output
    assert isinstance(absent.exception, CollectorUnreachable)
    assert absent.exception.exit_status == 3


def test_doctor_tries_everything_and_passes_here() -> None:
    """A table with every area; JSON with the same; what does not work comes with a way to get it."""
    result = call(doctor, "--json")
    report = json.loads(result.stdout)
    found = {entry["name"]: entry for entry in report["findings"]}
    assert {"python", "ping and traceroute", "network namespaces", "iperf3", "DuckLake", "port 8501", "port 8600"} <= set(found)
    assert report["ok"] is (result.exit_code == 0)
    assert found["DuckLake"]["works"] is True
    assert report["ok"] is all(entry["works"] for entry in report["findings"] if entry["essential"])


@needs_icmp
def test_the_commands_as_processes() -> None:
    """The console script's exit statuses: 0 with an answer, 2 for a mistake, and no traceback."""
    cli = [sys.executable, "-m", "app.cli"]
    done = subprocess.run([*cli, "ping", "127.0.0.1", "-c", "1", "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["summary"]["received"] == 1
    done = subprocess.run([*cli, "ping", "239.1.1.1"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@contextmanager
def refusing() -> Iterator[int]:
    """An HTTP server on loopback that answers 403; its port."""

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_http_for_a_person_and_as_json(unused_port: int) -> None:
    """Several URLs at once: each by phase, then one table; in JSON in the order asked for, times in ms; a dead one is exit status 1."""
    with refusing() as port:
        urls = [f"http://127.0.0.1:{port}/x", f"tcp://127.0.0.1:{unused_port}", f"tcp://127.0.0.1:{port}"]
        for_a_person = call(http, *urls)
        as_json = call(http, *urls, "--json")
    assert isinstance(for_a_person.exception, NoAnswer)
    assert f"no answer from tcp://127.0.0.1:{unused_port}" in str(for_a_person.exception)
    assert "refused (target): cannot connect to 127.0.0.1:" in for_a_person.output
    assert "HTTP 403" in for_a_person.output
    assert for_a_person.output.count("first byte ms") == 1
    document = json.loads(as_json.stdout)
    assert [one["measurement"]["target"] for one in document] == urls
    assert [one["summary"]["outcome"] for one in document] == ["ok", "refused", "ok"]
    web = document[0]
    assert web["summary"]["rtt_ms"] == web["measurement"]["tcp_rtt_ns"] / 1e6
    assert (web["summary"]["http_status"], web["summary"]["tls_ms"]) == (403, None)


def test_http_of_a_name_that_does_not_exist_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says that there is no such name: one message, exit status 2, as for ping."""

    def none(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    result = call(http, "tls://no-such-name.example")
    assert isinstance(result.exception, UserError)
    assert "does not resolve" in str(result.exception)
