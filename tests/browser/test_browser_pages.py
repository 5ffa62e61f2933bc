"""The dashboard in Debian's chromium: every page draws, nothing is fetched from another host, clicks lead where they say."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import metrics
from app.components import heatmap
from app.dashboard import argv, environment
from app.theme import LIGHT
from inventory.load import load
from records.link import LinkEstimate

sys.path.insert(0, str(Path(__file__).parents[1] / "app"))
import dashboard_seed

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
#: The canvas of a map. (A table is drawn on canvases too.)
MAP = ".map canvas"
#: Page -> the selector of its main drawing.
PAGES = {
    "": MAP,
    "mesh": "canvas.cells",
    "pair": ".js-plotly-plot .main-svg",
    "paths": ".js-plotly-plot .main-svg",
    "inference": ".js-plotly-plot .main-svg",
    "routes": ".js-plotly-plot .main-svg",
    "isochrones": MAP,
    "whatif": MAP,
    "scenario": MAP,
    "placement": MAP,
    "cost": ".js-plotly-plot .main-svg",
    "fleet": ".js-plotly-plot .main-svg",
    "quality": ".js-plotly-plot .main-svg",
    "inventory": MAP,
    "sql": "[data-testid=stDataFrame]",
}
#: Needs no warehouse.
ALONE = {"inventory"}
#: Where screenshots are kept, as build output.
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
#: Streamlit looks for these below the page's own path before it looks at the root, and the browser logs the first as missing.
PROBED = ("/_stcore/health", "/_stcore/host-config")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard in its own process over the test world; its address."""
    folder = dashboard_seed.build(tmp_path_factory.mktemp("world") / "warehouse", minutes=20)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, **environment(str(folder))}
    process = subprocess.Popen(argv("127.0.0.1", port), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{address}/_stcore/health", timeout=1).text == "ok":
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            pytest.fail("the dashboard did not become ready in 30 s")
        yield address
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the module. (Not for longer: while it is open no other test of this process could run a loop of its own.)"""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def browser(request: pytest.FixtureRequest, chromium: Any) -> Iterator[tuple[Any, list[str]]]:
    """A profile that nobody used before, in one colour scheme, and the list of requests to other hosts, which are refused."""
    leaks: list[str] = []

    def guard(route: Any) -> None:
        if route.request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
            route.continue_()
        else:
            leaks.append(route.request.url)
            route.abort()

    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=request.param)
    context.route("**/*", guard)
    yield context, leaks
    context.close()


def _settled(page: Any) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)


def _open(context: Any, address: str, path: str) -> Any:
    page = context.new_page()
    page.goto(f"{address}/{path}")
    _settled(page)
    return page


def _is_drawn(page: Any, selector: str) -> bool:
    """A canvas holds more than one colour; anything else has a size."""
    return bool(
        page.evaluate(
            """(selector) => {
                const found = [];
                const walk = (root) => {
                    for (const node of root.querySelectorAll('*')) {
                        if (node.matches(selector)) found.push(node);
                        if (node.shadowRoot && node.id !== 'iso-poster') walk(node.shadowRoot);
                    }
                };
                walk(document);
                const drawn = (node) => {
                    if (node.tagName !== 'CANVAS') return node.getBoundingClientRect().height > 20;
                    if (!node.width || !node.height || node.height < 20) return false;
                    const data = node.getContext('2d').getImageData(0, 0, node.width, node.height).data;
                    const colours = new Set();
                    for (let i = 0; i < data.length; i += 404) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
                    return colours.size > 4;
                };
                return found.some(drawn);
            }""",
            selector,
        )
    )


def _until(condition: Any, what: str, page: Any) -> None:
    for _ in range(250):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not seen within 25 s: {what}")


def _listen(page: Any) -> list[str]:
    """The errors the page's console will show, but for what Streamlit looks for by trial."""
    errors: list[str] = []

    def heard(message: Any) -> None:
        if message.type == "error" and not message.location.get("url", "").endswith(PROBED):
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def test_every_page_draws_and_asks_no_other_host(served: str, browser: tuple[Any, list[str]], request: pytest.FixtureRequest) -> None:
    """Every page, one after the other in one session as a person goes through them: its drawing is there, no exception box, a silent
    console, no request to another host; in light and in dark. Their pictures are kept as build output.
    """
    context, leaks = browser
    scheme = request.node.callspec.params["browser"]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = context.new_page()
    errors = _listen(page)
    page.goto(served)
    for path, selector in PAGES.items():
        _settled(page)
        if path:
            page.locator(f"[data-testid=stSidebarNav] a[href$='/{path}']").click()
            _until(lambda page=page, path=path: page.url.partition("?")[0].endswith(f"/{path}"), f"the address of /{path}", page)
            _settled(page)
        _until(lambda page=page, selector=selector: _is_drawn(page, selector), f"{selector} on /{path}", page)
        assert page.locator("[data-testid=stException]").count() == 0, path
        assert page.locator("[data-testid=stAlertContentError]").count() == 0, path
        page.screenshot(path=str(SHOTS / f"{path or 'overview'}-{scheme}.png"))
    assert leaks == []
    assert errors == []


#: The canvas of the map that is seen, and the row of figures: where they are, and what is drawn.
_SEEN = """(root) => {
    const within = root === 'poster' ? document.getElementById('iso-poster').shadowRoot : document.getElementById('root');
    const all = (at, found = []) => {
        for (const node of at.querySelectorAll('*')) { found.push(node); if (node.shadowRoot) all(node.shadowRoot, found); }
        return found;
    };
    const nodes = all(within);
    const canvas = nodes.find((node) => node.tagName === 'CANVAS' && /link/.test(node.getAttribute('aria-label') || ''));
    const strip = nodes.find((node) => node.classList.contains('iso-strip'));
    const head = nodes.find((node) => node.tagName === 'H1');
    const place = (node) => { const box = node.getBoundingClientRect(); return [box.x, box.y, box.width, box.height].map(Math.round); };
    return { places: [head, strip, canvas].map(place), figures: strip.innerText.split('\\n').slice(0, 8), picture: canvas.toDataURL() };
}"""


def test_the_map_is_there_before_the_page_and_the_page_puts_its_own_in_its_place(served: str, browser: tuple[Any, list[str]]) -> None:
    """A new visit sees head, figures and map at once, at the place and to the pixel as the live page has them a moment later."""
    context, _ = browser
    made = time.monotonic() + 90
    while b"iso-poster" not in httpx.get(served).content:
        assert time.monotonic() < made, "no picture was made in 90 s"
        time.sleep(0.2)
    page = context.new_page()
    said = _listen(page)
    # Streamlit's scripts wait until the picture was looked at.
    page.route("**/static/js/index.*.js", lambda _: None)
    page.goto(f"{served}/", wait_until="commit")
    page.wait_for_function("() => performance.getEntriesByName('isochrone-poster').length && document.fonts.status === 'loaded'")
    page.wait_for_timeout(100)
    poster = page.evaluate(_SEEN, "poster")
    page.unroute("**/static/js/index.*.js")
    page.goto(f"{served}/")
    page.wait_for_function("() => !document.getElementById('iso-poster')", timeout=60_000)
    _settled(page)
    live = page.evaluate(_SEEN, "live")
    assert live["places"] == poster["places"]
    assert live["figures"] == poster["figures"]
    assert live["picture"] == poster["picture"]
    assert not said


def _canvas_click(page: Any, selector: str, where: str) -> None:
    """Click a place of the first such canvas: `where` is JavaScript from the canvas's box to {x, y}."""
    spot = page.evaluate(
        f"""(selector) => {{
            let canvas = null;
            const walk = (root) => {{
                for (const node of root.querySelectorAll('*')) {{
                    if (!canvas && node.matches(selector)) canvas = node;
                    if (node.shadowRoot && node.id !== 'iso-poster') walk(node.shadowRoot);
                }}
            }};
            walk(document);
            canvas.scrollIntoView({{block: 'center'}});
            const box = canvas.getBoundingClientRect();
            return ({where})(box, canvas);
        }}""",
        selector,
    )
    page.mouse.click(spot["x"], spot["y"])


@pytest.mark.parametrize("browser", ["light"], indirect=True)
def test_clicks_lead_to_the_pair_and_the_focus(served: str, browser: tuple[Any, list[str]]) -> None:
    """A cell of the mesh opens its pair; the keyboard focuses a site on the map; the address says both."""
    context, _ = browser
    page = _open(context, served, "mesh?grid=pop-region")
    _until(lambda: _is_drawn(page, "canvas.cells"), "the heat map", page)
    _canvas_click(page, "canvas.cells", "(box) => ({x: box.left + box.width * 0.35, y: box.top + box.height * 0.5})")
    _until(lambda: "/pair" in page.url and "src=" in page.url and "dst=" in page.url, "the pair's address", page)
    _settled(page)
    assert page.locator("[data-testid=stException]").count() == 0

    page = _open(context, served, "?site=sin")
    _until(lambda: _is_drawn(page, MAP), "the map", page)
    assert "site=sin" in page.url
    _canvas_click(page, MAP, "(box, canvas) => { canvas.focus(); return {x: box.left + 4, y: box.bottom - 4}; }")
    _until(lambda: "site=" not in page.url, "the focus to be gone after a click on open water", page)
    _settled(page)
    _canvas_click(page, MAP, "(box, canvas) => { canvas.focus(); return {x: box.left + 4, y: box.bottom - 4}; }")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _until(lambda: "site=" in page.url, "the focus to be in the address after Enter on a site", page)


@pytest.mark.parametrize("browser", ["light"], indirect=True)
def test_a_link_shows_the_pair_it_names(served: str, browser: tuple[Any, list[str]]) -> None:
    """An address with src and dst shows that pair; the reverse button turns it round, in the address too."""
    context, _ = browser
    page = _open(context, served, "pair?src=sin&dst=fra")
    _until(lambda: _is_drawn(page, ".js-plotly-plot .main-svg"), "the chart", page)
    assert "src=sin" in page.url
    assert "dst=fra" in page.url
    page.get_by_role("button", name="Reverse").click()
    _until(lambda: "src=fra" in page.url and "dst=sin" in page.url, "the turned address", page)


@pytest.mark.slow
@pytest.mark.parametrize("browser", ["light"], indirect=True)
def test_no_figure_is_cut(served: str, browser: tuple[Any, list[str]]) -> None:
    """On a tablet and on a phone every figure is whole: names of regions and remarks go on below, and the cell's title says it all."""
    context, _ = browser
    page = context.new_page()
    for width, height in ((1024, 768), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for path in ("routes?src=gru", "isochrones"):
            page.goto(f"{served}/{path}")
            page.locator(".iso-kpi").first.wait_for(timeout=60_000)
            _settled(page)
            cut = page.evaluate(
                """() => [...document.querySelectorAll('.iso-kpi > *')]
                    .filter((part) => part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight + 1
                        || !part.parentElement.title.includes(part.innerText))
                    .map((part) => part.innerText)"""
            )
            assert cut == [], f"{path} at {width}"


def test_the_keyboard_is_seen_in_the_list_of_pages(served: str, browser: tuple[Any, list[str]]) -> None:
    """The page that the Tab key has come to has an outline that stands out, in light and in dark."""
    context, _ = browser
    page = _open(context, served, "inventory")
    link = page.locator("[data-testid=stSidebarNavLink]")
    link.first.wait_for(timeout=30_000)
    link.first.focus()
    page.keyboard.press("Tab")
    seen = page.evaluate("() => { const look = getComputedStyle(document.activeElement); return [look.outlineStyle, look.outlineWidth]; }")
    assert page.evaluate("() => document.activeElement.dataset.testid") == "stSidebarNavLink"
    assert seen == ["solid", "2px"]


def test_groups_of_a_heat_map_are_named_and_parted_alike_down_and_across(chromium: Any) -> None:
    """All PoPs and regions against each other: names beside rows and over columns, lines of one colour, none through a label."""
    places = [load().sites[name] for name in ("sin", "fra", "aws:eu-central-1", "aws:us-east-1", "azure:westeurope", "azure:eastus")]
    links = [LinkEstimate(src=a.id, dst=b.id, medium="internet", rtt_p50_ns=10**7) for a in places for b in places if a is not b]
    grid = heatmap.grid(places, links, "any", "any")
    spec = heatmap.heat_spec(grid, metrics.METRICS["p50"], LIGHT)
    folder = Path(heatmap.__file__).parent
    script = "\n".join((folder / name).read_text("utf-8") for name in heatmap.SCRIPTS).replace(
        "export default function", "const show = function"
    )
    page = chromium.new_page(viewport={"width": 1000, "height": 700})
    page.set_content(heatmap.HTML)
    drawn = page.evaluate(
        """([script, data]) => {
            const drawn = { rules: [], texts: [] };
            const { fillRect, fillText } = CanvasRenderingContext2D.prototype;
            CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
                if (Math.min(width, height) === 1 && Math.max(width, height) > 20) drawn.rules.push([this.fillStyle, x, y, width, height]);
                return fillRect.call(this, x, y, width, height);
            };
            CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
                const at = this.getTransform().transformPoint({ x, y });
                drawn.texts.push([text, at.x, at.y]);
                return fillText.call(this, text, x, y);
            };
            document.querySelector('canvas.cells').style.width = '900px';
            new Function(`${script}; return show;`)()({ data, parentElement: document.body, setTriggerValue: () => {} });
            return drawn;
        }""",
        [script, spec],
    )
    page.close()
    for group in ("PoPs", "AWS", "Azure"):
        assert len({(x, y) for text, x, y in drawn["texts"] if text == group}) == 2, group
    assert len({colour for colour, *_ in drawn["rules"]}) == 1
    label = next(x for text, x, _ in drawn["texts"] if text == "azure:westeurope")  # only rows say the whole id; it ends here
    parting = [(x, y) for _, x, y, width, _ in drawn["rules"] if width > 1 and y > 16]
    assert len(parting) == 2
    assert all(x > label for x, _ in parting)


@pytest.mark.slow
@pytest.mark.parametrize("browser", ["light"], indirect=True)
def test_back_leads_to_the_page_before_as_it_was_left(served: str, browser: tuple[Any, list[str]]) -> None:
    """Through pages that write their state into their address, and back: one step for each page, with the very address it had."""
    context, _ = browser
    page = _open(context, served, "?window=all&site=gru")
    _until(lambda: _is_drawn(page, MAP), "the map", page)
    left = [page.url]
    for path, sign in (("routes", "src=gru"), ("scenario", "s="), ("mesh", "grid=")):
        page.locator(f"[data-testid=stSidebarNav] a[href$='/{path}']").click()
        _until(lambda path=path, sign=sign: f"/{path}?" in page.url and f"&{sign}" in page.url, f"the state of /{path}", page)
        _settled(page)
        left.append(page.url)
    for address in reversed(left[:-1]):
        page.go_back()
        _until(lambda address=address: page.url == address, address, page)
        _settled(page)
        page.wait_for_timeout(500)
        assert page.url == address
    assert page.get_by_role("combobox", name="Focus").input_value().startswith("gru")


@pytest.mark.slow
@pytest.mark.parametrize("browser", ["dark"], indirect=True)
def test_an_empty_warehouse_says_what_to_do(browser: tuple[Any, list[str]], tmp_path: Path) -> None:
    """Without a warehouse every page names the command that makes one, and none shows an exception box."""
    context, leaks = browser
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, **environment(str(tmp_path / "nowhere"))}
    process = subprocess.Popen(argv("127.0.0.1", port), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        page = _open(context, f"http://127.0.0.1:{port}", "")
        for path in PAGES.keys() - ALONE:
            if path:
                page.locator(f"[data-testid=stSidebarNav] a[href$='/{path}']").click()
                _until(lambda page=page, path=path: page.url.partition("?")[0].endswith(f"/{path}"), f"the address of /{path}", page)
                _settled(page)
            page.get_by_text("isochrone demo").first.wait_for(timeout=20_000)
            assert page.locator("[data-testid=stException]").count() == 0, path
    finally:
        process.terminate()
        process.wait(15)
    assert leaks == []
