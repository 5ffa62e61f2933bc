"""Who may send: every sequence of invitations, enrolments, rotations and revocations, and the file it is kept in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from records.errors import ConfigError, OutsideError
from warehouse.roster import Agent, Invitation, Refused, Roster, digest
from warehouse.roster_file import RosterFile

ROOT = Path(__file__).parents[2]
START = datetime(2026, 11, 26, 13, tzinfo=UTC)
AGENTS, SITES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["sin", "fra"])
HOURS = st.integers(1, 48).map(lambda hours: timedelta(hours=hours))


class Rosters(RuleBasedStateMachine):
    """A roster beside what its rules say, kept the plain way: which secret is whose, until when."""

    invitations = Bundle("invitations")
    secrets = Bundle("secrets")

    def __init__(self) -> None:
        super().__init__()
        self.roster, self.now, self.count = Roster(), START, 0
        self.open: dict[str, tuple[str, str | None, datetime]] = {}  # invitation -> site, agent, until
        self.used: dict[str, tuple[str, str, datetime]] = {}  # invitation -> agent, secret, until
        self.current: dict[str, str] = {}
        self.next: dict[str, tuple[str, datetime]] = {}
        self.sites: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.made: set[str] = set()

    def _fresh(self, kind: str) -> str:
        self.count += 1
        self.made.add(f"{kind}-{self.count:020d}")
        return f"{kind}-{self.count:020d}"

    def _attempt(self, change: object, *, is_allowed: bool) -> None:
        try:
            self.roster = change()  # type: ignore[operator]
        except Refused:
            assert not is_allowed
        else:
            assert is_allowed

    @initialize(target=invitations)
    def begin_with_an_agent(self) -> object:
        invitation = self.invite("sin", "a", timedelta(hours=24))
        self.enrol(str(invitation), "a", "sin", self._fresh("secret"))
        return invitation

    @rule(target=secrets)
    def make_secret(self) -> str:
        return self._fresh("secret")

    @rule(hours=HOURS)
    def wait(self, hours: timedelta) -> None:
        self.now += hours

    @rule(target=invitations, site=SITES, agent=st.none() | AGENTS, lifetime=HOURS)
    def invite(self, site: str, agent: str | None, lifetime: timedelta) -> object:
        invitation = self._fresh("invitation")
        until = self.now + lifetime
        is_allowed = agent not in self.current or agent in self.revoked or self.sites[str(agent)] == site
        self._attempt(
            lambda: self.roster.invited(digest(invitation), site=site, agent=agent, expires_at=until, now=self.now), is_allowed=is_allowed
        )
        if is_allowed:
            # A new one ends the memory of those that expired a week ago.
            self.used = {key: value for key, value in self.used.items() if self.now < value[2] + timedelta(days=7)}
            self.open[invitation] = (site, agent, until)
        return invitation if is_allowed else multiple()

    @rule(invitation=invitations, agent=AGENTS, site=SITES, secret=secrets)
    def enrol(self, invitation: str, agent: str, site: str, secret: str) -> None:
        is_again = self.used.get(invitation, ())[:2] == (agent, secret) and self.sites[agent] == site
        if is_again:
            is_allowed = self.current[agent] == secret and agent not in self.revoked
        else:
            is_allowed = invitation in self.open and self.open[invitation][0] == site and self.now < self.open[invitation][2]
            is_allowed &= invitation in self.open and self.open[invitation][1] in ({agent} if agent in self.current else {None, agent})
            is_allowed &= agent not in self.current or agent in self.revoked or self.sites[agent] == site
            is_allowed &= secret not in self.current.values() and secret not in [value for value, _ in self.next.values()]
        self._attempt(
            lambda: self.roster.enrolled(invitation, agent=agent, site=site, secret_digest=digest(secret), now=self.now),
            is_allowed=is_allowed,
        )
        if is_allowed and not is_again:
            until = self.open.pop(invitation)[2]
            self.open = {key: value for key, value in self.open.items() if value[1] != agent}
            self.used[invitation] = (agent, secret, until)
            self.current[agent], self.sites[agent] = secret, site
            self.next.pop(agent, None)
            self.revoked.discard(agent)

    @rule(data=st.data())
    def enrol_as_invited(self, data: st.DataObject) -> None:
        """What a person does: an invitation that is open, or was used, by the one it is for. (By chance that is rare.)"""
        invitation = data.draw(st.sampled_from([*self.open, *self.used] or [""]))
        if invitation in self.used:
            agent, secret, _ = self.used[invitation]
            self.enrol(invitation, agent, self.sites[agent], secret)
        elif invitation:
            site, agent, _ = self.open[invitation]
            self.enrol(invitation, agent or data.draw(AGENTS), site, self._fresh("secret"))

    @rule(agent=AGENTS, grace=HOURS)
    def rotate(self, agent: str, grace: timedelta) -> None:
        self.begin_rotation(agent, self._fresh("secret"), grace)

    @rule(agent=AGENTS)
    def use_next(self, agent: str) -> None:
        if agent in self.next:
            self.use(self.next[agent][0])

    @rule(agent=AGENTS, secret=secrets, grace=HOURS)
    def begin_rotation(self, agent: str, secret: str, grace: timedelta) -> None:
        is_known = agent in self.current and agent not in self.revoked
        is_same = is_known and self.current[agent] == secret
        others = [*self.current.values(), *(value for name, (value, _) in self.next.items() if name != agent)]
        self._attempt(
            lambda: self.roster.rotating(agent, digest(secret), grace=grace, now=self.now),
            is_allowed=is_known and (is_same or secret not in others),
        )
        if is_known and not is_same and secret not in others:
            self.next[agent] = (secret, self.now + grace)

    @rule(secret=secrets)
    def use(self, secret: str) -> None:
        """As the collector does: who it is, and the first use of a next secret ends the old one."""
        try:
            known = self.roster.who(secret, self.now)
        except Refused:
            return
        if known.is_next:
            self.roster = self.roster.rotated(known.agent, digest(secret), self.now)
            self.current[known.agent] = self.next.pop(known.agent)[0]

    @rule(agent=AGENTS)
    def revoke(self, agent: str) -> None:
        self._attempt(lambda: self.roster.revoked(agent, self.now), is_allowed=agent in self.current)
        if agent in self.current:
            self.revoked.add(agent)
            self.open = {key: value for key, value in self.open.items() if value[1] != agent}

    @invariant()
    def each_secret_is_exactly_whose_it_should_be(self) -> None:
        owners = {secret: (agent, False) for agent, secret in self.current.items()}
        owners |= {secret: (agent, True) for agent, (secret, until) in self.next.items() if self.now < until}
        for secret in self.made:
            agent = owners.get(secret, (None, False))[0]
            found: tuple[object, ...]
            try:
                known = self.roster.who(secret, self.now)
                found = (known.agent, known.is_next, self.roster.site_of(known.agent))
            except Refused as why:
                found = (why.status,)
            if agent is None:
                assert found == (401,)
            else:
                assert found == ((403,) if agent in self.revoked else (*owners[secret], self.sites[agent]))

    @invariant()
    def nobody_is_locked_out(self) -> None:
        """Whoever enrolled and was not revoked has a secret that is good, at whatever time."""
        for agent in set(self.current) - self.revoked:
            for later in (timedelta(0), timedelta(days=1000)):
                assert self.roster.who(self.current[agent], self.now + later).agent == agent


TestRosters = Rosters.TestCase
TestRosters.settings = settings(max_examples=250, stateful_step_count=30, deadline=None, derandomize=True)


def _file(folder: Path) -> RosterFile:
    return RosterFile(folder / "tokens.json")


def _invited(folder: Path, invitation: str = "invitation-0123456789") -> RosterFile:
    file = _file(folder)
    until = START + timedelta(days=1)
    file.change(lambda roster: roster.invited(digest(invitation), site="sin", agent=None, expires_at=until, now=START), is_new_allowed=True)
    return file


def test_a_file_gives_back_what_was_put_in(tmp_path: Path) -> None:
    """Every field of both records, whether it has a value or not; and only for its owner."""
    times = [START + timedelta(seconds=n, microseconds=n) for n in range(6)]
    whole = Agent(
        site="sin",
        secret_digest=digest("1"),
        next_digest=digest("2"),
        next_until=times[0],
        enrolled_at=times[1],
        rotated_at=times[2],
        revoked_at=times[3],
    )
    agents = {"whole": whole, "clear": Agent(site=None, token="0123456789abcdef"), "few": Agent(site="fra", secret_digest=digest("3"))}
    invitation = Invitation(site="sin", agent="a", expires_at=times[4], used_by="a", used_at=times[5])
    roster = Roster(agents, {digest("4"): invitation, digest("5"): replace(invitation, agent=None, used_by=None, used_at=None)})
    before = os.umask(0)
    try:
        _file(tmp_path).change(lambda _: roster, is_new_allowed=True)
    finally:
        os.umask(before)
    assert _file(tmp_path).read() == roster
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600


def test_tokens_in_clear_stay_valid_when_a_command_changes_the_file(tmp_path: Path) -> None:
    """The form of old: its agents are known before and after an invitation was added beside them."""
    (tmp_path / "tokens.json").touch(mode=0o600)
    (tmp_path / "tokens.json").write_text(json.dumps({"sin": {"token": "0123456789abcdef", "site": "sin"}, "version": "fedcba9876543210"}))
    assert _file(tmp_path).read().who("fedcba9876543210", START).agent == "version"
    roster = _invited(tmp_path).read()
    assert roster.who("0123456789abcdef", START).agent == "sin"
    assert (roster.site_of("sin"), roster.site_of("version")) == ("sin", None)
    assert len(roster.invitations) == 1
    with pytest.raises(Refused, match="bearer token"):
        roster.who("0123456789abcdeg", START)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "give an object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"version": 3}', "has version 3"),
        ('{"version": 2, "agents": []}', "must be objects"),
        ('{"sin": "short-secret"}', "'sin': a token has 16 characters or more"),
        ('{"sin": {"token": "a-secret-of-old-times", "place": "sin"}}', "'sin': give a token"),
        ('{"sin": "a-secret-of-old-times", "fra": "a-secret-of-old-times"}', "'sin' and 'fra' share a token"),
        ('{"version": 2, "agents": {"sin": {"site": "sin", "sha256": "a-secret"}}}', "64 hexadecimal digits"),
        ('{"version": 2, "invitations": {"a-secret": {}}}', "64 hexadecimal digits"),
        ('{"version": 2, "agents": {"sin": {"sha256": "' + "0" * 64 + '", "revoked_at": "soon"}}}', "'soon' is no time"),
    ],
)
def test_a_file_that_says_something_else_is_refused_without_a_secret(tmp_path: Path, text: str, said: str) -> None:
    """The message names file and agent; no secret is in it or in what it came from."""
    (tmp_path / "tokens.json").touch(mode=0o600)
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        _file(tmp_path).read()
    assert "tokens.json" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    (tmp_path / "tokens.json").write_text("{}")
    (tmp_path / "tokens.json").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        _file(tmp_path).read()


def test_who_is_known_follows_the_file_and_outlives_its_faults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A change by another hand holds at the next question; what cannot be used leaves what was known, and is said once."""
    file = _invited(tmp_path)
    assert len(file.current().invitations) == 1
    _invited(tmp_path, "another-invitation")
    assert len(file.current().invitations) == 2
    (tmp_path / "tokens.json").write_text("oops")
    for _ in range(3):
        assert len(file.current().invitations) == 2
    assert len([record for record in caplog.records if "is not JSON" in record.message]) == 1
    assert file.trouble is not None
    (tmp_path / "tokens.json").write_text("{}")
    assert len(file.current().invitations) == 0
    assert file.trouble is None


