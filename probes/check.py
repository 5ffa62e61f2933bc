"""`isochrone agent check`: tries everything a configuration asks for, without measuring and without touching the spool's content."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from probes.client import Answer, CollectorClient
from probes.config import AgentConfig
from probes.enrolment import IDENTITY
from probes.guard import Guard, OptedOut
from probes.hosts import parse_ip
from probes.model import Target
from probes.registry import PROBE_TYPES
from records.errors import IsochroneError

__all__ = ["Check", "check_agent"]


#: The clocks of two hosts that are kept in step agree to milliseconds, and an HTTP date to a second.
_APART_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried. `detail` says what was found, or what is wrong and what to do."""

    name: str
    is_ok: bool
    detail: str


async def check_agent(config: AgentConfig) -> list[Check]:
    """Try the spool's folder, the collector, every probe type, the ports to serve on and every target's name."""
    checks = [_spool(config.agent.spool_dir), *await _collector(config)]
    checks += [await _probe_type(kind_of.kind, kind_of.type, kind_of.config) for kind_of in config.probes]
    if config.serve.udp_echo_port is not None:
        checks.append(_port("serve.udp_echo_port", config.serve.host, config.serve.udp_echo_port, socket.SOCK_DGRAM))
    if config.serve.throughput_port is not None:
        checks.append(_port("serve.throughput_port", config.serve.host, config.serve.throughput_port, socket.SOCK_STREAM))
    if config.serve.stamp_port is not None:
        checks.append(_port("serve.stamp_port", config.serve.host, config.serve.stamp_port, socket.SOCK_DGRAM))
    guard = Guard(config.policy)
    for target in config.targets:
        name = f"target {target.site} ({target.medium})"
        try:
            await guard.check(_hosts(target))
            found = await _resolved(target.address)
        except OptedOut as why:
            checks.append(Check(name=name, is_ok=True, detail=f"is not measured: {why}"))
        except (IsochroneError, OSError, UnicodeError) as error:
            checks.append(Check(name=name, is_ok=False, detail=f"{target.address}: {error}"))
        else:
            checks.append(Check(name=name, is_ok=True, detail=found))
    guard.close()
    for target, entry in config.opted_out:
        checks.append(Check(name=f"target {target.site} ({target.medium})", is_ok=True, detail=f"is not measured: it opted out ({entry})"))
    return checks


def _hosts(target: Target) -> list[str]:
    """Every host that a probe of the target may send to."""
    urls = [getattr(target, field.name) for field in fields(target) if field.name.endswith("_url")]
    return [target.address, *(urlsplit(url).hostname or "" for url in urls if url is not None)]


def _spool(folder: Path) -> Check:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    is_ok = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    detail = str(folder) if is_ok else f"{place} is not a folder this user may write to; set agent.spool_dir or change its owner"
    return Check(name="spool", is_ok=is_ok, detail=detail)


async def _collector(config: AgentConfig) -> list[Check]:
    settings = config.collector
    try:
        client = CollectorClient(settings.url, token_file=settings.token_file, ca_file=settings.ca_file, timeout_s=10)
    except IsochroneError as error:
        return [Check(name="collector", is_ok=False, detail=str(error))]
    try:
        answer = await client.ready()
        if answer.status != 200:
            said = f"{settings.url} answered {answer.status} to /readyz" + (f": {answer.text}" if answer.text else "")
            return [Check(name="collector", is_ok=False, detail=f"{said}; is that a collector?")]
        found = [Check(name="collector", is_ok=True, detail=f"{settings.url} is ready"), *_clock(answer.ahead_s)]
        if settings.token_file is not None:
            found += _identity(config, await client.call_own("GET", IDENTITY))
    except IsochroneError as error:
        return [Check(name="collector", is_ok=False, detail=str(error))]
    finally:
        await client.close()
    return found


def _clock(ahead_s: float | None) -> list[Check]:
    """Whether this host's clock and the collector's agree; nothing where it does not say."""
    if ahead_s is None:
        return []
    if abs(ahead_s) <= _APART_S:
        return [Check(name="clock", is_ok=True, detail=f"within {_APART_S} s of the collector's")]
    apart = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the collector's"
    what = "from ten minutes on nothing is taken until they agree" if ahead_s > 0 else "what is measured is dated too early"
    return [Check(name="clock", is_ok=False, detail=f"{apart}: {what}; set whichever is wrong (chronyc makestep, timedatectl)")]


def _identity(config: AgentConfig, answer: Answer) -> list[Check]:
    """Whose secret it is; nothing where the collector keeps no token file."""
    if answer.status == 404:
        return []
    if answer.status != 200:
        return [Check(name="identity", is_ok=False, detail=f"the collector answered {answer.status}: {answer.text}")]
    mine, theirs = (config.agent.id, config.agent.site), (answer.body.get("agent"), answer.body.get("site"))
    if mine[0] != theirs[0] or theirs[1] not in {None, mine[1]}:
        said = f"the secret in {config.collector.token_file} is agent {theirs[0]!r}'s at site {theirs[1]!r}"
        return [Check(name="identity", is_ok=False, detail=f"{said}, and this file says {mine[0]!r} at {mine[1]!r}")]
    return [Check(name="identity", is_ok=True, detail=f"known as agent {mine[0]!r} at site {mine[1]!r}")]


async def _probe_type(kind: str, type_: str, config: object) -> Check:
    name = f"probe {kind}"
    probe = PROBE_TYPES[type_].make(config)
    try:
        await probe.open()
    except (IsochroneError, OSError) as error:
        return Check(name=name, is_ok=False, detail=str(error))
    why = getattr(probe, "why", "")
    await probe.close()
    return Check(name=name, is_ok=True, detail=why or "can run")


def _port(name: str, host: str, port: int, kind: socket.SocketKind) -> Check:
    address = parse_ip(host)
    assert address is not None
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, kind) as trial:
        if kind == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return Check(name=name, is_ok=False, detail=f"{host} port {port}: {error.strerror}; is the agent running already?")
    return Check(name=name, is_ok=True, detail=f"{host} port {port} is free")


async def _resolved(address: str) -> str:
    """What an address is, or a name leads to. Raises OSError (socket.gaierror) for a name that leads nowhere."""
    if parse_ip(address) is not None:
        return address
    answers = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_DGRAM)
    return f"{address} is {', '.join(sorted({str(answer[4][0]) for answer in answers}))}"
