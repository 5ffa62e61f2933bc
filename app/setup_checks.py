"""What `isochrone doctor` finds out about a set-up: disk, warehouse, collector and certificate, the agent's configuration and secrets."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from probes.client import check_collector_url
from probes.config import AgentConfig, load_config
from probes.secret import is_credential
from records.errors import IsochroneError, UserError

__all__ = ["Finding", "Level", "agent_findings", "collector_findings", "disk", "warehouse_findings"]

Level = Literal["ok", "warn", "bad"]

_WARN_FREE, _BAD_FREE_BYTES = 0.05, 200_000_000
_WARN_EXPIRY = timedelta(days=14)
#: A warehouse that has had no batch for so long is worth a word, and so are roll-ups that nobody makes.
_LAG = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried.

    area       system, probes, lab, tools, packages, warehouse, collector, agent or ports
    works      what was tried did as it should
    essential  nothing useful can be done without it
    found      what was seen
    remedy     what to do; empty where it works or nothing can be done
    warns      it works, and something about it needs looking after
    """

    area: str
    name: str
    works: bool
    found: str
    remedy: str = ""
    essential: bool = False
    warns: bool = False

    @property
    def level(self) -> Level:
        """ok; warn: something is missing or needs looking after; bad: something essential does not work."""
        if not self.works:
            return "bad" if self.essential else "warn"
        return "warn" if self.warns else "ok"


def disk(what: str, folder: Path) -> Finding:
    """How much is free where `folder` is, or will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    usage = shutil.disk_usage(place)
    found = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free at {folder}"
    is_short = usage.free < _WARN_FREE * usage.total
    is_full = usage.free < _BAD_FREE_BYTES
    remedy = "free some, move it to a larger disk, or keep raw rows for fewer days: `isochrone warehouse retention`" if is_short else ""
    return Finding(area="system", name=f"disk of {what}", works=not is_full, found=found, remedy=remedy, essential=True, warns=is_short)


def warehouse_findings(location: str) -> Iterator[Finding]:
    """Whether a warehouse opens with this version, how large it is, and whether anything still arrives in it."""
    from warehouse import open_warehouse
    from warehouse.maintain import status
    from warehouse.place import place

    where = place(location)
    if where.folder is not None:
        yield disk("the warehouse", where.folder)
    try:
        with open_warehouse(location) as wh:
            seen = status(wh)
            with wh.cursor() as cursor:
                row = cursor.execute("SELECT max(received_at), min(received_at) FROM batch").fetchone()
    except IsochroneError as error:
        yield Finding(area="warehouse", name=location, works=False, found="does not open", remedy=str(error), essential=True)
        return
    size = f"{(seen.catalog_bytes + seen.data_bytes) / 1e6:.1f} MB in {sum(t.file_count for t in seen.tables)} files"
    yield Finding(area="warehouse", name=location, works=True, found=f"schema {seen.schema}, snapshot {seen.snapshot_id}, {size}")
    now = datetime.now(UTC)
    newest = row[0] if row else None
    if newest is None:
        yield Finding(
            area="warehouse", name="newest batch", works=True, found="none yet", warns=True, remedy="start an agent, or import something"
        )
    else:
        is_late = now - newest > _LAG
        remedy = "is the collector running? do agents reach it (`isochrone agent check` at a PoP)?" if is_late else ""
        yield Finding(
            area="warehouse",
            name="newest batch",
            works=True,
            found=f"{_ago(now - newest)} ago, at {newest:%Y-%m-%d %H:%M:%S} UTC",
            warns=is_late,
            remedy=remedy,
        )
    since = seen.rolled_at or (row[1] if row else None)
    lags = seen.unrolled_commits > 0 and since is not None and now - since > _LAG
    rolled = "never made" if seen.rolled_at is None else f"made {_ago(now - seen.rolled_at)} ago"
    yield Finding(
        area="warehouse",
        name="roll-ups",
        works=True,
        found=f"{rolled}; {seen.unrolled_commits} commits since",
        warns=lags,
        remedy="a running collector makes them; or `isochrone warehouse rollup`" if lags else "",
    )


def collector_findings(url: str, ca_file: Path | None = None) -> Iterator[Finding]:
    """Whether a collector is ready, what it says, and until when its certificate is good, checked as an agent checks it."""
    import httpx

    def failed(found: str, remedy: str) -> Finding:
        return Finding(area="collector", name=url, works=False, found=found, remedy=remedy, essential=True)

    try:
        base, socket_path = check_collector_url(url)
        verify = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (IsochroneError, OSError) as error:
        yield failed("cannot be asked", f"{error}" if ca_file is None else f"ca_file {ca_file}: {error}")
        return
    transport = httpx.HTTPTransport(uds=socket_path, verify=verify)
    try:
        with httpx.Client(transport=transport, timeout=5) as client, client.stream("GET", f"{base}/readyz") as answer:
            tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
            certificate = None if tls is None else tls.getpeercert()  # before the answer is read, for that may close it
            said = answer.read().decode("utf-8", "replace").strip()[:300]
    except httpx.HTTPError as error:
        is_tls = "CERTIFICATE" in str(error)
        remedy = (
            "its certificate is not one that this machine trusts for that name: renew it, or give the authority as collector.ca_file"
            if is_tls
            else "start it (`isochrone collector`), or correct the address; a firewall may be in between"
        )
        yield failed(str(error) or type(error).__name__, remedy)
        return
    if answer.status_code != 200:
        yield failed(f"answered {answer.status_code} to /readyz: {said}", "the collector's log says why")
        return
    yield Finding(area="collector", name=url, works=True, found="ready")
    if certificate and isinstance(until := certificate.get("notAfter"), str):
        expires_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC)
        left = expires_at - datetime.now(UTC)
        is_near = left < _WARN_EXPIRY
        remedy = "renew it now: agents refuse an expired one, and a running collector reads the new one by itself" if is_near else ""
        yield Finding(
            area="collector",
            name="its certificate",
            works=True,
            found=f"good for {left.days} days, until {expires_at:%Y-%m-%d}",
            warns=is_near,
            remedy=remedy,
        )


def agent_findings(path: Path) -> Iterator[Finding]:
    """Whether an agent's configuration is right, its secrets are its own, its disk holds the spool, and its collector is there."""
    try:
        config = load_config(path)
    except UserError as error:
        yield Finding(area="agent", name=str(path), works=False, found="is not right", remedy=str(error), essential=True)
        return
    found = f"agent {config.agent.id!r} at site {config.agent.site!r}: {len(config.probes)} probes, {len(config.targets)} targets"
    yield Finding(area="agent", name=str(path), works=True, found=found)
    for key, file in _secrets(config):
        yield _secret(key, file)
    yield disk("the spool", config.agent.spool_dir)
    yield from collector_findings(config.collector.url, config.collector.ca_file)


