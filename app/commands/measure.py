"""`isochrone ping / traceroute / throughput / infer / http`: one measurement now, for a person or as JSON, kept on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from app.measuring import common, keep_lines, keep_of, run, sites_of
from app.output import note
from app.quantities import Number, as_options
from probes.model import Target
from records.errors import UserError
from records.units import parse_duration_ns, parse_size_bytes

__all__ = ["MS", "http", "infer", "keep_lines", "ping", "throughput", "traceroute"]


class _Quantity(click.ParamType[float]):
    """A duration in ms or a size in bytes, typed with its unit."""

    def __init__(self, name: str, parse: Callable[[str], int], per: int) -> None:
        self.name, self._parse, self._per = name, parse, per

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        try:
            return self._parse(str(value)) / self._per
        except UserError as error:
            self.fail(str(error), param, ctx)


#: A duration in ms, typed with its unit.
MS = _Quantity("duration", parse_duration_ns, 1_000_000)
_S = _Quantity("duration", parse_duration_ns, 1_000_000_000)
_BYTES = _Quantity("size", parse_size_bytes, 1)


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("-c", "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="Probe packets to each target.")
@click.option("-i", "--interval", type=MS, default="100ms", show_default=True, help="From one packet to the next.")
@click.option("--timeout", type=MS, default="2s", show_default=True, help="A reply later than this counts as lost.")
@click.option("-s", "--size", type=_BYTES, default="56B", show_default=True, help="Payload of a packet.")
@click.option(
    "--engine", type=click.Choice(["auto", "icmp", "icmplib", "udp"]), default="auto", show_default=True, help="How it is measured."
)
@click.option("--port", type=click.IntRange(1, 65535), help="UDP port of our reflector at the target; for --engine udp.")
@click.option("--flows", type=click.IntRange(1, 64), default=1, show_default=True, help="Flows to ping at once, to see paths in parallel.")
@common
def ping(
    targets: tuple[str, ...],
    count: int,
    interval: float,
    timeout: float,
    size: float,
    engine: str,
    port: int | None,
    flows: int,
    **options: Any,
) -> None:
    """Measure round-trip time and loss to each TARGET, all at once, timed by the kernel where it can.

    All packets of a flow look alike to routers that spread traffic over equal paths, and take one of them; --flows shows the others.

    Exit status 1 when a target gave no reply; 130 after Ctrl-C, which sums up what came so far.

    Example: isochrone ping -c 10 192.0.2.1
    """
    from probes.ping import PingConfig, PingProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    if engine == "udp" and port is None:
        raise UserError("--engine udp needs --port: the UDP port of an isochrone reflector at the target")
    with as_options():
        config = PingConfig(engine=engine, count=count, interval_ms=interval, timeout_ms=timeout, payload_bytes=int(size), flows=flows)
    sites = sites_of(targets, keep)
    whom = [Target(site=s, address=a, medium=keep.medium, udp_echo_port=port) for s, a in zip(sites, targets, strict=True)]  # type: ignore[arg-type]
    run(PingProbe(config), whom, keep, as_json=as_json, at_once=flows, together=True)


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("-m", "--max-ttl", type=click.IntRange(1, 64), default=30, show_default=True, help="Longest path looked at.")
@click.option("--timeout", type=MS, default="1s", show_default=True, help="A hop silent for so long is silent.")
@click.option("--attempts", type=click.IntRange(1, 10), default=2, show_default=True, help="Probe packets to a silent hop.")
@click.option("--flows", type=click.IntRange(1, 64), default=1, show_default=True, help="Flows to trace at once, to see paths in parallel.")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Times each is traced, to see changes.")
@click.option("--protocol", type=click.Choice(["icmp", "udp", "tcp"]), default="icmp", show_default=True, help="What is sent.")
@click.option("--port", type=click.IntRange(1, 65535), default=443, show_default=True, help="Where SYNs go, with --protocol tcp.")
@click.option("--rate", type=click.IntRange(1, 20_000), default=1000, show_default=True, help="Packets a second; routers limit answers.")
@click.option("--pcap", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Keep every packet as evidence; needs scapy.")
@common
def traceroute(
    targets: tuple[str, ...],
    max_ttl: int,
    timeout: float,
    attempts: int,
    flows: int,
    count: int,
    protocol: str,
    port: int,
    rate: int,
    pcap: Path | None,
    **options: Any,
) -> None:
    """Show the hops on the way to each TARGET: flows that keep to one path each (Paris traceroute), all hops and targets at once.

    Exit status 1 when a target was not reached; 130 after Ctrl-C, which shows what was found so far.

    Example: isochrone traceroute 192.0.2.1 --flows 8
    """
    from probes.traceroute import TracerouteConfig, TracerouteProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    with as_options():
        config = TracerouteConfig(
            max_ttl=max_ttl,
            timeout_ms=timeout,
            attempts=attempts,
            flows=flows,
            flows_at_once=flows,
            protocol=protocol,
            port=port,
            packets_per_s=rate,
        )
    sites = sites_of(targets, keep)
    whom = [Target(site=s, address=a, medium=keep.medium) for s, a in zip(sites, targets, strict=True)]  # type: ignore[arg-type]
    probe = TracerouteProbe(config, pcap=pcap)
    run(probe, whom, keep, as_json=as_json, rounds=count, each=flows, together=True)
    if pcap is not None:
        note(f"kept {probe.evidence_count} packets in {pcap}" + (f"; {probe.evidence_lost} more were lost" if probe.evidence_lost else ""))


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=5201, show_default=True, help="Port of the throughput server there.")
@click.option("-t", "--duration", type=_S, default="1s", show_default=True, help="Time budget of one direction.")
@click.option("--max-bytes", type=_BYTES, default="20MB", show_default=True, help="Byte budget of one direction.")
@click.option(
    "--direction",
    type=click.Choice(["up", "down", "both", "bidir"]),
    default="both",
    show_default=True,
    help="up: from here; both: one after the other; bidir: at the same time.",
)
@click.option(
    "--tool", type=click.Choice(["auto", "iperf3", "builtin"]), default="auto", show_default=True, help="What makes the transfer."
)
@click.option("--streams", type=click.IntRange(1, 16), default=1, show_default=True, help="Connections at the same time.")
@click.option("--udp", "udp_mbps", type=Number(0.01, 100_000), metavar="MBPS", help="UDP at this rate in Mbit/s (iperf3).")
@click.option(
    "--estimate",
    type=click.Choice(["sample", "train"]),
    help="Only estimate it: by a short BBR transfer (sample) or by UDP packet trains (train).",
)
@common
def throughput(
    targets: tuple[str, ...],
    port: int,
    duration: float,
    max_bytes: float,
    direction: str,
    tool: str,
    streams: int,
    udp_mbps: float | None,
    estimate: str | None,
    **options: Any,
) -> None:
    """Measure the achieved rate of a bulk transfer with each TARGET, within a time and a byte budget, and the latency under it.

    The target runs an agent with serve.throughput_port, or `iperf3 -s`.

    Example: isochrone throughput 192.0.2.1 --duration 2s
    """
    from probes.throughput import ThroughputConfig, ThroughputProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    with as_options():
        config = ThroughputConfig(
            duration_s=duration,
            max_bytes=int(max_bytes),
            direction=direction,
            tool=tool,
            streams=streams,
            protocol="tcp" if udp_mbps is None else "udp",
            udp_rate_mbps=udp_mbps or 10.0,
            full_every=1 if estimate is None else 0,
            estimator="train" if estimate == "train" else "sample",
        )
    sites = sites_of(targets, keep)
    whom = [Target(site=s, address=a, medium=keep.medium, throughput_port=port) for s, a in zip(sites, targets, strict=True)]  # type: ignore[arg-type]
    run(ThroughputProbe(config), whom, keep, as_json=as_json, each=2 if direction in {"both", "bidir"} else 1)


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="URL...")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Requests to each endpoint.")
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=1, show_default=True, help="So many at the same time, each of --count times."
)
@click.option("--model", metavar="NAME", help="The model to ask for.  [default: the server's first]")
@click.option("--prompt-tokens", type=click.IntRange(1, 1_000_000), default=64, show_default=True, help="About how long the prompt is.")
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=16, show_default=True, help="Most tokens of the answer.")
@click.option("--timeout", type=MS, default="30s", show_default=True, help="For the whole request.")
@click.option("--warm", is_flag=True, help="Measure over a kept connection, which pays no hand-shakes.")
@click.option("--api", type=click.Choice(["chat", "completions"]), default="chat", show_default=True, help="Which of its two APIs.")
@click.option("--http", type=click.Choice(["auto", "1.1", "2"]), default="auto", show_default=True, help="auto: what TLS agrees on.")
@click.option("--ca-file", default="", metavar="FILE", help="PEM file of the authority behind the certificates.  [default: the system's]")
@click.option("--api-key-file", type=click.Path(path_type=Path), metavar="FILE", help="Bearer token of the endpoint; mode 0600.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that holds it.")
@common
def infer(
    targets: tuple[str, ...],
    count: int,
    at_once: int,
    model: str | None,
    prompt_tokens: int,
    max_tokens: int,
    timeout: float,
    api: str,
    http: str,
    ca_file: str,
    api_key_file: Path | None,
    api_key_env: str | None,
    *,
    warm: bool,
    **options: Any,
) -> None:
    """Measure time to first token of an OpenAI-compatible endpoint, split into network and machine.

    URL is its base, ending in /v1. Every request costs its owner tokens.

    With --at-once the server decodes several together: what `isochrone inventory fit` needs to tell how a batch slows it.

    Example: isochrone infer http://192.0.2.1:8080/v1 -n 3
    """
    from probes.inference import InferenceConfig, InferenceProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    with as_options():
        config = InferenceConfig(
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            timeout_ms=int(timeout),
            warm=warm,
            api=api,
            http=http,
            ca_file=ca_file,
            heed_retry_after=False,  # a person who asks for so many requests gets the answer to each
        )
    hosts = [_host(url) for url in targets]
    whom = [
        Target(
            site=site,
            address=host,
            medium=keep.medium,  # type: ignore[arg-type]
            inference_url=url,
            inference_model=model,
            api_key_file=None if api_key_file is None else str(api_key_file),
            api_key_env=api_key_env,
        )
        for site, host, url in zip(sites_of(hosts, keep), hosts, targets, strict=True)
    ]
    run(InferenceProbe(config), whom, keep, as_json=as_json, rounds=count, at_once=at_once, together=True)


def _host(url: str) -> str:
    from probes.inference.config import parse_endpoint

    parse_endpoint(url)
    host = urlsplit(url).hostname
    assert host is not None
    return host


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="URL...")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Times each is measured.")
@click.option("--no-resume", is_flag=True, help="Do not open a second connection that resumes the TLS session.")
@click.option("--method", type=click.Choice(["GET", "HEAD"]), default="GET", show_default=True, help="The request of http:// and https://.")
@click.option("--timeout", type=MS, default="3s", show_default=True, help="A phase that takes longer has failed.")
@click.option("--max-bytes", type=_BYTES, default="64kB", show_default=True, help="The answer is read up to here.")
@click.option("--family", type=click.Choice(["auto", "ipv4", "ipv6"]), default="auto", show_default=True, help="Which addresses to use.")
@click.option("--ca-file", default="", metavar="FILE", help="PEM file of the authority behind the certificates.  [default: the system's]")
@click.option("--contact", default="", metavar="TEXT", help="Whom the endpoint's owner may ask; stands in the User-Agent.")
@common
def http(
    targets: tuple[str, ...],
    count: int,
    method: str,
    timeout: float,
    max_bytes: float,
    family: str,
    ca_file: str,
    contact: str,
    *,
    no_resume: bool,
    **options: Any,
) -> None:
    """Time a connection to each URL by phase, all of them at once: name look-up, TCP (RTT by the kernel), TLS in full and resumed, HTTP.

    URL says how far to go: tcp://host:port, tls://host, http://host/ or https://host/ (a bare host means that).
    A certificate that is not accepted is said, and does not stop the timing. Exit status 1 when one did not answer.

    Example: isochrone http https://192.0.2.1/ tcp://192.0.2.1:22
    """
    from probes.http import HttpConfig, HttpProbe
    from probes.http.config import parse_url

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    with as_options():
        config = HttpConfig(
            resume=not no_resume,
            method=method,
            timeout_ms=max(1, round(timeout)),
            max_response_bytes=int(max_bytes),
            family=family,
            ca_file=ca_file,
            contact=contact,
        )
    hosts = [parse_url(url).host for url in targets]
    whom = [
        Target(site=site, address=host, medium=keep.medium, http_url=url)  # type: ignore[arg-type]
        for site, host, url in zip(sites_of(hosts, keep), hosts, targets, strict=True)
    ]
    run(HttpProbe(config), whom, keep, as_json=as_json, rounds=count, together=True)
