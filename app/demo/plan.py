"""What the demo's agents measure: one configuration file for each, written from the lab's own addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.world import Lab

__all__ = ["INFERENCE_PORT", "THROUGHPUT_PORT", "UDP_ECHO_PORT", "write_agent_config"]

INFERENCE_PORT = 8080
THROUGHPUT_PORT = 5201
UDP_ECHO_PORT = 8622

# Every pair within half a minute for what costs little. A transfer takes the link, and here the processor too, for a
# moment, so each pair has one in ten minutes. All of the world shares this machine's cores with the dashboard.
_PROBES = """
[[probe]]
type = "ping"
engine = "{ping_engine}"
interval_s = 10
count = 5
interval_ms = 100
timeout_ms = 2000
{traceroute}
[[probe]]
type = "throughput"
interval_s = 600
duration_s = 2
max_bytes = 5000000

[[probe]]
type = "inference"
interval_s = 30
max_tokens = 16
timeout_ms = 10000
"""

_TRACEROUTE = """
[[probe]]
type = "traceroute"
interval_s = 30
max_ttl = 24
timeout_ms = 1000
attempts = 2
"""


def write_agent_config(lab: Lab, site: str, *, folder: Path, collector_socket: Path, token: str) -> Path:
    """Write the TOML file of the agent at `site` and its token file; returns the former's path.

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
        "batch_max_age_s = 1.0",
        "",
        "[limits]",
        "packets_per_second = 400",
        "packets_per_second_per_target = 100",
        "",
    ]
    if not loopback:
        text += ["[serve]", 'host = "0.0.0.0"', f"throughput_port = {THROUGHPUT_PORT}", f"udp_echo_port = {UDP_ECHO_PORT}", ""]
    text.append(_PROBES.format(ping_engine="udp" if loopback else "auto", traceroute="" if loopback else _TRACEROUTE))
    for target in lab.topology.sites:
        if target.id == site:
            continue
        for medium in lab.media(site, target.id):
            address = lab.address(site, target.id, medium)
            if address is None:
                continue
            text += ["[[target]]", *_pairs({"site": target.id, "address": address, "medium": medium})]
            text += [f"throughput_port = {THROUGHPUT_PORT}", f"udp_echo_port = {UDP_ECHO_PORT}"]
            url = lab.inference_url(site, target.id, medium)
            if url is not None:
                text += _pairs({"inference_url": url})
            text.append("")
    path = folder / f"{_name(site)}.toml"
    path.write_text("\n".join(text))
    return path


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f'{key} = "{value}"' for key, value in values.items()]


def _name(site: str) -> str:
    return site.replace(":", "-")
