"""What watches for alarms beside a collector: the settings, who was revoked, and the routes, which another process plans.

Planning takes a second of one processor and NumPy, which a collector installs without: it is done by `isochrone alarms routes`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alarms.flips import Choice
from alarms.settings import Settings, load_settings
from alarms.watch import RoutesOf, Watcher
from records.errors import ConfigError, OutsideError
from records.units import MS

if TYPE_CHECKING:
    from routing.answer import Answer
    from warehouse import Warehouse
    from warehouse.roster_file import RosterFile

__all__ = ["check_workloads", "choices_of", "revoked_in", "routes_by_command", "settings_of", "watcher_of"]

log = logging.getLogger("isochrone.alarms")

_LONGEST_S = 120.0


def settings_of(path: Path | None) -> Settings:
    """The settings of a file, or the defaults."""
    return Settings() if path is None else load_settings(path)


def watcher_of(path: Path | None, location: str, token_file: RosterFile | None) -> Callable[[Warehouse], Watcher]:
    """Makes what runs beside the collector of a warehouse. Raises ConfigError now where the file or a secret of it is wrong."""
    settings = settings_of(path)
    for webhook in settings.webhooks:
        webhook.secret()
        webhook.token()
    check_workloads(settings)
    routes = routes_by_command(location, settings) if settings.watch else None

    def make(warehouse: Warehouse) -> Watcher:
        return Watcher(warehouse, settings, revoked=lambda: revoked_in(token_file), routes_of=routes)

    return make


def check_workloads(settings: Settings) -> None:
    """Raises ConfigError where routes of a workload are watched that there is not: else it would only be said at each look."""
    if not settings.watch:
        return
    from inventory.load import load

    known = load().workloads
    for _, workload in settings.watch:
        if workload not in known and not Path(workload).is_file():
            raise ConfigError(f"[route_flip] watch: no workload {workload!r}, nor a file of that name; there are {', '.join(known)}")


def revoked_in(token_file: RosterFile | None) -> frozenset[str]:
    """The agents that a token file says were revoked."""
    if token_file is None:
        return frozenset()
    return frozenset(name for name, agent in token_file.current().agents.items() if agent.revoked_at is not None)


def routes_by_command(location: str, settings: Settings) -> RoutesOf:
    """Asks `isochrone alarms routes`, a process of its own, for the routes of now. What cannot be planned is logged when that changes."""
    argv = [sys.executable, "-m", "app.cli", "alarms", "routes", "--warehouse", location, "--json"]
    argv += ["--window", f"{settings.flips_window_s:g}s", "--", *(f"{source} {workload}" for source, workload in settings.watch)]
    said: dict[str, str | None] = {}

    def ask() -> Mapping[tuple[str, str], Sequence[Choice]]:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise OutsideError(f"`isochrone alarms routes` took longer than {_LONGEST_S:g} s") from error
        if done.returncode:
            last = done.stderr.strip().splitlines() or [f"`isochrone alarms routes` ended with {done.returncode}"]
            raise OutsideError(last[-1].removeprefix("isochrone: "))
        found: list[dict[str, Any]] = json.loads(done.stdout)
        for one in found:
            name = f"{one['source']} {one['workload']}"
            if one["error"] is not None and one["error"] != said.get(name):
                log.warning("no route from %s can be looked at now: %s", name, one["error"])
            said[name] = one["error"]
        return {
            (one["source"], one["workload"]): [Choice(tuple(each["sites"]), each["pool"], each["value_ms"]) for each in one["routes"]]
            for one in found
        }

    return ask


def choices_of(answer: Answer) -> list[Choice]:
    """The routes of an answer, the best first, by the median of their TTFT."""
    served = ((route, route.pool, route.ttft) for route in answer.routes)
    return [Choice(route.sites, pool.id, ttft.p50_ns / MS) for route, pool, ttft in served if pool is not None and ttft is not None]
