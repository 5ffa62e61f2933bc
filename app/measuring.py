"""Runs a one-shot measurement: shows it while it runs, sums it up, as JSON too, keeps it, and stops well at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.output import emit_json, json_option, note
from app.state import State, called
from probes.model import ProbeType, RoundUnderWay, Target, TraceUnderWay, Vantage, Watchable, new_boot_id
from probes.oneshot import measure, store
from probes.ping.addresses import resolve
from records.errors import NoAnswer, UserError
from records.words import MEDIA

if TYPE_CHECKING:
    from app.live import Screen
    from app.sheet import Sheet
    from records.batch import Line

__all__ = ["INTERRUPTED", "Keep", "common", "keep_lines", "keep_of", "note_unknown", "run", "sites_of"]

F = TypeVar("F", bound=Callable[..., Any])

#: Exit status after Ctrl-C: 128 and the signal's number, as a shell has it.
INTERRUPTED = 130
_REDRAW_S = 0.1
#: What is shown is read in while the packets fly, after so long: by then the first have left.
_READ_IN_S = 0.03


@dataclass(frozen=True, slots=True)
class Keep:
    """Where results go besides the terminal, and under which names."""

    place: str | None
    token_file: Path | None
    agent: str
    src: str | None
    dst: tuple[str, ...]
    medium: str


def common(function: F) -> F:
    """The options every one-shot measurement has."""
    options = [
        json_option,
        click.option("--store", "place", metavar="URL|FOLDER", help="Keep the measurements too: a collector's URL, or a warehouse folder."),
        click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help="Bearer token for the collector."),
        click.option("--agent", default="cli", show_default=True, metavar="ID", help="Agent id the measurements are kept under."),
        click.option("--src", metavar="SITE", help="Site id of this machine; needed with --store."),
        click.option("--dst", metavar="SITE", multiple=True, help="Site id of the target, once for each; needed with --store."),
        click.option("--medium", type=click.Choice(MEDIA), default=MEDIA[0], show_default=True, help="What joins the two sites."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def keep_of(options: dict[str, Any], targets: int) -> Keep:
    """Take the options of `common` out of a command's; raises UserError where they do not fit the targets."""
    names = ("place", "token_file", "agent", "src", "dst", "medium")
    keep = Keep(**{name: options.pop(name) for name in names})
    if keep.dst and len(keep.dst) != targets:
        raise UserError(f"--dst is given {len(keep.dst)} times for {targets} targets; give it once for each, in their order")
    if keep.place is not None and (keep.src is None or not keep.dst):
        raise UserError("--store needs to know the sites: give --src SITE, and --dst SITE for each target")
    if keep.place is not None:
        note_unknown([site for site in (keep.src, *keep.dst) if site is not None])
    return keep


def note_unknown(sites: Sequence[str]) -> None:
    """Say of which sites the inventory knows nothing; they are taken, since a row of it may follow."""
    from inventory.load import load
    from records.errors import UnknownSite

    try:
        known = load().sites
    except UserError:  # what is wrong with the tables is not the matter here
        return
    for site in dict.fromkeys(sites):
        if site not in known:
            note(f"{UnknownSite(site, known)}; it is taken as it is, and a row of your own inventory may say where it is")


def sites_of(names: Sequence[str], keep: Keep) -> list[str]:
    """Site ids of the targets: those given, else what their addresses make as a slug."""
    return list(keep.dst) or [re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "target" for name in names]


