"""The agent's configuration: one TOML file, read whole or refused with file, key, value and what is allowed.

Relative paths are taken from the file's own folder. Secrets stand in files of their own, never in this one.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from probes.http.config import parse_url
from probes.model import Target
from probes.policy import is_host_name, parse_ip, refusal
from probes.registry import PROBE_TYPES
from probes.settings import AgentSettings, CollectorSettings, LimitSettings, ServeSettings, check_port, check_slug
from probes.strict import build, refuse_unknown
from records.errors import ConfigError
from records.link import MEDIA, Medium
from records.units import SECOND

__all__ = [
    "AgentConfig",
    "AgentSettings",
    "CollectorSettings",
    "LimitSettings",
    "ProbeSettings",
    "ServeSettings",
    "load_config",
    "parse_config",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """One ``[[probe]]``: a probe type, how often, with what settings, and the targets it measures.

    kind  its name in the schedule: the type, and from the second table of the same type on a number, ``ping#2``
    """

    type: str
    kind: str
    interval_ns: int
    config: object
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """A whole configuration, checked."""

    path: Path
    agent: AgentSettings
    collector: CollectorSettings
    limits: LimitSettings
    serve: ServeSettings
    probes: tuple[ProbeSettings, ...]
    targets: tuple[Target, ...]

    @property
    def largest_round(self) -> int:
        """Probe packets of the largest single measurement."""
        return max((PROBE_TYPES[probe.type].packets(probe.config) for probe in self.probes), default=1) or 1


def load_config(path: Path) -> AgentConfig:
    """Read and check a configuration file. Raises ConfigError that names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; give one with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); TOML files are UTF-8") from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> AgentConfig:
    """Check a configuration given as text; `path` stands in messages, and relative paths start at its folder."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    tables = {"agent": AgentSettings, "collector": CollectorSettings, "limits": LimitSettings, "serve": ServeSettings}
    refuse_unknown(document, tables | {"probe": None, "target": None}, where=str(path))
    folder = path.absolute().parent
    parts: dict[str, object] = {}
    for name, cls in tables.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} must be a table, [{name}]")
        if name not in document and name in {"agent", "collector"}:
            raise ConfigError(f"{path}: table [{name}] is missing; `isochrone agent check --help` says where an example is")
        parts[name] = build(cls, table, where=f"{path} [{name}]", folder=folder)
    agent = cast("AgentSettings", parts["agent"])
    targets = _targets(_array(document, "target", path), agent, path, folder)
    probes = _probes(_array(document, "probe", path), targets, path, folder)
    config = AgentConfig(
        path=path,
        agent=agent,
        collector=cast("CollectorSettings", parts["collector"]),
        limits=cast("LimitSettings", parts["limits"]),
        serve=cast("ServeSettings", parts["serve"]),
        probes=probes,
        targets=targets,
    )
    if agent.spool_max_bytes < 4 * config.collector.batch_max_bytes:
        raise ConfigError(f"{path} [agent]: spool_max_bytes {agent.spool_max_bytes} must be at least four times collector.batch_max_bytes")
    _check_load(config)
    return config


def _array(document: Mapping[str, object], name: str, path: Path) -> list[dict[str, object]]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{path}: {name} must be an array of tables, [[{name}]]")
    return cast("list[dict[str, object]]", value)


def _targets(tables: Iterable[dict[str, object]], agent: AgentSettings, path: Path, folder: Path) -> tuple[Target, ...]:
    targets: dict[tuple[str, Medium], Target] = {}
    for number, table in enumerate(tables, 1):
        where = f"{path} [[target]] {number}"
        target = build(Target, table, where=where, folder=folder)
        try:
            _check_target(target, agent)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if (target.site, target.medium) in targets:
            raise ConfigError(f"{where}: site {target.site!r} over {target.medium} is given twice; one target for each site and medium")
        targets[target.site, target.medium] = target
    return tuple(targets.values())


def _probes(tables: Iterable[dict[str, object]], targets: tuple[Target, ...], path: Path, folder: Path) -> tuple[ProbeSettings, ...]:
    probes = []
    seen: Counter[str] = Counter()
    for number, table in enumerate(tables, 1):
        where = f"{path} [[probe]] {number}"
        type_, interval_s, chosen = table.get("type"), table.get("interval_s"), table.get("targets")
        if not isinstance(type_, str) or type_ not in PROBE_TYPES:
            raise ConfigError(f"{where}: type is {type_!r}; give one of {', '.join(PROBE_TYPES)}")
        if isinstance(interval_s, bool) or not isinstance(interval_s, int | float) or not 0.1 <= interval_s <= 86400:
            raise ConfigError(f"{where}: interval_s is {interval_s!r}; give a number of seconds from 0.1 to 86400")
        factory = PROBE_TYPES[type_]
        own = {key: value for key, value in table.items() if key not in {"type", "interval_s", "targets"}}
        config: object = build(factory.config, own, where=f"{where} ({type_})", folder=folder)
        able = tuple(target for target in targets if factory.can_measure(config, target))
        if chosen is not None:
            able = _chosen(chosen, targets, able, where=where, need=factory.needs(config))
        elif not able:
            need = factory.needs(config)
            raise ConfigError(
                f"{where}: {type_} has nothing to measure: " + (f"no target has {need}" if need else "there is no [[target]]")
            )
        seen[type_] += 1
        kind = type_ if seen[type_] == 1 else f"{type_}#{seen[type_]}"
        probes.append(ProbeSettings(type=type_, kind=kind, interval_ns=round(interval_s * SECOND), config=config, targets=able))
    return tuple(probes)


def _chosen(names: object, targets: tuple[Target, ...], able: tuple[Target, ...], *, where: str, need: str | None) -> tuple[Target, ...]:
    """The targets a ``targets = ["site", "site@medium"]`` names."""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f'{where}: targets is {names!r}; give a list such as ["fra", "aws:us-east-1@direct-connect"], or leave it out for all'
        )
    chosen: dict[Target, None] = {}
    for name in names:
        site, _, medium = name.partition("@")
        found = [target for target in targets if target.site == site and medium in {"", target.medium}]
        if not found:
            raise ConfigError(f"{where}: targets names {name!r}, which is no [[target]] of this file")
        for target in found:
            if target not in able:
                raise ConfigError(f"{where}: target {name!r} has no {need}, which this probe needs")
            chosen[target] = None
    return tuple(chosen)


def _check_load(config: AgentConfig) -> None:
    """A plan above the caps would be skipped round by round: it is refused at once."""
    total = 0.0
    per_target: dict[str, float] = defaultdict(float)
    for probe in config.probes:
        rate = PROBE_TYPES[probe.type].packets(probe.config) * SECOND / probe.interval_ns
        total += rate * len(probe.targets)
        for target in probe.targets:
            per_target[target.address] += rate
    where, limits = f"{config.path} [limits]", config.limits
    advice = "probe less often or raise it"
    if total > limits.packets_per_second:
        raise ConfigError(
            f"{where}: the probes need {total:.0f} packets/s, packets_per_second allows {limits.packets_per_second}; {advice}"
        )
    address, most = max(per_target.items(), key=lambda item: item[1], default=("", 0.0))
    if most > limits.packets_per_second_per_target:
        allowed = limits.packets_per_second_per_target
        raise ConfigError(f"{where}: {address} would get {most:.0f} packets/s, packets_per_second_per_target allows {allowed}; {advice}")


def _check_target(target: Target, agent: AgentSettings) -> None:
    check_slug("site", target.site)
    if target.medium not in MEDIA:
        raise ConfigError(f"medium is {target.medium!r}; give one of {', '.join(MEDIA)}")
    _check_address(target.address, agent)
    check_port("udp_echo_port", target.udp_echo_port)
    check_port("throughput_port", target.throughput_port)
    check_port("stamp_port", target.stamp_port)
    if target.inference_url is not None:
        _check_inference_url(target.inference_url, agent)
    if target.http_url is not None:
        _check_address(parse_url(target.http_url).host, agent)


def _check_address(address: str, agent: AgentSettings) -> None:
    parsed = parse_ip(address)
    if parsed is None:
        if not is_host_name(address):
            raise ConfigError(f"address {address!r} is neither an IP address nor a host name")
        return
    reason = refusal(parsed, is_private_allowed=agent.allow_private_targets)
    if reason is not None:
        never = reason in {"multicast", "unspecified or broadcast"}
        raise ConfigError(
            f"address {address} is {reason}; " + ("no agent sends there" if never else "allow it with agent.allow_private_targets")
        )


def _check_inference_url(url: str, agent: AgentSettings) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"}:
        raise ConfigError("inference_url is not http:// or https:// with a host; give one such as https://host:8080/v1")
    if parts.username is not None:
        raise ConfigError("inference_url carries a user name or password; put the token into api_key_file")
    _check_address(host, agent)
