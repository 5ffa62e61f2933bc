"""What the demo's agents measure: one configuration file for each, written from the lab's own addresses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.world import Lab

__all__ = ["INFERENCE_PORT", "THROUGHPUT_PORT", "UDP_ECHO_PORT", "Intervals", "intervals", "write_agent_config"]

INFERENCE_PORT = 8080
THROUGHPUT_PORT = 5201
UDP_ECHO_PORT = 8622
STAMP_PORT = 8620

# All of the world shares this machine's cores with the dashboard, so a larger world is measured less often: no more of each
# probe type a second, over all agents, than this. Within the shortest intervals below that is every pair within half a
# minute for what costs little; a transfer takes the link, and here the processor too, for a moment.
_PINGS_PER_S = 60.0
_TRACEROUTES_PER_S = 6.0
_TRANSFERS_PER_S = 0.3
_INFERENCES_PER_S = 5.0

_PROBES = """
[[probe]]
type = "ping"
engine = "{ping_engine}"
interval_s = {ping_s}
count = 5
interval_ms = 100
timeout_ms = 2000
{traceroute}
[[probe]]
type = "throughput"
interval_s = {throughput_s}
duration_s = 2
max_bytes = 5000000
full_every = {full_every}
estimate_max_bytes = 5000000

[[probe]]
type = "inference"
interval_s = {inference_s}
max_tokens = 16
timeout_ms = 10000

[[probe]]
type = "http"
interval_s = {inference_s}

[[probe]]
type = "serving"
interval_s = {inference_s}
"""

_TRACEROUTE = """
[[probe]]
type = "traceroute"
interval_s = {traceroute_s}
max_ttl = 24
timeout_ms = 1000
attempts = 2
"""

# All hosts of the namespaces' lab have this machine's clock: one-way delays are as good as its stamps.
_STAMP = """
[[probe]]
type = "stamp"
interval_s = {traceroute_s}
count = 10
interval_ms = 100
clock_error_us = 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds between two measurements of one target, by probe type."""

    ping_s: int
    traceroute_s: int
    throughput_s: int
    inference_s: int


def intervals(lab: Lab) -> Intervals:
    """How often the agents of a world measure, so that one machine can carry all of it.

    >>> _at_least(10, 816, 60.0), _at_least(10, 254, 60.0)
    (15, 10)
    """
    ids = [site.id for site in lab.topology.sites]
    targets = sum(len(lab.media(src, dst)) for src in ids for dst in ids if src != dst)
    served = sum(len(lab.media(src, dst)) for src in ids for dst in ids if src != dst and lab.topology.site(dst).serves)
    return Intervals(
        ping_s=_at_least(10, targets, _PINGS_PER_S),
        traceroute_s=_at_least(30, targets, _TRACEROUTES_PER_S),
        throughput_s=_at_least(60, targets, _TRANSFERS_PER_S),
        inference_s=_at_least(30, served, _INFERENCES_PER_S),
    )


def _at_least(shortest_s: int, targets: int, per_s: float) -> int:
    """The shortest interval that keeps to a rate, in steps of 5 s."""
    return max(shortest_s, math.ceil(targets / per_s / 5) * 5)


def write_agent_config(lab: Lab, site: str, often: Intervals, *, folder: Path, collector_socket: Path, token: str) -> Path:
    """Write the TOML file of the agent at `site`, which measures so `often`, and its token file; returns the former's path.

    Every other site of the lab is a target once for each medium that joins the two.
    """
    token_file = folder / f"{_name(site)}.token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    # The same address serves everyone in the namespaces; in the loopback lab a site has one address for each other.
    loopback = lab.kind == "loopback"
    text = [
        "[agent]",
        f'id = "{site}"',
        f'site = "{site}"',
        f'spool_dir = "{folder / _name(site)}.spool"',
        "status_interval_s = 5",
        "allow_private_targets = true",
        "",
        "[collector]",
        f'url = "http+unix://{collector_socket}"',
        f'token_file = "{token_file}"',
        "batch_max_age_s = 2.0",
        "",
        "[limits]",
        "packets_per_second = 400",
        "packets_per_second_per_target = 100",
        "",
    ]
    if not loopback:
        text += ["[serve]", 'host = "0.0.0.0"', f"throughput_port = {THROUGHPUT_PORT}", f"udp_echo_port = {UDP_ECHO_PORT}"]
        text += [f"stamp_port = {STAMP_PORT}", "stamp_clock_error_us = 5", ""]
    traceroute = "" if loopback else (_TRACEROUTE + _STAMP).format(traceroute_s=often.traceroute_s)
    # Proxies stand in for the paths of the loopback lab: a sender's own TCP, which estimates read, sees nothing of those.
    full_every = 1 if loopback else 6
    engine = "udp" if loopback else "auto"
    text.append(_PROBES.format(ping_engine=engine, traceroute=traceroute, full_every=full_every, **asdict(often)))
    for target in lab.topology.sites:
        if target.id == site:
            continue
        for medium in lab.media(site, target.id):
            address = lab.address(site, target.id, medium)
            if address is None:
                continue
            text += ["[[target]]", *_pairs({"site": target.id, "address": address, "medium": medium})]
            text += [f"throughput_port = {THROUGHPUT_PORT}", f"udp_echo_port = {UDP_ECHO_PORT}"]
            text += [] if loopback else [f"stamp_port = {STAMP_PORT}"]
            url = lab.inference_url(site, target.id, medium)
            if url is not None:
                server = url.removesuffix("/v1")
                text += _pairs({"inference_url": url, "http_url": f"{server}/health", "metrics_url": f"{server}/metrics"})
            text.append("")
    path = folder / f"{_name(site)}.toml"
    path.write_text("\n".join(text))
    return path


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f'{key} = "{value}"' for key, value in values.items()]


def _name(site: str) -> str:
    return site.replace(":", "-")
