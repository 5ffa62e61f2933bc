"""Run the collector: uvicorn on TCP, on a unix socket, or on both, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from records.errors import NotPermitted, OutsideError, UserError
from warehouse.connect import open_warehouse
from warehouse.intake import make_app
from warehouse.roster_file import RosterFile

__all__ = ["is_loopback", "serve"]


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; a name is only where it says so itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tcp(host: str, port: int) -> socket.socket:
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise UserError(f"cannot listen on {where}: {error.strerror}; give an address of this machine") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OutsideError(f"port {port} of {host} is in use by another program; stop it or choose another with --port") from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise NotPermitted(f"not allowed to listen on {where}; choose a port above 1023 with --port") from error
        raise OutsideError(f"cannot listen on {where}: {error.strerror}") from error
    return listener


def _refuse_other_file(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise UserError(f"{path} is in the way of the collector's socket; remove it or choose another path")


def _refuse_taken(path: Path, *, is_taken: bool) -> None:
    if is_taken:
        raise OutsideError(f"another collector listens on {path}; stop it or choose another path")


def _unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            _refuse_other_file(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                _refuse_taken(path, is_taken=other.connect_ex(str(path)) == 0)
            path.unlink()  # left behind by one that was killed
        path.parent.mkdir(parents=True, exist_ok=True)
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OutsideError(f"cannot listen on the socket {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # As uvicorn's, but for the signal raised again at the end: we return, tidy up and end with status 0.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Requests that wait for their group are answered now, not at the end of the interval.
        app = self.config.app
        assert isinstance(app, Starlette)
        app.state.collector.writer.hurry()
        await super().shutdown(sockets)


def serve(
    location: str | Path,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8600,
    uds: Path | None = None,
    tokens: Mapping[str, str] | None = None,
    agent_sites: Mapping[str, str] | None = None,
    token_file: RosterFile | None = None,
    on_ready: Callable[[], None] | None = None,
    commit_interval_s: float = 1.0,
    log_level: str = "warning",
) -> None:
    """Serve until SIGTERM or SIGINT; what was received is committed before it returns.

    host, port   where to listen; host None: on the unix socket only. Port 0: any free one
    uds          a unix socket to listen on as well
    tokens       bearer token -> agent id; None, without a token_file, is allowed on loopback only
    token_file   instead: who may send, read again whenever it changes, and agents can enrol in it
    on_ready     called once it answers

    Raises UserError, NotPermitted or OutsideError (port in use, no warehouse can be made there).
    """
    if host is None and uds is None:
        raise UserError("the collector needs an address or a unix socket to listen on")
    if host is not None and not tokens and token_file is None and not is_loopback(host):
        raise UserError(f"refusing to take batches from the network at {host} without tokens; give them, or listen on 127.0.0.1")
    # Opened here, so that its faults come out as errors with a message and not inside the server's start.
    warehouse = open_warehouse(location, mode="write")
    listeners: list[socket.socket] = []
    is_ours = False
    try:
        if host is not None:
            listeners.append(_tcp(host, port))
        if uds is not None:
            listeners.append(_unix(uds))
            is_ours = True
        app = make_app(warehouse, tokens=tokens, agent_sites=agent_sites, token_file=token_file, commit_interval_s=commit_interval_s)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level=log_level,
            access_log=False,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=20,
            server_header=False,
        )
        asyncio.run(_Server(config, on_ready).serve(sockets=listeners))
    finally:
        warehouse.close()
        for listener in listeners:
            listener.close()
        if uds is not None and is_ours:
            with contextlib.suppress(OSError):
                uds.unlink(missing_ok=True)
