"""`isochrone up`, `collector` and `dashboard`: two processes over one warehouse, neither of which can take the other down."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

from app.output import note, warehouse_option
from app.processes import Child, require_free_port, spawn
from records.errors import UserError

__all__ = ["COLLECTOR_PORT", "DASHBOARD_PORT", "collector", "collector_argv", "dashboard", "up"]

DASHBOARD_PORT = 8501
COLLECTOR_PORT = 8600

#: A child that ends is started again after this long, doubled each time up to the last.
_RESTART_FIRST_S = 1.0
_RESTART_LAST_S = 30.0

_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


def collector_argv(warehouse: str, *, host: str, port: int, uds: Path | None = None, tokens: Path | None = None) -> list[str]:
    """The command line of a collector of its own process."""
    argv = [sys.executable, "-m", "app.cli", "collector", "--warehouse", warehouse, "--host", host, "--port", str(port)]
    if uds is not None:
        argv += ["--uds", str(uds)]
    if tokens is not None:
        argv += ["--tokens", str(tokens)]
    return argv


@click.command()
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=COLLECTOR_PORT, show_default=True, help="Port of the agents' front door.")
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on this Unix socket too.")
@click.option("--tokens", type=click.Path(path_type=Path), help="JSON file of the agents' bearer tokens (mode 0600). Needed off loopback.")
@warehouse_option
def collector(host: str, port: int, uds: Path | None, tokens: Path | None, warehouse: str) -> None:
    """Take in the agents' batches and keep them, each exactly once.

    Example: isochrone collector --warehouse ./isochrone-data --port 8600
    """
    from warehouse.collector import serve
    from warehouse.roster_file import RosterFile

    token_file = None if tokens is None else RosterFile(tokens)
    if token_file is not None:
        token_file.current()

    def ready() -> None:
        note(f"collector ready on http://{host}:{port}, keeping in {warehouse}")

    serve(warehouse, host=host, port=port, uds=uds, token_file=token_file, on_ready=ready)


_access = click.option(
    "--access",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the sign-in (OpenID Connect) and its roles, mode 0600. Off loopback this or --open is needed.",
)
_open = click.option("--open", "is_open", is_flag=True, help="Let whoever reaches the pages read them, off loopback too.")


def _door(host: str, access: Path | None, *, is_open: bool) -> None:
    """Check the access file, and that pages off loopback have one or are meant to be open."""
    from app.access import read_access
    from warehouse.serve import is_loopback

    if access is not None:
        read_access(access)
    elif not is_open and not is_loopback(host):
        raise UserError(
            f"{host} can be reached from other machines, and the pages have no sign-in; give --access FILE (docs/dashboard.md), "
            "or --open to let anyone read them"
        )


@click.command()
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=DASHBOARD_PORT, show_default=True, help="Port of the web pages.")
@_access
@_open
@warehouse_option
def dashboard(host: str, port: int, access: Path | None, is_open: bool, warehouse: str) -> None:
    """Show what is kept, on web pages.

    Example: isochrone dashboard --warehouse ./isochrone-data --port 8501
    """
    from app import dashboard as pages

    _door(host, access, is_open=is_open)
    require_free_port(host, port, "the dashboard")
    environment = {**os.environ, **pages.environment(warehouse, access)}
    argv = pages.argv(host, port, access)
    note(f"dashboard on http://{host}:{port} over {warehouse}")
    os.execve(argv[0], argv, environment)  # noqa: S606 - our own interpreter; signals then reach the server itself


@click.command()
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=DASHBOARD_PORT, show_default=True, help="Port of the web pages.")
@click.option(
    "--collector-port", type=click.IntRange(1, 65535), default=COLLECTOR_PORT, show_default=True, help="Port of the agents' front door."
)
@click.option("--tokens", type=click.Path(path_type=Path), help="JSON file of the agents' bearer tokens (mode 0600). Needed off loopback.")
@_access
@_open
@warehouse_option
def up(host: str, port: int, collector_port: int, tokens: Path | None, access: Path | None, is_open: bool, warehouse: str) -> None:
    """Run the collector and the dashboard over one warehouse, as two processes.

    Example: isochrone up --port 8501
    """
    from app import dashboard as pages
    from warehouse import open_warehouse
    from warehouse.roster_file import RosterFile

    if tokens is not None:
        RosterFile(tokens).read()
    _door(host, access, is_open=is_open)
    require_free_port(host, port, "the dashboard")
    require_free_port(host, collector_port, "the collector")
    open_warehouse(warehouse, mode="write").close()  # makes it, so that the pages have something to read
    commands = {
        "collector": (collector_argv(warehouse, host=host, port=collector_port, tokens=tokens), {}),
        "dashboard": (pages.argv(host, port, access), pages.environment(warehouse, access)),
    }
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    children = {name: spawn(name, argv, env=env) for name, (argv, env) in commands.items()}
    note(f"dashboard on http://{host}:{port}, collector on http://{host}:{collector_port}, keeping in {warehouse}; Ctrl-C ends both")
    try:
        _supervise(children, commands, stopping)
    finally:
        for child in children.values():
            child.ask_to_stop()
        for child in children.values():
            child.wait(15)


def _supervise(children: dict[str, Child], commands: dict[str, tuple[list[str], dict[str, str]]], stopping: threading.Event) -> None:
    """Start again what ends, each with its own growing pause, until asked to stop."""
    pause = dict.fromkeys(children, _RESTART_FIRST_S)
    due: dict[str, float] = {}
    while not stopping.wait(0.5):
        for name, child in children.items():
            if child.alive():
                continue
            if name not in due:
                note(f"the {name} ended with status {child.process.returncode}; starting it again in {pause[name]:.0f} s")
                due[name] = time.monotonic() + pause[name]
                pause[name] = min(pause[name] * 2, _RESTART_LAST_S)
            elif time.monotonic() >= due[name]:
                del due[name]
                argv, env = commands[name]
                children[name] = spawn(name, argv, env=env)
