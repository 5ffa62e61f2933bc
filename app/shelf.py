"""Streamlit's own scripts and fonts, kept in memory as they go out.

A browser's first visit asks for about a hundred files. Read from disk piece by piece in a thread, each costs several milliseconds
of the processor that the first page needs too; from here it costs two messages. Their names carry a hash of what is in them, so a
browser keeps them for good, and they go out compressed to whoever is not on this machine.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import mimetypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "Shelf", "looks", "needed"]

#: Streamlit's build, as its package has it; its hashed files are served below PREFIX.
BUILD = Path(streamlit.__file__).parent / "static"
PREFIX = "/static/"
#: Compressed already.
_DENSE = {".woff2", ".woff", ".png", ".gif", ".webp"}
#: How the address of this very machine begins: nothing is compressed for it.
LOOPBACK = ("127.", "::1")


def needed(parts: Iterable[str]) -> list[str]:
    """The scripts that draw some of Streamlit's elements (``Html/Html.tsx``) and are not in its page, as ``static/js/...``.

    From the manifest of Streamlit's own build; a part it does not know counts for nothing.
    """
    try:
        manifest = json.loads((BUILD / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []

    def below(name: str, found: dict[str, str]) -> dict[str, str]:
        if name not in found and name in manifest:
            found[name] = manifest[name]["file"]
            for other in manifest[name].get("imports", ()):
                below(other, found)
        return found

    page = below("index.html", {})
    wanted: dict[str, str] = {}
    for name in manifest:
        if name.endswith(tuple(parts)):
            below(name, wanted)
    return [file for name, file in wanted.items() if name not in page]


def looks() -> list[str]:
    """The style sheets of Streamlit's page, as ``static/css/...``: nothing is painted before they are there."""
    try:
        found = json.loads((BUILD / "manifest.json").read_text("utf-8"))["index.html"].get("css", [])
    except (OSError, ValueError, KeyError):
        return []
    return [str(name) for name in found]


@dataclass(slots=True)
class _File:
    """What is sent of one file; gzipped once somebody asked for it so."""

    path: Path
    body: bytes = b""
    gzipped: bytes = b""


class Shelf:
    """ASGI middleware: answers GET of Streamlit's hashed files; everything else goes on to the server.

    first   files that the first page needs and its HTML does not name: the answer to a page names them in a Link header
            (RFC 8288; rel=modulepreload), so that the browser fetches them beside the rest and not one after the other
    """

    def __init__(self, app: ASGIApp, first: Sequence[str] = ()) -> None:
        self.app = app
        self._files = {PREFIX + path.relative_to(BUILD / "static").as_posix(): _File(path) for path in (BUILD / "static").rglob("*.*")}
        styles = [f"</{name}>; rel=preload; as=style; crossorigin" for name in looks()]
        self._link = ", ".join([*styles, *(f"</{name}>; rel=modulepreload; crossorigin" for name in first)]).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        file = None if scope.get("root_path") else self._files.get(scope["path"])
        asked = dict(scope["headers"])
        if file is not None and b"range" not in asked:
            await self._give(file, asked, scope, send)
            return

        async def linked(message: Message) -> None:
            if message["type"] == "http.response.start" and self._link:
                kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
                if kind.startswith(b"text/html") and not scope.get("root_path"):
                    message["headers"] = [*message["headers"], (b"link", self._link)]
            await send(message)

        await self.app(scope, receive, linked)

    async def _give(self, file: _File, asked: dict[bytes, bytes], scope: Scope, send: Send) -> None:
        if not file.body:
            file.body = await asyncio.to_thread(file.path.read_bytes)
        body, dense = file.body, file.path.suffix in _DENSE
        client = (scope.get("client") or ("",))[0]
        headers = [
            (b"content-type", (mimetypes.guess_type(file.path.name)[0] or "application/octet-stream").encode()),
            (b"cache-control", b"public, immutable, max-age=31536000"),
            (b"vary", b"accept-encoding"),
        ]
        if not dense and b"gzip" in asked.get(b"accept-encoding", b"") and not client.startswith(LOOPBACK):
            if not file.gzipped:
                file.gzipped = await asyncio.to_thread(gzip.compress, file.body, 6)
            body = file.gzipped
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
