"""Configurations pushed to a real agent by a real collector; versions that are too old; and no secret without TLS to another host."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_app_enrol import CLI, ROOT, Collector, await_it, done, enrol, isochrone, pop

from records.errors import ConfigError, NoAnswer, UserError
from warehouse import Warehouse, open_warehouse
from warehouse.queries import agents, measurement_counts
from warehouse.roster import is_older
from warehouse.roster_file import RosterFile

PUSHED = '[[probe]]\ntype = "ping"\nengine = "udp"\ninterval_s = 0.2\ncount = 1\ntimeout_ms = 100\n'
PUSHED += '[[target]]\nsite = "nrt"\naddress = "127.0.0.1"\nudp_echo_port = 9\n'


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector that hands configurations on; its operator's key is beside it."""
    made = Collector(tmp_path_factory.mktemp("c"))
    made.tokens.touch(mode=0o600)
    made.tokens.write_text("{}")
    done("agent", "config", "key", "--out", made.folder / "signing.key", "--configs", made.folder / "configs")
    made.options = ["--configs", str(made.folder / "configs")]
    made.start()
    yield made
    made.kill()


def publish(collector: Collector, toml: str, *whom: str) -> int:
    file = collector.folder / "pushed.toml"
    file.write_text(toml)
    options = ["--key", collector.folder / "signing.key", "--configs", collector.folder / "configs", "--json"]
    return int(json.loads(done("agent", "config", "publish", file, *whom, *options).stdout)["generation"])


def said(wh: Warehouse, agent: str) -> dict[str, object]:
    """What the warehouse has of an agent's last report; empty where it has none."""
    (row,) = [row for row in agents(wh, datetime.now(UTC)).to_pylist() if row["agent"] == agent] or [{}]
    return row


@pytest.fixture
def wh(steered: Collector) -> Iterator[Warehouse]:
    """The collector's warehouse, for reading."""
    with open_warehouse(steered.folder / "wh") as opened:
        yield opened


def agent_of(config: Path) -> subprocess.Popen[bytes]:
    with config.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([*CLI, "agent", "run", "--config", str(config)], stderr=log, stdout=log, cwd=ROOT)


@pytest.mark.alone
@pytest.mark.waits
def test_a_configuration_reaches_the_agent_and_the_last_good_one_survives(steered: Collector, wh: Warehouse, tmp_path: Path) -> None:
    """Published, running, reported; one that is refused is reported with why; a restart without the collector runs the good one."""
    config = pop(tmp_path, steered.url, "steered-1")
    config.write_text(config.read_text().replace("[collector]", "[collector]\nconfig_interval_s = 0.2"))
    enrol(steered, config)
    assert "PUBLIC KEY" in (tmp_path / "steered-1.token.config-key").read_text()
    first = publish(steered, PUSHED, "--site", "sin")
    process = agent_of(config)
    try:
        await_it(lambda: said(wh, "steered-1").get("config_generation") == first, "the first generation")
        other = publish(steered, "[limits]\ntargets = 1\n", "--all")
        await_it(lambda: said(wh, "steered-1").get("config_generation") == other, "one for all")
        bad = publish(steered, PUSHED + '[[target]]\nsite = "x"\naddress = "224.0.0.1"\n', "--agent", "steered-1")
        await_it(lambda: f"generation {bad}: " in str(said(wh, "steered-1").get("config_refused")), "the refusal")
        row = said(wh, "steered-1")
        assert row["config_generation"] == other
        assert "multicast" in str(row["config_refused"])
        listed = json.loads(done("agent", "list", "--tokens", steered.tokens, "--warehouse", steered.folder / "wh", "--json").stdout)
        (mine,) = [entry for entry in listed["agents"] if entry["agent"] == "steered-1"]
        assert (mine["config_generation"], mine["is_too_old"]) == (other, False)
        good = publish(steered, PUSHED, "--agent", "steered-1")
        await_it(lambda: said(wh, "steered-1").get("config_generation") == good, "a good one after a bad one")
        assert said(wh, "steered-1")["config_refused"] is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    away = config.read_text().replace("c.sock", "gone.sock")
    config.write_text(away)
    process = agent_of(config)
    try:
        log = config.with_suffix(".log")
        await_it(lambda: f"configuration of generation {good}" in log.read_text().rpartition("boot")[2], "the kept one")
    finally:
        process.terminate()
        process.wait(30)
    assert measurement_counts(wh)["ping"] > 0


