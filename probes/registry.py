"""The probe types: one line each. Their modules are imported when one is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from probes.model import ProbeType, Target

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
    ),
    "throughput": ProbeFactory(
        help="achieved rate of a bulk TCP transfer, one test at a time",
        module="probes.throughput",
        config_name="ThroughputConfig",
        probe_name="ThroughputProbe",
        at_once=1,
        needs=lambda _: "throughput_port",
        packets=lambda _: 0,
        longest_s=lambda config: 60 + 4 * config.duration_s + 2 * config.busy_wait_s + config.min_round_trips,
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
    ),
}
