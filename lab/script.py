"""What a topology says about time: scripted events, and congestion by time of day.

::

    [[events]]
    at_s = 30                       # seconds from the start of the lab (in a file that is played: from then)
    every_s = 120                   # optional: again and again
    until_s = 3600                  # optional, with every_s: the last time
    op = "fail"                     # what happens, with its operands: see lab/actions.py
    between = ["bb-sin", "bb-nrt"]

    [[congestion]]
    links = [["w-mrs", "e-mrs"]]    # which links (a third element names the medium, where several join the two); or
    site = "jnb"                    # all of a site's own links; or
    medium = "internet"             # all links of a medium
    one_way = true                  # optional: only from the first end to the second, or only towards the site
    period_s = 86400                # optional: the length of the day, 24 h if not given
    peak_at_s = 72000               # when in a period the load is highest; or
    peak_local_h = 20               # the same as an hour of local solar time, by longitude; the lab starts at midnight UTC
    delay_ms = 8                    # extra wait at the peak; a pair is [at the quiet hour, at the peak]
    jitter_ms = 2                   # optional: mean of an exponential wait on top
    loss = 0.01                     # optional: extra loss ratio
    rate_share = 0.6                # optional: the share of the link's rate that is left at the peak
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lab.actions import ACTION_KEYS, Action, joined, read_action
from lab.congestion import Congestion, Load, middle_longitude, solar_peak_ns
from lab.tables import Table, decoded
from lab.timeline import Event
from lab.topology import LinkKey, Topology
from records.link import MEDIA, Medium
from records.units import MS, SECOND

__all__ = ["Rule", "congested_links", "event_table", "parse_events", "read_events", "read_rule", "rule_table", "scripted"]

EVENT_KEYS = ("at_s", "every_s", "until_s", *ACTION_KEYS)
CONGESTION_KEYS = (
    "links", "site", "medium", "one_way", "period_s", "peak_at_s", "peak_local_h", "delay_ms", "jitter_ms", "loss", "rate_share",
)  # fmt: skip
DAY_S = 86_400.0
_MAX_S = 10 * 365 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which links are congested when: one ``[[congestion]]`` table.

    links, site, medium  exactly one of the three says which links
    one_way              only from the first end of each of `links` to the second, or only towards `site`
    period_ns            the length of a day
    peak_ns              when the load is highest; None where `peak_local_h` says it by local solar time
    quiet, peak          the loads at the quiet hour and at the peak
    """

    period_ns: int
    quiet: Load
    peak: Load
    links: tuple[LinkKey, ...] = ()
    site: str | None = None
    medium: Medium | None = None
    one_way: bool = False
    peak_ns: int | None = None
    peak_local_h: float | None = None

    def keys(self, topology: Topology) -> list[LinkKey]:
        """The directed links it is about."""
        if self.site is not None:
            return [key for key in topology.link_by_key if key[1] == self.site or (key[0] == self.site and not self.one_way)]
        if self.medium is not None:
            return [key for key in topology.link_by_key if key[2] == self.medium]
        return [*self.links, *(() if self.one_way else ((b, a, medium) for a, b, medium in self.links))]


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


def read_rule(table: Table, topology: Topology) -> Rule:
    """One ``[[congestion]]`` table, checked against the topology."""
    if sum(key in table for key in ("links", "site", "medium")) != 1:
        table.fail("links", "say which links by exactly one of links, site and medium")
    if ("peak_at_s" in table) == ("peak_local_h" in table):
        table.fail("peak_at_s", "say when the peak is by exactly one of peak_at_s and peak_local_h")
    if "one_way" in table and "medium" in table:
        table.fail("one_way", "a whole medium has no direction; leave it out")
    period_s = table.within("period_s", 1.0, _MAX_S)
    period_ns = round((DAY_S if period_s is None else period_s) * SECOND)
    peak_at_s, peak_local_h = table.within("peak_at_s", 0.0, _MAX_S), table.within("peak_local_h", 0.0, 24.0)
    if peak_at_s is not None and round(peak_at_s * SECOND) >= period_ns:
        table.fail("peak_at_s", f"{peak_at_s:g} is not within the period of {period_ns / SECOND:g} s")
    quiet, peak = _loads(table)
    rule = Rule(
        period_ns=period_ns,
        quiet=quiet,
        peak=peak,
        links=_links(table, topology),
        site=table.known("site", topology.by_id, "site") if "site" in table else None,
        medium=table.medium("medium") if "medium" in table else None,
        one_way=table.flag("one_way"),
        peak_ns=None if peak_at_s is None else round(peak_at_s * SECOND),
        peak_local_h=peak_local_h,
    )
    where = next(key for key in ("links", "site", "medium") if key in table)
    keys = rule.keys(topology)
    if not keys:
        table.fail(where, "no link is meant")
    if quiet.rate_share < 1 or peak.rate_share < 1:
        unlimited = next((key for key in keys if topology.link_by_key[key].rate_bps is None), None)
        if unlimited is not None and where == "links":
            table.fail("rate_share", f"{unlimited[0]} -> {unlimited[1]} has no rate that could be shared; give the link a rate")
        if all(topology.link_by_key[key].rate_bps is None for key in keys):
            table.fail("rate_share", "none of the links has a rate that could be shared")
    if peak_local_h is not None:
        nowhere = next((key for key in keys if _longitude(topology, key) is None), None)
        if nowhere is not None:
            table.fail("peak_local_h", f"neither {nowhere[0]} nor {nowhere[1]} has a longitude to tell local time by; give peak_at_s")
    return rule


