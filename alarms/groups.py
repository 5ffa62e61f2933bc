"""Which alarms have one cause? Pure.

A group is told by its key: ``site:sin`` (what is wrong is wrong with a site: its agent is silent, or many of its links have moved),
``pair:fra|sin`` (one pair, both directions, whatever is wrong with it), ``routes`` (routes changed and no open group explains it).

* An alarm of an agent belongs to the agent's site.
* New alarms of pairs are covered greedily, kind by kind: the site at which most of them end is a cause when these are `least` or more and
  at least half of the links measured with that site; they are its members, and so on with what is left. A new one joins a site that is
  a cause already, or whose agent is silent altogether.
* A route that flipped joins the group of a site or pair it ran through, if there is one.
* A site, once it is a cause, keeps its members, also when some have closed; so does any group that was told to somebody or is as old as
  its wait: only younger alarms of pairs and routes are grouped anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from alarms.model import Alarm, Severity, rank_of

__all__ = ["LEAST", "grouped", "severity_of", "title_of"]

#: Links of one site that are its own matter rather than theirs.
LEAST = 3
_SHARE = 0.5
#: The plainest first: what explains a loss may explain the rest.
_OF_PAIRS = ("loss_shift", "rtt_shift", "path_change")


def grouped(alarms: Sequence[Alarm], *, told: Collection[str], degrees: Mapping[str, int], least: int = LEAST) -> list[Alarm]:
    """The open alarms, each with the key and title of its group, in their order.

    told      group keys that keep their members
    degrees   site -> links measured from or to it
    """
    keys = {alarm.id: alarm.group_key for alarm in alarms if alarm.group_key in told or alarm.group_key.startswith("site:")}
    causes = {key.removeprefix("site:") for key in keys.values() if key.startswith("site:")}
    causes |= {alarm.sites[0] for alarm in alarms if alarm.kind == "data_missing" and alarm.detail.get("agent_silent")}
    for alarm in alarms:
        if alarm.kind == "data_missing" and alarm.id not in keys:
            keys[alarm.id] = f"site:{alarm.sites[0]}"
    for kind in _OF_PAIRS:
        same = [alarm for alarm in alarms if alarm.kind == kind]
        free = [alarm for alarm in same if alarm.id not in keys]
        while free:
            # What another site explains is not counted.
            known = Counter(
                site
                for alarm in same
                for site in {alarm.src, alarm.dst}
                if keys.get(alarm.id, "pair:").startswith(("pair:", f"site:{site}"))
            )
            ends = Counter(str(site) for alarm in free for site in {alarm.src, alarm.dst})
            able = [site for site in ends if site in causes or known[site] >= max(least, _SHARE * degrees.get(site, 0))]
            if not able:
                break
            # Of two sites with as many, the one of which a greater share is wrong.
            site = max(able, key=lambda name: (name in causes, ends[name], known[name] / max(1, degrees.get(name, 1)), name))
            causes.add(site)
            keys |= {alarm.id: f"site:{site}" for alarm in free if site in {alarm.src, alarm.dst}}
            free = [alarm for alarm in free if alarm.id not in keys]
        keys |= {alarm.id: "pair:" + "|".join(sorted({str(alarm.src), str(alarm.dst)})) for alarm in free}
    present = set(keys.values())
    for alarm in alarms:
        if alarm.id not in keys:
            keys[alarm.id] = _explained(alarm, present)
    members: dict[str, list[Alarm]] = {}
    for alarm in alarms:
        members.setdefault(keys[alarm.id], []).append(alarm)
    titles = {key: title_of(key, some) for key, some in members.items()}
    return [replace(alarm, group_key=keys[alarm.id], group_title=titles[keys[alarm.id]]) for alarm in alarms]


def _explained(alarm: Alarm, present: Collection[str]) -> str:
    for site in alarm.sites:
        if f"site:{site}" in present:
            return f"site:{site}"
    for a, b in zip(alarm.sites, alarm.sites[1:], strict=False):
        key = "pair:" + "|".join(sorted({a, b}))
        if key in present:
            return key
    return "routes"


def title_of(key: str, members: Iterable[Alarm]) -> str:
    """What is wrong, in a line: the cause, and how many members of which kind."""
    some = list(members)
    if len(some) == 1:
        return some[0].summary
    counts = Counter(alarm.kind for alarm in some)
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
    kind, _, name = key.partition(":")
    if kind == "site":
        return f"{name}: {said}"
    if kind == "pair":
        return f"{name.replace('|', ' and ')}: {said}"
    return f"routes: {said}"


def severity_of(members: Iterable[Alarm]) -> Severity:
    """The worst of the members that are open; of all, where none is."""
    some = list(members)
    chosen = [alarm for alarm in some if alarm.is_open] or some
    return max((alarm.severity for alarm in chosen), key=rank_of)
