"""`isochrone collector` in a process of its own: started, killed, frozen and started again at the same address."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

__all__ = ["ROOT", "Collector", "free_port"]

ROOT = Path(__file__).parents[2]
_START_S = 90.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Collector:
    """A collector over one warehouse.

    folder     of its log and its unix socket
    warehouse  a folder or a DuckLake address
    prefix     command that it is run by (another mount namespace, say)
    environ    added to the environment
    tls        certificate and key
    """

    def __init__(
        self,
        folder: Path,
        warehouse: str,
        *,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder, self.warehouse, self.prefix, self.environ, self.tls = folder, warehouse, tuple(prefix), dict(environ or {}), tls
        self.port = free_port()
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._socket = folder / "c.sock"
        self._log = folder / "collector.log"
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket), verify=False, limits=httpx.Limits(max_keepalive_connections=0)),
            base_url="http://collector",
            timeout=5,
        )

    def start(self, *, is_awaited: bool = True) -> None:
        """Start it and, if asked, wait until it answers. Raises AssertionError with its last words when it does not."""
        tls = () if self.tls is None else ("--tls-cert", str(self.tls[0]), "--tls-key", str(self.tls[1]))
        words = ["collector", "--warehouse", self.warehouse, "--port", str(self.port), "--uds", str(self._socket), *tls]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "app.cli", *words],
                cwd=ROOT,
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever runs this
            )
        if is_awaited:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until it answers."""
        until = time.monotonic() + _START_S
        while self.rows() is None:
            if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the collector did not start: {self.said()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without a word, as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stop(self) -> None:
        """Ask it to end; what it has taken it commits first."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
                raise
            finally:
                self.process = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def said(self) -> str:
        """All it said on standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def rows(self) -> int | None:
        """Probe packets that it has stored since its start, by its own /metrics; None when it does not answer."""
        found = self.metric(r'isochrone_rows_total\{table="ping_sample"\}')
        return None if found is None else int(found)

    def metric(self, pattern: str) -> float | None:
        """A value of /metrics by its name as a pattern, 0 where it has not been counted yet; None when nobody answers."""
        try:
            text = self._http.get("/metrics").text
        except httpx.HTTPError:
            return None
        found = re.search(rf"^{pattern} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0
