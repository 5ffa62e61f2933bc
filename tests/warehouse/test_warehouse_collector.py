"""The collector over HTTP: every answer of the contract, and no batch lost or doubled whatever happens to the process."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from collector_process import Process, running, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouse_builders import (
    BOOT,
    NOW,
    batch,
    content,
    ping,
    post,
    reading,
    report,
    request,
    stamped,
    trace,
    transfer,
    visit,
)

from records.errors import OutsideError, UserError
from warehouse import Warehouse, intake, open_warehouse
from warehouse.collector import serve
from warehouse.ingest import MAX_BODY_BYTES
from warehouse.intake import MAX_COMPRESSED_BYTES, make_app
from warehouse.maintain import status, verify
from warehouse.metrics import METRICS, render
from warehouse.queries import measurement_counts, reject_counts
from warehouse.writer import Writer

FAST = '{"commit_interval_s": 0.05}'
TOKENS = {"tokens": {"secret-of-sin": "sin-1", "secret-of-fra": "fra-1"}, "agent_sites": {"sin-1": "sin"}, "commit_interval_s": 0.05}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One collector that asks for no token."""
    folder = tmp_path_factory.mktemp("open")
    with running(folder / "kept", folder / "c.sock", FAST) as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One collector that asks for tokens, and knows where sin-1 is."""
    folder = tmp_path_factory.mktemp("guarded")
    with running(folder / "kept", folder / "c.sock", json.dumps(TOKENS)) as process:
        yield process


def _kept(process: Process) -> Path:
    return process.socket.parent / "kept"


def test_a_batch_is_answered_after_its_commit(collector: Process) -> None:
    """200 says what was stored, and another process can read it at once; again it is 200 and stored once."""
    lines = [
        ping(1, [1000, None]),
        trace(2),
        transfer(3, 1000),
        request(4, 1000),
        visit(5, 1000),
        stamped(6, [1000]),
        reading(7),
        report(NOW),
    ]
    with collector.client() as client:
        answer = client.post(**post(lines, boot="aa"))
        assert (answer.status_code, answer.json()) == (200, {"stored": 8, "rejected": 0, "already": False})
        with open_warehouse(_kept(collector)) as wh:
            before = measurement_counts(wh)
            assert before == {
                "ping": 1,
                "traceroute": 1,
                "throughput": 1,
                "inference": 1,
                "http": 1,
                "stamp": 1,
                "serving": 1,
                "rtt_matrix": 0,
            }
            again = client.post(**post(lines, boot="aa"))
            assert (again.status_code, again.json()) == (200, {"stored": 8, "rejected": 0, "already": True})
            assert measurement_counts(wh) == before


def test_other_content_under_a_used_name_is_409(collector: Process) -> None:
    """The first content stays."""
    with collector.client() as client:
        assert client.post(**post([ping(1, [1])], boot="bb")).status_code == 200
        answer = client.post(**post([ping(2, [1])], boot="bb"))
    assert answer.status_code == 409
    assert "other content" in answer.json()["error"]


def test_bad_lines_are_rejected_and_the_others_stored(collector: Process) -> None:
    """A batch with some bad lines is 200, and says how many were rejected."""
    parts = post([ping(1, [1])], boot="cc")
    parts["content"] = gzip.compress(content([ping(1, [1])]) + b"{oops\n")
    with collector.client() as client:
        assert client.post(**parts).json() == {"stored": 1, "rejected": 1, "already": False}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content": b"plain text said to be gzip"}, "not_gzip"),
        ({"content": gzip.compress(content([ping(1, [1])]))[:-6]}, "cut_off"),
        ({"content": gzip.compress(b"\n\n")}, "empty"),
        ({"Content-Encoding": "br"}, "bad_encoding"),
        ({"Isochrone-Sequence": "minus one"}, "bad_header"),
        ({"Isochrone-Sequence": "99999999999999999999"}, "bad_header"),
        ({"Isochrone-Boot": "../.."}, "bad_header"),
        ({"Isochrone-Agent": ""}, "bad_header"),
        ({"Isochrone-Sent-At": "2026-03-01T12:00:00Z"}, "bad_header"),
        ({"Isochrone-Clock-Set": "+3600"}, "bad_header"),
    ],
)
def test_an_unreadable_batch_is_400_and_kept_as_a_reject(collector: Process, change: dict[str, object], reason: str) -> None:
    """The reason is in the answer and, once however often it comes, in the table reject."""
    parts = post([ping(1, [1])], boot="dd", sequence=7)
    if "content" in change:
        parts["content"] = change["content"]
    else:
        parts["headers"] |= change
        parts["content"] = gzip.compress(str(change).encode())
    with open_warehouse(_kept(collector)) as wh, collector.client() as client:
        before = reject_counts(wh).get(reason, 0)
        for _ in range(2):
            answer = client.post(**parts)
            assert answer.status_code == 400
            assert answer.json()["error"].startswith(f"{reason}: ")
        assert reject_counts(wh)[reason] == before + 1
        good = post([ping(1, [1])], boot=f"dd{abs(hash(str(change)))}")
        assert client.post(**good).status_code == 200


def test_a_batch_without_compression_is_taken(collector: Process) -> None:
    """Content-Encoding is what says that it is gzip."""
    parts = post([ping(1, [1])], boot="ee")
    del parts["headers"]["Content-Encoding"]
    parts["content"] = content([ping(1, [1])])
    with collector.client() as client:
        assert client.post(**parts).status_code == 200


def test_too_large_is_413(collector: Process) -> None:
    """A body over the limit, and a small one that unpacks to more than the limit, are refused."""
    parts = post([ping(1, [1])], boot="ff")
    with collector.client() as client:
        for body in (bytes(MAX_COMPRESSED_BYTES + 1), gzip.compress(bytes(MAX_BODY_BYTES + 1), 1)):
            answer = client.post(**{**parts, "content": body})
            assert answer.status_code == 413
            assert "smaller" in answer.json()["error"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), is_packed=st.booleans(), encoding=st.sampled_from(["gzip", "identity", "", "br"]))
def test_no_bytes_make_it_fail(collector: Process, body: bytes, is_packed: bool, encoding: str) -> None:
    """Anything at all is answered 200, 400 or 409, and never 5xx."""
    parts = post([], boot="f0")
    parts["headers"]["Content-Encoding"] = encoding
    with collector.client() as client:
        answer = client.post(**{**parts, "content": gzip.compress(body) if is_packed else body})
    assert answer.status_code in {200, 400, 409}


def test_tokens(guarded: Process) -> None:
    """401 without a token or with a wrong one, 403 with another agent's, 200 with its own; nothing is stored before."""
    with guarded.client() as client:
        for token in (None, "wrong", "secret-of-si", "secret-of-sin2"):
            answer = client.post(**post([ping(1, [1])], token=token))
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        basic = post([ping(1, [1])])
        basic["headers"]["Authorization"] = "Basic secret-of-sin"
        assert client.post(**basic).status_code == 401
        assert client.post(**post([ping(1, [1])], token="secret-of-fra")).status_code == 403
        with open_warehouse(_kept(guarded)) as wh:
            assert measurement_counts(wh)["ping"] == 0
        assert client.post(**post([ping(1, [1])], token="secret-of-sin")).status_code == 200


