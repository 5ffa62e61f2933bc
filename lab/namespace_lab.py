"""The lab in network namespaces, seen from outside: starting its process, entering its hosts, asking and ending it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from lab import control, namespaces
from lab.actions import Action, LinkAction, RouterAction, SiteAction
from lab.addresses import AddressPlan
from lab.links import Change
from lab.paths import PathFinder
from lab.ports import INFERENCE_PORT
from lab.reading import parse
from lab.routers import RouterChange
from lab.script import event_table
from lab.state import MODEL, REGISTER, LabState, clear_leftovers, default_state_dir, make_state_dir, runtime_dir
from lab.timeline import Event
from lab.topology import Link, Router, Topology
from lab.truth import PairTruth, pair_truths
from records.errors import NotPermitted, OutsideError, UserError
from records.link import MEDIA, Medium

__all__ = ["NamespaceLab", "start"]

_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_LOG = "lab.log"


class NamespaceLab:
    """A running lab of real hosts in network namespaces; implements lab.world.Lab, and changes links as it runs."""

    kind: Literal["namespaces", "loopback"] = "namespaces"

    def __init__(self, state: LabState, process: subprocess.Popen[bytes] | None = None) -> None:
        self.state = state
        self.topology: Topology = parse(state.topology, str(state.state_dir))
        self.state_dir = Path(state.state_dir)
        self._process = process
        self._plan = AddressPlan(self.topology)
        self._finder = PathFinder(self.topology)

    def command(self, site: str, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` at a site; raises UnknownSite."""
        name = self.state.namespaces[self.topology.site(site).id]
        if not self.state.user_namespace:
            return ["ip", "netns", "exec", name, *argv]
        outer = ["nsenter", f"--target={self.state.pid}", "--user", "--mount", "--preserve-credentials", "--"]
        return [*outer, "nsenter", f"--net={namespaces.NAMESPACES / name}", "--", *argv]

    def address(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Where src reaches dst over a medium; None when that medium does not join them."""
        src, dst = self.topology.site(src).id, self.topology.site(dst).id
        joined = self._finder.path(src, dst, medium) and self._finder.path(dst, src, medium)
        return self._plan.of_site(dst, medium) if joined else None

    def media(self, src: str, dst: str) -> tuple[Medium, ...]:
        """The media over which src reaches dst."""
        return tuple(medium for medium in MEDIA if self.address(src, dst, medium) is not None)

    def inference_url(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Base URL of the inference API of dst as src reaches it; None when dst runs no server or is not reached."""
        address = self.address(src, dst, medium)
        return None if address is None or dst not in self.state.servers else f"http://{address}:{INFERENCE_PORT}/v1"

    def truth(self) -> list[PairTruth]:
        """What every pair must measure over every medium, with the changes made so far."""
        status = control.ask(self.state.control, {"op": "changes"})
        entries = [dict(entry) for entry in status["changed"]]
        ups = [entry.pop("up") for entry in entries]
        changed = {link.key: link for link in (Link(**entry) for entry in entries)}
        down = {key for key, up in zip(changed, ups, strict=True) if not up}
        metric = {key: link.metric for key, link in changed.items() if link.metric is not None}
        # Routing goes by metrics and configured delays over the links that are up; the values are those of now.
        finder = PathFinder(self.topology, lambda link: link.key not in down, lambda link: metric.get(link.key, link.weight))
        routers = {**self.topology.router_by_id, **{entry["id"]: Router(**entry) for entry in status["changed_routers"]}}
        return pair_truths(self.topology, finder, changed, [router.id for router in routers.values() if router.silent])

    def observed(self) -> list[dict[str, Any]]:
        """What the fabric's own stamps say of the packets it has delivered, for every pair, medium and IP version.

        The answers of routers stand together under the source None. See lab.observed for lateness and transit.
        """
        found: list[dict[str, Any]] = []
        for src in (*self.topology.by_id, None):
            found += control.ask(self.state.control, {"op": "observed", "src": src})["observed"]
        return found

    def do(self, action: Action) -> None:
        """Do something to the network at once; raises UserError when it cannot be done."""
        control.ask(self.state.control, {"op": "do", "action": action.table()})

    def change(self, src: str, dst: str, change: Change, *, medium: Medium | None = None, both: bool = True) -> None:
        """Change the link between two nodes, in both directions or from src to dst only; raises UserError."""
        self.do(LinkAction(ends=(src, dst), change=change, medium=medium, one_way=not both))

    def change_router(self, router: str, change: RouterChange) -> None:
        """Change a router; raises UserError."""
        self.do(RouterAction(router=router, change=change))

    def change_site(self, site: str, op: Literal["fail", "restore"]) -> None:
        """Fail or restore all links of a site at once; raises UserError."""
        self.do(SiteAction(site=site, op=op))

    def play(self, events: Sequence[Event[Action]]) -> None:
        """Start a script now, beside those that run; raises UserError when it does not fit the topology."""
        control.ask(self.state.control, {"op": "play", "events": [event_table(event) for event in events]})

    def status(self) -> dict[str, Any]:
        """Up time, events done and to come, what is not as the topology says, what is congested, packet counts."""
        return control.ask(self.state.control, {"op": "status"})

    def stop(self) -> None:
        """End every process and namespace of the lab; doing it twice is fine."""
        if self.state.alive:
            try:
                control.ask(self.state.control, {"op": "stop"})
            except (OutsideError, UserError):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.state.pid, signal.SIGTERM)
        if not self._gone(_STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.state.pid, signal.SIGKILL)
            self._gone(_STOP_TIMEOUT_S)
        if self._process is not None:
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait()
        self.state.clear()

    def _gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.state.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def start(
    topology: Topology,
    state_dir: Path | None,
    support: namespaces.Support,
    say: Callable[[str], None],
    *,
    serving: bool,
    detached: bool,
) -> NamespaceLab:
    """Start the lab's process and wait until it is ready; see lab.world.start."""
    folder = (state_dir or default_state_dir()).absolute()
    before = LabState.read(folder)
    if before is not None and before.alive:
        raise UserError(f"a lab is already running in {folder}; end it with `isochrone lab down`, or give another --state-dir")
    for cleared in clear_leftovers():
        say(f"cleared away what the killed lab {cleared} had left")
    is_new = make_state_dir(folder)
    lab_id = secrets.token_hex(3)
    argv = [sys.executable, "-m", "lab.daemon", str(folder), lab_id]
    argv += [flag for flag, given in (("--serving", serving), ("--detached", detached)) if given]
    if support.how == "user-namespace":
        argv = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--", *argv, "--user-namespace"]
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", REGISTER: str(runtime_dir())},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(topology.document()).encode() + b"\n")
        process.stdin.flush()
        _await_ready(process, process.stdout, say, folder / _LOG)
        if detached:
            process.stdin.close()
    except BaseException:
        process.stdin.close()
        process.terminate()
        process.wait()
        _tidy(folder, lab_id, is_new=is_new)
        raise
    finally:
        process.stdout.close()
    state = LabState.read(folder)
    assert state is not None
    return NamespaceLab(state, None if detached else process)


