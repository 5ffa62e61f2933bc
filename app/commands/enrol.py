"""`isochrone agent invite / revoke / list` beside the collector, `enroll / rotate` at the PoP: who is an agent, and by what secret."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.measuring import note_unknown
from app.output import emit_json, json_option, note, table
from probes.client import CollectorClient, check_way
from probes.config import load_config
from probes.secret import SecretFile
from probes.settings import check_slug
from records.errors import ConfigError, NoAnswer, OutsideError, UserError
from records.units import SECOND, parse_duration_ns

if TYPE_CHECKING:
    from warehouse.roster import Agent, Invitation, Roster

__all__ = ["config_option", "enroll", "insecure_option", "invite", "list_", "require", "revoke", "rotate"]

_LONGEST_S = 30 * 86400

_tokens = click.option(
    "--tokens",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The collector's token file (mode 0600); a running collector heeds the change at once.",
)
_new = click.option(
    "--new", "is_new", is_flag=True, help="Begin a new token file where the one before is lost: agents that were in it are refused."
)
config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/etc/isochrone/agent.toml"),
    show_default=True,
    metavar="FILE",
    help="The agent's TOML file; an example with every key is deploy/agent.toml.",
)
_ca_file = click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Authority of its certificate.  [default: collector.ca_file]",
)
insecure_option = click.option(
    "--insecure", "is_insecure", is_flag=True, help="Send to another host without TLS all the same.  [default: collector.allow_insecure]"
)


@click.command()
@click.argument("site")
@click.option("--agent", metavar="ID", help="Only for this agent; one that is enrolled gets a new secret by it.  [default: any free id]")
@click.option("--expires", default="24h", show_default=True, metavar="TIME", help="For how long it is good.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there (mode 0600) instead of standard output.")
@_new
@_tokens
@json_option
def invite(site: str, agent: str | None, expires: str, out: Path | None, path: Path, *, is_new: bool, as_json: bool) -> None:
    """Make an invitation: one agent can enrol with it, once, from this site. It is shown this once; the file keeps its digest.

    Example: isochrone agent invite sin --tokens tokens.json --out invitation
    """
    from warehouse.roster import digest, new_secret

    check_slug("SITE", site)
    if agent is not None:
        check_slug("--agent", agent)
    note_unknown([site])
    now = datetime.now(UTC)
    expires_at = now + timedelta(seconds=_seconds("--expires", expires))
    invitation = new_secret()
    if out is not None and out.exists():
        raise UserError(f"{out} is there already; remove it or choose another --out")
    _change(
        path,
        lambda roster: roster.invited(digest(invitation), site=site, agent=agent, expires_at=expires_at, now=now),
        is_new_allowed=True,
        is_lost_allowed=is_new,
    )
    who = "any free agent id" if agent is None else f"agent {agent}"
    if as_json:
        secret = invitation if out is None else None
        emit_json({"site": site, "agent": agent, "expires_at": expires_at, "invitation": secret, "file": out and str(out)})
    elif out is None:
        click.echo(invitation)
    if out is not None:
        try:
            with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(f"{invitation}\n")
        except OSError as error:
            raise OutsideError(f"cannot write {out}: {error.strerror}; make another invitation") from error
    note(f"good once until {expires_at:%Y-%m-%d %H:%M} UTC, at site {site}, for {who}")
    note("at the PoP: isochrone agent enroll --collector URL --invitation-file FILE --config agent.toml")


@click.command()
@config_option
@click.option("--collector", "url", metavar="URL", help="Where to enrol.  [default: collector.url]")
@click.option(
    "--invitation-file", type=click.Path(allow_dash=True, path_type=Path), required=True, metavar="FILE|-", help="The invitation."
)
@_ca_file
@click.option(
    "--config-key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Pin this key of pushed configurations (key.pub).  [default: the one the collector names]",
)
@insecure_option
def enroll(path: Path, url: str | None, invitation_file: Path, ca_file: Path | None, key_file: Path | None, *, is_insecure: bool) -> None:
    """Enrol this agent: its own secret goes into collector.token_file, and only the secret's digest to the collector.

    Cut off at any point it can be run again with the same invitation.

    Example: isochrone agent enroll --config agent.toml --collector https://collector.example:8600 --invitation-file invitation
    """
    from probes.enrolment import enroll as enroll_with

    config = load_config(path)
    url = url or config.collector.url
    secret_file = _secret_file(path, config.collector.token_file)
    check_way(url, is_insecure=is_insecure or config.collector.allow_insecure)
    invitation = _invitation(invitation_file)
    key = None if key_file is None else _public_key(key_file)

    async def work() -> str | None:
        client = CollectorClient(url, ca_file=ca_file or config.collector.ca_file)
        try:
            return await enroll_with(
                client,
                secret_file,
                agent=config.agent.id,
                site=config.agent.site,
                invitation=invitation,
                key_file=config.collector.pinned_key_file,
                key=key,
            )
        finally:
            await client.close()

    pinned = asyncio.run(work())
    note(f"agent {config.agent.id} is enrolled at site {config.agent.site}; its secret is in {secret_file.path}")
    if pinned is not None:
        note(f"configurations signed with the key in {config.collector.pinned_key_file} are taken from the collector")
    if url.rstrip("/") != config.collector.url.rstrip("/"):
        note(f"{path} says collector.url = {config.collector.url!r}, and it enrolled at {url!r}; correct the one that is wrong")


@click.command()
@config_option
@click.option(
    "--grace",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="For how long both are good at most, if the new one is not used.",
)
@_ca_file
@insecure_option
def rotate(path: Path, grace: str, ca_file: Path | None, *, is_insecure: bool) -> None:
    """Replace this agent's secret, while it runs or not. Cut off at any point one of the two is good, and the agent uses that.

    Example: isochrone agent rotate --config agent.toml
    """
    from probes.enrolment import rotate as rotate_with

    config = load_config(path)
    secret_file = _secret_file(path, config.collector.token_file)
    check_way(config.collector.url, is_insecure=is_insecure or config.collector.allow_insecure)
    grace_s = _seconds("--grace", grace)

    async def work() -> None:
        settings = config.collector
        client = CollectorClient(settings.url, token_file=settings.token_file, ca_file=ca_file or settings.ca_file)
        try:
            await rotate_with(client, secret_file, grace_s=grace_s)
        finally:
            await client.close()

    asyncio.run(work())
    note(f"agent {config.agent.id} has a new secret in {secret_file.path}; the old one has ended")


@click.command()
@click.argument("agent")
@_tokens
def revoke(agent: str, path: Path) -> None:
    """Refuse an agent from now on. What it measured and could not send stays in its spool; an invitation that names it lets it in again.

    Example: isochrone agent revoke sin-1 --tokens tokens.json
    """
    now = datetime.now(UTC)
    _change(path, lambda roster: roster.revoked(agent, now))
    note(f"agent {agent} is revoked")


@click.command()
@click.argument("version", required=False)
@click.option("--any", "is_any", is_flag=True, help="Take batches from agents of every version again.")
@_new
@_tokens
@json_option
def require(version: str | None, path: Path, *, is_any: bool, is_new: bool, as_json: bool) -> None:
    """Take batches only from agents of this version or newer, from now on; an older one keeps what it measures until it is upgraded.

    Example: isochrone agent require 0.2.0 --tokens tokens.json
    """
    from warehouse.roster import is_older

    if (version is None) != is_any:
        raise UserError("give the oldest VERSION to take batches from, or --any")
    if version is not None and is_older(version, "0"):
        raise UserError(f"{version!r} is no version; give one such as 0.2.0")
    _change(path, lambda roster: roster.requiring(version), is_new_allowed=True, is_lost_allowed=is_new)
    if as_json:
        emit_json({"min_agent_version": version})
    note(f"batches are taken from agents of {'every version' if version is None else f'version {version} or newer'}")


@click.command("list")
@json_option
@click.option("--warehouse", metavar="FOLDER|ADDRESS", help="Show what the agents last said here: version, configuration.")
@_tokens
def list_(path: Path, warehouse: str | None, *, as_json: bool) -> None:
    """List the agents and invitations of a token file; no secret is shown.

    Example: isochrone agent list --tokens tokens.json --warehouse ./isochrone-data
    """
    from warehouse.roster_file import RosterFile

    now = datetime.now(UTC)
    roster = RosterFile(path).read()
    heard = None if warehouse is None else _heard(warehouse, now)
    agents = [_agent_row(name, agent, now) for name, agent in sorted(roster.agents.items())]
    if heard is not None:
        agents = [row | _said(heard.get(str(row["agent"])), roster.min_version) for row in agents]
    invitations = [_invitation_row(entry, now) for entry in sorted(roster.invitations.values(), key=lambda entry: entry.expires_at)]
    if as_json:
        emit_json({"agents": agents, "invitations": invitations, "min_agent_version": roster.min_version})
        return
    more = [] if heard is None else ["version", "configuration", "refused"]
    rows = [{key: value for key, value in row.items() if key != "is_too_old"} for row in agents]
    table(["agent", "site", "state", "enrolled", "secret since", "revoked", *more], _cells(rows))
    if roster.min_version is not None:
        old = [str(row["agent"]) for row in agents if row.get("is_too_old")]
        click.echo(f"\nbatches are taken from version {roster.min_version} on" + (f"; older: {', '.join(old)}" if old else ""))
    if invitations:
        click.echo()
        table(["invitation for", "agent", "state", "expires", "used by"], _cells(invitations))


def _heard(warehouse: str, now: datetime) -> dict[str, dict[str, object]]:
    """What the agents of a warehouse said last, by agent."""
    from warehouse import open_warehouse, queries

    with open_warehouse(warehouse) as opened:
        return {str(row["agent"]): row for row in queries.agents(opened, now).to_pylist()}


def _said(row: dict[str, object] | None, least: str | None) -> dict[str, object]:
    """Of one agent, whose last report may be missing."""
    from warehouse.roster import is_older

    version = None if row is None else str(row["version"])
    return {
        "version": version,
        "is_too_old": None if version is None else least is not None and is_older(version, least),
        "config_generation": None if row is None else row["config_generation"],
        "config_refused": None if row is None else row["config_refused"],
    }


def _agent_row(name: str, agent: Agent, now: datetime) -> dict[str, object]:
    if agent.revoked_at is not None:
        state = "revoked"
    elif agent.is_rotating(now):
        state = "rotating"
    else:
        state = "token in clear" if agent.token is not None else "enrolled"
    return {
        "agent": name,
        "site": agent.site,
        "state": state,
        "enrolled_at": agent.enrolled_at,
        "secret_since": agent.rotated_at or agent.enrolled_at,
        "revoked_at": agent.revoked_at,
    }


def _invitation_row(entry: Invitation, now: datetime) -> dict[str, object]:
    state = "used" if entry.used_by is not None else "expired" if now >= entry.expires_at else "open"
    return {"site": entry.site, "agent": entry.agent, "state": state, "expires_at": entry.expires_at, "used_by": entry.used_by}


def _cells(rows: list[dict[str, object]]) -> list[list[object]]:
    return [[f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value for value in row.values()] for row in rows]


def _change(path: Path, make: Callable[[Roster], Roster], *, is_new_allowed: bool = False, is_lost_allowed: bool = False) -> Roster:
    """Change a token file; what a roster does not allow is the user's mistake or the answer no. That a file is new is said."""
    from warehouse.roster import Refused
    from warehouse.roster_file import RosterFile

    was_there = True

    def noted(roster: Roster) -> Roster:
        nonlocal was_there
        was_there = path.exists()  # asked under the file's lock
        return make(roster)

    try:
        changed = RosterFile(path).change(noted, is_new_allowed=is_new_allowed, is_lost_allowed=is_lost_allowed)
    except Refused as why:
        raise NoAnswer(f"token file {path}: {why.detail}") from None
    if not was_there and path.exists():
        note(
            f"token file {path} was not there, and a new one was made, with no agent in it: a collector that reads it refuses every agent "
            "but those that enrol from now on; if another file was meant, remove this one and give that one's --tokens"
        )
    return changed


