"""The file of a roster: JSON, readable by its owner alone, replaced whole and by one process at a time.

::

    {"version": 2,
     "agents": {"sin-1": {"site": "sin", "sha256": "...", "enrolled_at": "2026-11-26T13:00:00+00:00"}},
     "invitations": {"<sha256 of the invitation>": {"site": "fra", "agent": null, "expires_at": "..."}},
     "min_agent_version": "0.2.0"}

The form before it goes on working, written by hand or beside the other in `agents`: ``{"sin": {"token": "...", "site": "sin"},
"fra": "..."}``, with tokens in clear; the first change by a command writes version 2 and leaves such tokens as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from records.errors import ConfigError, OutsideError
from warehouse.roster import DIGEST_LENGTH, Agent, Invitation, Roster, is_older

__all__ = ["RosterFile", "fixed_roster"]

log = logging.getLogger("isochrone.collector")

_VERSION = 2
_LEAST_LENGTH = 16
_LOCK_TIMEOUT_S = 10.0
_TIMES = ("next_until", "enrolled_at", "rotated_at", "revoked_at")
_AGENT_KEYS = {"site", "token", "sha256", "next_sha256", *_TIMES}
_INVITATION_KEYS = {"site", "agent", "expires_at", "used_by", "used_at"}

#: What tells one content of a file from another: who replaces it makes another inode, who edits it another time or size.
_Version = tuple[int, int, int, int]


def fixed_roster(tokens: Mapping[str, str], sites: Mapping[str, str]) -> Roster:
    """A roster that is in no file: bearer token -> agent, and agent -> its only site."""
    return Roster({agent: Agent(site=sites.get(agent), token=token) for token, agent in tokens.items()})


class RosterFile:
    """A roster in a file: `current` for who asks at every request, `change` for who changes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble: str | None = None
        self._kept: tuple[_Version | None, Roster] | None = None
        self._reading = threading.Lock()

    def read(self) -> Roster:
        """What the file says. Raises ConfigError when it cannot be read, is open to others or holds something else."""
        return self._read()[1]

    def current(self) -> Roster:
        """What the file says now; what it said last, with one line in the log, while it cannot be used.

        Costs one stat() while nothing changes. Raises ConfigError where it was never readable.
        """
        with self._reading:
            if self._kept is not None and _version(self.path) == self._kept[0]:
                return self._kept[1]
            try:
                self._kept = self._read()
            except ConfigError as error:
                if self._kept is None:
                    raise
                if str(error) != self.trouble:
                    log.error("%s; who was known before goes on", error)  # noqa: TRY400  no fault of ours
                self.trouble = str(error)
            else:
                self.trouble = None
            return self._kept[1]

    def change(self, make: Callable[[Roster], Roster], *, is_new_allowed: bool = False, is_lost_allowed: bool = False) -> Roster:
        """Put what `make` makes of the roster in its place, with no other change in between; on disk when it returns.

        is_new_allowed   where there is no file it begins with nobody in it, unless the lock beside it says that there was one
        is_lost_allowed  then too

        Nothing is written when `make` raises or gives back what it got. Raises ConfigError as `read` and for a file that is lost,
        OutsideError when the file cannot be written or somebody else holds its lock for ten seconds.
        """
        is_new_allowed = is_new_allowed or is_lost_allowed
        had_lock = self._lock.exists()
        if not is_new_allowed and not self.path.exists():
            self.read()  # which raises: a lock beside a name that was mistyped would say that there was a file
        with self._locked():
            is_there = self.path.exists()
            if not is_there and is_new_allowed and had_lock and not is_lost_allowed:
                raise ConfigError(
                    f"token file {self.path} is not there, and {self._lock} says that it was: a new one would refuse every agent "
                    "that was in it; put it back or mend the name, or begin anew with --new"
                )
            roster = Roster() if is_new_allowed and not is_there else self.read()
            changed = make(roster)
            if changed is not roster:
                self._write(changed)
            return changed

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _read(self) -> tuple[_Version | None, Roster]:
        try:
            with self.path.open(encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                if status.st_mode & 0o077:
                    raise ConfigError(f"token file {self.path} can be read by others; chmod 600 {self.path}")
                text = file.read()
        except OSError as error:
            raise ConfigError(f"token file {self.path}: {error.strerror}; `isochrone agent invite` makes one") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"token file {self.path} is not UTF-8 text (byte {error.start})") from None
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            # Not the error's own chain: that would carry the text, secrets and all.
            raise ConfigError(f"token file {self.path} is not JSON: {error}") from None
        return _version_of(status), _roster(document, self.path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._lock
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutsideError(f"token file {self.path} cannot be changed: {path}: {error.strerror}") from error
        try:
            _give_to_owner_of(fd, self.path)
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while not _try_lock(fd):
                if time.monotonic() >= deadline:
                    raise OutsideError(f"token file {self.path} is locked by another process; try again")
                time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _write(self, roster: Roster) -> None:
        """Write a draft and rename it: a reader, or a power cut, finds the old file or the new one."""
        body = json.dumps(_document(roster), indent=1) + "\n"
        draft: Path | None = None
        try:
            fd, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
            draft = Path(name)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                _give_to_owner_of(file.fileno(), self.path)
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if draft is not None:
                draft.unlink(missing_ok=True)
            raise OutsideError(f"token file {self.path} cannot be changed: {error.strerror}") from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _give_to_owner_of(fd: int, path: Path) -> None:
    """What root makes stays readable for the collector, which is not root: it belongs to the file's owner, or its folder's."""
    if os.geteuid() != 0:
        return
    owner = (path if path.exists() else path.parent).stat()
    os.fchown(fd, owner.st_uid, owner.st_gid)


def _version(path: Path) -> _Version | None:
    try:
        return _version_of(path.stat())
    except OSError:
        return None


def _version_of(status: os.stat_result) -> _Version:
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns


# -- the text ---------------------------------------------------------------------------------------------------------


def _document(roster: Roster) -> dict[str, object]:
    required = {} if roster.min_version is None else {"min_agent_version": roster.min_version}
    return {
        "version": _VERSION,
        **required,
        "agents": {name: _plain(_agent_entry(agent)) for name, agent in roster.agents.items()},
        "invitations": {key: _plain(_invitation_entry(invitation)) for key, invitation in roster.invitations.items()},
    }


def _agent_entry(agent: Agent) -> dict[str, object]:
    times = {name: getattr(agent, name) for name in _TIMES}
    return {"site": agent.site, "token": agent.token, "sha256": agent.secret_digest, "next_sha256": agent.next_digest, **times}


def _invitation_entry(invitation: Invitation) -> dict[str, object]:
    return {name: getattr(invitation, name) for name in ("site", "agent", "expires_at", "used_by", "used_at")}


def _plain(entry: Mapping[str, object]) -> dict[str, object]:
    found = {key: value for key, value in entry.items() if value is not None}
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in found.items()}


