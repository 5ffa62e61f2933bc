"""The server of the dashboard: Streamlit's files from memory are Streamlit's files, and what a page needs first is named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app import server
from app.access import Access
from app.board import Board, Home, Poster
from app.components import netmap
from app.picture import Opening
from app.poster import poster
from app.server import FIRST
from app.shelf import BUILD, Shelf, looks, needed
from app.theme import DARK, LIGHT
from records.place import Site

#: The largest script of Streamlit's build that is not a chart.
SCRIPT = next((BUILD / "static" / "js").glob("protobuf.*.js"))


@pytest.fixture(params=["127.0.0.1", "203.0.113.9"], ids=["here", "elsewhere"])
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client on this machine, or on another one, of a server that knows two pages of its own."""
    app = Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse("<p>page</p>")),
            Route("/static/{path:path}", lambda _: PlainTextResponse("the server's own")),
        ],
        middleware=[Middleware(Shelf, first=needed(FIRST))],
    )
    with TestClient(app, client=(request.param, 4711)) as found:
        yield found


def test_a_file_is_what_lies_on_the_disk(client: TestClient) -> None:
    """Byte for byte, for good, as a script; compressed for another machine only, and only where it says that it can."""
    path = f"/static/js/{SCRIPT.name}"
    for _ in range(2):
        with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
        away = answer.headers.get("content-encoding") == "gzip"
        assert away is not client._transport.client[0].startswith("127.")  # type: ignore[attr-defined]
        assert (gzip.decompress(raw) if away else raw) == SCRIPT.read_bytes()
        assert int(answer.headers["content-length"]) == len(raw)
        assert "javascript" in answer.headers["content-type"]
        assert "immutable" in answer.headers["cache-control"]
    assert "content-encoding" not in client.get(path, headers={"accept-encoding": "identity"}).headers


@pytest.mark.parametrize("path", ["/static/js/no-such-file.js", "/static/../manifest.json", "/static/%2e%2e/manifest.json"])
def test_what_is_no_file_of_the_build_goes_on_to_the_server(client: TestClient, path: str) -> None:
    """An unknown name, and one that climbs out of the folder, are not ours to answer."""
    answer = client.get(path)
    assert answer.status_code == 404 or answer.text == "the server's own"


def test_a_part_of_a_file_is_left_to_the_server(client: TestClient) -> None:
    """A range is the server's."""
    assert client.get(f"/static/js/{SCRIPT.name}", headers={"range": "bytes=0-9"}).text == "the server's own"


def test_a_page_names_what_it_needs_first(client: TestClient) -> None:
    """The Link header names scripts that exist and that Streamlit's own page does not name; other answers have none."""
    links = client.get("/").headers["link"].split(", ")
    html = (BUILD / "index.html").read_text("utf-8")
    assert any("BidiComponent" in link for link in links)
    for link in links:
        name = link.partition(">")[0].removeprefix("</")
        assert (BUILD / name).is_file()
        assert (name in html) == (name in looks())
        assert ("rel=preload; as=style" if name in looks() else "rel=modulepreload") in link
    assert looks()
    assert "link" not in client.get("/static/nothing").headers


@pytest.fixture(params=["127.0.0.1", "203.0.113.9"], ids=["here", "elsewhere"])
def visit(request: pytest.FixtureRequest) -> Iterator[tuple[Board, TestClient]]:
    """A board, and a client of a server whose page it hangs in; the page is a file, with all that is said of files."""

    async def page(_: Request) -> Response:
        return HTMLResponse('<body><div id="root"></div></body>', headers={"etag": '"x"', "last-modified": "now", "accept-ranges": "bytes"})

    board = Board()
    app = Starlette(routes=[Route("/", page), Route("/mesh", page)], middleware=[Middleware(Poster, board=board)])
    with TestClient(app, client=(request.param, 4711)) as found:
        yield board, found


HISTORY = f"<script>{(Path(server.__file__).parent / 'components' / 'history.js').read_text('utf-8')}</script>"
BARE = f'<body>{HISTORY}<div id="root"></div></body>'
SEEN = f'<body>{HISTORY}<p>pictüre</p><div id="root"></div></body>'


