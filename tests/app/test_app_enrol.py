"""Enrolment, rotation and revocation with a real collector: the commands, agents that are killed, and no secret where others read."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from app.cli import root
from probes.client import CollectorClient
from probes.enrolment import IDENTITY
from probes.secret import SecretFile, digest
from records.errors import CollectorUnreachable, ConfigError, NoAnswer, OutsideError, UserError
from warehouse.roster_file import RosterFile

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "app.cli"]


def isochrone(*argv: object, **options: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(root, [str(word) for word in argv], **options)  # type: ignore[arg-type]


def done(*argv: object, **options: object) -> Result:
    result = isochrone(*argv, **options)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@dataclass
class Collector:
    """A collector of its own process, on a unix socket and on loopback."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    secrets: set[str] = field(default_factory=set)
    options: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.json"

    @property
    def log(self) -> Path:
        return self.folder / "collector.log"

    @property
    def url(self) -> str:
        return f"http+unix://{self.folder}/c.sock"

    def start(self) -> None:
        argv = [*CLI, "collector", "--warehouse", str(self.folder / "wh"), "--port", "0", "--uds", str(self.folder / "c.sock")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*argv, "--tokens", str(self.tokens), *self.options], stderr=log, stdout=log, cwd=ROOT)
        await_it(lambda: self.process is not None and self.process.poll() is None and self._is_ready(), "the collector")

    def _is_ready(self) -> bool:
        try:
            return self.http().get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def http(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.folder / "c.sock"), verify=False), base_url="http://collector", timeout=60
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def invitation(self, site: str, *options: str) -> str:
        made = done("agent", "invite", site, "--tokens", self.tokens, *options).stdout.strip()
        self.secrets.add(made)
        return made


