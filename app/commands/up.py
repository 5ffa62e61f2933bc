"""`isochrone up`, `collector` and `dashboard`: two processes over one warehouse, neither of which can take the other down."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
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


_tls_cert = click.option(
    "--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate chain (PEM) of the agents' front door."
)
_tls_key = click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key (PEM, mode 0600).")
_configs = click.option(
    "--configs",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Signed configurations to hand on to agents (`isochrone agent config`).",
)
_behind_proxy = click.option("--behind-proxy", "is_behind_proxy", is_flag=True, help="A proxy before the front door ends TLS.")


def collector_argv(
    warehouse: str,
    *,
    host: str,
    port: int,
    uds: Path | None = None,
    tokens: Path | None = None,
    tls: tuple[Path, Path] | None = None,
    is_behind_proxy: bool = False,
    configs: Path | None = None,
    alarms: Path | None = None,
) -> list[str]:
    """The command line of a collector of its own process; tls: certificate and key."""
    argv = [sys.executable, "-m", "app.cli", "collector", "--warehouse", warehouse, "--host", host, "--port", str(port)]
    if uds is not None:
        argv += ["--uds", str(uds)]
    if tokens is not None:
        argv += ["--tokens", str(tokens)]
    if tls is not None:
        argv += ["--tls-cert", str(tls[0]), "--tls-key", str(tls[1])]
    if configs is not None:
        argv += ["--configs", str(configs)]
    if alarms is not None:
        argv += ["--alarms", str(alarms)]
    return [*argv, "--behind-proxy"] if is_behind_proxy else argv


_alarms = click.option(
    "--alarms",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the alarms: thresholds and webhooks (docs/alarms.md). Without one they are judged by the defaults and sent nowhere.",
)


def _pair(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Certificate and key, both or neither."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError("give both --tls-cert and --tls-key, or neither")
    return certificate, key


@click.group(invoke_without_command=True)
@click.pass_context
@_host
@click.option("--port", type=click.IntRange(0, 65535), default=COLLECTOR_PORT, show_default=True, help="Port of the agents' front door.")
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on this Unix socket too.")
@click.option("--tokens", type=click.Path(path_type=Path), help="JSON file of the agents' bearer tokens (mode 0600). Needed off loopback.")
@_tls_cert
@_tls_key
@_behind_proxy
@_configs
@_alarms
@click.option("--no-alarms", is_flag=True, help="Judge no alarms: another collector of this warehouse does.")
@warehouse_option
def collector(
    ctx: click.Context,
    host: str,
    port: int,
    uds: Path | None,
    tokens: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    configs: Path | None,
    alarms: Path | None,
    warehouse: str,
    *,
    no_alarms: bool,
    is_behind_proxy: bool,
) -> None:
    """Take in the agents' batches and keep them, each exactly once.

    Example: isochrone collector --warehouse ./isochrone-data --port 8600
    """
    if ctx.invoked_subcommand is not None:
        return
    from warehouse.collector import serve
    from warehouse.publications import Publications
    from warehouse.roster_file import RosterFile
    from warehouse.tls import Tls

    pair = _pair(tls_cert, tls_key)
    tls = None if pair is None else Tls(*pair)
    if tls is not None and (warning := tls.warning(datetime.now(UTC))) is not None:
        note(f"warning: {warning}")
    token_file = None if tokens is None else RosterFile(tokens)
    if token_file is not None:
        token_file.current()
    beside = None
    if not no_alarms:
        from app.alarm_watch import watcher_of

        beside = watcher_of(alarms, warehouse, token_file)

    def ready() -> None:
        note(f"collector ready on {'http' if tls is None else 'https'}://{host}:{port}, keeping in {warehouse}")

    serve(
        warehouse,
        host=host,
        port=port,
        uds=uds,
        token_file=token_file,
        tls=tls,
        is_behind_proxy=is_behind_proxy,
        publications=None if configs is None else Publications(configs),
        beside=beside,
        on_ready=ready,
    )


@collector.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Where the authority and the certificate go.")
@click.option("--name", "names", multiple=True, required=True, metavar="HOST", help="Host or address of the collector; may be repeated.")
@click.option("--days", type=click.IntRange(1, 825), default=90, show_default=True, help="For how long the certificate is good.")
def certificate(out: Path, names: tuple[str, ...], days: int) -> None:
    """Make a certificate for a lab, by an authority of one's own; run again it renews the certificate by the same authority.

    Example: isochrone collector certificate --out tls --name collector.example
    """
    from warehouse.certificate import make_certificate

    paths = make_certificate(out, list(names), days=days, now=datetime.now(UTC))
    note(f"collector: --tls-cert {paths['server.pem']} --tls-key {paths['server.key']}; a running one reads them again")
    note(f"agents: collector.ca_file, a copy of {paths['ca.pem']}; keep {paths['ca.key']} where no one else reads it")


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
@_tls_cert
@_tls_key
@_behind_proxy
@_configs
@_alarms
@_access
@_open
@warehouse_option
def up(
    host: str,
    port: int,
    collector_port: int,
    tokens: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    configs: Path | None,
    alarms: Path | None,
    access: Path | None,
    warehouse: str,
    *,
    is_behind_proxy: bool,
    is_open: bool,
) -> None:
    """Run the collector and the dashboard over one warehouse, as two processes.

    Example: isochrone up --port 8501
    """
    from app import dashboard as pages
    from warehouse import open_warehouse
    from warehouse.roster_file import RosterFile
    from warehouse.serve import check_way
    from warehouse.tls import Tls

    if tokens is not None:
        RosterFile(tokens).read()
    if alarms is not None:
        from alarms.settings import load_settings

        load_settings(alarms)
    tls = _pair(tls_cert, tls_key)
    _door(host, access, is_open=is_open)
    check_way(host, has_tokens=tokens is not None, tls=None if tls is None else Tls(*tls), is_behind_proxy=is_behind_proxy)
    require_free_port(host, port, "the dashboard")
    require_free_port(host, collector_port, "the collector")
    open_warehouse(warehouse, mode="write").close()  # makes it, so that the pages have something to read
    front = collector_argv(
        warehouse,
        host=host,
        port=collector_port,
        tokens=tokens,
        tls=tls,
        is_behind_proxy=is_behind_proxy,
        configs=configs,
        alarms=alarms,
    )
    commands = {
        "collector": (front, {}),
        "dashboard": (pages.argv(host, port, access), pages.environment(warehouse, access)),
    }
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    children = {name: spawn(name, argv, env=env) for name, (argv, env) in commands.items()}
    door = f"{'http' if tls is None else 'https'}://{host}:{collector_port}"
    note(f"dashboard on http://{host}:{port}, collector on {door}, keeping in {warehouse}; Ctrl-C ends both")
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
