"""Benchmark: a click on every page of the dashboard while N other sessions are open, spoken to as a browser does.

The warehouse and the sessions of bench/dashboard.py: N of them stay open on the Overview, where their live parts run on as the page says.
One more session opens each page in turn and chooses, again and again, another entry of each list on it (of the list of windows where a page
has none of its own); the first choice of an entry is counted, and so is the next one of the same. Answered: the server says that the run
is finished. A person looks at an answer for some seconds, in which the server works ahead (app.ahead): `--think` is that time, and by
default there is nearly none. The other side is Streamlit's own default, a full garbage collection after every run; clicks there may take
ten seconds each, so it is left after OTHER_S, with the pages that it came to.

    python bench/pages.py [--json] [--sessions 100] [--clicks 24] [--think 0.15] [--ours-only]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dashboard import PORT, Session, seeded, served
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

ASKED_MS = 300.0
#: How long the other side is asked.
OTHER_S = 120.0
#: Lists of the sidebar, which every page has.
SHARED = ("Window", "Medium")


class Visitor(Session):
    """A session that goes from page to page."""

    def __init__(self, think_s: float = 0.15) -> None:
        super().__init__(4711)
        self.think_s = think_s
        self.known: dict[str, str] = {}
        self.lists: dict[str, Any] = {}
        self.homes: dict[str, str] = {}

    def _read(self, raw: Any) -> ForwardMsg:
        message = super()._read(raw)
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self.known = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if element.WhichOneof("type") == "selectbox":
                self.lists[element.selectbox.label] = element.selectbox
                self.homes[element.selectbox.label] = message.delta.fragment_id
        return message

    async def look(self, socket: ClientConnection, page: str, clicks: int) -> dict[str, Any]:
        """Open a page, then click on it: how long each took, in ms."""
        self.lists, self.homes, self.pages = {}, {}, self.known[page]
        began = time.perf_counter()
        await self._ask(socket, {})
        await self._finished(socket)
        opened = (time.perf_counter() - began) * 1000
        own = [name for name, box in self.lists.items() if name not in SHARED and len(box.options) > 1] or ["Window"]
        chosen = {box.id: box.options[box.default] for box in self.lists.values() if box.options}
        took = []
        for number in range(clicks):
            name = own[number // 2 % len(own)]
            box = self.lists[name]
            if number % 2 == 0:
                before = chosen.get(box.id)
                chosen[box.id] = self.rng.choice([option for option in box.options if option != before])
            else:  # and back to what was there
                chosen[box.id] = before
            began = time.perf_counter()
            await self._ask(socket, chosen, self.homes[name])
            await self._finished(socket)
            took.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(self.think_s)
        took.sort()
        return {
            "lists": own,
            "open_ms": round(opened, 1),
            "click_p50_ms": round(statistics.median(took), 1),
            "click_p95_ms": round(took[int(0.95 * (len(took) - 1))], 1),
            "clicks": len(took),
            "took_ms": [round(ms, 1) for ms in took],
        }


class Onlooker(Session):
    """A session that stays open and clicks nothing."""

    async def stay(self, door: asyncio.Semaphore, opened: list[None]) -> None:
        """Open the Overview, and let its live parts run until cancelled."""
        async with (
            door,
            connect(
                f"ws://127.0.0.1:{PORT}/_stcore/stream", subprotocols=["streamlit"], max_size=None, compression=None, open_timeout=OTHER_S
            ) as socket,  # type: ignore[arg-type]
        ):
            await self._ask(socket, {})
            await self._finished(socket)
            opened.append(None)
            door.release()
            try:
                while True:
                    due, fragment = min((at, name) for name, at in self.ticks.items())
                    await self._idle(socket, due)
                    self.ticks[fragment] = time.monotonic() + self.interval_s[fragment]
                    await self._ask(socket, self._chosen(), fragment, auto=True)
                    await self._finished(socket)
            finally:
                await door.acquire()


async def visits(sessions: int, clicks: int, think_s: float = 0.15, within_s: float | None = None) -> dict[str, dict[str, Any]]:
    """Every page, clicked on by one while the others look on; as many pages as there is time for."""
    found: dict[str, dict[str, Any]] = {}
    door, opened = asyncio.Semaphore(8), []
    tasks = [asyncio.create_task(Onlooker(number).stay(door, opened)) for number in range(sessions)]
    try:
        while len(opened) < sessions and not any(task.done() for task in tasks):  # noqa: ASYNC110  a session may fail before it is open
            await asyncio.sleep(0.2)
        visitor = Visitor(think_s)
        async with connect(
            f"ws://127.0.0.1:{PORT}/_stcore/stream", subprotocols=["streamlit"], max_size=None, compression=None, open_timeout=OTHER_S
        ) as socket:  # type: ignore[arg-type]
            await visitor._ask(socket, {})
            await visitor._finished(socket)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    for page in visitor.known:
                        found[page or "overview"] = seen = await visitor.look(socket, page, clicks)
                        print(f"{page or 'overview'}: clicks p95 {seen['click_p95_ms']} ms", file=sys.stderr, flush=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


def measure(sessions: int, clicks: int, think_s: float, *, is_alone: bool) -> dict[str, dict[str, Any]]:
    """Both servers over one warehouse."""
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as folder:
        warehouse = seeded(Path(folder))
        found = {}
        for name, defaults in (("ours", False), ("streamlit_defaults", True))[: 1 if is_alone else 2]:
            with served(warehouse, defaults=defaults):
                asyncio.run(visits(1, 2))  # the first visits compile and fill what is shared
                print(f"{name}: {sessions} sessions", file=sys.stderr, flush=True)
                found[name] = asyncio.run(visits(sessions, clicks, think_s, OTHER_S if defaults else None))
    return found


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--clicks", type=int, default=24)
    parser.add_argument("--think", type=float, default=0.15, help="seconds from an answer to the next click")
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    found = measure(args.sessions, args.clicks, args.think, is_alone=args.ours_only)
    ours, theirs = found["ours"], found.get("streamlit_defaults", {})
    ratio = {page: round(seen["click_p95_ms"] / ours[page]["click_p95_ms"], 1) for page, seen in theirs.items()}
    report = {
        "claim": f"a click on every page beside {args.sessions} open sessions, {args.think:g} s after the answer before",
        "ours": ours,
        "others": {"streamlit_defaults": theirs},
        "ratio": {"streamlit_defaults": ratio},
        "asked": {"click_p95_ms": ASKED_MS},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    every = sorted(ms for seen in ours.values() for ms in seen["took_ms"])
    report["all_pages_click_p95_ms"] = every[int(0.95 * (len(every) - 1))]
    if args.json:
        print(json.dumps(report))
        return
    for page, seen in ours.items():
        other = f"; with Streamlit's defaults p95 {theirs[page]['click_p95_ms']:.0f}" if page in theirs else ""
        print(
            f"{page:<11} opened in {seen['open_ms']:7.1f} ms, clicks p50 {seen['click_p50_ms']:7.1f}, p95 {seen['click_p95_ms']:7.1f} ms"
            f" {'ok' if seen['click_p95_ms'] <= ASKED_MS else 'over 300'}{other} ({', '.join(seen['lists'])})"
        )
    print(f"all pages together: {len(every)} clicks, p95 {report['all_pages_click_p95_ms']} ms")


if __name__ == "__main__":
    main()
