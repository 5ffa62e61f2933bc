"""What is to be done to a running network, and when: its scripted events and its congestion. Pure: times are passed in.

The fabric's loop asks when something is due and has it done between packets. Congestion is brought up to date in small
slices, so that thousands of links never hold up a packet for long.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from lab.actions import Action
from lab.congestion import NO_LOAD, Congestion, combined
from lab.forwarding import Forwarder
from lab.links import Change
from lab.routers import RouterChange
from lab.rules import Rule, Where, congested_links
from lab.timeline import Event, Timeline
from lab.topology import LinkKey
from records.errors import UserError
from records.link import Medium
from records.units import SECOND

__all__ = ["Agenda"]

#: Links whose load is worked out at one go: about 0.3 ms.
_SLICE = 64
#: How many past and coming events a report names; counts are of all.
_NAMED = 50


class Agenda:
    """The events and the congestion of one running lab; `start_ns` is the moment its times count from."""

    def __init__(self, forwarder: Forwarder, start_ns: int) -> None:
        self.forwarder = forwarder
        self._start_ns = start_ns
        self._timeline: Timeline[Action] = Timeline(forwarder.topology.events)
        self._done: deque[dict[str, Any]] = deque(maxlen=_NAMED)
        self._done_count = 0
        self._rules: dict[LinkKey, tuple[Congestion, ...]] = {}
        self._slices: Iterator[list[LinkKey]] = iter(())
        self._slice_ns = 0
        self._congest_at_ns: int | None = None
        self._now_ns = 0
        for rule in forwarder.topology.congestion:
            self._rule(rule)
        self._recut()

    @property
    def due_ns(self) -> int | None:
        """When something is next to be done, on the clock of `start_ns`; None when nothing is."""
        due = [at_ns for at_ns in (self._timeline.due_ns, self._congest_at_ns) if at_ns is not None]
        return self._start_ns + min(due) if due else None

    def advance(self, now_ns: int) -> None:
        """Do everything that is due by now."""
        now_ns -= self._start_ns
        self._now_ns = now_ns
        for at_ns, action in self._timeline.take(now_ns):
            self._perform(at_ns, now_ns, action)
        if self._congest_at_ns is not None and self._congest_at_ns <= now_ns:
            self._congest(now_ns)
            # Late steps are skipped, not caught up: only the load of now matters.
            self._congest_at_ns = max(self._congest_at_ns + self._slice_ns, now_ns + self._slice_ns // 2)

    def perform(self, action: Action, now_ns: int) -> None:
        """Do something at once because somebody asked; raises UserError when it cannot be done."""
        self._now_ns = now_ns - self._start_ns
        action.perform(self)
        self._note(self._now_ns, self._now_ns, action, "asked", None)

    def change(self, src: str, dst: str, medium: Medium | None, change: Change) -> None:
        """Change a directed link; raises UserError."""
        self.forwarder.change(src, dst, medium, change)

    def change_router(self, router: str, change: RouterChange) -> None:
        """Change a router; raises UserError."""
        self.forwarder.change_router(router, change)

    def change_site(self, site: str, op: Literal["fail", "restore"]) -> None:
        """Fail or restore all links of a site; raises UnknownSite."""
        self.forwarder.change_site(site, op)

    def congest(self, rule: Rule) -> None:
        """Put another rule of congestion beside those there are."""
        self._rule(rule)
        self._recut()

    def calm(self, where: Where) -> None:
        """Take all congestion off some links."""
        for key in where.keys(self.forwarder.topology):
            if self._rules.pop(key, None) is not None:
                self.forwarder.congest(key, NO_LOAD)
        self._recut()

    def play(self, events: Iterable[Event[Action]], now_ns: int) -> None:
        """Take in a script that starts now."""
        self._timeline.add(events, now_ns - self._start_ns)

    def report(self, now_ns: int) -> dict[str, Any]:
        """Up time, what was done and is to come, which links were edited and which are congested; ready for JSON."""
        ahead = [{"at_s": at_ns / SECOND, "action": str(action), **action.table()} for at_ns, action in self._timeline.ahead(_NAMED)]
        congested = [key for key in self._rules if self.forwarder.states[key].load != NO_LOAD]
        edited = [key for key, state in self.forwarder.states.items() if not state.up or state.settled != state.configured]
        return {
            "up_s": (now_ns - self._start_ns) / SECOND,
            "events": {"done": self._done_count, "last": list(self._done), "ahead": ahead},
            "edited": _keys(edited),
            "congested": _keys(congested),
        }

    def _perform(self, due_ns: int, now_ns: int, action: Action) -> None:
        problem = None
        try:
            action.perform(self)
        except UserError as error:  # every action was checked when it was read
            problem = str(error)
        self._note(due_ns, now_ns, action, "script", problem)

    def _note(self, due_ns: int, now_ns: int, action: Action, by: str, problem: str | None) -> None:
        self._done_count += 1
        entry = {"at_s": now_ns / SECOND, "due_s": due_ns / SECOND, "by": by, "action": str(action), **action.table()}
        self._done.append(entry if problem is None else {**entry, "problem": problem})

    def _rule(self, rule: Rule) -> None:
        for key, congestion in congested_links(self.forwarder.topology, rule).items():
            self._rules[key] = (*self._rules.get(key, ()), congestion)

    def _recut(self) -> None:
        """Cut the congested links into slices anew, and bring all of them up to date."""
        keys = list(self._rules)
        slices = [keys[n : n + _SLICE] for n in range(0, len(keys), _SLICE)]
        self._slices = itertools.cycle(slices)
        step_ns = min((one.step_ns for found in self._rules.values() for one in found), default=0)
        self._slice_ns = step_ns // max(1, len(slices))
        for _ in slices:
            self._congest(self._now_ns)
        self._congest_at_ns = self._now_ns + self._slice_ns if slices else None

    def _congest(self, now_ns: int) -> None:
        for key in next(self._slices):
            self.forwarder.congest(key, combined(one.at(now_ns) for one in self._rules[key]))


def _keys(links: Iterable[LinkKey]) -> list[dict[str, str]]:
    return [{"src": src, "dst": dst, "medium": medium} for src, dst, medium in links]
