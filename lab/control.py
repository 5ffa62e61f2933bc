"""The lab's control socket: one JSON message asks, one answers (Unix socket, SOCK_SEQPACKET, so a message is a datagram).

Asked::

    {"op": "status"}
    {"op": "stop"}
    {"op": "change", "src", "dst", "medium" | null, "both": bool, "change": {...}}   with the fields of lab.links.Change
    {"op": "change_router", "router", "change": {...}}                               with those of lab.routers.RouterChange
    {"op": "change_site", "site", "change": "fail" | "restore"}

Answered: ``{"ok": true, ...}`` or ``{"ok": false, "error"}``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.forwarding import Forwarder
from lab.links import Change
from lab.routers import RouterChange
from records.errors import OutsideError, UserError

__all__ = ["LARGEST_MESSAGE", "answer", "ask", "listen"]

LARGEST_MESSAGE = 1 << 20
_OPERATIONS = ("status", "change", "change_router", "change_site", "stop")


def listen(path: Path) -> socket.socket:
    """A socket that waits for questions at a path, open to its owner only."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(16)
    server.setblocking(False)
    return server


def answer(message: bytes, forwarder: Forwarder) -> tuple[dict[str, Any], bool]:
    """Do what a message asks of a running network: the answer, where a mistake is told, and whether to stop."""
    try:
        question = json.loads(message)
        operation = question["op"]
        if operation == "status":
            changed = [{"up": up, **asdict(link)} for up, link in forwarder.changed()]
            routers = [asdict(router) for router in forwarder.changed_routers()]
            return {"ok": True, "changed": changed, "changed_routers": routers, **forwarder.report()}, False
        if operation == "change":
            change = Change(**question["change"])
            src, dst = question["src"], question["dst"]
            forwarder.change(src, dst, question["medium"], change)
            if question["both"]:
                forwarder.change(dst, src, question["medium"], change)
            return {"ok": True}, False
        if operation == "change_router":
            forwarder.change_router(question["router"], RouterChange(**question["change"]))
            return {"ok": True}, False
        if operation == "change_site":
            forwarder.change_site(question["site"], question["change"])
            return {"ok": True}, False
        if operation == "stop":
            return {"ok": True}, True
    except UserError as error:
        return {"ok": False, "error": str(error)}, False
    except (ValueError, KeyError, TypeError) as error:
        return {"ok": False, "error": f"malformed message: {error!r}"}, False
    return {"ok": False, "error": f"unknown operation {operation!r}; there are {', '.join(_OPERATIONS)}"}, False


def ask(path: Path, question: Mapping[str, object], timeout_s: float = 5.0) -> dict[str, Any]:
    """Ask the lab at a socket; raises UserError with its words when it refuses, OutsideError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(question).encode())
            reply = json.loads(client.recv(LARGEST_MESSAGE))
        except (OSError, ValueError) as error:
            raise OutsideError(f"the lab does not answer at {path}: {error}") from error
    if not reply.get("ok"):
        raise UserError(str(reply.get("error")))
    assert isinstance(reply, dict)
    return reply
