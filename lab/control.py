"""The lab's control socket: one JSON message asks, one answers (Unix socket, SOCK_SEQPACKET, so a message is a datagram).

Asked::

    {"op": "status"}                             all there is to know: times, events, changes, congestion, counters
    {"op": "changes"}                            what is not as the topology says, and no more
    {"op": "do", "action": {...}}                at once; the table of an action, see lab/actions.py
    {"op": "play", "events": [{...}, ...]}       a script that starts now; tables of events, see lab/script.py
    {"op": "observed", "src": site | null}       what the stamps say, see lab.network.Network.observed
    {"op": "stop"}

Answered: ``{"ok": true, ...}`` or ``{"ok": false, "error"}``, as a file in memory whose descriptor comes with an empty
message: a report of many links is larger than a datagram, and must not hold up the network until somebody has read it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.actions import ACTION_KEYS, read_action
from lab.agenda import Agenda
from lab.script import read_events
from lab.tables import Table
from records.errors import InputError, OutsideError, UserError

__all__ = ["LARGEST_MESSAGE", "answer", "ask", "listen", "reply"]

LARGEST_MESSAGE = 1 << 20
_OPERATIONS = ("status", "changes", "observed", "do", "play", "stop")


def listen(path: Path) -> socket.socket:
    """A socket that waits for questions at a path, open to its owner only."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(16)
    server.setblocking(False)
    return server


def answer(message: bytes, agenda: Agenda, now_ns: int) -> tuple[dict[str, Any], bool]:
    """Do what a message asks of a running network: the answer, where a mistake is told, and whether to stop."""
    topology = agenda.forwarder.topology
    try:
        question = json.loads(message)
        operation = question["op"]
        if operation == "status":
            return {"ok": True, **_changes(agenda), **agenda.report(now_ns), **agenda.forwarder.report()}, False
        if operation == "changes":
            return {"ok": True, **_changes(agenda)}, False
        if operation == "observed":
            return {"ok": True, "observed": agenda.forwarder.observed(question["src"])}, False
        if operation == "do":
            action = read_action(Table(question["action"], "the request", "", ACTION_KEYS), topology)
            agenda.perform(action, now_ns)
            return {"ok": True, "action": str(action)}, False
        if operation == "play":
            events = read_events(Table({"events": question["events"]}, "the request", "", ("events",)), topology)
            agenda.play(events, now_ns)
            return {"ok": True, "events": len(events)}, False
        if operation == "stop":
            return {"ok": True}, True
    except InputError as error:
        return {"ok": False, "error": error.problem}, False
    except UserError as error:
        return {"ok": False, "error": str(error)}, False
    except (ValueError, KeyError, TypeError) as error:
        return {"ok": False, "error": f"malformed message: {error!r}"}, False
    return {"ok": False, "error": f"unknown operation {operation!r}; there are {', '.join(_OPERATIONS)}"}, False


def _changes(agenda: Agenda) -> dict[str, Any]:
    changed = [{"up": up, **asdict(link)} for up, link in agenda.forwarder.changed()]
    return {"changed": changed, "changed_routers": [asdict(router) for router in agenda.forwarder.changed_routers()]}


def reply(client: socket.socket, document: Mapping[str, object]) -> None:
    """Send an answer to whoever asked; never waits."""
    with os.fdopen(os.memfd_create("isochrone-lab-answer"), "wb") as file:
        file.write(json.dumps(document).encode())
        file.flush()
        socket.send_fds(client, [b"{}"], [file.fileno()])


def ask(path: Path, question: Mapping[str, object], timeout_s: float = 5.0) -> dict[str, Any]:
    """Ask the lab at a socket; raises UserError with its words when it refuses, OutsideError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(timeout_s)
        # The request has to fit one datagram.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_MESSAGE)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(question).encode())
            _, descriptors, _, _ = socket.recv_fds(client, LARGEST_MESSAGE, 1)
            if not descriptors:
                raise OSError("it hung up")  # noqa: TRY301  # told like every other way to get no answer
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                found = json.loads(file.read())
        except (OSError, ValueError) as error:
            raise OutsideError(f"the lab does not answer at {path}: {error}") from error
    if not found.get("ok"):
        raise UserError(str(found.get("error")))
    assert isinstance(found, dict)
    return found
