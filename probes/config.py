"""The agent's configuration: one TOML file, read whole or refused with file, key, value and what is allowed.

Relative paths are taken from the file's own folder. Secrets stand in files of their own, never in this one.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from probes.hosts import is_host_name, parse_ip
from probes.http.config import parse_url
from probes.inference.config import InferenceConfig
from probes.model import Target
from probes.plan import check_load, check_mesh
from probes.policy import Policy
from probes.pushed import merged
from probes.registry import PROBE_TYPES
from probes.settings import (
    AgentConfig,
    AgentSettings,
    CollectorSettings,
    LimitSettings,
    MeshSettings,
    PolicySettings,
    ProbeSettings,
    ServeSettings,
    check_port,
    check_slug,
)
from probes.strict import build, refuse_unknown
from records.errors import ConfigError
from records.link import MEDIA, Medium
from records.pushed import Pushed
from records.units import SECOND

__all__ = [
    "AgentConfig",
    "AgentSettings",
    "CollectorSettings",
    "LimitSettings",
    "MeshSettings",
    "PolicySettings",
    "ProbeSettings",
    "ServeSettings",
    "load_config",
    "parse_config",
    "read_text",
]

_INTERVALS = ("interval_s", "rest_interval_s", "fast_interval_s")


def load_config(path: Path) -> AgentConfig:
    """Read and check a configuration file. Raises ConfigError that names file and key."""
    return parse_config(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; give one with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); TOML files are UTF-8") from error


def parse_config(text: str, path: Path, pushed: Pushed | None = None) -> AgentConfig:
    """Check a configuration given as text, with what was pushed on top of it.

    `path` stands in messages, and relative paths start at its folder.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    where = str(path)
    if pushed is not None:
        document = merged(document, pushed)
        where = "pushed"
    config = _checked(document, where, path)
    return config if pushed is None else replace(config, generation=pushed.generation)


def _checked(document: Mapping[str, object], where: str, path: Path) -> AgentConfig:
    tables: dict[str, type] = {
        "agent": AgentSettings,
        "collector": CollectorSettings,
        "limits": LimitSettings,
        "policy": PolicySettings,
        "mesh": MeshSettings,
        "serve": ServeSettings,
    }
    refuse_unknown(document, tables | {"probe": None, "target": None}, where=where)
    folder = path.absolute().parent
    parts: dict[str, object] = {}
    for name, cls in tables.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {name} must be a table, [{name}]")
        if name not in document and name in {"agent", "collector"}:
            raise ConfigError(f"{where}: table [{name}] is missing; `isochrone agent check --help` says where an example is")
        parts[name] = build(cls, table, where=f"{where} [{name}]", folder=folder)
    agent = cast("AgentSettings", parts["agent"])
    lists = cast("PolicySettings", parts["policy"])
    limits = cast("LimitSettings", parts["limits"])
    try:
        policy = Policy(is_private_allowed=agent.allow_private_targets, allowed=lists.allowed(), opted_out=lists.opted_out())
    except ConfigError as error:
        raise ConfigError(f"{where} [policy]: {error}") from None
    given = _array(document, "target", where)
    if len(given) > limits.targets:
        raise ConfigError(f"{where}: there are {len(given)} [[target]], and limits.targets allows {limits.targets}")
    listed = _targets(given, policy, where, folder)
    targets = tuple(target for target, entry in listed if entry is None)
    probes = _probes(_array(document, "probe", where), [target for target, _ in listed], set(targets), where, folder)
    config = AgentConfig(
        path=path,
        agent=agent,
        collector=cast("CollectorSettings", parts["collector"]),
        limits=limits,
        serve=cast("ServeSettings", parts["serve"]),
        mesh=cast("MeshSettings", parts["mesh"]),
        policy=policy,
        probes=tuple(_with_budget_file(probe, agent.spool_dir) for probe in probes),
        targets=targets,
        opted_out=tuple((target, entry) for target, entry in listed if entry is not None),
    )
    if agent.spool_max_bytes < 4 * config.collector.batch_max_bytes:
        raise ConfigError(f"{where} [agent]: spool_max_bytes {agent.spool_max_bytes} must be at least four times collector.batch_max_bytes")
    check_mesh(config, [target for target, _ in listed])
    check_load(config)
    return config


def _with_budget_file(probe: ProbeSettings, folder: Path) -> ProbeSettings:
    """A budget of a day is kept over restarts: beside the spool, each ``[[probe]]`` its own, unless a file is given."""
    config = probe.config
    if not isinstance(config, InferenceConfig) or config.budget_file or not (config.daily_requests or config.daily_tokens):
        return probe
    file = folder / f"budget-{probe.kind.replace('#', '-')}.json"
    return replace(probe, config=replace(config, budget_file=str(file)))


