"""What a topology says about time: scripted events, and congestion by time of day.

::

    [[events]]
    at_s = 30                       # seconds from the start of the lab (in a file that is played: from then)
    every_s = 120                   # optional: again and again
    until_s = 3600                  # optional, with every_s: the last time
    op = "fail"                     # what happens, with its operands: see lab/actions.py
    between = ["bb-sin", "bb-nrt"]

    [[congestion]]                  # see lab/rules.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.actions import ACTION_KEYS, Action, read_action
from lab.rules import CONGESTION_KEYS, read_rule
from lab.tables import Table, decoded
from lab.timeline import Event
from lab.topology import Topology
from records.units import SECOND

__all__ = ["EVENT_KEYS", "event_table", "parse_events", "read_events", "scripted"]

EVENT_KEYS = ("at_s", "every_s", "until_s", *ACTION_KEYS)
_MAX_S = 10 * 365 * 86_400.0


def scripted(topology: Topology, top: Table) -> Topology:
    """The topology with the events and the congestion that its document says."""
    events = read_events(top, topology)
    rules = tuple(read_rule(table, topology) for table in top.tables("congestion", CONGESTION_KEYS, required=False))
    return replace(topology, events=events, congestion=rules) if events or rules else topology


def parse_events(path: Path, topology: Topology) -> tuple[Event[Action], ...]:
    """The events of a TOML file that holds nothing but ``[[events]]``; raises InputError with file and line."""
    document, lines = decoded(path)
    top = Table(document, str(path), "", ("events",), lines=lines)
    events = read_events(top, topology)
    if not events:
        top.fail("events", "there is no event; add at least one [[events]] table")
    return events


def read_events(top: Table, topology: Topology) -> tuple[Event[Action], ...]:
    """The events under the key ``events``."""
    return tuple(_event(table, topology) for table in top.tables("events", EVENT_KEYS, required=False))


def _event(table: Table, topology: Topology) -> Event[Action]:
    at_s = table.within("at_s", 0.0, _MAX_S)
    if at_s is None:
        table.fail("at_s", "missing; give the seconds from the start")
    every_s, until_s = table.within("every_s", 0.1, _MAX_S), table.within("until_s", 0.0, _MAX_S)
    if until_s is not None and every_s is None:
        table.fail("until_s", "an end without an interval; add every_s, or leave it out")
    if until_s is not None and until_s < at_s:
        table.fail("until_s", f"{until_s:g} is before the event's first time, {at_s:g}")
    return Event(
        at_ns=round(at_s * SECOND),
        every_ns=None if every_s is None else round(every_s * SECOND),
        until_ns=None if until_s is None else round(until_s * SECOND),
        action=read_action(table, topology),
    )


def event_table(event: Event[Action]) -> dict[str, object]:
    """An event as the table it is read from."""
    times = {"at_s": event.at_ns, "every_s": event.every_ns, "until_s": event.until_ns}
    return {key: value / SECOND for key, value in times.items() if value is not None} | event.action.table()