def _seconds(name: str, text: str) -> float:
    seconds = parse_duration_ns(text) / SECOND
    if not 1 <= seconds <= _LONGEST_S:
        raise UserError(f"{name} is {text}; give 1s to 720h")
    return seconds


def _secret_file(path: Path, token_file: Path | None) -> SecretFile:
    if token_file is None:
        example = 'token_file = "/var/lib/isochrone/token"'
        raise ConfigError(f"{path} [collector]: token_file is missing; say where the agent's secret goes, as in {example}")
    if not token_file.parent.is_dir():
        raise ConfigError(f"{path} [collector]: token_file {token_file}: there is no folder {token_file.parent}; make it, with mode 0700")
    return SecretFile(token_file)


def _public_key(path: Path) -> str:
    from probes.pushed import key_text

    try:
        return key_text(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise UserError(f"cannot read the key {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _invitation(path: Path) -> str:
    """Read from a file of its own or from standard input, never from the command line, which others see."""
    try:
        if str(path) == "-":
            text = sys.stdin.readline(1000)
        else:
            with path.open(encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                if stat.S_ISREG(mode) and mode & 0o077:
                    raise UserError(f"invitation file {path} can be read by others; chmod 600 {path}")
                text = file.read(1000)
    except OSError as error:
        raise UserError(f"cannot read the invitation {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    invitation = text.strip()
    if not invitation or not invitation.isascii() or any(character.isspace() for character in invitation):
        raise UserError(f"{path} must hold one invitation and nothing else, as `isochrone agent invite` made it")
    return invitation
