"""The server of the dashboard: Streamlit's files from memory are Streamlit's files, and what a page needs first is named."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.server import FIRST
from app.shelf import BUILD, Shelf, needed

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
        assert name not in html
        assert "rel=modulepreload" in link
    assert "link" not in client.get("/static/nothing").headers
