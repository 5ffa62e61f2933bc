"""What an agent tells systemd (sd_notify(3)): ready, reloading, stopping, and that its loop still turns. Nothing without systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

__all__ = ["Notifier"]


class Notifier:
    """Datagrams to the socket that the environment names; see systemd.service(5), Type=notify."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        env = dict(os.environ) if environment is None else environment
        address = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        micros, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", str(os.getpid()))
        self._watchdog_s = int(micros) / 1e6 if micros.isdigit() and pid == str(os.getpid()) else None

    def ready(self, status: str) -> None:
        """Everything is open and running."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A new configuration is being read; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    async def watch(self) -> None:
        """Say three times per watchdog interval that the event loop turns; ends only by being cancelled."""
        while self._watchdog_s is not None and self._address:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 3)
        await asyncio.Event().wait()

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)