def test_an_agent_measures_from_its_own_site(guarded: Process) -> None:
    """403 when a batch, or a report in it, names a site that is not the agent's; an agent that is not bound may use any."""
    with guarded.client() as client:
        for lines in ([ping(1, [1]), ping(2, [1], src="iad")], [report(NOW, site="iad")]):
            answer = client.post(**post(lines, sequence=9, token="secret-of-sin"))
            assert answer.status_code == 403
            assert "measures from 'sin' and the batch says iad" in answer.json()["error"]
        elsewhere = [ping(1, [1], agent="fra-1", src="iad")]
        assert client.post(**post(elsewhere, agent="fra-1", token="secret-of-fra")).status_code == 200


def test_a_line_of_another_agent_is_rejected(guarded: Process) -> None:
    """An agent cannot put words into another one's mouth."""
    with guarded.client() as client:
        answer = client.post(**post([ping(1, [1]), ping(2, [1], agent="fra-1")], sequence=11, token="secret-of-sin"))
        assert answer.json() == {"stored": 1, "rejected": 1, "already": False}


def test_health_readiness_and_metrics(collector: Process) -> None:
    """It says that it runs and would store, and its numbers are OpenMetrics with a help text each."""
    with collector.client() as client:
        client.post(**post([ping(1, [1, 2, 3])], boot="a1"))
        assert client.get("/healthz").text == "ok\n"
        assert re.fullmatch(r"ready at snapshot \d+\n", client.get("/readyz").text)
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    lines = answer.text.splitlines()
    assert lines[-1] == "# EOF"
    for metric in METRICS:
        if metric.name.startswith(("isochrone_certificate_", "isochrone_alarm")):  # of one with TLS, or that judges alarms
            continue
        assert f"# TYPE {metric.name} {metric.kind}" in lines
    numbers = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert numbers['isochrone_batches_total{outcome="stored"}'] >= 1
    assert numbers['isochrone_rows_total{table="ping_sample"}'] >= 3
    assert numbers["isochrone_queue_batches"] == 0
    assert numbers["isochrone_commits_total"] >= 1