@pytest.mark.alone
@pytest.mark.waits
def test_a_damaged_configuration_opens_no_way_to_an_older_one(steered: Collector, wh: Warehouse, tmp_path: Path) -> None:
    """Killed, what it kept cut short, and the collector offers the one from before: refused by its number, and the own file alone runs."""
    config = pop(tmp_path, steered.url, "damaged-1")
    config.write_text(config.read_text().replace("[collector]", "[collector]\nconfig_interval_s = 0.2"))
    enrol(steered, config)
    configs = steered.folder / "configs"
    older = publish(steered, PUSHED, "--agent", "damaged-1")
    first = {path.name: path.read_bytes() for path in configs.iterdir()}
    newer = publish(steered, PUSHED, "--agent", "damaged-1")
    process = agent_of(config)
    try:
        await_it(lambda: said(wh, "damaged-1").get("config_generation") == newer, "the newer one")
    finally:
        process.kill()
        process.wait()
    spooled = tmp_path / "spool-damaged-1" / "config.json"
    await_it(spooled.exists, "what is kept", 1)
    spooled.write_bytes(spooled.read_bytes()[:-20])
    for path in {path for path in configs.iterdir() if path.name not in first}:
        path.unlink()
    process = agent_of(config)
    try:
        refusal = f"generation {older}: it is older than {newer}"
        await_it(lambda: refusal in str(said(wh, "damaged-1").get("config_refused")), "the refusal")
        assert said(wh, "damaged-1")["config_generation"] is None
    finally:
        process.terminate()
        process.wait(30)


