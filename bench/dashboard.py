"""Benchmark: the dashboard with many open sessions, spoken to as a browser does, and one session in a real browser.

A warehouse of 350 PoPs, 240 regions and 5,000 links (RTTs are the model's, scaled at random: no measurement is claimed). N sessions stay
open on the Overview; each chooses another site to focus about every THINK_S seconds, and its live fragments run as often as the page
says. A click is answered when the server says that its run is finished; one that is not answered when the time is over counts with the
time it has waited. The other side is the same dashboard with Streamlit's own default, a full garbage collection after every run, and
nothing kept out of it. Chromium, with a new profile, opens the page: until the map is drawn; beside it, an empty page of Streamlit's.

    python bench/dashboard.py [--json] [--sessions 100] [--seconds 30] [--no-browser]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

from app.dashboard import SERVER, argv, environment
from inventory.load import load
from records.units import ms
from routing.modelled import model_link


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PORT = _free_port()
THINK_S = 5.0
#: So many sessions open at a time.
OPENING = 8
#: Clicks begin when all are open, or after so long.
OPEN_S = 90.0
ASKED = {"click_p95_ms": 300.0, "first_map_ms": 1500.0}
CHROMIUM = "/usr/bin/chromium"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


def write_matrix(folder: Path, pops: int, regions: int, links: int) -> tuple[Path, Path]:
    """Seeded sites and links as the files that `isochrone import rtt-matrix` takes."""
    inventory, rng = load(), random.Random(7)
    sites = [*inventory.pops[:pops], *inventory.regions[:regions]]
    chosen: set[tuple[int, int]] = set()
    while len(chosen) < links:
        a, b = rng.sample(range(len(sites)), 2)
        chosen.add((a, b))
    matrix, places = folder / "matrix.csv", folder / "sites.csv"
    with matrix.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["src", "dst", "rtt_ms", "loss_ratio"])
        for a, b in sorted(chosen):
            base = ms(model_link(sites[a], sites[b]).rtt_p50_ns) or 1.0
            writer.writerow([sites[a].id, sites[b].id, round(base * rng.uniform(0.9, 1.8), 3), round(rng.random() ** 8 * 0.2, 4)])
    with places.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "name", "lat", "lon", "kind", "provider", "country"])
        writer.writerows([s.id, s.name, s.lat, s.lon, s.kind, s.provider or "", s.country or ""] for s in sites)
    return matrix, places


@contextmanager
def served(warehouse: Path, *, defaults: bool = False, script: Path | None = None) -> Iterator[int]:
    """A dashboard process; with `defaults` it collects garbage after every run, as Streamlit does on its own. Gives its pid.

    script   another page than the dashboard's
    """
    words = argv("127.0.0.1", PORT)
    if script is not None:
        words[words.index(str(SERVER))] = str(script)
    if defaults:
        words += ["--runner.postScriptGC", "true"]
    process = subprocess.Popen(
        words, env={**os.environ, **environment(str(warehouse))}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PORT}/_stcore/health", timeout=1) as answer:
                if answer.read() == b"ok":
                    break
            time.sleep(0.25)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Session:
    """One open page, spoken to in Streamlit's own messages."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        self.clicks_ms: list[float] = []
        self.clicked_at: float | None = None  # of a click that waits for its answer
        self.focus: Any = None
        self.home = ""  # the fragment that the list is in
        self.ticks: dict[str, float] = {}
        self.interval_s: dict[str, float] = {}
        self.faults = 0
        self.pages = ""

    async def run(self, door: asyncio.Semaphore, ready: asyncio.Event, opened: list[float]) -> None:
        """Open the page; once all are open, click until this is cancelled."""
        await door.acquire()
        async with connect(
            f"ws://127.0.0.1:{PORT}/_stcore/stream", subprotocols=["streamlit"], max_size=None, compression=None, open_timeout=60
        ) as socket:  # type: ignore[arg-type]
            began = time.perf_counter()
            await self._ask(socket, {})
            await self._finished(socket)
            opened.append((time.perf_counter() - began) * 1000)
            door.release()
            await ready.wait()
            next_click = time.monotonic() + self.rng.uniform(0, THINK_S)
            while True:
                due, fragment = min([(next_click, ""), *((at, name) for name, at in self.ticks.items())])
                await self._idle(socket, due)
                if fragment:
                    self.ticks[fragment] = time.monotonic() + self.interval_s[fragment]
                    await self._ask(socket, self._chosen(), fragment, auto=True)
                    await self._finished(socket)
                    continue
                self.clicked_at = time.perf_counter()
                await self._ask(socket, self._chosen(new=True), self.home)
                await self._finished(socket)
                self.clicks_ms.append((time.perf_counter() - self.clicked_at) * 1000)
                self.clicked_at = None
                next_click = time.monotonic() + self.rng.expovariate(1 / THINK_S)

    def _chosen(self, *, new: bool = False) -> dict[str, str]:
        if self.focus is None:
            raise RuntimeError("the Overview has no list named Focus any more; this bench clicks in it")
        if new:
            self.option = self.rng.choice(list(self.focus.options))
        return {self.focus.id: getattr(self, "option", self.focus.options[0])}

    async def _ask(self, socket: ClientConnection, widgets: dict[str, str], fragment: str = "", *, auto: bool = False) -> None:
        message = BackMsg()
        message.rerun_script.query_string = ""
        if self.pages:
            message.rerun_script.page_script_hash = self.pages
        for name, value in widgets.items():
            message.rerun_script.widget_states.widgets.append(WidgetState(id=name, string_value=value))
        if fragment:
            message.rerun_script.fragment_id = fragment
            message.rerun_script.is_auto_rerun = auto
        await socket.send(message.SerializeToString())

    async def _idle(self, socket: ClientConnection, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                self._read(await asyncio.wait_for(socket.recv(), left))

    async def _finished(self, socket: ClientConnection) -> None:
        while True:
            message = self._read(await asyncio.wait_for(socket.recv(), 120))
            if message.WhichOneof("type") == "script_finished":
                return

    def _read(self, raw: Any) -> ForwardMsg:
        message = ForwardMsg()
        message.ParseFromString(raw)
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.pages = message.new_session.page_script_hash
        elif kind == "auto_rerun":
            self.interval_s[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            self.ticks.setdefault(message.auto_rerun.fragment_id, time.monotonic() + message.auto_rerun.interval)
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if element.WhichOneof("type") == "selectbox" and element.selectbox.label == "Focus":
                self.focus, self.home = element.selectbox, message.delta.fragment_id
            elif element.WhichOneof("type") == "exception":
                self.faults += 1
        return message


async def crowd(count: int, seconds: float) -> dict[str, Any]:
    """`count` sessions at once; how long their clicks took."""
    sessions = [Session(number) for number in range(count)]
    ready, door, opened = asyncio.Event(), asyncio.Semaphore(OPENING), []
    tasks = [asyncio.create_task(session.run(door, ready, opened)) for session in sessions]
    latest = time.monotonic() + OPEN_S  # a server that is busy with those it has never gets to the rest
    while len(opened) < count and time.monotonic() < latest and not any(task.done() for task in tasks):  # noqa: ASYNC110  one may fail first
        await asyncio.sleep(0.2)
    ready.set()
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    now = time.perf_counter()
    waiting = [(now - session.clicked_at) * 1000 for session in sessions if session.clicked_at is not None]
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [error for error in results if isinstance(error, Exception)]
    if failed:
        raise failed[0]
    clicks = sorted([*waiting, *(value for session in sessions for value in session.clicks_ms)])
    return {
        "sessions": count,
        "opened": len(opened),
        "clicks": len(clicks),
        "unanswered": len(waiting),
        "click_p50_ms": round(statistics.median(clicks), 1),
        "click_p95_ms": round(clicks[int(0.95 * (len(clicks) - 1))], 1),
        "open_p95_ms": round(sorted(opened)[int(0.95 * (len(opened) - 1))], 1),
        "faults": sum(session.faults for session in sessions),
        "seconds": seconds,
    }


#: The map that answers clicks is drawn: it is in Streamlit's element, and the picture that stood for it has gone.
_LIVE = """() => {
  const walk = (root) => { for (const node of root.querySelectorAll('*')) {
    const said = node.tagName === 'CANVAS' ? node.getAttribute('aria-label') || '' : '';
    if (/\\d+ link/.test(said) && node.width > 300) return true;
    if (node.shadowRoot && walk(node.shadowRoot)) return true; } return false; };
  const root = document.getElementById('root');
  return !!root && !document.getElementById('iso-poster') && walk(root);
}"""
#: When the map in the page itself was on the screen: it was drawn, and the browser has painted since. None where there was none.
_SEEN = """() => {
  const drawn = performance.getEntriesByName('isochrone-poster')[0];
  const painted = performance.getEntriesByName('first-contentful-paint')[0];
  return drawn && painted ? Math.max(drawn.startTime, painted.startTime) : null;
}"""


def empty_page(folder: Path, times: int = 3) -> dict[str, Any]:
    """What any page of Streamlit's takes in a new browser: one line of HTML, until it is there."""
    from playwright.sync_api import sync_playwright

    script = folder / "empty.py"
    script.write_text("import streamlit as st\nst.html('<p id=here>here</p>')\n")
    shown = []
    with served(folder, script=script), sync_playwright() as play:
        for _ in range(times):
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"http://127.0.0.1:{PORT}/", wait_until="commit")
            page.wait_for_function("() => !!document.getElementById('here')", polling=20, timeout=60_000)
            shown.append(page.evaluate("() => performance.now()"))
            browser.close()
    return {"first_element_ms": round(statistics.median(shown), 0), "times": times}


def in_a_browser(times: int = 5) -> dict[str, Any]:
    """Chromium with a new profile each time: from the request for the page until the map is drawn; then a click's answer."""
    from playwright.sync_api import sync_playwright

    cold, live, clicks = [], [], []
    with sync_playwright() as play:
        for _ in range(times):
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"http://127.0.0.1:{PORT}/", wait_until="commit")
            page.wait_for_function(_LIVE, polling=20, timeout=60_000)
            live.append(page.evaluate("() => performance.now()"))
            cold.append(page.evaluate(_SEEN) or live[-1])
            page.wait_for_timeout(1500)
            began = time.perf_counter()
            page.get_by_role("radio", name="Loss").or_(page.get_by_role("button", name="Loss", exact=True)).first.click()
            page.wait_for_function("() => /metric=loss/.test(location.search)", polling=20, timeout=30_000)
            clicks.append((time.perf_counter() - began) * 1000)
            browser.close()
    found = {"first_map_ms": cold, "live_map_ms": live, "click_ms": clicks}
    return {name: round(statistics.median(seen)) for name, seen in found.items()} | {"times": times}


