"""TLS between agents and collector: a real collector with a certificate of its own authority, renewed and expired while it runs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from test_app_agent import free_port
from test_app_enrol import CLI, ROOT, await_it, done, isochrone, pop

from probes.client import CollectorClient
from records.errors import CollectorUnreachable, ConfigError, UserError
from warehouse.certificate import make_certificate
from warehouse.serve import serve
from warehouse.tls import Tls

NOW = datetime(2026, 11, 26, 13, tzinfo=UTC)


def test_a_certificate_passes_openssls_own_strict_check(tmp_path: Path) -> None:
    """For each of its names and no other, while it is valid; the authority may not make further ones. Keys are ours alone."""
    paths = make_certificate(tmp_path / "tls", ["collector.example", "192.0.2.1", "2001:db8::1"], days=90, now=NOW)
    assert {name: path.stat().st_mode & 0o777 for name, path in paths.items()} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "server.pem": 0o644,
        "server.key": 0o600,
    }
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def verify(*options: str, at: datetime = NOW) -> bool:
        argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", f"{at.timestamp():.0f}"]
        argv += ["-CAfile", str(paths["ca.pem"]), *options, str(paths["server.pem"])]
        return subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0

    assert verify("-verify_hostname", "collector.example")
    assert verify("-verify_ip", "192.0.2.1")
    assert verify("-verify_ip", "2001:db8::1")
    assert not verify("-verify_hostname", "other.example")
    assert not verify("-verify_ip", "192.0.2.2")
    assert verify(at=NOW + timedelta(days=89))
    assert not verify(at=NOW + timedelta(days=91))


def test_renewed_by_the_same_authority(tmp_path: Path) -> None:
    """Agents keep their ca_file; what does not belong together, or is no name, is refused and changes nothing."""
    paths = make_certificate(tmp_path, ["localhost"], days=1, now=NOW)
    before = {name: path.read_bytes() for name, path in paths.items()}
    make_certificate(tmp_path, ["localhost"], days=90, now=NOW)
    after = {name: path.read_bytes() for name, path in paths.items()}
    assert after["ca.pem"] == before["ca.pem"]
    assert after["ca.key"] == before["ca.key"]
    assert after["server.pem"] != before["server.pem"]
    assert Tls(paths["server.pem"], paths["server.key"]).expires_at == NOW + timedelta(days=90)
    with pytest.raises(ConfigError, match="'a b' is neither"):
        make_certificate(tmp_path, ["a b"], days=1, now=NOW)
    with pytest.raises(ConfigError, match="expired at"):
        make_certificate(tmp_path, ["localhost"], days=1, now=NOW + timedelta(days=4000))
    paths["ca.key"].write_bytes(after["server.key"])
    with pytest.raises(ConfigError, match="do not belong together"):
        make_certificate(tmp_path, ["localhost"], days=1, now=NOW)
    assert paths["server.pem"].read_bytes() == after["server.pem"]


def test_what_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that others can read, of another certificate, with a passphrase; no PEM; not there."""
    paths = make_certificate(tmp_path / "one", ["localhost"], days=1, now=NOW)
    other = make_certificate(tmp_path / "two", ["localhost"], days=1, now=NOW)
    with pytest.raises(ConfigError, match="do not belong together"):
        Tls(paths["server.pem"], other["server.key"])
    with pytest.raises(ConfigError, match="is not PEM"):
        Tls(paths["server.key"], paths["server.key"])
    with pytest.raises(ConfigError, match="No such file"):
        Tls(tmp_path / "none.pem", paths["server.key"])
    key = serialization.load_pem_private_key(other["server.key"].read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    other["server.key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(ConfigError, match="passphrase"):
        Tls(other["server.pem"], other["server.key"])
    paths["server.key"].chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Tls(paths["server.pem"], paths["server.key"])
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "one"))  # systemd's, whose access lists show as a group's
    assert Tls(paths["server.pem"], paths["server.key"]).expires_at == NOW + timedelta(days=1)


