"""What people come for, done in Debian's chromium: the best route, a PoP that fails, two sites to place, a query; the sign-in."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from test_browser_pages import (  # noqa: F401  fixtures
    MAP,
    SHOTS,
    _canvas_click,
    _is_drawn,
    _listen,
    _open,
    _settled,
    _until,
    browser,
    chromium,
    pytestmark,
    served,
)

from app.dashboard import argv, environment


def _figure(page: Any, name: str) -> str:
    """The value of a figure of the strip by its name."""
    cell = page.locator(".iso-kpi", has=page.locator(".n", has_text=name)).first
    return str(cell.locator(".v").inner_text())


@pytest.mark.parametrize("browser", ["light"], indirect=True)
def test_the_main_tasks(served: str, browser: tuple[Any, list[str]], tmp_path: Path) -> None:  # noqa: F811
    """One person, one session: find the best route, fail a PoP and see the difference, place two sites, run a query and save it."""
    context, leaks = browser
    page = context.new_page()
    errors = _listen(page)

    page.goto(f"{served}/routes?src=gru")
    _settled(page)
    best = _figure(page, "Serve at")
    assert best
    page.get_by_text("Why not the others").click()
    page.get_by_text("2 gru").first.wait_for(timeout=10_000)

    page.goto(f"{served}/scenario")
    _settled(page)
    before = _figure(page, "TTFT p95")
    page.get_by_role("button", name="Add a change").click()
    page.get_by_role("button", name="Add", exact=True).click()
    changes = page.get_by_text("A site fails:")
    _until(lambda: changes.count() == 2, "a second change", page)
    _settled(page)
    assert "s=" in page.url
    link = page.url
    for left in (1, 0):
        page.get_by_role("button", name="✕").first.click()
        _until(lambda left=left: changes.count() == left, f"{left} changes", page)
    page.get_by_text("No change yet").wait_for(timeout=15_000)
    assert _figure(page, "Served elsewhere") == "0 %"
    page.goto(link)
    _settled(page)
    _until(lambda: changes.count() == 2, "both changes from the shared link", page)
    assert before
    page.get_by_text("As table").click()
    grid = page.get_by_test_id("stExpander").get_by_test_id("stDataFrame").locator("canvas").first
    grid.wait_for()
    page.wait_for_timeout(1_000)  # the table unfolds
    size = grid.bounding_box()
    assert size is not None
    # A canvas has no cells to click by name; what lies over it takes the click.
    page.mouse.click(size["x"] + size["width"] * 0.9, size["y"] + 52)  # the first value, under the head
    page.keyboard.press("Enter")
    typing = page.locator("#portal textarea, #portal input").first
    typing.fill("iad")
    typing.press("Enter")
    _until(lambda: page.get_by_text("A site fails: iad").count() == 1, "the site typed into the table", page)

    page.goto(f"{served}/placement?k=2&kinds=pop")
    _settled(page)
    _until(lambda: _is_drawn(page, MAP), "the map of the two sites", page)
    page.get_by_text("isochrone place -k 2").wait_for(timeout=15_000)

    page.goto(f"{served}/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20")
    _settled(page)
    page.locator("textarea[aria-autocomplete=list]").wait_for()  # the completion stands beside it and comes a little later
    box = page.get_by_label("Query", exact=True)
    box.focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("sit")
    page.get_by_role("option", name="site table").wait_for(timeout=15_000)
    page.keyboard.press("Enter")
    assert box.input_value() == "SELECT count(*) AS n FROM site"
    page.keyboard.press("Control+Enter")
    page.get_by_text("1 row").first.wait_for(timeout=15_000)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    saved = tmp_path / "result.csv"
    waiting.value.save_as(saved)
    rows = saved.read_text().split()
    assert rows[0] == "n"
    assert int(rows[1]) == 14  # the sites of the test world

    page.goto(f"{served}/sql?q=SELECT%201%20AS%20a,%202%20AS%20a")
    page.get_by_role("button", name="Run").click()
    page.get_by_text("1 row, 2 columns").wait_for(timeout=15_000)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Parquet", exact=True).click()
    waiting.value.save_as(tmp_path / "result.parquet")
    assert pq.read_table(tmp_path / "result.parquet").to_pylist() == [{"a": 1, "a_2": 2}]

    assert leaks == []
    assert errors == []


@pytest.mark.parametrize("browser", ["dark"], indirect=True)
def test_signing_in_shows_what_the_role_may_see(served: str, browser: tuple[Any, list[str]], tmp_path: Path) -> None:  # noqa: F811
    """A real OpenID Connect provider beside it: nobody sees a number unsigned; a reader all but SQL; a stranger nothing."""
    provider = pytest.importorskip("oidc_provider_mock")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with provider.run_server_in_thread(port=0) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        access = tmp_path / "access.toml"
        access.write_text(
            f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{"c" * 40}"\nclient_id = "iso"\n'
            f'client_secret = "never-shown"\nserver_metadata_url = "{issuer}/.well-known/openid-configuration"\n'
            '[roles]\nreader = ["reader@example.net"]\nanalyst = ["noc@example.net"]\n'
        )
        access.chmod(0o600)
        for name in ("reader", "noc", "stranger"):
            httpx.put(f"{issuer}/users/{name}", json={"email": f"{name}@example.net", "email_verified": True}).raise_for_status()
        env = {**os.environ, **environment(os.environ.get("ISOCHRONE_WAREHOUSE") or str(tmp_path / "none"), access)}
        process = subprocess.Popen(argv("127.0.0.1", port, access), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(300):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            context, _ = browser
            for name, titles in (("reader", {"Overview", "Inventory"}), ("noc", {"Overview", "SQL"}), ("stranger", set())):
                page = _open(context, f"http://127.0.0.1:{port}", "inventory")
                page.get_by_role("button", name="Sign in").wait_for(timeout=20_000)
                assert page.locator("[data-testid=stDataFrame]").count() == 0
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(f"{issuer}/**", timeout=20_000)
                page.locator("input[name=sub]").fill(name)
                page.get_by_role("button", name="Authorize").click()
                page.wait_for_url(f"http://127.0.0.1:{port}/**", timeout=20_000)
                page.get_by_text(f"{name}@example.net").first.wait_for(timeout=20_000)
                _settled(page)
                shown = set(page.locator("[data-testid=stSidebarNav] a").all_inner_texts())
                assert titles <= {text.strip().splitlines()[-1] for text in shown}
                if name == "reader":
                    assert not any("SQL" in text for text in shown)
                if name == "stranger":
                    page.get_by_text("has no role").wait_for(timeout=10_000)
                assert "never-shown" not in page.content()
                page.get_by_role("button", name="Sign out").click()
                page.wait_for_url(f"{issuer}/**", timeout=20_000)  # its provider may ask whether to end its own session too
                page.goto(f"http://127.0.0.1:{port}/inventory")
                page.get_by_role("button", name="Sign in").wait_for(timeout=20_000)
                page.close()
        finally:
            process.terminate()
            process.wait(15)