def _roster(document: object, path: Path) -> Roster:
    where = f"token file {path}"
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: give an object of agent id and token")
    version = document.get("version")
    if isinstance(version, int):
        if version != _VERSION:
            raise ConfigError(f"{where} has version {version}, and this isochrone reads {_VERSION}; use the one that wrote it")
        listed, invited = document.get("agents", {}), document.get("invitations", {})
        least = document.get("min_agent_version")
    else:
        listed, invited, least = document, {}, None
    if least is not None and (not isinstance(least, str) or is_older(least, "0")):
        raise ConfigError(f'{where}: min_agent_version must be a version such as "0.2.0"')
    if not isinstance(listed, dict) or not isinstance(invited, dict):
        raise ConfigError(f"{where}: agents and invitations must be objects")
    agents: dict[str, Agent] = {}
    owners: dict[str, str] = {}
    for name, entry in listed.items():
        agent = _agent(entry, f"{where}: agent {name!r}")
        for known in (agent.current_digest(), agent.next_digest):
            if known is not None and owners.setdefault(known, name) != name:
                raise ConfigError(f"{where}: agents {owners[known]!r} and {name!r} share a token")
        agents[name] = agent
    return Roster(agents, {key: _invitation(key, entry, f"{where}: an invitation") for key, entry in invited.items()}, least)


def _agent(entry: object, where: str) -> Agent:
    parts = _texts({"token": entry} if isinstance(entry, str) else entry, _AGENT_KEYS, where, "a token, or an object of token and site")
    token = parts.get("token")
    if token is None and "sha256" not in parts and "revoked_at" not in parts:
        token = ""
    if token is not None and len(token) < _LEAST_LENGTH:
        raise ConfigError(f"{where}: a token has {_LEAST_LENGTH} characters or more")
    times = {name: _time(parts[name], where) for name in _TIMES if name in parts}
    digests = {key: _digest(parts[key], where) for key in ("sha256", "next_sha256") if key in parts}
    return Agent(site=parts.get("site"), token=token, secret_digest=digests.get("sha256"), next_digest=digests.get("next_sha256"), **times)


def _invitation(key: str, entry: object, where: str) -> Invitation:
    parts = _texts(entry, _INVITATION_KEYS, where, "site, agent and expires_at")
    _digest(key, where)
    if "site" not in parts or "expires_at" not in parts:
        raise ConfigError(f"{where}: site and expires_at are needed")
    return Invitation(
        site=parts["site"],
        agent=parts.get("agent"),
        expires_at=_time(parts["expires_at"], where),
        used_by=parts.get("used_by"),
        used_at=_time(parts["used_at"], where) if "used_at" in parts else None,
    )


def _texts(entry: object, keys: set[str], where: str, what: str) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: give {what}")
    found = {key: value for key, value in entry.items() if value is not None}
    if set(found) - keys or not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(f"{where}: give {what}")
    return cast("dict[str, str]", found)


def _digest(text: str, where: str) -> str:
    if len(text) != DIGEST_LENGTH or set(text) - set("0123456789abcdef"):
        raise ConfigError(f"{where}: a SHA-256 has {DIGEST_LENGTH} hexadecimal digits in lower case")
    return text


def _time(text: str, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is no time; give one such as 2026-11-26T13:00:00+00:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