def _tidy(folder: Path, lab_id: str, *, is_new: bool) -> None:
    """Remove what a start that failed has left; a log that says something stays, since messages point at it."""
    state = LabState.read(folder)
    if state is not None and state.id == lab_id:
        state.clear()
    (folder / MODEL).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if (folder / _LOG).stat().st_size == 0:
            (folder / _LOG).unlink()
    if is_new:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _await_ready(process: subprocess.Popen[bytes], messages: IO[bytes], say: Callable[[str], None], log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    waiting: set[str] | None = None
    text = b""
    while waiting is None or waiting:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise OutsideError(f"the lab was not ready within {_READY_TIMEOUT_S:g} s; its log is {log}")
        if not select.select([messages], (), (), left_s)[0]:
            continue
        data = os.read(messages.fileno(), 65536)
        if not data:
            process.wait()
            raise NotPermitted(f"the lab ended before it was ready (status {process.returncode}); {_last_line(log)}")
        *lines, text = (text + data).split(b"\n")
        for message in map(json.loads, lines):
            if "failed" in message:
                raise (OutsideError if message["exit_status"] == OutsideError.exit_status else UserError)(message["failed"])
            if "progress" in message:
                say(message["progress"])
            if "ready" in message:
                waiting = set(message["ready"])
                if waiting:
                    say(f"waiting for {len(waiting)} inference servers")
            if "serving" in message and waiting is not None:
                waiting.discard(message["serving"])


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it said nothing in {log}"