def seeded(folder: Path) -> Path:
    """A new warehouse of 350 PoPs, 240 regions and 5,000 links in a folder."""
    matrix, places = write_matrix(folder, 350, 240, 5000)
    warehouse = folder / "warehouse"
    subprocess.run(
        [sys.executable, "-m", "app.cli", "import", "rtt-matrix", str(matrix), "--sites", str(places), "--warehouse", str(warehouse)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return warehouse


def measure(sessions: int, seconds: float, *, browser: bool) -> dict[str, Any]:
    """Both servers over one warehouse, then the browser."""
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as folder:
        warehouse = seeded(Path(folder))
        found: dict[str, Any] = {}
        for name, defaults in (("ours", False), ("streamlit_defaults", True)):
            with served(warehouse, defaults=defaults) as pid:
                asyncio.run(crowd(2, 2.0))  # the first opens compile and fill what is shared
                if browser and not defaults:
                    found["browser"] = in_a_browser()
                found[name] = asyncio.run(crowd(sessions, seconds)) | {"memory_mb": round(rss_mb(pid))}
        if browser:
            found["empty"] = empty_page(Path(folder))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    browser = not args.no_browser and Path(CHROMIUM).exists()
    found = measure(args.sessions, args.seconds, browser=browser)
    ours = found["ours"] | found.get("browser", {})
    other = found["streamlit_defaults"]
    report = {
        "claim": f"a click answered within 300 ms at p95 with {args.sessions} open sessions; the first map within 1.5 s in a new browser",
        "ours": ours,
        "others": {"streamlit_defaults": other} | ({"streamlit_empty_page": found["empty"]} if "empty" in found else {}),
        "ratio": {"streamlit_defaults": round(other["click_p95_ms"] / ours["click_p95_ms"], 2)},
        "asked": ASKED,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
    }
    if args.json:
        print(json.dumps(report, indent=2))
        return
    print(report["claim"])
    for name, row in (("ours", ours), ("Streamlit's defaults", other)):
        print(f"  {name:22} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if "empty" in found:
        print(f"  an empty page of Streamlit's shows its first element after {found['empty']['first_element_ms']:g} ms")
    print(f"  click p95 {report['ratio']['streamlit_defaults']}x better than with Streamlit's defaults")
    for name, limit in ASKED.items():
        if name in ours:
            print(f"  {name}: {ours[name]} of {limit:g} {'ok' if ours[name] <= limit else 'MISSED'}")


if __name__ == "__main__":
    main()
