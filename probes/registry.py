"""The probe types: one line each. Their modules are imported when one is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from probes.model import ProbeType, Target
from records.measurement import PingResult
from records.stamp import StampResult
from records.statistics import percentile_ns

__all__ = ["PROBE_TYPES", "ProbeFactory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFactory:
    """How a probe type is made and what the daemon must know of it.

    help         one sentence for a person
    module       where its two classes are
    config_name, probe_name   the frozen dataclass of its settings, and the ProbeType made from one
    at_once      how many measurements of the type may run at the same time in one agent
    may_overlap  may a target be measured again before the last measurement of it ended? Without it a dead target,
                 whose measurement lasts until its time-outs, would be measured less often than a live one
    needs        the field of Target without which it cannot measure a target; None when an address is enough
    packets      the most probe packets one measurement sends; 0 for a type that is bounded otherwise
    longest_s    after how long a measurement has certainly gone wrong
    rtt_ns       the RTT that a record of the type shows (None: nothing came back), for the tiers and for seeing that a path
                 moved; None for a type that tells nothing of it
    most_bytes   about the most that one measurement sends and receives together, headers included; None where it has no bound
                 that the settings give
    """

    help: str
    module: str
    config_name: str
    probe_name: str
    at_once: int
    may_overlap: bool = False
    needs: Callable[[Any], str | None]
    packets: Callable[[Any], int]
    longest_s: Callable[[Any], float]
    rtt_ns: Callable[[Any], int | None] | None = None
    most_bytes: Callable[[Any], int] | None = None

    @property
    def config(self) -> type:
        """The dataclass of the type's settings."""
        return cast("type", getattr(importlib.import_module(self.module), self.config_name))

    def make(self, config: object) -> ProbeType:
        """A probe with these settings, not opened yet."""
        return cast("ProbeType", getattr(importlib.import_module(self.module), self.probe_name)(config))

    def can_measure(self, config: object, target: Target) -> bool:
        """Whether the target has what this type needs."""
        need = self.needs(config)
        return need is None or getattr(target, need) is not None


#: IPv6 and ICMP or UDP.
_HEADERS_BYTES = 48


def median_rtt_ns(result: PingResult | StampResult) -> int | None:
    """The median RTT of a round of ping or STAMP; None when nothing came back."""
    return percentile_ns([sample.rtt_ns for sample in result.samples if sample.rtt_ns is not None], 0.5)


PROBE_TYPES: dict[str, ProbeFactory] = {
    "ping": ProbeFactory(
        help="round-trip time and loss of small packets",
        module="probes.ping",
        config_name="PingConfig",
        probe_name="PingProbe",
        at_once=500,
        may_overlap=True,
        needs=lambda config: "udp_echo_port" if config.engine == "udp" else None,
        packets=lambda config: config.count,
        longest_s=lambda config: 10 + 2 * (config.count * config.interval_ms + config.timeout_ms) / 1000,
        rtt_ns=median_rtt_ns,
        most_bytes=lambda config: 2 * config.count * (config.payload_bytes + _HEADERS_BYTES),
    ),
    "traceroute": ProbeFactory(
        help="the hops of the path",
        module="probes.traceroute",
        config_name="TracerouteConfig",
        probe_name="TracerouteProbe",
        at_once=8,
        needs=lambda _: None,
        packets=lambda config: config.max_ttl * config.attempts * config.flows_at_once,
        longest_s=lambda config: 60 + 4 * (config.attempts + 3) * config.timeout_ms / 1000,
        # A router quotes at most 576 octets (RFC 1812); ours are small.
        most_bytes=lambda config: config.max_ttl * config.attempts * config.flows_at_once * (_HEADERS_BYTES + 32 + 128),
    ),
    "throughput": ProbeFactory(
        help="achieved rate of a bulk transfer, one test at a time, with estimates between full tests",
        module="probes.throughput",
        config_name="ThroughputConfig",
        probe_name="ThroughputProbe",
        at_once=1,
        needs=lambda _: "throughput_port",
        packets=lambda _: 0,
        longest_s=lambda config: 90 + 4 * config.duration_s + 4 * config.busy_wait_s + config.min_round_trips,
        most_bytes=lambda config: (1 if config.direction in {"up", "down"} else 2) * config.max_bytes,
    ),
    "inference": ProbeFactory(
        help="time to first token of a streaming model endpoint",
        module="probes.inference",
        config_name="InferenceConfig",
        probe_name="InferenceProbe",
        at_once=4,
        needs=lambda _: "inference_url",
        packets=lambda _: 0,
        longest_s=lambda config: 10 + 2 * config.timeout_ms / 1000,
        # An event of a stream carries about one token in 200 octets.
        most_bytes=lambda config: 8_000 + 6 * config.prompt_tokens + min(config.max_response_bytes, 400 * config.max_tokens),
    ),
    "serving": ProbeFactory(
        help="what an inference server says of itself: requests running and waiting, KV cache, time in its queue",
        module="probes.serving",
        config_name="ServingConfig",
        probe_name="ServingProbe",
        at_once=8,
        needs=lambda _: "metrics_url",
        packets=lambda _: 0,
        longest_s=lambda config: 10 + 2 * config.timeout_ms / 1000,
        most_bytes=lambda config: config.max_response_bytes + 8_000,
    ),
    "http": ProbeFactory(
        help="a connection by phase: name look-up, TCP (the kernel's RTT), TLS in full and resumed, HTTP",
        module="probes.http",
        config_name="HttpConfig",
        probe_name="HttpProbe",
        at_once=64,
        needs=lambda _: "http_url",
        # Hand-shakes, request, acknowledgements and closing; what the answer's size adds is bounded in bytes.
        packets=lambda config: 20 if config.resume else 10,
        longest_s=lambda config: 10 + 12 * config.timeout_ms / 1000,
        rtt_ns=lambda result: result.tcp_rtt_ns,
        most_bytes=lambda config: (2 if config.resume else 1) * (config.max_response_bytes + 8_000),
    ),
    "stamp": ProbeFactory(
        help="RFC 8762: round trip without the reflector's residence, loss and delay variation by direction",
        module="probes.stamp",
        config_name="StampConfig",
        probe_name="StampProbe",
        at_once=500,
        may_overlap=True,
        needs=lambda _: "stamp_port",
        packets=lambda config: config.count,
        longest_s=lambda config: 10 + 2 * (config.count * config.interval_ms + config.timeout_ms) / 1000,
        rtt_ns=median_rtt_ns,
        most_bytes=lambda config: 2 * config.count * (max(config.packet_bytes, config.base_bytes) + _HEADERS_BYTES),
    ),
}