def run(
    probe: ProbeType,
    targets: Sequence[Target],
    keep: Keep,
    *,
    as_json: bool,
    rounds: int = 1,
    at_once: int = 1,
    each: int = 1,
    together: bool = False,
) -> None:
    """Measure, show, keep.

    each   results of one measurement: flows, directions

    Raises NoAnswer (exit status 1) when a target did not answer at all, and what `measure` and `keep_lines` raise. After Ctrl-C
    it sums up what there is, keeps what is whole, and ends the command with INTERRUPTED.
    """
    vantage = Vantage(agent=keep.agent, site=keep.src or "here", boot=new_boot_id())
    state = State(targets, count=rounds * at_once * each)
    one = _OneShot(probe, state, vantage, as_json=as_json, each=each)
    try:
        is_interrupted = asyncio.run(one.work(rounds=rounds, at_once=at_once, together=together))
    finally:
        one.close_screen()
    from app.measure_text import is_answered, unresolved

    lines = [(target, line) for target in state.shown for line in state.results.get(target, [])]
    if as_json:
        import json

        from app.measure_text import summary_of
        from records.batch import encode_line

        emit_json([{"measurement": json.loads(encode_line(line)), "summary": summary_of(line)} for _, line in lines])
    elif not one.was_live:
        _sum_up(probe, state, together=together)
    if keep.place is not None and lines:
        keep_lines([line for _, line in lines], keep.place, keep.token_file, vantage)
    if is_interrupted:
        unmeasured = [called(target) for target in state.shown if target not in state.results]
        note("interrupted" + (f"; not measured: {', '.join(unmeasured)}" if unmeasured else ""))
        raise click.exceptions.Exit(INTERRUPTED)
    for _, line in lines:
        if (name := unresolved(line)) is not None:
            raise UserError(f"{name!r} has no address (it does not resolve); check the name, or give an IP address")
    silent = sorted({called(target) for target in targets} - {called(target) for target, line in lines if is_answered(line)})
    if silent:
        raise NoAnswer(f"no answer from {', '.join(silent)}")


class _OneShot:
    """One run: collects results, draws the screen, listens for Ctrl-C."""

    def __init__(self, probe: ProbeType, state: State, vantage: Vantage, *, as_json: bool, each: int) -> None:
        self._probe, self._state, self._vantage, self._each = probe, state, vantage, each
        self._is_quiet = as_json
        self._screen: Screen | None = None
        self._view: Callable[[State], list[Sheet]] | None = None
        self._is_over = False
        self.was_live = False

    async def work(self, *, rounds: int, at_once: int, together: bool) -> bool:
        """Measure all; whether it was interrupted."""
        if not self._is_quiet:
            self._open_screen()
        asyncio.get_running_loop().call_later(_READ_IN_S, threading.Thread(target=_read_in).start)
        stop = asyncio.Event()
        measuring = asyncio.ensure_future(self._collect(rounds=rounds, at_once=at_once, together=together))
        stopping = asyncio.ensure_future(stop.wait())
        beside = [asyncio.ensure_future(_numeric(self._state))] if self._probe.name in {"ping", "stamp"} else []
        if self._screen is not None:
            beside.append(asyncio.ensure_future(self._draw(self._screen)))
        with _at_interrupt(stop.set):
            try:
                await asyncio.wait((measuring, stopping), return_when=asyncio.FIRST_COMPLETED)
                is_interrupted = not measuring.done()
                if is_interrupted:
                    self._keep_what_is_whole()
                else:
                    measuring.result()
                    self._state.running = ()
            finally:
                for task in (measuring, stopping, *beside):
                    task.cancel()
                ended = await asyncio.gather(measuring, stopping, *beside, return_exceptions=True)
        for one in ended:
            if isinstance(one, Exception):
                raise one
        self._is_over = True
        return is_interrupted

    def _open_screen(self) -> None:
        """Where there is one, and something to show on it."""
        from app.live import Screen, is_terminal

        if is_terminal():
            from app.measure_views import VIEWS

            self._view = VIEWS.get(self._probe.name)
            if self._view is not None:
                self._screen, self.was_live = Screen(), True

    def close_screen(self) -> None:
        """Take the live tables away; leave the last ones when all went well."""
        state, screen = self._state, self._screen
        if screen is not None:
            state.is_over = True
            assert self._view is not None
            screen.close(self._view(state) if self._is_over else [])

    async def _collect(self, *, rounds: int, at_once: int, together: bool) -> None:
        state = self._state
        found = measure(
            self._probe, state.targets, self._vantage, rounds=rounds, at_once=at_once, together=together, on_start=self._note_start
        )
        async with contextlib.aclosing(found):  # type: ignore[type-var]
            async for target, line in found:
                lines = state.results.setdefault(target, [])
                lines.append(line)
                if not self._is_quiet and self._screen is None:
                    _print(target, lines, self._each)

    def _note_start(self, target: Target) -> None:
        self._state.started_s[target] = time.monotonic()

    async def _draw(self, screen: Screen) -> None:
        assert self._view is not None
        state = self._state
        while True:
            state.running, state.now_s = self._under_way(), time.monotonic()
            screen.show(self._view(state))
            await asyncio.sleep(_REDRAW_S)

    def _under_way(self) -> Sequence[RoundUnderWay | TraceUnderWay]:
        return self._probe.under_way() if isinstance(self._probe, Watchable) else ()

    def _keep_what_is_whole(self) -> None:
        """Packets whose fate is known are a round of fewer packets. A path that was not looked at to its end is shown, and none to keep."""
        state, running = self._state, self._under_way()
        rounds = [one for one in running if isinstance(one, RoundUnderWay) and one.samples]
        state.running = [one for one in running if isinstance(one, TraceUnderWay)]
        for target in state.shown:
            host = state.hosts.get(target.address, target.address)
            lines = state.results.get(target, [])
            # Two names may have one address: a target takes no more rounds than it waits for.
            mine = [one for one in rounds if one.host == host][: state.count - len(lines)]
            if mine:
                state.results[target] = lines = [*lines, *(one.result(target, self._vantage) for one in mine)]
                rounds = [one for one in rounds if all(one is not other for other in mine)]
                if not self._is_quiet and self._screen is None:
                    for count in range(len(mine) - 1, -1, -1):
                        _print(target, lines[: len(lines) - count], self._each)


