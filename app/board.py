"""What is added to Streamlit's page as it goes out: how the browser's history counts pages, and a picture of the Overview.

The picture (app.poster makes it) hangs here for a visit that would open the Overview as it opens by itself, and for no other.
"""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from app.shelf import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Board", "Home", "Poster"]

#: An older picture is not shown: whoever makes it has stopped.
STALE_S = 150.0
#: The element that Streamlit fills; the picture goes before it.
_ROOT = b'<div id="root">'
#: What is asked of the page is asked of the file, which is not what is sent.
_CONDITIONS = {b"if-none-match", b"if-modified-since", b"range", b"accept-encoding"}
#: What the server says of the file alone.
_OF_THE_FILE = {b"content-length", b"etag", b"last-modified", b"accept-ranges", b"cache-control"}


class Board:
    """Where the picture hangs: put up by whoever makes it, read by whoever answers."""

    def __init__(self) -> None:
        self._shown: tuple[bytes, str, float] | None = None

    def put(self, html: bytes, window: str) -> None:
        """Show this from now on: HTML made of what the Overview opens with, over a window."""
        self._shown = (html, window, time.monotonic())

    def clear(self) -> None:
        """Show nothing."""
        self._shown = None

    def shown(self, query: bytes) -> bytes | None:
        """The picture for a visit with this query, where it is of what that visit would see."""
        if self._shown is None or time.monotonic() - self._shown[2] > STALE_S:
            return None
        html, window, _ = self._shown
        asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return html if asked in ([], [("window", window)]) else None


class Home:
    """ASGI middleware: whoever types the first page's own name is led to the root, which is where Streamlit has its first page."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self._path = f"/{name}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lead on, or pass on."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or scope["path"] != self._path:
            await self.app(scope, receive, send)
            return
        query = scope["query_string"]
        # Relative, so that it holds below a proxy's path too.
        headers = [(b"location", b"./" + (b"?" + query if query else b"")), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class Poster:
    """ASGI middleware: adds `history.js` to the page (any name without a dot), and the board's picture at the root of the server."""

    def __init__(self, app: ASGIApp, board: Board) -> None:
        self.app = app
        self._board = board
        self._script = b"<script>" + (Path(__file__).parent / "components" / "history.js").read_bytes() + b"</script>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and add to the answer where it is the page."""
        wanted = scope["type"] == "http" and scope["method"] == "GET" and not scope.get("root_path")
        if not wanted or "." in scope["path"] or scope["path"].startswith("/_stcore/"):
            await self.app(scope, receive, send)
            return
        html = self._script + ((self._board.shown(scope["query_string"]) or b"") if scope["path"] == "/" else b"")
        # The whole page, as it is on the disk: what the browser has kept of it has another picture.
        asked = scope["headers"]
        scope = {**scope, "headers": [(name, value) for name, value in asked if name not in _CONDITIONS]}
        here = (scope.get("client") or ("",))[0].startswith(LOOPBACK)
        packed = not here and b"gzip" in dict(asked).get(b"accept-encoding", b"")
        start: Message | None = None
        body = b""

        async def added(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            headers = start["headers"]
            if start["status"] == 200 and body.count(_ROOT) == 1:
                body = body.replace(_ROOT, html + _ROOT)
                headers = [(name, value) for name, value in headers if name.lower() not in _OF_THE_FILE]
                if packed:
                    body = gzip.compress(body, 1)
                    headers.append((b"content-encoding", b"gzip"))
                headers += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), (b"vary", b"accept-encoding")]
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, added)