def test_the_picture_is_in_the_page_that_would_show_the_same(visit: tuple[Board, TestClient]) -> None:
    """At the root, without a query or with the window it is of; no other page or view, and not before it is there."""
    board, client = visit
    assert client.get("/").text == BARE
    board.put("<p>pictüre</p>".encode(), "24h")
    for path, wanted in {
        "/": SEEN,
        "/?window=24h": SEEN,
        "/?window=1h": BARE,
        "/?site=sin": BARE,
        "/?window=": BARE,
        "/mesh": BARE,
    }.items():
        answer = client.get(path)
        assert answer.text == wanted, path
        assert "etag" not in answer.headers  # of the file as it is on the disk
    assert client.head("/").headers["content-length"] == str(len('<body><div id="root"></div></body>'))
    board.clear()
    assert client.get("/").text == BARE


def test_the_picture_is_never_the_browsers_old_one(visit: tuple[Board, TestClient]) -> None:
    """The answer is whole whatever the browser says that it has kept, says nothing of the file, and is not kept."""
    board, client = visit
    board.put("<p>pictüre</p>".encode(), "24h")
    answer = client.get("/", headers={"if-none-match": '"x"', "range": "bytes=0-3"})
    assert answer.status_code == 200
    assert answer.text == SEEN
    assert answer.headers["cache-control"] == "no-store"
    assert not {"etag", "last-modified", "accept-ranges"} & set(answer.headers)
    away = answer.headers.get("content-encoding") == "gzip"
    assert away is not client._transport.client[0].startswith("127.")  # type: ignore[attr-defined]
    assert away or int(answer.headers["content-length"]) == len(SEEN.encode())


def test_a_picture_that_nobody_renews_is_taken_down(visit: tuple[Board, TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made every minute; after two and a half nobody sees it."""
    board, client = visit
    board.put("<p>pictüre</p>".encode(), "24h")
    now = time.monotonic()
    monkeypatch.setattr("app.board.time.monotonic", lambda: now + 149)
    assert client.get("/").text == SEEN
    monkeypatch.setattr("app.board.time.monotonic", lambda: now + 152)
    assert client.get("/").text == BARE


def test_names_in_a_picture_stay_names() -> None:
    """A site or a figure that holds HTML is shown as it is, and ends neither the script nor the element it is in."""
    bad = "</script></template><img src=x onerror=alert(1)>"
    site = Site(id="bad", kind="pop", name=bad, lat=1.0, lon=2.0)
    spec = {name: netmap.encoded(netmap.map_spec({"bad": site}, [], theme)) for name, theme in (("light", LIGHT), ("dark", DARK))}
    html = poster(Opening([("Sites", bad, bad, False)], spec["light"], spec["dark"], "24h")).decode()
    assert "<img" not in html
    assert html.count("</template>") == 1
    inside = html.partition('<script type="application/json">')[2].partition("</script>")[0]
    drawn = json.loads(inside)
    assert drawn["both"]["sites"][0]["tip"][1][1] == bad
    for name in ("light", "dark"):
        assert drawn["both"] | drawn[name] == json.loads(spec[name])


def test_nobody_sees_the_picture_before_a_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an access file the page stays bare; without one the same warehouse's picture is in it."""
    opening = Opening([("Sites", "590", "", False)], b'{"sites":[]}', b'{"sites":[]}', "24h")
    monkeypatch.setattr(server, "BOARD", Board())
    monkeypatch.setattr("app.picture.ready", lambda: opening)
    monkeypatch.setattr("app.access.configured", lambda: None)
    server._look()
    assert server.BOARD.shown(b"") is not None
    monkeypatch.setattr("app.access.configured", lambda: Access({}))
    server._look()
    assert server.BOARD.shown(b"") is None


def test_the_first_page_has_a_name_too() -> None:
    """/overview leads to the root with its query, below a proxy's path as well; what is not quite it goes on."""
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("home"))], middleware=[Middleware(Home, name="overview")])
    with TestClient(app) as client:
        assert client.get("/overview").text == "home"
        answer = client.get("/overview?site=sin&metric=loss", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "./?site=sin&metric=loss")
        assert client.get("/overview/").status_code == 404
        assert client.post("/overview").status_code == 404


def test_garbage_that_lived_long_is_looked_for_by_the_minute_only() -> None:
    """A million cycles, of which Python would look through the old ones again and again: not once; asked for, all are found."""
    script = """
import gc
from app import server
server._import()
gc.collect()
before = gc.get_stats()
for _ in range(1_000_000):
    ring = []
    ring.append(ring)
kept = [[] for _ in range(400_000)]
after = gc.get_stats()
assert after[1]["collections"] > before[1]["collections"], "the young are looked through"
assert after[2]["collections"] == before[2]["collections"], "the old are not"
assert sum(one["collected"] for one in after) - sum(one["collected"] for one in before) > 900_000
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
