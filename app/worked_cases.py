"""The shipped cases that are no scenario over all demand: read from JSON, worked over the links and prices known.

Each answer has the shape of a scenario's: baseline, proposed, deltas; what a case says beside stands under `case`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from app.answers import Links
from inventory.load import Inventory
from records.errors import UserError
from records.link import LinkEstimate
from records.place import PROVIDERS
from records.units import GB, MS, SECOND, ms
from routing.cases import Cameras, Price, Processed, break_even_gb, monthly_usd, processed
from routing.federated import Federation, centralised, hierarchical, peer, star
from routing.media import rank_rtt_ns
from routing.modelled import model_link
from routing.network import Network

__all__ = ["KINDS", "worked"]

_DELTAS = ("ttft_p95_ms", "e2e_p95_ms", "usd_per_month", "moved_share", "slo_miss_share", "lost_share")


class _Case:
    """A document with checked fields."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def number(self, name: str, least: float = 0.0) -> float:
        value = self.document.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            raise UserError(f"case {self.document.get('name')!r}: {name} must be a number from {least:g} up, not {value!r}")
        return float(value)

    def sites(self, name: str, inventory: Inventory) -> list[str]:
        value = self.document.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise UserError(f"case {self.document.get('name')!r}: {name} must be a list of site ids, not {value!r}")
        return [inventory.site(one).id for one in value]

    def site(self, name: str, inventory: Inventory) -> str:
        value = self.document.get(name)
        if not isinstance(value, str):
            raise UserError(f"case {self.document.get('name')!r}: {name} must be a site id, not {value!r}")
        return inventory.site(value).id


def worked(document: dict[str, Any], known: Links, inventory: Inventory, *, seed: int) -> dict[str, Any]:
    """A case of one of KINDS. Raises UserError, UnknownSite for what it does not say right."""
    kind = document.get("kind")
    if kind not in KINDS:
        raise UserError(f"case {document.get('name')!r}: kind {kind!r} is not one of {', '.join(KINDS)}; a scenario has no kind, but edits")
    network = Network(known.links, known.sites)
    baseline, proposed, deltas, more = KINDS[kind](_Case(document), network, inventory, seed)
    snapshot = known.snapshot if known.links else None
    said = json.dumps({"case": document, "snapshot": snapshot, "seed": seed}, sort_keys=True)
    return {
        "scenario": document.get("name"),
        "title": document.get("title", ""),
        "kind": kind,
        "snapshot": snapshot,
        "seed": seed,
        "baseline": baseline,
        "proposed": proposed,
        "deltas": dict.fromkeys(_DELTAS) | deltas,
        "per_metro": [],
        "new_single_points": [],
        "case": more,
        "scenario_hash": hashlib.sha256(said.encode()).hexdigest(),
    }


Answer = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


def _leg(network: Network, src: str, dst: str) -> LinkEstimate:
    found = network.leg(src, dst)
    assert found is not None  # without measured_only there is always a model
    return found


def _file(case: _Case, network: Network, inventory: Inventory, seed: int) -> Answer:
    """A file processed far away and returned, against processed here."""
    source, here, there = (case.site(name, inventory) for name in ("from", "here", "there"))
    asked: dict[str, Any] = {
        "upload_bytes": int(case.number("upload_bytes")),
        "download_bytes": int(case.number("download_bytes")),
        "processing_ns": case.number("processing_ms") * MS,
        "share_bps": case.number("access_bps", 1.0),
        "seed": seed,
    }
    near = processed([_leg(network, source, here)], **asked)
    far = processed([_leg(network, source, here), _leg(network, here, there)], **asked)
    added_ns = far.whole.p50_ns - near.whole.p50_ns
    more = {
        "added_p50_ms": ms(added_ns),
        "times": far.whole.p50_ns / near.whole.p50_ns,
        "processed_at": {"baseline": here, "proposed": there},
    }
    return _processed(near), _processed(far), {"e2e_p95_ms": ms(far.whole.p95_ns - near.whole.p95_ns)}, more


def _processed(found: Processed) -> dict[str, Any]:
    return {
        "e2e_ms": {"p50": ms(found.whole.p50_ns), "p95": ms(found.whole.p95_ns)},
        "rtt_ms": {"p50": ms(found.rtt.p50_ns), "p95": ms(found.rtt.p95_ns)},
        "parts": {
            "connect": ms(found.connect_ns),
            "upload": ms(found.upload_ns),
            "processing": ms(found.processing_ns),
            "download": ms(found.download_ns),
        },
        "evidence": list(found.evidence),
    }


def _price(inventory: Inventory, region: str, scope: Any) -> Price:
    return lambda at: inventory.egress_usd_per_gb(region, scope, at)


