"""Rules of congestion: which links are busy when, as a topology, an event or a command says it.

::

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
from dataclasses import dataclass

from lab.congestion import Congestion, Load, middle_longitude, solar_peak_ns
from lab.tables import Table, like
from lab.topology import LinkKey, Topology
from records.link import MEDIA, Medium
from records.units import MS, SECOND

__all__ = ["CONGESTION_KEYS", "WHERE_KEYS", "Rule", "Where", "congested_links", "joined", "read_rule", "read_where"]

WHERE_KEYS = ("links", "site", "medium", "one_way")
CONGESTION_KEYS = (*WHERE_KEYS, "period_s", "peak_at_s", "peak_local_h", "delay_ms", "jitter_ms", "loss", "rate_share")
DAY_S = 86_400.0
_MAX_S = 10 * 365 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which links: exactly one of the first three says it.

    links    directed links by their keys
    site     all links of a site
    medium   all links of a medium
    one_way  only from the first end of each of `links` to the second, or only towards `site`
    """

    links: tuple[LinkKey, ...] = ()
    site: str | None = None
    medium: Medium | None = None
    one_way: bool = False

    def keys(self, topology: Topology) -> list[LinkKey]:
        """The directed links that are meant."""
        if self.site is not None:
            return [key for key in topology.link_by_key if key[1] == self.site or (key[0] == self.site and not self.one_way)]
        if self.medium is not None:
            return [key for key in topology.link_by_key if key[2] == self.medium]
        return [*self.links, *(() if self.one_way else ((b, a, medium) for a, b, medium in self.links))]

    def table(self) -> dict[str, object]:
        """As `read_where` reads it."""
        values: dict[str, object] = {
            "links": [list(key) for key in self.links] or None,
            "site": self.site,
            "medium": self.medium,
            "one_way": self.one_way or None,
        }
        return {key: value for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        arrow = "->" if self.one_way else "<->"
        links = ", ".join(f"{a} {arrow} {b} ({medium})" for a, b, medium in self.links)
        return links or (f"site {self.site}" if self.site else f"all of {self.medium}") + (" inwards" if self.site and self.one_way else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which links are congested when: one ``[[congestion]]`` table.

    period_ns    the length of a day
    peak_ns      when the load is highest; None where `peak_local_h` says it by local solar time
    quiet, peak  the loads at the quiet hour and at the peak
    """

    where: Where
    period_ns: int
    quiet: Load
    peak: Load
    peak_ns: int | None = None
    peak_local_h: float | None = None

    def table(self) -> dict[str, object]:
        """As `read_rule` reads it."""
        quiet, peak = self.quiet, self.peak
        values: dict[str, object] = {
            "period_s": self.period_ns / SECOND,
            "peak_at_s": None if self.peak_ns is None else self.peak_ns / SECOND,
            "peak_local_h": self.peak_local_h,
            "delay_ms": [quiet.delay_ns / MS, peak.delay_ns / MS],
            "jitter_ms": [quiet.jitter_ns / MS, peak.jitter_ns / MS],
            "loss": [quiet.loss_ratio, peak.loss_ratio],
            "rate_share": [quiet.rate_share, peak.rate_share],
        }
        return self.where.table() | {key: value for key, value in values.items() if value is not None}


def read_where(table: Table, topology: Topology) -> Where:
    """Which links a table means, checked against the topology."""
    if sum(key in table for key in ("links", "site", "medium")) != 1:
        table.fail("links", "say which links by exactly one of links, site and medium")
    if "one_way" in table and "medium" in table:
        table.fail("one_way", "a whole medium has no direction; leave it out")
    where = Where(
        links=_links(table, topology),
        site=table.known("site", topology.by_id, "site") if "site" in table else None,
        medium=table.medium("medium") if "medium" in table else None,
        one_way=table.flag("one_way"),
    )
    if not where.keys(topology):
        table.fail(next(key for key in ("links", "site", "medium") if key in table), "no link is meant")
    return where


def read_rule(table: Table, topology: Topology) -> Rule:
    """One ``[[congestion]]`` table, checked against the topology."""
    where = read_where(table, topology)
    if ("peak_at_s" in table) == ("peak_local_h" in table):
        table.fail("peak_at_s", "say when the peak is by exactly one of peak_at_s and peak_local_h")
    period_s = table.within("period_s", 1.0, _MAX_S)
    period_ns = round((DAY_S if period_s is None else period_s) * SECOND)
    peak_at_s, peak_local_h = table.within("peak_at_s", 0.0, _MAX_S), table.within("peak_local_h", 0.0, 24.0)
    if peak_at_s is not None and round(peak_at_s * SECOND) >= period_ns:
        table.fail("peak_at_s", f"{peak_at_s:g} is not within the period of {period_ns / SECOND:g} s")
    quiet, peak = _loads(table)
    links = [topology.link_by_key[key] for key in where.keys(topology)]
    if quiet.rate_share < 1 or peak.rate_share < 1:
        unlimited = next((link for link in links if link.rate_bps is None), None)
        if unlimited is not None and (where.links or all(link.rate_bps is None for link in links)):
            table.fail("rate_share", f"{unlimited.src} -> {unlimited.dst} has no rate that could be shared; give the link a rate")
    if peak_local_h is not None:
        nowhere = next((link for link in links if _longitude(topology, link.key) is None), None)
        if nowhere is not None:
            table.fail("peak_local_h", f"neither {nowhere.src} nor {nowhere.dst} has a longitude to tell local time by; give peak_at_s")
    return Rule(
        where=where,
        period_ns=period_ns,
        quiet=quiet,
        peak=peak,
        peak_ns=None if peak_at_s is None else round(peak_at_s * SECOND),
        peak_local_h=peak_local_h,
    )


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


def congested_links(topology: Topology, rule: Rule) -> Mapping[LinkKey, Congestion]:
    """Every directed link that a rule is about, with its busy and quiet hours."""
    found = {}
    for key in rule.where.keys(topology):
        peak_ns = rule.peak_ns
        if peak_ns is None:
            lon = _longitude(topology, key)
            assert lon is not None
            assert rule.peak_local_h is not None
            peak_ns = solar_peak_ns(rule.peak_local_h, lon, rule.period_ns)
        found[key] = Congestion(period_ns=rule.period_ns, peak_ns=peak_ns, quiet=rule.quiet, peak=rule.peak)
    return found


def joined(table: Table, key: str, ends: tuple[str, str], medium: Medium | None, topology: Topology) -> tuple[str, str, Medium]:
    """The link that two nodes stand for, as its key; refuses `key` when there is none, or several and no medium."""
    found = [link for link in topology.link_by_key if link[:2] == ends and medium in (None, link[2])]
    src, dst = ends
    if len(found) > 1:
        table.fail(key, f"{src} and {dst} are joined over {', '.join(link[2] for link in found)}; say which medium")
    if not found:
        near = sorted({link[1] for link in topology.link_by_key if link[0] == src})
        if not near:
            table.fail(key, f"there is no site or router {src!r}{like(src, [*topology.by_id, *topology.router_by_id])}")
        table.fail(
            key, f"there is no link from {src!r} to {dst!r}{f' over {medium}' if medium else ''}; {src} is joined to {', '.join(near)}"
        )
    return found[0]
