"""The tables of an agent's configuration as frozen records, each with its own checks (ConfigError)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from probes.client import check_collector_url
from probes.hosts import HostList, parse_ip
from probes.mesh import MeshProbe, MeshSettings
from probes.model import Target
from probes.policy import Policy
from probes.registry import PROBE_TYPES
from records.errors import ConfigError, UserError
from records.place import Site

__all__ = [
    "AgentConfig",
    "AgentSettings",
    "CollectorSettings",
    "LimitSettings",
    "MeshSettings",
    "PolicySettings",
    "ProbeSettings",
    "ServeSettings",
    "check_port",
    "check_range",
    "check_slug",
]

DEFAULT_SPOOL = Path("/var/lib/isochrone/spool")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """``[agent]``: who it is, and its disk.

    id, site               slugs; `site` is the `src` of everything it measures
    spool_dir              folder of the measurements that wait for the collector
    spool_max_bytes        bound of that folder (compressed); the oldest go first and are counted
    status_interval_s      how often it says how it is
    allow_private_targets  may it send to addresses that are not globally routable (lab, private backbone)?
    drain_s                how long a stopping agent goes on sending what waits
    jitter                 share of an interval by which a round may come after its phase, 0 to 0.5
    """

    id: str
    site: str
    spool_dir: Path = DEFAULT_SPOOL
    spool_max_bytes: int = 256_000_000
    status_interval_s: float = 10.0
    allow_private_targets: bool = False
    drain_s: float = 5.0
    jitter: float = 0.05

    def __post_init__(self) -> None:
        check_slug("id", self.id)
        check_slug("site", self.site)
        check_range("spool_max_bytes", self.spool_max_bytes, 1_000_000, 10**13)
        check_range("status_interval_s", self.status_interval_s, 1, 3600)
        check_range("drain_s", self.drain_s, 0, 600)
        check_range("jitter", self.jitter, 0, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings:
    """``[collector]``: where measurements go.

    url              ``http://``, ``https://`` or ``http+unix:///path/to.sock``
    token_file       file with the agent's secret; read at every request
    ca_file          PEM file of the authority behind the collector's certificate; None: the system's
    allow_insecure   send to another host without TLS all the same (a lab, a network of one's own)
    batch_max_age_s  a batch is sent at the latest so long after its first measurement
    batch_max_bytes  or when it has this many bytes (before compression)
    config_key_file  PEM of the key that pushed configurations are signed with; None: the one pinned at enrolment, beside token_file
    config_interval_s   how often it asks whether there is another configuration; it never asks without a key
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    allow_insecure: bool = False
    batch_max_age_s: float = 5.0
    batch_max_bytes: int = 1_000_000
    config_key_file: Path | None = None
    config_interval_s: float = 60.0

    def __post_init__(self) -> None:
        check_collector_url(self.url)
        check_range("batch_max_age_s", self.batch_max_age_s, 0.1, 3600)
        check_range("batch_max_bytes", self.batch_max_bytes, 10_000, 8_000_000)
        check_range("config_interval_s", self.config_interval_s, 0.1, 86400)

    @property
    def pinned_key_file(self) -> Path | None:
        """Where the key of pushed configurations is; None: there is no place for one."""
        if self.config_key_file is not None or self.token_file is None:
            return self.config_key_file
        return self.token_file.with_name(f"{self.token_file.name}.config-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """``[limits]``: probe packets a second in all, towards one address and towards one network (an IPv4 /24, an IPv6 /48).

    Throughput has its own byte budget and http and inference theirs. traceroutes_at_once bounds the traces in flight, targets how
    many there may be.
    """

    packets_per_second: int = 100
    packets_per_second_per_target: int = 20
    packets_per_second_per_network: int = 100
    traceroutes_at_once: int = 8
    targets: int = 2000

    def __post_init__(self) -> None:
        check_range("packets_per_second", self.packets_per_second, 1, 100_000)
        check_range("packets_per_second_per_target", self.packets_per_second_per_target, 1, 100_000)
        check_range("packets_per_second_per_network", self.packets_per_second_per_network, 1, 100_000)
        check_range("traceroutes_at_once", self.traceroutes_at_once, 1, 1000)
        check_range("targets", self.targets, 1, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """``[policy]``: files with an address, a prefix or a name a line, read at the start and at every reload.

    allow_file    only these may be measured; None: whatever is a target
    opt_out_file  these are never measured, whoever says so; None: nobody opted out
    pushed_types  probe types that a pushed configuration may run; None: all
    """

    allow_file: Path | None = None
    opt_out_file: Path | None = None
    pushed_types: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in self.pushed_types or ():
            if name not in PROBE_TYPES:
                raise ConfigError(f"pushed_types names {name!r}; give some of {', '.join(PROBE_TYPES)}")

    def allowed(self) -> HostList | None:
        """What may be measured. Raises ConfigError when the file cannot be used."""
        return None if self.allow_file is None else _host_list("allow_file", self.allow_file)

    def opted_out(self) -> HostList:
        """What must not be. Raises ConfigError when the file cannot be used: better no agent than one that does not know."""
        return HostList() if self.opt_out_file is None else _host_list("opt_out_file", self.opt_out_file)


def _host_list(key: str, path: Path) -> HostList:
    try:
        return HostList.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{key} {path} cannot be read: {error.strerror}; an empty file is a list of nobody") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key} {path}: not UTF-8 text (byte {error.start})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """``[serve]``: what this agent offers others to measure against; a port that is not given is not opened.

    stamp_port       UDP port of the STAMP reflector (RFC 8762; the standard's is 862)
    stamp_key_file   file with the key of its authenticated mode; None: unauthenticated
    stamp_stateless  copy the senders' numbers instead of counting: they cannot tell loss by direction then
    stamp_allow      networks it answers, separated by spaces; empty: all
    stamp_packets_per_second   answers to one source at most
    stamp_clock_error_us       bound of this host's clock error where it is known by other means; 0 asks the kernel
    """

    host: str = "0.0.0.0"  # noqa: S104  the other agents are elsewhere
    throughput_port: int | None = None
    udp_echo_port: int | None = None
    stamp_port: int | None = None
    stamp_key_file: Path | None = None
    stamp_stateless: bool = False
    stamp_allow: str = ""
    stamp_packets_per_second: int = 1000
    stamp_clock_error_us: float = 0.0

    def __post_init__(self) -> None:
        if parse_ip(self.host) is None:
            raise ConfigError(f"host is {self.host!r}; give an IP address of this machine, 0.0.0.0 or ::")
        for key in ("throughput_port", "udp_echo_port", "stamp_port"):
            check_port(key, getattr(self, key))
        for text in self.stamp_allow.split():
            try:
                ip_network(text)
            except ValueError as error:
                raise ConfigError(f"stamp_allow names {text!r}: {error}; give networks such as 192.0.2.0/24, separated by spaces") from None
        check_range("stamp_packets_per_second", self.stamp_packets_per_second, 1, 100_000)
        check_range("stamp_clock_error_us", self.stamp_clock_error_us, 0, 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """One ``[[probe]]``: a probe type, how often, with what settings, and the targets it measures.

    kind  its name in the schedule: the type, and from the second table of the same type on a number, ``ping#2``
    rest_interval_ns, fast_interval_ns   its paces on the mesh; None where it has but one
    """

    type: str
    kind: str
    interval_ns: int
    config: object
    targets: tuple[Target, ...]
    rest_interval_ns: int | None = None
    fast_interval_ns: int | None = None

    @property
    def pace(self) -> MeshProbe:
        """Its paces."""
        return MeshProbe(interval_ns=self.interval_ns, rest_interval_ns=self.rest_interval_ns, fast_interval_ns=self.fast_interval_ns)

    @property
    def is_on_mesh(self) -> bool:
        """It has more than one pace."""
        return self.rest_interval_ns is not None or self.fast_interval_ns is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """A whole configuration, checked, with the lists it names.

    targets    those that may be measured
    opted_out  those that may not, each with the entry of the opt-out list it falls under
    generation of the pushed configuration that is part of it; None: there is none
    policy     what holds for every address, also behind a name
    """

    path: Path
    agent: AgentSettings
    collector: CollectorSettings
    limits: LimitSettings
    serve: ServeSettings
    mesh: MeshSettings
    policy: Policy
    probes: tuple[ProbeSettings, ...]
    targets: tuple[Target, ...]
    opted_out: tuple[tuple[Target, str], ...]
    generation: int | None = None

    @property
    def largest_round(self) -> int:
        """Probe packets of the largest single measurement."""
        return max((PROBE_TYPES[probe.type].packets(probe.config) for probe in self.probes), default=1) or 1


def check_slug(key: str, value: str) -> None:
    """A site id or agent id, as records.place.Site accepts one."""
    try:
        Site(id=value, kind="pop", name=value, lat=0, lon=0)
    except UserError:
        raise ConfigError(f"{key} is {value!r}; give a slug such as 'sin-1' or 'aws:us-east-1' (a-z, 0-9, '.', '_', '-')") from None


def check_range(key: str, value: float, least: float, most: float) -> None:
    """least <= value <= most."""
    if not least <= value <= most:
        raise ConfigError(f"{key} is {value}; give {least} to {most}")


def check_port(key: str, value: int | None) -> None:
    """A port, or None for none."""
    if value is not None and not 1 <= value <= 65535:
        raise ConfigError(f"{key} is {value}; give a port from 1 to 65535")
