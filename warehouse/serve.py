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
from warehouse.connect import Warehouse, open_warehouse
from warehouse.front import FrontProtocol, most_connections
from warehouse.intake import Companion, make_app
from warehouse.publications import Publications
from warehouse.roster_file import RosterFile
from warehouse.tls import Tls

__all__ = ["check_way", "is_loopback", "serve"]

#: Ticks of a tenth of a second from one look at the certificate's files to the next.
_TLS_TICKS = 20


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; a name is only where it says so itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_way(host: str, *, has_tokens: bool, tls: Tls | None, is_behind_proxy: bool) -> None:
    """Raise UserError where agents would come over the network without tokens, or with tokens that others can read."""
    if is_loopback(host):
        return
    if not has_tokens:
        raise UserError(f"refusing to take batches from the network at {host} without tokens; give them, or listen on 127.0.0.1")
    if tls is None and not is_behind_proxy:
        raise UserError(
            f"refusing to take tokens from the network at {host} without TLS; give --tls-cert and --tls-key "
            "(`isochrone collector certificate` makes some for a lab), or --behind-proxy where a proxy ends TLS"
        )


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

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None] | None, *, tls: Tls | None, plain: socket.socket | None
    ) -> None:
        super().__init__(config)
        self._on_ready, self._tls, self._plain = on_ready, tls, plain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._plain is not None:  # a unix socket needs no TLS, and uvicorn knows only all or none
            loop = asyncio.get_running_loop()

            def protocol() -> asyncio.Protocol:
                kind = self.config.http_protocol_class
                return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop)  # type: ignore[call-arg]

            self.servers.append(await loop.create_server(protocol, sock=self._plain))
        if self.started and self._on_ready is not None:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if self._tls is not None and self.config.ssl is not None and counter % _TLS_TICKS == 0:
            self._tls.refresh(self.config.ssl)
        return await super().on_tick(counter)

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
    tls: Tls | None = None,
    is_behind_proxy: bool = False,
    publications: Publications | None = None,
    beside: Callable[[Warehouse], Companion] | None = None,
    on_ready: Callable[[], None] | None = None,
    commit_interval_s: float = 1.0,
    log_level: str = "warning",
) -> None:
    """Serve until SIGTERM or SIGINT; what was received is committed before it returns.

    host, port   where to listen; host None: on the unix socket only. Port 0: any free one
    uds          a unix socket to listen on as well
    tokens       bearer token -> agent id; None, without a token_file, is allowed on loopback only
    token_file   instead: who may send, read again whenever it changes, and agents can enrol in it
    tls, is_behind_proxy   certificate and key of `host`, or who has them; one of both is needed off loopback
    publications configurations that agents may have
    beside       makes what runs beside it over the same warehouse, such as its alarms
    on_ready     called once it answers

    Raises UserError, NotPermitted or OutsideError (port in use, no warehouse can be made there).
    """
    if host is None and uds is None:
        raise UserError("the collector needs an address or a unix socket to listen on")
    if host is not None:
        check_way(host, has_tokens=bool(tokens) or token_file is not None, tls=tls, is_behind_proxy=is_behind_proxy)
    # Opened here, so that its faults come out as errors with a message and not inside the server's start.
    warehouse = open_warehouse(location, mode="write")
    listeners: list[socket.socket] = []
    unix: socket.socket | None = None
    is_ours = False
    try:
        if host is not None:
            listeners.append(_tcp(host, port))
        if uds is not None:
            unix = _unix(uds)
            is_ours = True
            if tls is None:
                listeners.append(unix)
        app = make_app(
            warehouse,
            tokens=tokens,
            agent_sites=agent_sites,
            token_file=token_file,
            tls=tls,
            publications=publications,
            beside=beside,
            commit_interval_s=commit_interval_s,
        )
        FrontProtocol.max_connections = most_connections()
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level=log_level,
            access_log=False,
            http=FrontProtocol,
            ws="none",
            timeout_keep_alive=65,
            timeout_graceful_shutdown=20,
            server_header=False,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
        )
        asyncio.run(_Server(config, on_ready, tls=tls, plain=None if tls is None else unix).serve(sockets=listeners))
    finally:
        warehouse.close()
        for listener in listeners:
            listener.close()
        if unix is not None:
            unix.close()
        if uds is not None and is_ours:
            with contextlib.suppress(OSError):
                uds.unlink(missing_ok=True)