def _print(target: Target, lines: Sequence[Line], each: int) -> None:
    """A result as plain lines; the flows of one trace wait for each other and are shown together."""
    from app.measure_text import show
    from records.measurement import TracerouteResult

    if isinstance(lines[-1], TracerouteResult) and each > 1:
        from app.hop_sheets import hop_sheet
        from app.sheet import echo

        if len(lines) % each == 0:
            echo([hop_sheet(called(target), [line for line in lines[-each:] if isinstance(line, TracerouteResult)])])
        return
    show(lines[-1])


def _sum_up(probe: ProbeType, state: State, *, together: bool) -> None:
    """After the plain lines of several targets or rounds: one table of all."""
    from app.measure_text import show_together
    from app.measure_views import VIEWS
    from app.sheet import echo

    lines = [line for target in state.shown for line in state.results.get(target, [])]
    if probe.name in ("http", "stamp"):
        if together and len(state.targets) > 1:
            show_together(lines)
        return
    view = VIEWS.get(probe.name)
    is_several = len(state.shown) > 1 or (probe.name in ("inference", "traceroute") and state.count > 1)
    if view is not None and ((is_several and lines) or state.running):
        state.is_over = True
        click.echo()
        sheets = view(state)
        echo(sheets[-1:] if len(state.shown) > 1 else sheets)


@contextlib.contextmanager
def _at_interrupt(stop: Callable[[], object]) -> Iterator[None]:
    """Have the first Ctrl-C call `stop`; a second one ends the program."""
    loop = asyncio.get_running_loop()

    def once() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop()

    with contextlib.suppress(ValueError, RuntimeError):  # only the main thread hears signals
        loop.add_signal_handler(signal.SIGINT, once)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)


def _read_in() -> None:
    """Import what shows the results."""
    import records.batch  # noqa: F401


async def _numeric(state: State) -> None:
    """Fill in the numeric address of every target that has one; a slow resolver keeps nobody waiting."""

    async def one(address: str) -> None:
        with contextlib.suppress(socket.gaierror):
            state.hosts[address] = (await resolve(address))[1]

    await asyncio.gather(*(one(target.address) for target in state.shown))


def keep_lines(lines: Sequence[Line], place: str, token_file: Path | None, vantage: Vantage) -> None:
    """Keep measurements as one batch: `place` is a collector's URL or a warehouse folder. Raises as probes.oneshot.store does."""
    if "://" in place:
        asyncio.run(store(lines, url=place, token_file=token_file, vantage=vantage))
    else:
        _store_in_folder(lines, place, vantage)
    note(f"stored {len(lines)} measurement{'' if len(lines) == 1 else 's'} at {place} as batch {vantage.boot}/0 of agent {vantage.agent}")


def _store_in_folder(lines: Sequence[Line], folder: str, vantage: Vantage) -> None:
    """Keep measurements as one batch in a warehouse on this machine, made when it is not there yet."""
    from datetime import UTC, datetime

    from records.batch import BatchName, encode_line
    from warehouse import open_warehouse
    from warehouse.ingest import parse
    from warehouse.store import store as store_batches

    name = BatchName(vantage.agent, vantage.boot, 0)
    batch = parse(b"".join(encode_line(line) for line in lines), name, received_at=datetime.now(UTC))
    with open_warehouse(folder, mode="write") as writer:
        store_batches(writer, [batch])