def test_expiry_is_warned_of_two_weeks_before(tmp_path: Path) -> None:
    """Nothing while it is far, the days that are left, and that it is over."""
    paths = make_certificate(tmp_path, ["localhost"], days=90, now=NOW)
    tls = Tls(paths["server.pem"], paths["server.key"])
    assert tls.warning(NOW + timedelta(days=75)) is None
    assert "expires in 13 days" in str(tls.warning(NOW + timedelta(days=76, hours=1)))
    assert "expired at 2027-02-24" in str(tls.warning(NOW + timedelta(days=90)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_no_tokens_over_the_network_in_clear(tmp_path: Path, host: str) -> None:
    """Off loopback a collector without TLS does not start, unless it is told that a proxy has it; nor does `up`."""
    with pytest.raises(UserError, match=r"without TLS.*--behind-proxy"):
        serve(tmp_path / "kept", host=host, tokens={"0123456789abcdef": "sin"})
    (tmp_path / "tokens.json").touch(mode=0o600)
    (tmp_path / "tokens.json").write_text("{}")
    refused = isochrone("up", "--host", host, "--open", "--tokens", tmp_path / "tokens.json", "--warehouse", tmp_path / "kept")
    assert isinstance(refused.exception, UserError)
    assert "without TLS" in str(refused.exception)
    refused = isochrone("collector", "--tls-cert", "server.pem")
    assert "both --tls-cert and --tls-key" in str(refused.exception)
    assert not (tmp_path / "kept").exists()


def test_agents_come_by_tls_and_the_certificate_is_renewed_under_them(tmp_path: Path) -> None:
    """One collector: enrolled over TLS, refused without the authority and without TLS; an expired certificate, then a new one."""
    folder, port = tmp_path / "tls", free_port()
    done("collector", "certificate", "--out", folder, "--name", "127.0.0.1")
    (tmp_path / "tokens.json").touch(mode=0o600)
    (tmp_path / "tokens.json").write_text("{}")
    argv = [*CLI, "collector", "--warehouse", str(tmp_path / "wh"), "--port", str(port), "--uds", str(tmp_path / "c.sock")]
    argv += ["--tokens", str(tmp_path / "tokens.json"), "--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")]
    with (tmp_path / "log").open("wb") as log:
        collector = subprocess.Popen(argv, stderr=log, cwd=ROOT)
    try:
        await_it(lambda: "collector ready on https" in (tmp_path / "log").read_text(), "the collector")
        url = f"https://127.0.0.1:{port}"
        config = pop(tmp_path, url, "tls-1")
        config.write_text(config.read_text().replace("[[probe]]", 'ca_file = "tls/ca.pem"\n[[probe]]'))
        invitation = done("agent", "invite", "sin", "--tokens", tmp_path / "tokens.json").stdout
        done("agent", "enroll", "--config", config, "--invitation-file", "-", input=invitation)
        done("agent", "rotate", "--config", config)
        checked = isochrone("agent", "check", "--config", config, "--json")
        assert "\"known as agent 'tls-1' at site 'sin'\"" in checked.output

        assert "collector.ca_file" in _trouble(url, None)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10)
        assert f"isochrone_certificate_expiry_timestamp_seconds {_end(port, folder / 'ca.pem')}" in _plain(tmp_path, "/metrics")
        assert "warning" not in _plain(tmp_path, "/readyz")

        now = datetime.now(UTC)
        make_certificate(folder, ["127.0.0.1"], days=1, now=now - timedelta(days=2))
        await_it(lambda: "expired at" in _plain(tmp_path, "/readyz"), "the expired certificate")
        assert "certificate has expired" in _trouble(url, folder / "ca.pem")
        done("collector", "certificate", "--out", folder, "--name", "127.0.0.1", "--days", "3")
        await_it(lambda: "expires in 2 days" in _plain(tmp_path, "/readyz"), "the renewed certificate")
        assert abs(_end(port, folder / "ca.pem") - (now + timedelta(days=3)).timestamp()) < 600
        for secret in (folder / "server.key", folder / "ca.key"):
            assert secret.read_text().splitlines()[1] not in (tmp_path / "log").read_text()
    finally:
        collector.kill()
        collector.wait()


def _trouble(url: str, ca_file: Path | None) -> str:
    """Why an agent does not talk to a collector."""

    async def ask() -> None:
        client = CollectorClient(url, ca_file=ca_file)
        try:
            await client.ready()
        finally:
            await client.close()

    with pytest.raises(CollectorUnreachable) as caught:
        asyncio.run(ask())
    return str(caught.value)


def _plain(folder: Path, path: str) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder / "c.sock"), verify=False), base_url="http://collector") as client:
        return client.get(path, timeout=30).text


def _end(port: int, ca_file: Path) -> float:
    """The end of the certificate that a new connection gets, as Python's ssl reads it."""
    context = ssl.create_default_context(cafile=str(ca_file))
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as stream:
        found = stream.getpeercert()
    assert found is not None
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))


_LIGHT = """
import sys
absent = "cryptography duckdb starlette uvicorn msgspec pyarrow numpy streamlit warehouse".split()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from app.cli import main
sys.argv = ["isochrone", *sys.argv[1:]]
main()
"""


def test_an_agent_enrols_and_rotates_without_the_collectors_packages(tmp_path: Path) -> None:
    """With nothing of the warehouse and no cryptography: the commands run up to the collector that is not there."""
    config = pop(tmp_path, f"http+unix://{tmp_path}/none.sock", "light-1")
    config.with_suffix(".token").touch(mode=0o600)
    config.with_suffix(".token").write_text("0123456789abcdef")
    for argv in (["enroll", "--invitation-file", "-"], ["rotate"]):
        command = [sys.executable, "-c", _LIGHT, "agent", *argv, "--config", str(config)]
        ended = subprocess.run(command, cwd=ROOT, input="0123456789abcdef", capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 3, ended.stderr
        assert ended.stderr.startswith("isochrone: no answer from the collector")
