"""A real agent, `isochrone agent run`, that pings over UDP, and the reflector that answers it and keeps count.

The reflector is the independent witness: every probe packet that an agent sent was seen there, whatever became of it afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.faults.collector import ROOT
from probes.ping import udp_wire

__all__ = ["Agent", "Reflector"]


class Reflector:
    """Answers UDP echo requests on several addresses of loopback and counts the packets, each once."""

    def __init__(self, targets: int) -> None:
        self.addresses = [f"127.0.7.{n + 1}" for n in range(targets)]
        self.port = 0
        self._seen: set[int] = set()
        #: When packets came, the newest last.
        self.at_s: deque[float] = deque(maxlen=100_000)
        self._sockets: list[socket.socket] = []
        for address in self.addresses:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((address, self.port))
            self.port = one.getsockname()[1]
            self._sockets.append(one)
            threading.Thread(target=self._answer, args=(one,), daemon=True).start()

    @property
    def packets(self) -> int:
        """Different packets seen so far."""
        return len(self._seen)

    def close(self) -> None:
        """Answer no more."""
        for one in self._sockets:
            one.close()

    def _answer(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = one.recvfrom(2048)
                echo = udp_wire.decode(data)
                if echo is not None and not echo.is_reply and (reply := udp_wire.reply_to(data, 0)) is not None:
                    self._seen.add(echo.token)
                    self.at_s.append(time.monotonic())
                    one.sendto(reply, peer)


class Agent:
    """One agent in a folder of its own: five packets to each target of a reflector, twice a second.

    prefix   command that it is run by (another mount namespace, say)
    environ  added to the environment
    spool    its folder where that is elsewhere
    """

    PACKETS = 5

    def __init__(
        self,
        folder: Path,
        url: str,
        reflector: Reflector,
        *,
        name: str = "sin-1",
        batch_max_age_s: float = 1.0,
        batch_max_bytes: int = 1_000_000,
        spool_max_bytes: int = 256_000_000,
        ca_file: Path | None = None,
        spool: Path | None = None,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.name, self.reflector = folder, name, reflector
        self.spool = spool or folder / "spool"
        self.prefix, self.environ = tuple(prefix), dict(environ or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "agent.log"
        self._config = folder / "agent.toml"
        targets = "".join(
            f'[[target]]\nsite = "t{n}"\naddress = "{address}"\nudp_echo_port = {reflector.port}\n'
            for n, address in enumerate(reflector.addresses)
        )
        folder.mkdir(exist_ok=True)
        authority = f'ca_file = "{ca_file}"\n' if ca_file else ""
        self._config.write_text(
            f'[agent]\nid = "{name}"\nsite = "sin"\nspool_dir = "{self.spool}"\nspool_max_bytes = {spool_max_bytes}\n'
            "allow_private_targets = true\nstatus_interval_s = 1\ndrain_s = 60\njitter = 0\n"
            f'[collector]\nurl = "{url}"\nbatch_max_age_s = {batch_max_age_s}\nbatch_max_bytes = {batch_max_bytes}\n{authority}'
            "[limits]\npackets_per_second = 1000\npackets_per_second_per_target = 1000\npackets_per_second_per_network = 1000\n"
            f'[[probe]]\ntype = "ping"\nengine = "udp"\ninterval_s = 0.5\ncount = {self.PACKETS}\n'
            f"interval_ms = 20\ntimeout_ms = 400\n{targets}"
        )

    @property
    def under_way(self) -> int:
        """Most packets of rounds that are under way at any moment: what a kill costs."""
        return self.PACKETS * len(self.reflector.addresses)

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "app.cli", "agent", "run", "-v", "--config", str(self._config)],
                cwd=ROOT,
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever runs this
            )

    def wait_measuring(self, packets: int = 20, *, timeout_s: float = 60.0) -> None:
        """Until so many more packets were seen."""
        seen, until = self.reflector.packets, time.monotonic() + timeout_s
        while self.reflector.packets < seen + packets:
            if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the agent does not measure: {self.said()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stop(self) -> None:
        """Ask it to end: last rounds, all sealed, what can be sent is sent."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            self.process = None

    def said(self) -> str:
        """All it said on standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def sentence(self, word: str) -> str:
        """The first line it said with a word in it; empty where there is none."""
        return next((line for line in self.said().splitlines() if word in line), "").strip().replace(str(self.folder.parent), "…")[:240]