def test_metric_labels_are_escaped() -> None:
    """A label's value may hold anything."""
    assert 'isochrone_rejects_total{reason="a\\"b\\\\c\\nd"} 1' in render({"isochrone_rejects": {'a"b\\c\nd': 1}})


def test_unknown_paths_and_methods(collector: Process) -> None:
    """404 and 405, not 500."""
    with collector.client() as client:
        assert client.get("/nothing").status_code == 404
        assert client.get("/api/v1/batches").status_code == 405


def test_many_agents_share_commits(collector: Process) -> None:
    """Batches that come together are committed together: fewer commits than batches."""

    def numbers() -> tuple[float, float]:
        with collector.client() as client:
            text = client.get("/metrics").text
        return tuple(float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0]) for name in _TOTALS)  # type: ignore[return-value]

    commits_before, _ = numbers()
    answers: list[int] = []

    def one(agent: int) -> None:
        with collector.client() as client:
            for n in range(4):
                lines = [ping(n, [1], id=f"m{agent}-{n}", agent=f"m{agent}")]
                answers.append(client.post(**post(lines, agent=f"m{agent}", boot="a2", sequence=n)).status_code)

    threads = [threading.Thread(target=one, args=(agent,)) for agent in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 80
    assert numbers()[0] - commits_before < 40


_TOTALS = ("isochrone_commits_total", "isochrone_commit_seconds_total")


def test_a_collector_that_cannot_keep_up_answers_429(own: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Retry-After, whether the writer's queue is full or too much is coming in at once; afterwards the same batch is stored."""
    app, parts = make_app(own, tokens=None, commit_interval_s=0.05), post([ping(1, [1])])

    async def talk() -> None:
        transport = httpx.ASGITransport(app=app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://collector") as client:
            for owner, name, value in ((Writer, "is_full", property(lambda _: True)), (intake, "MAX_RECEIVED_BYTES", 10)):
                with monkeypatch.context() as patched:
                    patched.setattr(owner, name, value)
                    answer = await client.post(**parts)
                    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert "isochrone_received_bytes 0" in (await client.get("/metrics")).text
            assert (await client.post(**parts)).json() == {"stored": 1, "rejected": 0, "already": False}

    asyncio.run(talk())


def test_asked_to_stop_it_commits_what_it_has(tmp_path: Path, kept: Path) -> None:
    """SIGTERM while batches wait for a slow group: they are stored and answered, and the process ends well."""
    collector = start(kept, tmp_path / "c.sock", '{"commit_interval_s": 30}')
    statuses: list[int] = []

    def send(sequence: int) -> None:
        with collector.client() as client:
            statuses.append(client.post(**post([ping(sequence, [1])], sequence=sequence)).status_code)

    send(0)  # the first commits at once; the next ones have 30 s to wait
    threads = [threading.Thread(target=send, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    with collector.client() as client:
        while "isochrone_queue_batches 3" not in client.get("/metrics").text:
            time.sleep(0.02)
    collector.stop()
    for thread in threads:
        thread.join()
    assert collector.process.returncode == 0
    with open_warehouse(kept) as wh:
        assert measurement_counts(wh)["ping"] == 4
    assert statuses == [200] * 4
    assert not (tmp_path / "c.sock").exists()


def test_an_import_runs_beside_it(tmp_path: Path, kept: Path) -> None:
    """Another process writes to the same warehouse while the collector stores."""
    with running(kept, tmp_path / "c.sock", FAST) as collector, collector.client() as client:
        for n in range(4):
            with open_warehouse(kept, mode="write") as wh:
                assert client.post(**post([ping(n, [1])], sequence=n)).status_code == 200
                with wh.transaction() as cursor:
                    cursor.execute("INSERT INTO view_column VALUES ('a', 'b', 'c')")
        with open_warehouse(kept) as wh:
            assert measurement_counts(wh)["ping"] == 4


@pytest.mark.slow
@pytest.mark.timeout(300)  # seconds pass; on a machine that is busy with other work it may be minutes
def test_maintenance_runs_by_itself(kept: Path) -> None:
    """The writer tidies up as it goes: many commits leave few files."""
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0, care_scale=2.0 / 60)
        for n in range(20):
            writer.submit(batch([ping(n, [1])])).result(60)
        deadline = time.monotonic() + 200
        while {table.name: table.file_count for table in status(wh).tables}["ping_sample"] > 16 and time.monotonic() < deadline:
            time.sleep(1)  # to look is more work than to tidy up
        writer.stop()
        assert {table.name: table.file_count for table in status(wh).tables}["ping_sample"] <= 16
        assert measurement_counts(wh)["ping"] == 20
        assert verify(wh) == []


def test_a_port_in_use(tmp_path: Path) -> None:
    """Another program on the port is named as the trouble."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OutsideError, match=rf"port {port} of 127.0.0.1 is in use.*--port"):
            serve(tmp_path / "kept", port=port)


def test_a_socket_in_use_or_in_the_way(tmp_path: Path, collector: Process) -> None:
    """A second collector on one socket is refused; a file there is not removed."""
    with pytest.raises(OutsideError, match="another collector listens"):
        serve(tmp_path / "kept", host=None, uds=collector.socket)
    with collector.client() as client:
        assert client.get("/healthz").status_code == 200
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="in the way"):
        serve(tmp_path / "kept", host=None, uds=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_open_door_to_the_network(tmp_path: Path, host: str) -> None:
    """Without tokens it listens on loopback only."""
    for tokens in (None, {}):
        with pytest.raises(UserError, match="without tokens"):
            serve(tmp_path / "kept", host=host, tokens=tokens)
    assert not (tmp_path / "kept").exists()


def test_a_place_where_no_warehouse_can_be(tmp_path: Path) -> None:
    """A wrong place is a message, not a server that fails later; no address at all is a mistake too."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is in the way"):
        serve(tmp_path / "file" / "kept", port=0)
    with pytest.raises(UserError, match="needs an address"):
        serve(tmp_path / "kept", host=None)


def test_the_boot_of_the_tests_is_one_the_collector_takes() -> None:
    """The builders' boot id has the form the contract's header asks for."""
    assert re.fullmatch(r"[0-9a-f]{16}", BOOT)
