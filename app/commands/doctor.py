"""`isochrone doctor`: what works on this machine and in this set-up, found by trying it, and what to do about the rest."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from app.output import DEFAULT_WAREHOUSE, emit_json, json_option, table
from app.setup_checks import Finding, agent_findings, collector_findings, disk, warehouse_findings
from probes.capabilities import inspect
from probes.clock import clock_error_ns
from probes.status import product_version
from records.errors import IsochroneError, NoAnswer, OutsideError
from records.units import ms

__all__ = ["Finding", "doctor", "findings"]

_PYTHON = (3, 11)

#: Tool -> Debian package, what for, and the argument that prints its version.
_TOOLS = {
    "iperf3": ("iperf3", "throughput with iperf3; without it the built-in transfer is used", "--version"),
    "ip": ("iproute2", "the lab in network namespaces", "-V"),
    "pg_dump": ("postgresql-client", "backups of a warehouse with its catalog in PostgreSQL", "--version"),
}

#: Extra -> packages it must bring, and what for.
_EXTRAS = {
    "warehouse": (("duckdb", "pyarrow", "starlette", "uvicorn", "msgspec"), "collector, import and sql"),
    "routing": (("networkx", "numpy", "scipy"), "links, matrix and route"),
    "app": (("streamlit", "plotly"), "the dashboard"),
    "lab": (("xllamacpp", "gguf"), "real inference servers in the lab and the demo"),
    "scapy": (("scapy",), "packets that need crafting"),
}

_PORTS = {8501: "the dashboard", 8600: "the collector"}


#: Where the packages of deploy/ and docs/agent.md keep an agent's configuration.
_CONFIG = Path("/etc/isochrone/agent.toml")


def findings() -> Iterator[Finding]:
    """What is tried of the machine, in the order people read it. Sends packets on loopback, starts short commands."""
    yield _python()
    yield _clock()
    for capability in inspect():
        yield Finding(
            area="probes",
            name=capability.name,
            works=capability.works,
            found=capability.detail,
            remedy=capability.grant or "",
            essential=capability.name == "ping and traceroute",
        )
    yield _namespaces()
    for tool, (package, purpose, argument) in _TOOLS.items():
        yield _tool(tool, package, purpose, argument)
    for extra, (packages, purpose) in _EXTRAS.items():
        yield _extra(extra, packages, purpose)
    yield from _warehouse()
    for port, what in _PORTS.items():
        yield _port(port, what)


@click.command()
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"An agent's configuration.  [default: {_CONFIG}, if it is there]",
)
@click.option("--collector", "url", metavar="URL", help="A collector to ask.  [default: the configuration's]")
@click.option("--ca-file", type=click.Path(path_type=Path), metavar="FILE", help="The authority behind its certificate (PEM).")
@click.option(
    "--warehouse",
    envvar="ISOCHRONE_WAREHOUSE",
    metavar="FOLDER|ADDRESS",
    help=f"A warehouse to look into.  [env: ISOCHRONE_WAREHOUSE; default: {DEFAULT_WAREHOUSE}, if it is there]",
)
@json_option
def doctor(config: Path | None, url: str | None, ca_file: Path | None, warehouse: str | None, *, as_json: bool) -> None:
    """Say what works here (sockets, timestamps, clock, tools, extensions, ports, disk) and in the set-up (warehouse, collector, agent).

    Each line is ok, warn or bad, with what to do. Exit status 1 when something is bad.

    \b
    Example: isochrone doctor
    Example: isochrone doctor --config agent.toml --json
    """
    found = [*findings(), *_setup(config, url, ca_file, warehouse)]
    bad = [entry.name for entry in found if entry.level == "bad"]
    if as_json:
        entries = [asdict(entry) | {"level": entry.level} for entry in found]
        emit_json({"version": product_version(), "ok": not bad, "findings": entries})
    else:
        table(["", "area", "what", "found"], [[entry.level, entry.area, entry.name, entry.found] for entry in found])
        remedies = [entry for entry in found if entry.level != "ok" and entry.remedy]
        if remedies:
            click.echo("\nWhat to do:")
        for entry in remedies:
            click.echo(f"  {entry.level:4}  {entry.name}: {entry.remedy}")
    if bad:
        raise NoAnswer(f"bad: {', '.join(bad)}")


def _setup(config: Path | None, url: str | None, ca_file: Path | None, warehouse: str | None) -> Iterator[Finding]:
    """What was named, and what is where it is by default; nothing else is missed."""
    if warehouse is not None or Path(DEFAULT_WAREHOUSE).exists():
        try:
            yield from warehouse_findings(warehouse or DEFAULT_WAREHOUSE)
        except ModuleNotFoundError as error:
            remedy = "`pip install 'isochrone[warehouse]'`"
            yield Finding(
                area="warehouse", name=str(warehouse), works=False, found=f"{error.name} is missing", remedy=remedy, essential=True
            )
    else:
        yield disk("this folder", Path())
    if config is not None or _CONFIG.exists():
        yield from agent_findings(config or _CONFIG)
    if url is not None:
        yield from collector_findings(url, ca_file)


def _python() -> Finding:
    is_new_enough = sys.version_info >= _PYTHON
    return Finding(
        area="system",
        name="python",
        works=is_new_enough,
        found=f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.release()}",
        remedy="" if is_new_enough else "install Python 3.11 or later",
        essential=True,
    )


def _clock() -> Finding:
    error_ns = clock_error_ns()
    if error_ns is not None:
        return Finding(area="system", name="clock", works=True, found=f"kept in step, error at most about {ms(error_ns):.3f} ms")
    remedy = "`apt-get install chrony` (in a container: on its host); RTTs do not depend on it, times of day do"
    return Finding(area="system", name="clock", works=False, found="nobody keeps it in step, or the kernel does not say", remedy=remedy)


def _namespaces() -> Finding:
    from lab.namespaces import support

    seen = support()
    remedy = "run as root with /dev/net/tun; without it the demo measures over loopback reflectors that really delay"
    return Finding(area="lab", name="network namespaces", works=seen.how is not None, found=seen.reason, remedy="" if seen.how else remedy)


def _tool(tool: str, package: str, purpose: str, argument: str) -> Finding:
    path = shutil.which(tool)
    if path is None:
        return Finding(area="tools", name=tool, works=False, found="not installed", remedy=f"`apt-get install {package}`; for {purpose}")
    try:
        done = subprocess.run([path, argument], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
        said = (done.stdout or done.stderr).strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        remedy = f"install it anew: `apt-get install --reinstall {package}`"
        return Finding(area="tools", name=tool, works=False, found=f"{path} does not run: {error}", remedy=remedy)
    return Finding(area="tools", name=tool, works=True, found=said[0] if said else path)


def _extra(extra: str, packages: tuple[str, ...], purpose: str) -> Finding:
    there, absent = [], []
    for package in packages:
        try:
            there.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            absent.append(package)
    remedy = f"`pip install 'isochrone[{extra}]'`; for {purpose}" if absent else ""
    seen = ", ".join(there) + (("; " if there else "") + "missing: " + ", ".join(absent) if absent else "")
    return Finding(area="packages", name=f"extra {extra}", works=not absent, found=seen, remedy=remedy)


def _warehouse() -> Iterator[Finding]:
    """A warehouse in a temporary folder: that DuckDB loads its extensions is only known after it did."""
    try:
        from warehouse.connect import open_warehouse
    except ModuleNotFoundError:
        return  # the extra's own line says so
    try:
        with tempfile.TemporaryDirectory(prefix="isochrone-doctor-") as folder:
            warehouse = open_warehouse(Path(folder) / "trial", mode="write")
            snapshot = warehouse.snapshot_id()
            warehouse.close()
    except IsochroneError as error:
        yield Finding(area="warehouse", name="DuckLake", works=False, found="does not open", remedy=str(error), essential=True)
    except Exception as error:  # noqa: BLE001 - whatever a database says on a broken machine is the finding
        remedy = "`pip install --force-reinstall 'isochrone[warehouse]'`: DuckDB and its extension wheels must be of the same version"
        yield Finding(area="warehouse", name="DuckLake", works=False, found=str(error), remedy=remedy, essential=True)
    else:
        found = f"extensions load from their wheels; a trial warehouse was made (snapshot {snapshot})"
        yield Finding(area="warehouse", name="DuckLake", works=True, found=found)


def _port(port: int, what: str) -> Finding:
    from app.processes import require_free_port

    try:
        require_free_port("127.0.0.1", port, what)
    except OutsideError:
        found = f"in use: {what} runs already, or another program does"
        remedy = f"if it is not {what}: choose another with --port"
        return Finding(area="ports", name=f"port {port}", works=False, found=found, remedy=remedy)
    return Finding(area="ports", name=f"port {port}", works=True, found=f"free for {what}")
