"""Who may send: agents, each with the digest of its secret and its site, and the invitations to become one.

A roster never changes; what happens to it (an invitation, an enrolment, a rotation, a revocation) gives another one, and
time is an argument. Of a secret only its SHA-256 digest is kept: secrets here are 256 random bits, which nobody finds by
trying, so that a slow password hash would add nothing.

States of an agent: enrolled; rotating (its secret and the next one are both valid, until the next one is first used or the
grace ends, which leaves the old one); revoked (its secret is known, and refused by name). `warehouse/roster_file.py` keeps it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256

from packaging.version import Version

__all__ = ["DIGEST_LENGTH", "MAX_GRACE", "Agent", "Invitation", "Known", "Refused", "Roster", "digest", "is_older", "new_secret"]

#: Hexadecimal characters of a digest.
DIGEST_LENGTH = 64
MAX_GRACE = timedelta(days=30)
#: So long after it expired an invitation is remembered, for the sake of a clear answer.
_REMEMBERED = timedelta(days=7)


class Refused(Exception):
    """What a roster does not allow: an HTTP status, a word for machines and a sentence without any secret."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def digest(secret: str) -> str:
    """SHA-256 of a secret, in hexadecimal."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def is_older(version: str, least: str) -> bool:
    """Whether a version (PEP 440) comes before another; what is none comes before all.

    >>> is_older("0.9.1", "0.10"), is_older("0.10", "0.10.0"), is_older("unknown", "0.1")
    (True, False, True)
    """
    try:
        return Version(version) < Version(least)
    except ValueError:  # InvalidVersion, and numbers too long to read
        return True


def new_secret() -> str:
    """256 random bits as 43 characters that need no escaping anywhere."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent. `site` None: it may measure from any.

    token        its secret in clear, in files written by hand; else None, and `secret_digest` is what is known
    next_digest  of the secret that follows, until `next_until`; both None while nothing is rotated
    """

    site: str | None
    token: str | None = field(default=None, repr=False)
    secret_digest: str | None = None
    next_digest: str | None = None
    next_until: datetime | None = None
    enrolled_at: datetime | None = None
    rotated_at: datetime | None = None
    revoked_at: datetime | None = None

    def current_digest(self) -> str | None:
        """Of the secret in use."""
        return digest(self.token) if self.token is not None else self.secret_digest

    def is_rotating(self, now: datetime) -> bool:
        """Whether a next secret would be taken."""
        return self.next_until is not None and now < self.next_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """To enrol once, from one site. `agent` None: under any name that is free.

    used_by, used_at  the agent that used it, and when
    """

    site: str
    agent: str | None
    expires_at: datetime
    used_by: str | None = None
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Whose secret it is, and whether it is that agent's next one."""

    agent: str
    is_next: bool