def _cameras(case: _Case, _network: Network, inventory: Inventory, _seed: int) -> Answer:
    """Cameras to a region of each cloud, all they see against what is odd."""
    cameras = Cameras(count=int(case.number("cameras", 1)), bps_each=case.number("bps_each", 1), anomaly_share=case.number("anomaly_share"))
    rows: list[dict[str, Any]] = []
    for region in case.sites("regions", inventory):
        whole, odd = cameras.streams(region, _price(inventory, region, "internet"))
        rows.append(
            {
                "region": region,
                "provider": PROVIDERS.get(region.partition(":")[0]),
                "usd_all": whole.usd,
                "usd_anomalies": odd.usd,
                "usd_saved": None if whole.usd is None or odd.usd is None else whole.usd - odd.usd,
                "gb_all": whole.gb,
                "gb_anomalies": odd.gb,
            }
        )
    first = rows[0]
    sides = [
        {"gb_per_month": first[f"gb_{side}"], "uplink_bps": cameras.uplink_bps * share, "usd_per_month": first[f"usd_{side}"]}
        for side, share in (("all", 1.0), ("anomalies", cameras.anomaly_share))
    ]
    saved = first["usd_saved"]
    return sides[0], sides[1], {"usd_per_month": None if saved is None else -saved}, {"regions": rows}


def _private(case: _Case, network: Network, inventory: Inventory, _seed: int) -> Answer:
    """The same month over the internet and over a private link of each cloud."""
    gb = case.number("gb_per_month")
    pairs = case.document.get("pairs")
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise UserError(f'case {case.document.get("name")!r}: pairs must be a list such as [["iad", "aws:us-east-1"]], not {pairs!r}')
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        pop, region = (inventory.site(str(end)).id for end in pair)
        joined = inventory.media_between(pop, region).get("direct-connect")
        port = None if joined is None else joined.port_usd_per_month
        public, private = _price(inventory, region, "internet"), _price(inventory, region, "direct-connect")
        rows.append(
            {
                "pop": pop,
                "region": region,
                "usd_internet": monthly_usd(public, gb),
                "usd_direct_connect": monthly_usd(private, gb, port_usd=port),
                "port_usd": port,
                "break_even_gb": break_even_gb(public, private, port),
                "rtt_ms": {medium: _medium_ms(network, pop, region, medium) for medium in ("internet", "direct-connect")},
                "modelled_rtt_ms": ms(rank_rtt_ns(model_link(network.site(pop), network.site(region)))),
            }
        )
    first = rows[0]
    sides = [
        {"usd_per_month": first["usd_internet"], "gb_per_month": gb},
        {"usd_per_month": first["usd_direct_connect"], "gb_per_month": gb},
    ]
    both = first["usd_internet"] is not None and first["usd_direct_connect"] is not None
    return sides[0], sides[1], {"usd_per_month": first["usd_direct_connect"] - first["usd_internet"] if both else None}, {"pairs": rows}


def _medium_ms(network: Network, src: str, dst: str, medium: str) -> float | None:
    """The measured median RTT of one medium; None where nobody measured it."""
    found = [link for path in network.paths(src, dst, relays=0, measured_only=True) for link in path.legs if link.medium == medium]
    return ms(rank_rtt_ns(found[0])) if found else None


def _federated(case: _Case, network: Network, inventory: Inventory, _seed: int) -> Answer:
    """Rounds of federated learning in three shapes, against sending the raw data to one place."""
    federation = Federation(
        clients=tuple(case.sites("clients", inventory)),
        model_bytes=int(case.number("model_bytes")),
        update_bytes=int(case.number("update_bytes")),
        train_ns=case.number("train_s") * SECOND,
        client_bps=case.number("client_bps", 1),
        aggregator_bps=case.number("aggregator_bps", 1),
        raw_bytes=int(case.number("raw_bytes_per_client")),
    )
    candidates, regional = case.sites("candidates", inventory), case.sites("regional", inventory)
    rounds = int(case.number("rounds", 1))

    def rtt(a: str, b: str) -> float:
        return 0.0 if a == b else float(rank_rtt_ns(_leg(network, a, b)) or 0)

    whole = centralised(federation, candidates, rtt)
    shapes = [star(federation, candidates, rtt), hierarchical(federation, regional, candidates, rtt), peer(federation, rtt)]
    rows: list[dict[str, Any]] = [
        {
            "shape": one.shape,
            "aggregator": one.aggregator,
            "round_s": one.round_ns / SECOND,
            "all_rounds_s": one.round_ns * rounds / SECOND,
            "gb_per_round": one.sent_bytes / GB,
            "gb_all_rounds": one.sent_bytes * rounds / GB,
            "waits_for": one.slowest,
        }
        for one in shapes
    ]
    baseline = {"site": whole.site, "upload_s": whole.upload_ns / SECOND, "gb": whole.sent_bytes / GB, "raw_data_moves": True}
    proposed = rows[0] | {"raw_data_moves": False}
    more = {"shapes": rows, "rounds": rounds, "clients": len(federation.clients)}
    return baseline, proposed, {}, more


#: Kind of a case -> what works it.
KINDS: dict[str, Callable[[_Case, Network, Inventory, int], Answer]] = {
    "file": _file,
    "cameras": _cameras,
    "direct-connect": _private,
    "federated": _federated,
}
