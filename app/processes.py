"""Child processes of the command line: each in a session of its own, ended by id, never outliving its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from records.errors import OutsideError

__all__ = ["Child", "require_free_port", "spawn"]

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child: SIGTERM when the parent is gone, also after its kill -9 (prctl(2), Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@dataclass(slots=True)
class Child:
    """A running child process with its name and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM; nothing when it has ended."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, for at most `timeout_s`; then SIGKILL. Returns the exit status (negative: a signal)."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def last_words(self, lines: int = 8) -> str:
        """The end of its log, for the message when it failed."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def spawn(name: str, argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None) -> Child:
    """Start a child in its own session, so that Ctrl-C reaches only us and we end it in order.

    log   file its output and errors are appended to; None: it shares ours
    env   added to our environment

    Raises OutsideError when it cannot be started.
    """
    output = log.open("ab") if log is not None else None
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads are started before our children are
        )
    except OSError as error:
        raise OutsideError(f"cannot start {name} ({argv[0]}): {error.strerror}") from error
    finally:
        if output is not None:
            output.close()
    return Child(name, process, log)


def require_free_port(host: str, port: int, what: str) -> None:
    """Raise OutsideError when nothing of ours can listen on host:port, before anything has been started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OutsideError(
                f"{what} cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}; "
                "end what listens there or choose another port"
            ) from error