@dataclass(frozen=True)
class Roster:
    """The agents by id, and the invitations by the digest of what was handed out.

    min_version  the oldest version of an agent whose batches are taken; None: any
    """

    agents: Mapping[str, Agent] = field(default_factory=dict)
    invitations: Mapping[str, Invitation] = field(default_factory=dict)
    min_version: str | None = None

    @cached_property
    def _digests(self) -> list[tuple[str, Known]]:
        found = []
        for name, agent in self.agents.items():
            current = agent.current_digest()
            if current is not None:
                found.append((current, Known(name, is_next=False)))
            if agent.next_digest is not None:
                found.append((agent.next_digest, Known(name, is_next=True)))
        return found

    # -- who is it? -------------------------------------------------------------------------------------------------

    def who(self, secret: str, now: datetime) -> Known:
        """The agent a secret belongs to. Raises Refused: 401 where nobody's, 403 where its agent was revoked."""
        given = digest(secret)
        found = None
        # Every one is compared, so that the time taken does not tell which one came close.
        for known_digest, known in self._digests:
            if hmac.compare_digest(known_digest, given):
                found = known
        if found is None or (found.is_next and not self.agents[found.agent].is_rotating(now)):
            raise Refused(401, "unauthorised", "a bearer token of this collector is needed in the header Authorization")
        revoked_at = self.agents[found.agent].revoked_at
        if revoked_at is not None:
            raise Refused(
                403,
                "revoked",
                f"agent {found.agent!r} was revoked at {revoked_at:%Y-%m-%dT%H:%M:%SZ}; "
                "whoever runs the collector can invite it again (isochrone agent invite)",
            )
        return found

    def site_of(self, agent: str) -> str | None:
        """The only site an agent may measure from; None: any."""
        entry = self.agents.get(agent)
        return None if entry is None else entry.site

    def check_version(self, version: str) -> None:
        """Raise Refused (426) for an agent's version that is older than what is asked for, or none at all."""
        if self.min_version is not None and is_older(version, self.min_version):
            said = f"this agent has version {version}" if version else "this agent does not say which version it has"
            raise Refused(
                426, "upgrade", f"{said}, and this collector takes {self.min_version} or newer; upgrade it: what it measured is kept"
            )

    # -- what happens to it -----------------------------------------------------------------------------------------

    def invited(self, invitation_digest: str, *, site: str, agent: str | None, expires_at: datetime, now: datetime) -> Roster:
        """With one more invitation. Raises Refused when the agent it names belongs to another site."""
        entry = self.agents.get(agent) if agent is not None else None
        if entry is not None and entry.revoked_at is None and entry.site not in {None, site}:
            raise Refused(409, "taken", f"agent {agent!r} is enrolled at site {entry.site!r}; revoke it first, or give that site")
        kept = {key: value for key, value in self.invitations.items() if now < value.expires_at + _REMEMBERED}
        return replace(self, invitations={**kept, invitation_digest: Invitation(site=site, agent=agent, expires_at=expires_at)})

    def enrolled(self, invitation: str, *, agent: str, site: str, secret_digest: str, now: datetime) -> Roster:
        """With an agent that used its invitation; the same roster when this very enrolment was done before.

        Raises Refused: 403 for an invitation that is none, expired, used or for somebody else; 409 for a name that is
        taken or a secret that is another's.
        """
        given = digest(invitation)
        key, found = None, None
        for known, value in self.invitations.items():
            if hmac.compare_digest(known, given):
                key, found = known, value
        if key is None or found is None:
            raise Refused(403, "invitation", "this invitation is none of this collector's; ask for another one")
        if found.used_by is not None:
            if found.used_by == agent and found.site == site and self._is_current(agent, secret_digest):
                return self
            raise Refused(403, "invitation", "this invitation was used before; ask for another one")
        if now >= found.expires_at:
            raise Refused(403, "invitation", f"this invitation expired at {found.expires_at:%Y-%m-%dT%H:%M:%SZ}; ask for another one")
        if found.site != site:
            raise Refused(403, "invitation", f"this invitation is for site {found.site!r}, and agent.site is {site!r}")
        if found.agent not in {None, agent}:
            raise Refused(403, "invitation", f"this invitation is for agent {found.agent!r}, and agent.id is {agent!r}")
        entry = self.agents.get(agent)
        if entry is not None and found.agent is None:
            raise Refused(
                409, "taken", f"there is an agent {agent!r} already; choose another agent.id, or ask for an invitation that names it"
            )
        if entry is not None and entry.revoked_at is None and entry.site not in {None, site}:
            raise Refused(409, "taken", f"agent {agent!r} is enrolled at site {entry.site!r}")
        self._refuse_known(secret_digest)
        made = Agent(site=site, secret_digest=secret_digest, enrolled_at=now)
        # Others that name it were for this enrolment too: who holds one must not take its place.
        kept = {known: value for known, value in self.invitations.items() if value.agent != agent or value.used_by is not None}
        used = replace(found, used_by=agent, used_at=now)
        return replace(self, agents={**self.agents, agent: made}, invitations={**kept, key: used})

    def requiring(self, version: str | None) -> Roster:
        """With another oldest version; None: any."""
        return self if version == self.min_version else replace(self, min_version=version)

    def rotating(self, agent: str, next_digest: str, *, grace: timedelta, now: datetime) -> Roster:
        """With a next secret for an agent, in place of one that was not used; the same roster when it is in use already."""
        entry = self._valid(agent)
        if hmac.compare_digest(entry.current_digest() or "", next_digest):
            return self
        if entry.next_digest != next_digest:
            self._refuse_known(next_digest)
        return self._with(agent, replace(entry, next_digest=next_digest, next_until=now + min(grace, MAX_GRACE)))

    def rotated(self, agent: str, next_digest: str, now: datetime) -> Roster:
        """With the next secret in place of the old one, which ends; the same roster when it is so already."""
        entry = self._valid(agent)
        if entry.next_digest != next_digest:
            if entry.current_digest() == next_digest:
                return self
            raise Refused(401, "unauthorised", "this secret was replaced while it was being used")
        changed = replace(entry, token=None, secret_digest=next_digest, next_digest=None, next_until=None, rotated_at=now)
        return self._with(agent, changed)

    def revoked(self, agent: str, now: datetime) -> Roster:
        """With an agent that is refused from now on, and without the invitations that name it. Raises Refused when there is none."""
        entry = self.agents.get(agent)
        if entry is None:
            raise Refused(404, "unknown", f"there is no agent {agent!r}")
        kept = {key: value for key, value in self.invitations.items() if value.agent != agent or value.used_by is not None}
        if entry.revoked_at is not None:
            return replace(self, invitations=kept)
        ended = replace(entry, token=None, secret_digest=entry.current_digest(), revoked_at=now)
        return replace(self, agents={**self.agents, agent: ended}, invitations=kept)

    def _valid(self, agent: str) -> Agent:
        entry = self.agents.get(agent)
        if entry is None or entry.revoked_at is not None:
            raise Refused(403, "revoked", f"agent {agent!r} was revoked")
        return entry

    def _is_current(self, agent: str, secret_digest: str) -> bool:
        """Whether it is the secret in use of an agent that is not revoked."""
        entry = self.agents.get(agent)
        return entry is not None and entry.revoked_at is None and hmac.compare_digest(entry.current_digest() or "", secret_digest)

    def _with(self, agent: str, entry: Agent) -> Roster:
        return replace(self, agents={**self.agents, agent: entry})

    def _refuse_known(self, secret_digest: str) -> None:
        """A secret is one agent's: what two hold would tell neither from the other."""
        if any(hmac.compare_digest(known, secret_digest) for known, _ in self._digests):
            raise Refused(409, "taken", "this secret is in use already; make another one")