def _links(table: Table, topology: Topology) -> tuple[LinkKey, ...]:
    rows = table.values.get("links", [])
    if not isinstance(rows, list):
        table.fail("links", 'is not a list of pairs; for example links = [["w-mrs", "e-mrs"]]')
    found = []
    for number, row in enumerate(rows, start=1):
        key, pair, medium = f"links[{number}]", row, None
        if isinstance(row, list) and len(row) == 3:
            pair, medium = row[:2], next((medium for medium in MEDIA if medium == row[2]), None)
            if medium is None:
                table.fail(key, f"{row[2]!r} is not one of {', '.join(MEDIA)}")
        found.append(joined(table, key, table.as_ends(key, pair), medium, topology))
    return tuple(found)


def _loads(table: Table) -> tuple[Load, Load]:
    loads = []
    given = [key for key in ("delay_ms", "jitter_ms", "loss", "rate_share") if key in table]
    if not given:
        table.fail("delay_ms", "nothing changes; give at least one of delay_ms, jitter_ms, loss and rate_share")
    values = {
        "delay_ms": table.range_of_numbers("delay_ms", 0.0, 0.0, 10_000.0),
        "jitter_ms": table.range_of_numbers("jitter_ms", 0.0, 0.0, 10_000.0),
        "loss": table.range_of_numbers("loss", 0.0, 0.0, 1.0),
        "rate_share": table.range_of_numbers("rate_share", 1.0, 0.001, 1.0),
    }
    for end in (0, 1):
        delay_ms, jitter_ms, loss, share = (pair[end] for pair in values.values())
        loads.append(Load(delay_ns=round(delay_ms * MS), jitter_ns=round(jitter_ms * MS), loss_ratio=loss, rate_share=share))
    return loads[0], loads[1]


def _longitude(topology: Topology, key: LinkKey) -> float | None:
    """The longitude half way between a link's ends; that of one end where the other has none."""
    found = []
    for node in key[:2]:
        lon = topology.by_id[node].place.lon if node in topology.by_id else topology.router_by_id[node].lon
        if lon is not None:
            found.append(lon)
    return middle_longitude(found[0], found[-1]) if found else None


def congested_links(topology: Topology) -> Mapping[LinkKey, tuple[Congestion, ...]]:
    """Every directed link with its congestions, in the order of the rules."""
    found: dict[LinkKey, tuple[Congestion, ...]] = {}
    for rule in topology.congestion:
        for key in rule.keys(topology):
            peak_ns = rule.peak_ns
            if peak_ns is None:
                lon = _longitude(topology, key)
                assert lon is not None
                assert rule.peak_local_h is not None
                peak_ns = solar_peak_ns(rule.peak_local_h, lon, rule.period_ns)
            one = Congestion(period_ns=rule.period_ns, peak_ns=peak_ns, quiet=rule.quiet, peak=rule.peak)
            found[key] = (*found.get(key, ()), one)
    return found


def event_table(event: Event[Action]) -> dict[str, object]:
    """An event as the table it is read from."""
    times = {"at_s": event.at_ns, "every_s": event.every_ns, "until_s": event.until_ns}
    return {key: value / SECOND for key, value in times.items() if value is not None} | event.action.table()


def rule_table(rule: Rule) -> dict[str, object]:
    """A rule as the table it is read from."""
    quiet, peak = rule.quiet, rule.peak
    values: dict[str, object] = {
        "links": [list(key) for key in rule.links] or None,
        "site": rule.site,
        "medium": rule.medium,
        "one_way": rule.one_way or None,
        "period_s": rule.period_ns / SECOND,
        "peak_at_s": None if rule.peak_ns is None else rule.peak_ns / SECOND,
        "peak_local_h": rule.peak_local_h,
        "delay_ms": [quiet.delay_ns / MS, peak.delay_ns / MS],
        "jitter_ms": [quiet.jitter_ns / MS, peak.jitter_ns / MS],
        "loss": [quiet.loss_ratio, peak.loss_ratio],
        "rate_share": [quiet.rate_share, peak.rate_share],
    }
    return {key: value for key, value in values.items() if value is not None}