def test_a_configuration_is_for_its_agent_alone(steered: Collector, tmp_path: Path) -> None:
    """With no token 401, with another agent's 403; the same one again is 304; what is in the folder and not signed goes to nobody."""
    secret = enrol(steered, pop(tmp_path, steered.url, "own-1"))
    enrol(steered, pop(tmp_path, steered.url, "own-2"))
    generation = publish(steered, "", "--agent", "own-1")
    (steered.folder / "configs" / "9999999999.json").write_text('{"algorithm": "ed25519", "payload": "{}", "signature": ""}')
    mine = {"Authorization": f"Bearer {secret}"}
    with steered.http() as client:
        assert client.get("/api/v1/agents/own-1/config").status_code == 401
        assert client.get("/api/v1/agents/own-2/config", headers=mine).status_code == 403
        assert client.get("/api/v1/agents/..%2f..%2fetc/config", headers=mine).status_code in {403, 404}
        found = client.get("/api/v1/agents/own-1/config", headers=mine)
        assert found.status_code == 200
        assert json.loads(found.json()["payload"])["generation"] == generation
        again = client.get("/api/v1/agents/own-1/config", headers=mine | {"If-None-Match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    (steered.folder / "configs" / "9999999999.json").unlink()


def test_what_is_signed_elsewhere_is_published_once_and_in_order(steered: Collector, tmp_path: Path) -> None:
    """Signed offline, published beside the collector; the same again, one from before, one by another key: no, and nothing is written."""
    configs = steered.folder / "configs"
    (tmp_path / "a.toml").write_text(PUSHED)
    whom = ["--agent", "nobody-1", "--key", steered.folder / "signing.key"]
    done("agent", "config", "sign", tmp_path / "a.toml", *whom, "--generation", "5000", "--out", tmp_path / "a.signed")
    done("agent", "config", "sign", tmp_path / "a.toml", *whom, "--generation", "4999", "--out", tmp_path / "b.signed")
    done("agent", "config", "publish", tmp_path / "a.signed", "--configs", configs)
    before = sorted(path.name for path in configs.iterdir())
    for file in ("a.signed", "b.signed"):
        refused = isochrone("agent", "config", "publish", tmp_path / file, "--configs", configs)
        assert isinstance(refused.exception, NoAnswer)
        assert "is not newer than 5000" in str(refused.exception)
    done("agent", "config", "key", "--out", tmp_path / "other.key")
    refused = isochrone("agent", "config", "publish", tmp_path / "a.toml", "--all", "--key", tmp_path / "other.key", "--configs", configs)
    assert isinstance(refused.exception, UserError)
    assert "is another key" in str(refused.exception)
    (tmp_path / "bad.toml").write_text('[collector]\nurl = "https://elsewhere"\n')
    refused = isochrone("agent", "config", "publish", tmp_path / "bad.toml", "--all", "--key", tmp_path / "other.key", "--configs", configs)
    assert isinstance(refused.exception, ConfigError)
    assert sorted(path.name for path in configs.iterdir()) == before
    assert json.loads(done("agent", "config", "list", "--configs", configs, "--json").stdout)[0]["generation"] == 5000


@pytest.mark.alone
@pytest.mark.waits
def test_an_agent_that_is_too_old_keeps_what_it_measured(steered: Collector, wh: Warehouse, tmp_path: Path) -> None:
    """426, with what to do; the spool keeps its batches, and they arrive as soon as the version is one that is taken."""
    config = pop(tmp_path, steered.url, "old-1")
    secret = enrol(steered, config)
    done("agent", "require", "99.0", "--tokens", steered.tokens)
    assert RosterFile(steered.tokens).read().min_version == "99.0"
    with steered.http() as client:
        answer = client.post("/api/v1/batches", headers={"Authorization": f"Bearer {secret}"}, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade")
    log = config.with_suffix(".log")
    process = agent_of(config)
    try:
        await_it(lambda: "takes 99.0 or newer; upgrade it" in log.read_text(), "the refusal")
        process.terminate()
        assert process.wait(30) == 0
        assert any((tmp_path / "spool-old-1").glob("*.gz")), log.read_text()
        assert said(wh, "old-1") == {}
        done("agent", "require", "--any", "--tokens", steered.tokens)
        process = agent_of(config)
        await_it(lambda: said(wh, "old-1") != {}, "its batches")
    finally:
        process.kill()
        process.wait()
    for bad in (["x.y"], [], ["1.0", "--any"]):
        assert isinstance(isochrone("agent", "require", *bad, "--tokens", steered.tokens).exception, UserError)


def test_a_version_is_compared_as_one() -> None:
    """By PEP 440: 0.9 before 0.10, a candidate before its release; what is no version comes before all."""
    order = ["", "unknown", "9" * 5000, "0.9", "0.10.0rc1", "0.10", "1.0"]
    assert [is_older(version, "0.10") for version in order] == [True, True, True, True, True, False, False]


@pytest.mark.parametrize("command", [["run", "--seconds", "0.1"], ["rotate"]])
def test_no_secret_goes_to_another_host_without_tls(tmp_path: Path, command: list[str]) -> None:
    """Refused before anything is sent; a key of the configuration and an option allow it; loopback and sockets need neither."""
    config = pop(tmp_path, "http://collector.example:8600", "far-1")
    config.write_text(config.read_text().replace("[collector]", "drain_s = 0\n[collector]"))
    (tmp_path / "far-1.token").touch(mode=0o600)
    (tmp_path / "far-1.token").write_text("secret-of-far-1")
    refused = isochrone("agent", *command, "--config", config)
    assert isinstance(refused.exception, UserError)
    assert "without TLS" in str(refused.exception)
    assert not (tmp_path / "spool-far-1").exists()
    for url, more, options in (
        ("http://127.0.0.1:9", "", []),
        ("http+unix:///nowhere/c.sock", "", []),
        ("http://collector.invalid:9", "allow_insecure = true\n", []),
        ("http://collector.invalid:9", "", ["--insecure"]),
    ):
        text = config.read_text().replace("http://collector.example:8600", url)
        (tmp_path / "near.toml").write_text(text.replace("[collector]", f"[collector]\n{more}"))
        tried = isochrone("agent", *command, "--config", tmp_path / "near.toml", *options)
        assert "without TLS" not in f"{tried.output}{tried.exception}", (url, tried.exception)