def _secrets(config: AgentConfig) -> list[tuple[str, Path]]:
    """The files with secrets that a configuration names, each once."""
    found: dict[Path, str] = {}
    if config.collector.token_file is not None:
        found[config.collector.token_file] = "collector.token_file"
    if config.serve.stamp_key_file is not None:
        found[config.serve.stamp_key_file] = "serve.stamp_key_file"
    for target in config.targets:
        if target.api_key_file is not None:
            found.setdefault(Path(target.api_key_file), f"api_key_file of {target.site}")
    return [(key, file) for file, key in found.items()]


def _secret(key: str, file: Path) -> Finding:
    """A secret's file: there, and its owner's alone."""
    try:
        mode = file.stat().st_mode & 0o777
    except FileNotFoundError:
        remedy = "`isochrone agent enroll` makes it" if key == "collector.token_file" else "put the secret there, alone in the file"
        return Finding(area="agent", name=key, works=False, found=f"{file} is not there", remedy=remedy, essential=True)
    except OSError as error:
        remedy = "run doctor as the agent's user, or as root"
        return Finding(area="agent", name=key, works=False, found=f"{file}: {error.strerror}", remedy=remedy)
    is_closed = not mode & 0o077 or is_credential(file)
    readable = os.access(file, os.R_OK)
    remedy = "" if is_closed else f"chmod 600 {file}, and replace the secret: others could read it (`isochrone agent rotate`)"
    if not readable:
        remedy = "run doctor as the agent's user, or as root"
    return Finding(
        area="agent", name=key, works=is_closed and readable, found=f"{file} has mode {mode:04o}", remedy=remedy, essential=not is_closed
    )


def _ago(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