def await_it(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Its token file exists, and nobody is in it."""
    made = Collector(tmp_path_factory.mktemp("c"))
    made.tokens.touch(mode=0o600)
    made.tokens.write_text("{}")
    made.start()
    yield made
    made.kill()


def pop(folder: Path, url: str, agent: str, site: str = "sin") -> Path:
    """The configuration of an agent that pings its own reflector, which answers only while it runs."""
    path = folder / f"{agent}.toml"
    path.write_text(f"""
[agent]
id = "{agent}"
site = "{site}"
spool_dir = "spool-{agent}"
allow_private_targets = true
status_interval_s = 1
[collector]
url = "{url}"
token_file = "{agent}.token"
batch_max_age_s = 0.2
[[probe]]
type = "ping"
engine = "udp"
interval_s = 0.2
count = 1
timeout_ms = 100
[[target]]
site = "fra"
address = "127.0.0.1"
udp_echo_port = 9
""")
    return path


def enrol(collector: Collector, config: Path, site: str = "sin", *options: str) -> str:
    """Enrol, and give back the secret."""
    invitation = collector.invitation(site, *options)
    done("agent", "enroll", "--config", config, "--invitation-file", "-", input=invitation)
    secret = config.with_suffix(".token").read_text().strip()
    collector.secrets.add(secret)
    return secret


def identity(collector: Collector, config: Path) -> tuple[int, object]:
    """What the collector says to the agent of a configuration, by whatever secrets that has on disk."""

    async def ask() -> tuple[int, object]:
        client = CollectorClient(collector.url, token_file=config.with_suffix(".token"))
        try:
            answer = await client.call_own("GET", IDENTITY)
        finally:
            await client.close()
        return answer.status, answer.body.get("agent")

    return asyncio.run(ask())


def test_an_invitation_makes_one_agent_once(collector: Collector, tmp_path: Path) -> None:
    """Its own secret in a file of its own, known to the collector by its digest alone; the invitation is no good again."""
    config = pop(tmp_path, collector.url, "once-1")
    invitation = collector.invitation("sin")
    (tmp_path / "invitation").touch(mode=0o600)
    (tmp_path / "invitation").write_text(invitation)
    done("agent", "enroll", "--config", config, "--invitation-file", tmp_path / "invitation")
    secret_file = tmp_path / "once-1.token"
    secret = secret_file.read_text().strip()
    assert secret_file.stat().st_mode & 0o777 == 0o600
    assert RosterFile(collector.tokens).read().agents["once-1"].secret_digest == digest(secret)
    assert identity(collector, config) == (200, "once-1")
    text = collector.tokens.read_text()
    assert secret not in text
    assert invitation not in text
    for agent in ("once-1", "once-2"):
        again = isochrone("agent", "enroll", "--config", pop(tmp_path, collector.url, agent), "--invitation-file", "-", input=invitation)
        assert isinstance(again.exception, NoAnswer)
        assert "was used before" in str(again.exception)
    assert secret_file.read_text().strip() == secret
    assert not list(tmp_path.glob("once-*.token.next")), "what was refused leaves nothing"
    assert not (tmp_path / "once-2.token").exists()


@pytest.mark.parametrize(
    ("site", "options", "said"),
    [
        ("fra", [], "is for site 'fra', and agent.site is 'sin'"),
        ("sin", ["--agent", "somebody"], "is for agent 'somebody', and agent.id is 'mine'"),
        ("sin", ["--expires", "1s"], "expired at"),
        (None, [], "is none of this collector's"),
    ],
)
def test_an_invitation_that_is_not_for_this_agent(
    collector: Collector, tmp_path: Path, site: str | None, options: list[str], said: str
) -> None:
    """Of another site, for another agent, too late, made up: refused with the reason, and nothing changes."""
    invitation = "made-up-by-somebody-else" if site is None else collector.invitation(site, *options)
    if "--expires" in options:
        until = datetime.now(UTC) + timedelta(seconds=1)
        await_it(lambda: datetime.now(UTC) > until, "the end of an invitation")
    before = collector.tokens.read_bytes()
    refused = isochrone("agent", "enroll", "--config", pop(tmp_path, collector.url, "mine"), "--invitation-file", "-", input=invitation)
    assert isinstance(refused.exception, NoAnswer)
    assert said in str(refused.exception)
    assert collector.tokens.read_bytes() == before
    assert [path.name for path in tmp_path.glob("mine.token*")] == ["mine.token.lock"]


def test_of_two_at_once_one_wins(collector: Collector, tmp_path: Path) -> None:
    """Sixteen requests with one invitation at the same moment: one 200, and 403 for the others."""
    invitation, statuses = collector.invitation("sin"), []
    start = threading.Barrier(16)

    def take(number: int) -> None:
        body = {"invitation": invitation, "agent": f"race-{number}", "site": "sin", "secret_sha256": digest(f"secret of {number}")}
        with collector.http() as client:
            start.wait()
            statuses.append(client.post("/api/v1/enroll", json=body).status_code)

    threads = [threading.Thread(target=take, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [403] * 15
    assert len([name for name in RosterFile(collector.tokens).read().agents if name.startswith("race-")]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("enroll", b"", 400),
        ("enroll", b"[" * 4000, 400),
        ("enroll", b"x" * 5000, 413),
        ("enroll", b'{"invitation": "0123456789abcdef", "agent": "a b", "site": "sin", "secret_sha256": "' + b"0" * 64 + b'"}', 400),
        ("enroll", b'{"invitation": 7, "agent": "a", "site": "sin", "secret_sha256": "' + b"0" * 64 + b'"}', 400),
        ("rotate", b"{}", 401),
        ("rotate", b'{"secret_sha256": "' + b"0" * 64 + b'"}', 401),
    ],
)
def test_what_is_no_request_changes_nothing(collector: Collector, path: str, body: bytes, status: int) -> None:
    """Nothing of the body comes back in the answer."""
    before = collector.tokens.read_bytes()
    with collector.http() as client:
        answer = client.post(f"/api/v1/{path}", content=body)
    assert answer.status_code == status
    assert "0123456789abcdef" not in answer.text
    assert collector.tokens.read_bytes() == before


def test_an_enrolled_agent_keeps_its_name_and_a_named_invitation_replaces_its_secret(collector: Collector, tmp_path: Path) -> None:
    """Nobody takes a name with an invitation for any; one that names it is for a disk that was lost, and ends the old secret."""
    config = pop(tmp_path, collector.url, "kept-1")
    first = enrol(collector, config)
    (tmp_path / "other").mkdir()
    other = pop(tmp_path / "other", collector.url, "kept-1")
    refused = isochrone("agent", "enroll", "--config", other, "--invitation-file", "-", input=collector.invitation("sin"))
    assert "there is an agent 'kept-1' already" in str(refused.exception)
    assert identity(collector, config) == (200, "kept-1")
    second = enrol(collector, other, "sin", "--agent", "kept-1")
    assert first != second
    assert identity(collector, config)[0] == 401
    assert identity(collector, other) == (200, "kept-1")


def test_only_to_where_nobody_else_reads(collector: Collector, tmp_path: Path) -> None:
    """Plain http to another host is refused before anything is sent; an invitation that others can read is refused too."""
    config = pop(tmp_path, "http://collector.example:8600", "far-1")
    refused = isochrone("agent", "enroll", "--config", config, "--invitation-file", "-", input="0123456789abcdef")
    assert isinstance(refused.exception, UserError)
    assert "without TLS" in str(refused.exception)
    (tmp_path / "open").write_text("0123456789abcdef")
    (tmp_path / "open").chmod(0o644)
    refused = isochrone("agent", "enroll", "--config", pop(tmp_path, collector.url, "far-1"), "--invitation-file", tmp_path / "open")
    assert "chmod 600" in str(refused.exception)
    refused = isochrone("agent", "rotate", "--config", config)
    assert isinstance(refused.exception, ConfigError)
    assert "isochrone agent enroll" in str(refused.exception)


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from probes import enrolment
from probes.client import CollectorClient
from probes.secret import SecretFile
url, token_file, agent, invitation, at = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.stdin.read(), sys.argv[4]
def killed(cls, name):
    real = getattr(cls, name)
    def end(*args, **options):
        made = real(*args, **options)
        if asyncio.iscoroutine(made):
            async def wait():
                await made
                os.kill(os.getpid(), signal.SIGKILL)
            return wait()
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(cls, name, end)
killed({"prepare": SecretFile, "promote": SecretFile}.get(at, CollectorClient), at)
async def work():
    client, secret_file = CollectorClient(url, token_file=token_file), SecretFile(token_file)
    if invitation:
        await enrolment.enroll(client, secret_file, agent=agent, site="sin", invitation=invitation)
    else:
        await enrolment.rotate(client, secret_file, grace_s=3600)
asyncio.run(work())
"""


def _killed(collector: Collector, config: Path, step: str, invitation: str = "") -> None:
    argv = [sys.executable, "-c", _KILLED, collector.url, str(config.with_suffix(".token")), config.stem, step]
    done = subprocess.run(argv, cwd=ROOT, input=invitation, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("step", ["prepare", "call", "promote"])
def test_an_enrolment_that_is_killed_can_be_done_again(collector: Collector, tmp_path: Path, step: str) -> None:
    """SIGKILL after the secret was written, after the collector knew it, at the end: the same invitation finishes it."""
    config, invitation = pop(tmp_path, collector.url, f"killed-{step}"), collector.invitation("sin")
    _killed(collector, config, step, invitation)
    if step == "promote":
        assert identity(collector, config) == (200, config.stem)
        return
    done("agent", "enroll", "--config", config, "--invitation-file", "-", input=invitation)
    assert identity(collector, config) == (200, config.stem)
    assert not config.with_suffix(".token.next").exists()


@pytest.mark.parametrize("step", ["prepare", "call_own", "call", "promote"])
def test_a_rotation_that_is_killed_locks_nobody_out(collector: Collector, tmp_path: Path, step: str) -> None:
    """SIGKILL after every step: the agent is known right after, and a rotation done again ends with one secret."""
    config = pop(tmp_path, collector.url, f"rotating-{step.replace('_', '-')}")
    first = enrol(collector, config)
    _killed(collector, config, step)
    assert identity(collector, config) == (200, config.stem)
    done("agent", "rotate", "--config", config)
    assert identity(collector, config) == (200, config.stem)
    assert not config.with_suffix(".token.next").exists()
    last = config.with_suffix(".token").read_text().strip()
    collector.secrets.add(last)
    assert last != first
    with collector.http() as client:
        assert client.get("/api/v1/identity", headers={"Authorization": f"Bearer {first}"}).status_code == 401


def test_a_next_secret_that_is_not_used_in_time_is_forgotten_and_the_old_one_stays(collector: Collector, tmp_path: Path) -> None:
    """The grace ends: the agent, which has both on disk, goes on with the old one, and can rotate again."""
    config = pop(tmp_path, collector.url, "late-1")
    first = enrol(collector, config)
    following = SecretFile(config.with_suffix(".token")).prepare()
    collector.secrets.add(following)
    headers = {"Authorization": f"Bearer {first}"}
    with collector.http() as client:
        body = {"secret_sha256": digest(following), "grace_s": 1}
        until = datetime.fromisoformat(client.post("/api/v1/rotate", json=body, headers=headers).json()["valid_until"])
        listed = json.loads(done("agent", "list", "--tokens", collector.tokens, "--json").stdout)["agents"]
        assert {row["agent"]: row["state"] for row in listed}["late-1"] in {"rotating", "enrolled"}
        await_it(lambda: datetime.now(UTC) > until, "the grace")
        assert client.get("/api/v1/identity", headers={"Authorization": f"Bearer {following}"}).status_code == 401
    assert identity(collector, config) == (200, "late-1")
    assert config.with_suffix(".token").read_text().strip() == first
    done("agent", "rotate", "--config", config)
    assert config.with_suffix(".token").read_text().strip() == following


def test_one_changes_a_secret_at_a_time(collector: Collector, tmp_path: Path) -> None:
    """While another process rotates, a second one is told so."""
    config = pop(tmp_path, collector.url, "busy-1")
    enrol(collector, config)
    with SecretFile(config.with_suffix(".token")).held() as is_alone:
        assert is_alone
        refused = isochrone("agent", "rotate", "--config", config)
    assert isinstance(refused.exception, OutsideError)
    assert "another process" in str(refused.exception)


def test_nobody_there(tmp_path: Path) -> None:
    """Without a collector: one sentence; the secret that was prepared stays for the next try."""
    config = pop(tmp_path, f"http+unix://{tmp_path}/none.sock", "alone-1")
    refused = isochrone("agent", "enroll", "--config", config, "--invitation-file", "-", input="0123456789abcdef")
    assert isinstance(refused.exception, CollectorUnreachable)
    assert config.with_suffix(".token.next").exists()


def test_a_running_agent_is_rotated_and_revoked_and_no_secret_is_seen(collector: Collector, tmp_path: Path) -> None:
    """One life: enrolled, measuring, rotated while it measures, its collector killed and restarted, revoked, stopped.

    What it sent before is stored, what came after the revocation waits in its spool, and its log names the revocation. No
    secret of this module stands in a log, an output, a listing, the token file, or a process's arguments or environment.
    """
    config = pop(tmp_path, collector.url, "life-1")
    seen: list[str] = []
    enrol(collector, config)

    def stored() -> int:
        return int(metrics(collector).get('isochrone_batches_total{outcome="stored"}', "0").partition(".")[0])

    log = tmp_path / "agent.log"
    with log.open("wb") as out:
        agent = subprocess.Popen([*CLI, "agent", "run", "-v", "--config", str(config)], stderr=out, stdout=out, cwd=ROOT)
    try:
        await_it(lambda: stored() > 0, "a first batch")
        before = config.with_suffix(".token").read_text().strip()
        seen.append(done("agent", "rotate", "--config", config).output)
        collector.secrets.add(config.with_suffix(".token").read_text().strip())
        assert config.with_suffix(".token").read_text().strip() != before
        count = stored()
        await_it(lambda: stored() > count, "a batch under the next secret")
        collector.kill()
        collector.start()
        await_it(lambda: stored() > 0, "a batch after the restart")
        seen.append(done("agent", "revoke", "life-1", "--tokens", collector.tokens).output)
        await_it(lambda: "agent 'life-1' was revoked" in log.read_text(), "the agent's word of its end")
        assert "check collector.token_file" not in log.read_text()
        count = stored()
        for pid in (agent.pid, collector.process.pid if collector.process else 0):
            seen += [(Path("/proc") / str(pid) / name).read_text(errors="replace") for name in ("cmdline", "environ")]
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=60)
    finally:
        if agent.poll() is None:
            agent.kill()
            agent.wait()
    assert stored() == count
    assert list((tmp_path / "spool-life-1").glob("*.ndjson.gz")), "what it measured after that is kept"
    checked = isochrone("agent", "check", "--config", config)
    assert isinstance(checked.exception, NoAnswer)
    assert "was revoked" in checked.output
    seen += [log.read_text(), collector.log.read_text(), collector.tokens.read_text(), checked.output, str(checked.exception)]
    listed = done("agent", "list", "--tokens", collector.tokens).output
    assert "revoked" in listed
    seen += [listed, done("agent", "list", "--tokens", collector.tokens, "--json").output, json.dumps(metrics(collector))]
    assert len(collector.secrets) >= 3
    for text in seen:
        assert not [secret for secret in collector.secrets if secret in text], text[:2000]


def metrics(collector: Collector) -> dict[str, str]:
    with collector.http() as client:
        lines = client.get("/metrics").text.splitlines()
    return {name: value for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_name_or_a_token_file_that_is_not_there(tmp_path: Path, collector: Collector) -> None:
    """Is said, and nothing is made."""
    refused = isochrone("agent", "revoke", "nobody", "--tokens", collector.tokens)
    assert isinstance(refused.exception, NoAnswer)
    assert "there is no agent 'nobody'" in str(refused.exception)
    refused = isochrone("agent", "list", "--tokens", tmp_path / "none.json")
    assert isinstance(refused.exception, ConfigError)
    refused = isochrone("agent", "revoke", "nobody", "--tokens", tmp_path / "none.json")
    assert isinstance(refused.exception, ConfigError)
    assert list(tmp_path.iterdir()) == [], "a lock would say that there was a file"


def test_a_lost_token_file_is_not_made_anew_by_the_way(tmp_path: Path) -> None:
    """A new file is said to be one; where its lock says that there was one, agents would be locked out: only with --new."""
    lost = Collector(tmp_path / "c")
    lost.folder.mkdir()
    new = "a new one was made, with no agent in it"
    assert new in done("agent", "invite", "sin", "--tokens", lost.tokens).stderr
    assert new not in done("agent", "invite", "sin", "--tokens", lost.tokens, "--new").stderr, "there is one"
    lost.start()
    try:
        config = pop(tmp_path, lost.url, "locked-1")
        enrol(lost, config)
        assert identity(lost, config) == (200, "locked-1")
        before = lost.tokens.read_bytes()
        lost.tokens.unlink()
        for words in (["invite", "ams"], ["require", "0.1.0"]):
            refused = isochrone("agent", *words, "--tokens", lost.tokens)
            assert isinstance(refused.exception, ConfigError)
            assert str(refused.exception) == (
                f"token file {lost.tokens} is not there, and {lost.tokens}.lock says that it was: a new one would refuse every agent "
                "that was in it; put it back or mend the name, or begin anew with --new"
            )
        assert not lost.tokens.exists()
        assert identity(lost, config) == (200, "locked-1"), "who was known goes on"
        assert new in done("agent", "invite", "ams", "--tokens", lost.tokens, "--new").stderr
        assert identity(lost, config)[0] == 401, "that is what --new is asked for"
        lost.tokens.write_bytes(before)
        assert identity(lost, config) == (200, "locked-1")
    finally:
        lost.kill()
