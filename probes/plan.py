"""What a configuration comes to: targets by tier, packets a second and bytes a day; and whether that keeps the caps. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probes.hosts import parse_ip
from probes.model import Target
from probes.policy import network_of
from probes.registry import PROBE_TYPES
from probes.settings import AgentConfig, ProbeSettings
from records.errors import ConfigError
from records.units import SECOND

__all__ = ["Plan", "PlanRow", "check_load", "check_mesh", "make_plan", "schedule_ns"]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """The targets of one probe that share a pace.

    tier             all, landmark, nearest, rest, new (at the first start only) or fast (at most so many, while RTTs move)
    packets_per_s    mean of all of them
    bytes_per_day    both ways, at most; None where the type has no bound that its settings give
    """

    kind: str
    tier: str
    targets: int
    interval_s: float
    packets_per_s: float
    bytes_per_day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Rows, and sums: mean packets a second in steady state, at the first start, and with as much faster as is allowed."""

    rows: tuple[PlanRow, ...]
    packets_per_s: float
    packets_per_s_at_start: float
    packets_per_s_at_most: float
    bytes_per_day: int
    is_bounded: bool


def make_plan(config: AgentConfig) -> Plan:
    """The plan of a configuration."""
    rows = tuple(row for probe in config.probes for row in _rows(config, probe))
    start = tuple(row for row in rows if row.tier not in {"nearest", "rest", "fast"})
    steady = tuple(row for row in rows if row.tier not in {"new", "fast"})
    total = sum(row.packets_per_s for row in steady)
    bounds = [row.bytes_per_day for row in steady]
    return Plan(
        rows=rows,
        packets_per_s=total,
        packets_per_s_at_start=sum(row.packets_per_s for row in start),
        packets_per_s_at_most=total + sum(row.packets_per_s for row in rows if row.tier == "fast"),
        bytes_per_day=sum(bound for bound in bounds if bound is not None),
        is_bounded=all(bound is not None for bound in bounds),
    )


def _rows(config: AgentConfig, probe: ProbeSettings) -> Iterator[PlanRow]:
    factory, mesh, pace = PROBE_TYPES[probe.type], config.mesh, probe.pace

    def row(tier: str, targets: int, interval_ns: int) -> PlanRow:
        rounds_per_s = targets * SECOND / interval_ns
        return PlanRow(
            kind=probe.kind,
            tier=tier,
            targets=targets,
            interval_s=interval_ns / SECOND,
            packets_per_s=rounds_per_s * factory.packets(probe.config),
            bytes_per_day=None if factory.most_bytes is None else round(rounds_per_s * _DAY_S * factory.most_bytes(probe.config)),
        )

    count = len(probe.targets)
    if probe.rest_interval_ns is None:
        yield row("all", count, probe.interval_ns)
    else:
        landmarks = sum(is_landmark(target, mesh.landmarks) for target in probe.targets)
        nearest = min(mesh.nearest, count - landmarks)
        yield row("landmark", landmarks, probe.interval_ns)
        yield row("nearest", nearest, probe.interval_ns)
        yield row("rest", count - landmarks - nearest, probe.rest_interval_ns)
        yield row("new", count - landmarks, pace.new_interval_ns(mesh))
    if probe.fast_interval_ns is not None:
        yield row("fast", min(mesh.fast_at_most, count), probe.fast_interval_ns)


def schedule_ns(probes: Sequence[ProbeSettings]) -> dict[str, int]:
    """How often each probe type is measured at the least, ns by type: what an agent says of itself. Types without a target are left out."""
    found: dict[str, int] = {}
    for probe in probes:
        if probe.targets:
            slowest_ns = probe.rest_interval_ns or probe.interval_ns
            found[probe.type] = min(slowest_ns, found.get(probe.type, slowest_ns))
    return found


def is_landmark(target: Target, landmarks: Sequence[str]) -> bool:
    """Whether ``site`` or ``site@medium`` names the target."""
    return target.site in landmarks or f"{target.site}@{target.medium}" in landmarks


def check_mesh(config: AgentConfig, listed: Sequence[Target]) -> None:
    """Landmarks are targets, and a mesh sees RTTs. Raises ConfigError."""
    where = f"{config.path} [mesh]"
    known = {name for target in listed for name in (target.site, f"{target.site}@{target.medium}")}
    for name in config.mesh.landmarks:
        if name not in known:
            raise ConfigError(f"{where}: landmarks names {name!r}, which is no [[target]] of this file")
    if any(probe.is_on_mesh for probe in config.probes) and not any(
        probe.is_on_mesh and PROBE_TYPES[probe.type].rtt_ns is not None for probe in config.probes
    ):
        able = " or ".join(name for name, factory in PROBE_TYPES.items() if factory.rtt_ns is not None)
        raise ConfigError(f"{where}: no probe with a rest_interval_s or a fast_interval_s measures RTTs; give one to a {able} probe")


def check_load(config: AgentConfig) -> None:
    """A plan above the caps would be skipped round by round: it is refused at once (ConfigError)."""
    where, limits, plan = f"{config.path} [limits]", config.limits, make_plan(config)
    advice = "probe less often or raise it"
    needed = max(plan.packets_per_s_at_start, plan.packets_per_s_at_most)
    if needed > limits.packets_per_second:
        allowed_in_all = limits.packets_per_second
        raise ConfigError(f"{where}: the probes need {needed:.0f} packets/s, packets_per_second allows {allowed_in_all}; {advice}")
    per_target: dict[str, float] = defaultdict(float)
    per_network: dict[str, float] = defaultdict(float)
    for probe in config.probes:
        packets = PROBE_TYPES[probe.type].packets(probe.config)
        fastest = packets * SECOND / (probe.fast_interval_ns or probe.interval_ns)
        surely = packets * SECOND / (probe.rest_interval_ns or probe.interval_ns)
        for target in probe.targets:
            per_target[target.address] += fastest
            if (address := parse_ip(target.address)) is not None:
                per_network[network_of(address)] += surely
    for key, sums, allowed in (
        ("packets_per_second_per_target", per_target, limits.packets_per_second_per_target),
        ("packets_per_second_per_network", per_network, limits.packets_per_second_per_network),
    ):
        name, most = max(sums.items(), key=lambda item: item[1], default=("", 0.0))
        if most > allowed:
            raise ConfigError(f"{where}: {name} would get {most:.0f} packets/s, {key} allows {allowed}; {advice}")
