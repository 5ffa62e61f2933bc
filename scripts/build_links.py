#!/usr/bin/env python3
"""Write links.csv for a fleet: a backbone mesh and the private links to cloud regions; `--inventory FOLDER` for one's own PoPs.

This is how inventory/links.csv was made, once; since then it is data, and a row may be changed by hand.

backbone        the mesh below joins the hubs along land routes and cable systems that exist, as far as we know; every
                other PoP of attachment `backbone` has a circuit to its two nearest hubs within SPUR_KM
direct-connect  a PoP within ONRAMP_KM of an on-ramp has a private link to each region that the on-ramp reaches and for
                which it is one of the NEAREST on-ramps, not further than REACH_KM
internet        one row: any two sites

Capacities are assumptions. Port prices are the providers' list prices as remembered; what is not known stays empty. A GB
over a private link has its price in egress_prices.csv, scope direct-connect.

    python scripts/build_links.py > inventory/links.csv
    python scripts/build_links.py --inventory my-network > my-network/links.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from inventory import access, places
from inventory.load import BUILT_IN
from inventory.rows import Faults
from records.access import OnRamp
from records.errors import UserError
from records.place import Site, great_circle_km

SPUR_KM = 2600
ONRAMP_KM = 60
REACH_KM = 1600
NEAREST = 3

#: Hubs joined by land, and by sea. Each line begins with the hub that those after it are joined to.
LAND = """
lhr ams cdg
ams fra
cdg fra mad mrs
fra zrh vie waw cph
mad lis mrs
mrs mxp
mxp zrh vie
vie waw otp
otp ist
ist ath
cph arn
arn hel
iad ewr ord atl
ewr ord yyz
ord yyz den sea dfw
atl mia dfw
dfw den lax qro
den sjc sea
lax sjc
sjc sea
gru gig eze
gig for
eze scl
scl lim
lim bog
sin kul
kul bkk
bkk sgn
maa bom del
bom del
cai tlv
ruh dxb
jnb cpt nbo
syd mel
mel per
"""
SEA = """
lhr dub ewr los
dub ewr
cdg ewr iad
mad iad cmn
lis for los cmn
cph ewr
hel fra
ath mxp tlv
mrs tlv cai cmn bom sin
mia bog for qro lim
ewr gru
lax nrt sin syd akl
sjc nrt
sea nrt
nrt kix icn tpe hkg
kix tpe
icn hkg
tpe hkg mnl
hkg mnl sin sgn
mnl sin
sin cgk sgn maa bom per
cgk per kul
bom dxb ruh
dxb cai nbo sin
ist tlv
nbo bom
cpt los
syd akl
"""
CAPACITY_GBPS = {"land": 400, "sea": 100, "spur": 100}
BACKBONE = "reference fleet (assumption): no one's circuit; capacity assumed, price not known"

#: Provider -> port in Gbit/s, its price a month, where that list price holds (None: everywhere), and where it is from.
#: A month has 730 hours.
NORTH = "US CA AT BE BG CH CZ DE DK ES FI FR GB GR HU IE IT NL NO PL PT RO SE"
PORTS: dict[str, tuple[float, float, str | None, str]] = {
    "aws": (10, 2.25 * 730, NORTH, "AWS Direct Connect list: dedicated port of 10 Gbit/s, 2.25 USD an hour"),
    "azure": (1, 436, NORTH, "Azure ExpressRoute list: standard circuit of 1 Gbit/s, metered, zone 1"),
    "gcp": (
        10,
        2.328 * 730,
        None,
        "Google Cloud Dedicated Interconnect list: port of 10 Gbit/s, 2.328 USD an hour, attachments not included",
    ),
    "oracle": (10, 1.275 * 730, None, "Oracle FastConnect list: port of 10 Gbit/s, 1.275 USD an hour"),
}
MEMORY = "from memory of the provider's page, not read again"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        hub, *others = line.split() or [""]
        for other in others:
            yield hub, other


def backbone(pops: list[places.Pop]) -> Iterator[dict[str, object]]:
    """The mesh of the hubs in the fleet, then a spur from every other backbone PoP to its two nearest hubs."""
    own = {pop.site.id: pop.site for pop in pops if pop.attachment == "backbone"}
    hubs: dict[str, Site] = {}
    for kind, text in (("land", LAND), ("sea", SEA)):
        for src, dst in _pairs(text):
            if src in own and dst in own:
                hubs |= {src: own[src], dst: own[dst]}
                yield _row(src, dst, "backbone", CAPACITY_GBPS[kind], None, BACKBONE)
    for site in own.values():
        if site.id in hubs:
            continue
        near = sorted(hubs.values(), key=lambda hub: great_circle_km(site, hub))[:2]
        for hub in near:
            if great_circle_km(site, hub) <= SPUR_KM:
                yield _row(site.id, hub.id, "backbone", CAPACITY_GBPS["spur"], None, BACKBONE)


def direct_connect(pops: list[places.Pop], regions: list[Site], onramps: list[OnRamp]) -> Iterator[dict[str, object]]:
    """Private links from the PoPs at the on-ramps nearest to each region."""
    reached: dict[str, list[tuple[float, str, OnRamp]]] = {region.id: [] for region in regions}
    for ramp in onramps:
        place = Site(id="onramp", kind="metro", name=ramp.metro, lat=ramp.lat, lon=ramp.lon)
        near = sorted((great_circle_km(place, pop.site), pop.site.id) for pop in pops)[:1]
        if not near or near[0][0] > ONRAMP_KM:
            continue
        for region in regions:
            if region.provider == ramp.provider and (ramp.regions is None or region.id in ramp.regions):
                reached[region.id].append((great_circle_km(place, region), near[0][1], ramp))
    for region_id, ramps in reached.items():
        taken: set[str] = set()
        for km, pop, ramp in sorted(ramps, key=lambda found: found[:2]):
            if km > REACH_KM or pop in taken or len(taken) == NEAREST:
                continue
            taken.add(pop)
            capacity, price, where, source = PORTS.get(ramp.provider, (None, None, None, ""))
            if price is None:
                yield _row(pop, region_id, "direct-connect", None, None, f"{ramp.product} in {ramp.metro}; no list price read")
            elif where is None or ramp.country in where.split():
                yield _row(pop, region_id, "direct-connect", capacity, price, f"{source}; {MEMORY}")
            else:
                yield _row(
                    pop, region_id, "direct-connect", capacity, None, f"{ramp.product} in {ramp.metro}; its list price differs there"
                )


def _row(src: str, dst: str, medium: str, capacity: float | None, price: float | None, source: str) -> dict[str, object]:
    return {
        "src": src,
        "dst": dst,
        "medium": medium,
        "capacity_gbps": "" if capacity is None else f"{capacity:g}",
        "port_usd_per_month": "" if price is None else f"{price:.2f}",
        "usd_per_gb": "",
        "commitment_months": "" if price is None else "0",
        "currency": "" if price is None else "USD",
        "source": source,
        "as_of": "2025",
    }


def main() -> None:
    """Read the tables, write the rows to standard output."""
    parser = argparse.ArgumentParser(description="Write links.csv for the PoPs of a folder, or for the reference fleet.")
    parser.add_argument("--inventory", type=Path, metavar="FOLDER", help="a folder with a pops.csv; other tables there count too")
    own = parser.parse_args().inventory

    def table(name: str) -> Path:
        return own / name if own is not None and (own / name).is_file() else BUILT_IN / name

    faults = Faults()
    try:
        pops = places.read_pops(table("pops.csv"), faults)
        regions = places.read_regions(table("regions.csv"), faults)
        onramps = access.read_onramps(table("onramps.csv"), {region.id: region for region in regions}, faults)
        faults.fail()
    except UserError as error:
        sys.exit(f"build_links: {error}")
    writer = csv.DictWriter(sys.stdout, access.LINK_COLUMNS, lineterminator="\n")
    writer.writeheader()
    internet = "rule: any two sites are joined by the internet; what leaves a cloud has its price in egress_prices.csv"
    writer.writerow(_row("any", "any", "internet", None, None, internet))
    writer.writerows(backbone(pops))
    writer.writerows(direct_connect(pops, regions, onramps))


if __name__ == "__main__":
    main()