def _array(document: Mapping[str, object], name: str, path: str) -> list[dict[str, object]]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{path}: {name} must be an array of tables, [[{name}]]")
    return cast("list[dict[str, object]]", value)


def _targets(tables: Iterable[dict[str, object]], policy: Policy, path: str, folder: Path) -> list[tuple[Target, str | None]]:
    """The targets, each with the entry of the opt-out list it falls under."""
    targets: dict[tuple[str, Medium], tuple[Target, str | None]] = {}
    for number, table in enumerate(tables, 1):
        where = f"{path} [[target]] {number}"
        target = build(Target, table, where=where, folder=folder)
        try:
            opted_out = _check_target(target, policy)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if (target.site, target.medium) in targets:
            raise ConfigError(f"{where}: site {target.site!r} over {target.medium} is given twice; one target for each site and medium")
        targets[target.site, target.medium] = target, opted_out
    return list(targets.values())


def _probes(
    tables: Iterable[dict[str, object]], targets: Sequence[Target], allowed: AbstractSet[Target], path: str, folder: Path
) -> tuple[ProbeSettings, ...]:
    probes = []
    seen: Counter[str] = Counter()
    for number, table in enumerate(tables, 1):
        where = f"{path} [[probe]] {number}"
        type_, chosen = table.get("type"), table.get("targets")
        if not isinstance(type_, str) or type_ not in PROBE_TYPES:
            raise ConfigError(f"{where}: type is {type_!r}; give one of {', '.join(PROBE_TYPES)}")
        interval_ns, rest_ns, fast_ns = _intervals(table, where)
        factory = PROBE_TYPES[type_]
        own = {key: value for key, value in table.items() if key not in {"type", "targets", *_INTERVALS}}
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
        probes.append(
            ProbeSettings(
                type=type_,
                kind=type_ if seen[type_] == 1 else f"{type_}#{seen[type_]}",
                interval_ns=interval_ns,
                config=config,
                targets=tuple(target for target in able if target in allowed),
                rest_interval_ns=rest_ns,
                fast_interval_ns=fast_ns,
            )
        )
    return tuple(probes)


def _intervals(table: Mapping[str, object], where: str) -> tuple[int, int | None, int | None]:
    """The three paces of a probe in ns: its own, for the rest of the mesh, and for what moves."""
    found: dict[str, int | None] = {}
    for key in _INTERVALS:
        value = table.get(key)
        if value is None and key != "interval_s":
            found[key] = None
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= 86400:
            raise ConfigError(f"{where}: {key} is {value!r}; give a number of seconds from 0.1 to 86400")
        found[key] = round(value * SECOND)
    interval_ns, rest_ns, fast_ns = (found[key] for key in _INTERVALS)
    assert interval_ns is not None
    if rest_ns is not None and rest_ns < interval_ns:
        raise ConfigError(f"{where}: rest_interval_s is less than interval_s; the rest is measured more rarely, not more often")
    if fast_ns is not None and fast_ns > interval_ns:
        raise ConfigError(f"{where}: fast_interval_s is more than interval_s; what moves is measured more often, not more rarely")
    return interval_ns, rest_ns, fast_ns


def _chosen(names: object, targets: Sequence[Target], able: tuple[Target, ...], *, where: str, need: str | None) -> tuple[Target, ...]:
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


def _check_target(target: Target, policy: Policy) -> str | None:
    """The entry of the opt-out list that a host of the target falls under, None when there is none. Raises ConfigError."""
    check_slug("site", target.site)
    if target.medium not in MEDIA:
        raise ConfigError(f"medium is {target.medium!r}; give one of {', '.join(MEDIA)}")
    hosts = [target.address]
    for field in fields(target):
        value = getattr(target, field.name)
        if field.name.endswith("_port"):
            check_port(field.name, value)
        elif field.name == "http_url" and value is not None:
            hosts.append(parse_url(value).host)
        elif field.name.endswith("_url") and value is not None:
            hosts.append(_url_host(field.name, value))
    if target.api_key_file is not None and target.api_key_env is not None:
        raise ConfigError("there is both api_key_file and api_key_env; give one of them")
    for host in hosts:
        address = parse_ip(host)
        if address is None and not is_host_name(host):
            raise ConfigError(f"address {host!r} is neither an IP address nor a host name")
        reason = policy.refuse_name(host) if address is None else policy.refuse_address(address)
        if reason is not None:
            raise ConfigError(reason)
    return next((entry for host in hosts if (entry := policy.opt_out_entry(host)) is not None), None)


def _url_host(key: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"}:
        raise ConfigError(f"{key} is not http:// or https:// with a host; give one such as https://host:8080/v1")
    if parts.username is not None:
        raise ConfigError(f"{key} carries a user name or password; put the token into api_key_file")
    return host