def test_of_many_at_once_one_uses_the_invitation_and_no_change_is_lost(tmp_path: Path) -> None:
    """Eight take part, each with its own descriptor, as collectors of several processes would."""
    _invited(tmp_path)
    outcomes: list[str] = []

    def take(number: int) -> None:
        def make(roster: Roster) -> Roster:
            return roster.enrolled("invitation-0123456789", agent=f"a-{number}", site="sin", secret_digest=digest(f"{number}"), now=START)

        try:
            _file(tmp_path).change(make)
            outcomes.append("enrolled")
        except Refused as why:
            outcomes.append(why.code)
        _invited(tmp_path, f"invitation-of-thread-{number}")

    threads = [threading.Thread(target=take, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["enrolled"] + ["invitation"] * 7
    roster = _file(tmp_path).read()
    assert (len(roster.agents), len(roster.invitations)) == (1, 9)


_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from warehouse.roster import digest
from warehouse.roster_file import RosterFile
def end(*args): os.kill(os.getpid(), signal.SIGKILL)
folder, step = Path(sys.argv[1]), sys.argv[2]
if step == "locked": RosterFile._write = end
if step == "written": os.fsync = end
if step == "synced": Path.replace = end
if step == "renamed":
    real = Path.replace
    Path.replace = lambda *args: (real(*args), end())
RosterFile(folder / "tokens.json").change(lambda roster: roster.revoked("sin", datetime.now(UTC)))
"""


@pytest.mark.parametrize("step", ["locked", "written", "synced", "renamed"])
def test_a_change_that_is_killed_has_happened_or_not(tmp_path: Path, step: str) -> None:
    """SIGKILL between its steps: the file is whole, the old one or the new one, and nobody waits for the dead one's lock."""
    file = _file(tmp_path)
    file.change(lambda _: Roster({"sin": Agent(site="sin", token="0123456789abcdef")}), is_new_allowed=True)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), step], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (file.read().agents["sin"].revoked_at is not None) == (step == "renamed")
    file.change(lambda roster: roster.revoked("sin", START))
    assert file.read().agents["sin"].revoked_at is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A message, and the file stays."""
    file = _invited(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutsideError, match="cannot be changed"):
            file.change(lambda roster: replace(roster, invitations={}))
    finally:
        tmp_path.chmod(0o700)
    assert len(file.read().invitations) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_who_reads_it(tmp_path: Path) -> None:
    """A new file to its folder's owner, a replaced one to its own: the collector, which is not root, goes on reading it."""
    os.chown(tmp_path, 12345, 12345)
    _invited(tmp_path)
    assert (tmp_path / "tokens.json").stat().st_uid == 12345
    os.chown(tmp_path / "tokens.json", 54321, 54321)
    _invited(tmp_path, "another-invitation")
    assert (tmp_path / "tokens.json").stat().st_uid == 54321


@pytest.mark.parametrize("end", ["enrolled", "revoked"])
def test_invitations_for_one_name_end_with_its_enrolment_and_its_revocation(end: str) -> None:
    """Whoever holds a second one from before can neither take the agent's place nor undo its revocation."""
    roster = Roster()
    for invitation in ("the-first-invitation", "the-other-invitation"):
        roster = roster.invited(digest(invitation), site="sin", agent="a", expires_at=START + timedelta(days=1), now=START)
    if end == "enrolled":
        roster = roster.enrolled("the-first-invitation", agent="a", site="sin", secret_digest=digest("1"), now=START)
    else:
        roster = replace(roster, agents={"a": Agent(site="sin", secret_digest=digest("1"))}).revoked("a", START)
    with pytest.raises(Refused, match="none of this collector's"):
        roster.enrolled("the-other-invitation", agent="a", site="sin", secret_digest=digest("2"), now=START)
