"""What may be done to a running network: one record for each kind, with the same words in files, commands and messages.

======================================  ==========================================================================
``op``                                  operands
======================================  ==========================================================================
``fail``, ``restore``                   ``between`` two joined nodes, ``medium``, ``one_way``
``degrade``                             the same, and at least one of ``delay_ms jitter_ms loss rate mtu``
``shift``                               the same, and ``metric``
``fail_site``, ``restore_site``         ``site``
``set_router``                          ``router``, and at least one of ``silent icmp_per_s``
``restore_router``                      ``router``
``congest``                             the keys of a rule of congestion, see lab/rules.py; its times count from the lab's start
``calm``                                ``links``, ``site`` or ``medium``, ``one_way``: no congestion there any more
======================================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from lab.links import LINK_OPS, Change
from lab.routers import RouterChange
from lab.rules import CONGESTION_KEYS, WHERE_KEYS, Rule, Where, joined, read_rule, read_where
from lab.tables import Table
from lab.topology import Topology
from records.link import Medium
from records.units import MS, SECOND

__all__ = [
    "ACTION_KEYS",
    "OPS",
    "Action",
    "CalmAction",
    "CongestAction",
    "LinkAction",
    "Network",
    "RouterAction",
    "SiteAction",
    "read_action",
]

OPS = (*LINK_OPS, "fail_site", "restore_site", "set_router", "restore_router", "congest", "calm")
_DEGRADE = ("delay_ms", "jitter_ms", "loss", "rate", "mtu")
_OWN_KEYS = ("op", "between", "medium", "one_way", *_DEGRADE, "metric", "site", "router", "silent", "icmp_per_s")
ACTION_KEYS = (*_OWN_KEYS, *(key for key in CONGESTION_KEYS if key not in _OWN_KEYS))
_TAKES = {
    **dict.fromkeys(("fail", "restore"), ("between", "medium", "one_way")),
    "degrade": ("between", "medium", "one_way", *_DEGRADE),
    "shift": ("between", "medium", "one_way", "metric"),
    **dict.fromkeys(("fail_site", "restore_site"), ("site",)),
    "set_router": ("router", "silent", "icmp_per_s"),
    "restore_router": ("router",),
    "congest": CONGESTION_KEYS,
    "calm": WHERE_KEYS,
}


class Network(Protocol):
    """What actions are done to; see lab.agenda.Agenda."""

    def change(self, src: str, dst: str, medium: Medium | None, change: Change) -> None: ...
    def change_router(self, router: str, change: RouterChange) -> None: ...
    def change_site(self, site: str, op: Literal["fail", "restore"]) -> None: ...
    def congest(self, rule: Rule) -> None: ...
    def calm(self, where: Where) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAction:
    """A change to the link between two nodes, both ways unless `one_way`; a medium of None is the only one there is."""

    ends: tuple[str, str]
    change: Change
    medium: Medium | None = None
    one_way: bool = False

    def perform(self, network: Network) -> None:
        """Do it; raises UserError when there is no such link."""
        src, dst = self.ends
        network.change(src, dst, self.medium, self.change)
        if not self.one_way:
            network.change(dst, src, self.medium, self.change)

    def table(self) -> dict[str, object]:
        """The action as `read_action` reads it."""
        change = self.change
        values = {
            "medium": self.medium,
            "one_way": self.one_way or None,
            "delay_ms": None if change.delay_ns is None else change.delay_ns / MS,
            "jitter_ms": None if change.jitter_ns is None else change.jitter_ns / MS,
            "loss": change.loss_ratio,
            "rate": None if change.rate_bps is None else f"{change.rate_bps}bit/s",
            "mtu": change.mtu,
            "metric": change.metric,
        }
        return {"op": change.op, "between": list(self.ends)} | {key: value for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        table = self.table()
        values = [f"{key} {table[key]}" for key in (*_DEGRADE, "metric") if key in table]
        medium = f" ({self.medium})" if self.medium else ""
        return f"{self.change.op} {self.ends[0]} {'->' if self.one_way else '<->'} {self.ends[1]}{medium}" + "".join(
            f", {value}" for value in values
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteAction:
    """All links of a site at once, both ways."""

    site: str
    op: Literal["fail", "restore"]

    def perform(self, network: Network) -> None:
        """Do it; raises UnknownSite."""
        network.change_site(self.site, self.op)

    def table(self) -> dict[str, object]:
        """The action as `read_action` reads it."""
        return {"op": f"{self.op}_site", "site": self.site}

    def __str__(self) -> str:
        return f"{self.op} site {self.site}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAction:
    """Whether and how often a router speaks ICMP."""

    router: str
    change: RouterChange

    def perform(self, network: Network) -> None:
        """Do it; raises UserError when there is no such router."""
        network.change_router(self.router, self.change)

    def table(self) -> dict[str, object]:
        """The action as `read_action` reads it."""
        values = {"silent": self.change.silent, "icmp_per_s": self.change.icmp_per_s}
        return {"op": f"{self.change.op}_router", "router": self.router} | {k: v for k, v in values.items() if v is not None}

    def __str__(self) -> str:
        table = self.table()
        values = "".join(f", {key} {str(table[key]).lower()}" for key in ("silent", "icmp_per_s") if key in table)
        return f"{self.change.op} router {self.router}{values}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestAction:
    """Another rule of congestion, beside those there are."""

    rule: Rule

    def perform(self, network: Network) -> None:
        """Do it."""
        network.congest(self.rule)

    def table(self) -> dict[str, object]:
        """The action as `read_action` reads it."""
        return {"op": "congest"} | self.rule.table()

    def __str__(self) -> str:
        return f"congest {self.rule.where}, every {self.rule.period_ns / SECOND:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalmAction:
    """No rule of congestion any more for some links."""

    where: Where

    def perform(self, network: Network) -> None:
        """Do it."""
        network.calm(self.where)

    def table(self) -> dict[str, object]:
        """The action as `read_action` reads it."""
        return {"op": "calm"} | self.where.table()

    def __str__(self) -> str:
        return f"calm {self.where}"


Action = LinkAction | SiteAction | RouterAction | CongestAction | CalmAction


def read_action(table: Table, topology: Topology) -> Action:
    """The action that a table says, checked against the topology; other keys than ACTION_KEYS are not looked at.

    Raises InputError that names the file, the line and the key.
    """
    op = table.one_of("op", OPS)
    for key in ACTION_KEYS:
        if key != "op" and key in table and key not in _TAKES[op]:
            table.fail(key, f"{op} takes no {key}; it takes {', '.join(_TAKES[op])}")
    if op in LINK_OPS:
        return _link_action(table, op, topology)
    if op in ("fail_site", "restore_site"):
        return SiteAction(site=table.known("site", topology.by_id, "site"), op="fail" if op == "fail_site" else "restore")
    if op == "congest":
        return CongestAction(rule=read_rule(table, topology))
    if op == "calm":
        return CalmAction(where=read_where(table, topology))
    router = table.known("router", topology.router_by_id, "router")
    silent = table.flag("silent") if "silent" in table else None
    icmp_per_s = table.whole("icmp_per_s", 1, 1_000_000)
    with table.refusing("op"):
        return RouterAction(
            router=router, change=RouterChange(op="set" if op == "set_router" else "restore", silent=silent, icmp_per_s=icmp_per_s)
        )


def _link_action(table: Table, op: str, topology: Topology) -> LinkAction:
    medium = table.medium("medium") if "medium" in table else None
    src, dst, medium = joined(table, "between", table.ends("between"), medium, topology)
    delay_ms, jitter_ms = (table.within(key, 0.0, 10_000.0) for key in ("delay_ms", "jitter_ms"))
    loss, rate = table.within("loss", 0.0, 1.0), table.rate("rate")
    mtu, metric = table.whole("mtu", 1280, 65535), table.whole("metric", 1, 10**12)
    with table.refusing("op"):
        change = Change(
            op=op,  # type: ignore[arg-type]
            delay_ns=None if delay_ms is None else round(delay_ms * MS),
            jitter_ns=None if jitter_ms is None else round(jitter_ms * MS),
            loss_ratio=loss,
            rate_bps=rate,
            mtu=mtu,
            metric=metric,
        )
    return LinkAction(ends=(src, dst), change=change, medium=medium, one_way=table.flag("one_way"))
