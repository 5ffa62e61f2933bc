"""`isochrone doctor` of a set-up: each line is ok, warn or bad, by what a real warehouse, certificate and secret are at that moment."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import setup_checks
from app.setup_checks import agent_findings, collector_findings, disk, warehouse_findings
from warehouse import open_warehouse
from warehouse.certificate import make_certificate


def levels(findings: Any) -> dict[str, str]:
    """Name -> level."""
    return {finding.name: finding.level for finding in findings}


def test_a_warehouse_by_what_arrives_in_it(tmp_path: Path) -> None:
    """None there is bad, an empty one warns, one with a batch of now is ok, one with a batch of yesterday warns, a newer one is bad."""
    place = str(tmp_path / "kept")
    assert levels(warehouse_findings(place))[place] == "bad"
    with open_warehouse(place, mode="write") as wh:
        assert levels(warehouse_findings(place)) == {"disk of the warehouse": "ok", place: "ok", "newest batch": "warn", "roll-ups": "ok"}
        for ago, level in ((timedelta(days=1), "warn"), (timedelta(), "ok")):
            with wh.transaction() as cursor:
                at = (datetime.now(UTC) - ago).isoformat()
                cursor.execute(f"INSERT INTO batch VALUES ('a', 'b', {ago.days}, 'c', 'collector', '{at}', 0, 0, 0, NULL)")  # noqa: S608 - ours
            found = levels(warehouse_findings(place))
            assert (found["newest batch"], found["roll-ups"]) == (level, "warn")
        with wh.transaction() as cursor:
            cursor.execute("INSERT INTO schema_migration VALUES ('999_future', 'x', now())")
    (_, opened) = warehouse_findings(place)
    assert opened.level == "bad"
    assert "upgrade isochrone" in opened.remedy


def answering(folder: Path, status: str) -> int:
    """A TLS server with the certificate in `folder` that gives one answer to each who asks; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(4096)
                    tls.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsaid".encode())
            except OSError:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(("days", "level"), [(90, "ok"), (3, "warn")])
def test_a_collector_and_until_when_its_certificate_is_good(tmp_path: Path, days: int, level: str) -> None:
    """By a handshake that checks it: the authority given, ours warns when near its end; without the authority nothing is trusted."""
    make_certificate(tmp_path, ["127.0.0.1"], days=days, now=datetime.now(UTC))
    url = f"https://127.0.0.1:{answering(tmp_path, '200 OK')}"
    assert levels(collector_findings(url, tmp_path / "ca.pem")) == {url: "ok", "its certificate": level}
    (distrusted,) = collector_findings(url)
    assert distrusted.level == "bad"
    assert "collector.ca_file" in distrusted.remedy
    (unready,) = collector_findings(f"https://127.0.0.1:{answering(tmp_path, '503 Away')}", tmp_path / "ca.pem")
    assert (unready.level, unready.found) == ("bad", "answered 503 to /readyz: said")


def test_an_agents_configuration_and_secrets(tmp_path: Path) -> None:
    """A secret that others can read is bad, as is one that is not there, a wrong file, and a collector that is away."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\n[collector]\nurl = "http://127.0.0.1:{port}"\ntoken_file = "token"\n'
    )
    expected = {str(config): "ok", "disk of the spool": "ok", f"http://127.0.0.1:{port}": "bad"}
    assert levels(agent_findings(config)) == expected | {"collector.token_file": "bad"}
    token = tmp_path / "token"
    for mode, level in ((0o644, "bad"), (0o600, "ok")):
        token.write_text("secret-of-sin-1")
        token.chmod(mode)
        found = list(agent_findings(config))
        assert levels(found) == expected | {"collector.token_file": level}
        assert "secret-of-sin-1" not in json.dumps([str(finding) for finding in found])
    config.write_text("[agent]\nid = 3\n")
    assert [finding.level for finding in agent_findings(config)] == ["bad"]


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth left warns; less than 200 MB is bad."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's own
    for free, level in ((10**11, "ok"), (4 * 10**9, "warn"), (10**8, "bad")):
        monkeypatch.setattr(setup_checks.shutil, "disk_usage", lambda _, free=free: usage(10**11, 10**11 - free, free))
        assert disk("the spool", tmp_path / "not" / "there").level == level
