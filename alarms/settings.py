"""The configuration of alarms: one TOML file, read whole or refused with file, key, value and what is allowed.

Every key has a default, and without a file there are alarms, and no webhook. Secrets stand in files of their own or in the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from alarms.flips import FlipRules
from alarms.missing import MissingRules
from alarms.model import KINDS, SEVERITIES, Kind, Severity
from alarms.paths import PathRules
from alarms.shift import ShiftRules, false_alarms_per_day
from probes.strict import build, refuse_unknown
from records.errors import ConfigError

__all__ = ["EvaluateSettings", "NotifySettings", "Settings", "Webhook", "load_settings", "parse_settings"]

_DAY_S = 86_400


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value:g}; from {least:g} to {most:g} is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """``[evaluate]``: when and on what alarms are judged.

    every_s    from one evaluation to the next
    bucket_s   length of the time buckets that links are judged by
    lag_s      how long after its end a bucket is taken for whole
    kinds      the kinds there are; leave one out to have none of it
    """

    every_s: float = 60.0
    bucket_s: float = 60.0
    lag_s: float = 30.0
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        _between("every_s", self.every_s, 0.2, 3600)
        _between("bucket_s", self.bucket_s, 0.2, 3600)
        _between("lag_s", self.lag_s, 0, 3600)
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"kinds names {kind!r}; there are {', '.join(KINDS)}")

    @property
    def bucket(self) -> timedelta:
        """`bucket_s` as a span."""
        return timedelta(seconds=self.bucket_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _MissingTable:
    after_s: float = 180.0
    intervals: float = 3.0
    hold_s: float = 120.0
    forget_days: float = 7.0

    def __post_init__(self) -> None:
        _between("after_s", self.after_s, 1, _DAY_S)
        _between("intervals", self.intervals, 1, 100)
        _between("hold_s", self.hold_s, 0, _DAY_S)
        _between("forget_days", self.forget_days, 0.01, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShiftTable:
    window: int = 240
    learn: int = 60
    false_per_series_day: float = 2e-4
    run: int = 0
    rtt_step_ms: float = 5.0
    rtt_share: float = 0.05
    loss_step: float = 0.02
    settle_s: float = float(_DAY_S)

    def __post_init__(self) -> None:
        _between("window", self.window, 5, 10_000)
        _between("learn", self.learn, 3, self.window)
        _between("false_per_series_day", self.false_per_series_day, 1e-9, 100)
        if self.run:
            _between("run", self.run, 2, 30)
        _between("rtt_step_ms", self.rtt_step_ms, 0, 10_000)
        _between("rtt_share", self.rtt_share, 0, 10)
        _between("loss_step", self.loss_step, 0.001, 0.5)
        _between("settle_s", self.settle_s, 1, 30 * _DAY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PathTable:
    learn: int = 5
    run: int = 3
    keep_s: float = float(_DAY_S)
    settle_s: float = 3600.0

    def __post_init__(self) -> None:
        _between("learn", self.learn, 1, 1000)
        _between("run", self.run, 1, 100)
        _between("keep_s", self.keep_s, 1, 30 * _DAY_S)
        _between("settle_s", self.settle_s, 1, 30 * _DAY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FlipTable:
    worth_ms: float = 5.0
    run: int = 2
    every_s: float = 300.0
    window_s: float = 600.0
    settle_s: float = 3600.0
    watch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _between("worth_ms", self.worth_ms, 0, 100_000)
        _between("run", self.run, 1, 100)
        _between("every_s", self.every_s, 0.2, _DAY_S)
        _between("window_s", self.window_s, 1, _DAY_S)
        _between("settle_s", self.settle_s, 1, 30 * _DAY_S)
        for each in self.watch:
            if len(each.split()) != 2:
                raise ConfigError(f'watch names {each!r}; give "SITE WORKLOAD", as in "metro:lagos chat"')


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """``[notify]``: when something is sent.

    group_wait_s      from the first alarm of a group to its first notice: what comes meanwhile is in it
    group_interval_s  least time between two notices of a group to one webhook, repeats apart
    repeat_s          an open group that nobody acknowledged is told again after this long
    per_hour          most notices an hour to one webhook; the rest waits, the worst first
    min_severity      least severity that is sent
    external_url      where people reach the dashboard, for links; empty: none are given
    """

    group_wait_s: float = 60.0
    group_interval_s: float = 300.0
    repeat_s: float = 4 * 3600.0
    per_hour: int = 30
    min_severity: str = "warning"
    external_url: str = ""

    def __post_init__(self) -> None:
        _between("group_wait_s", self.group_wait_s, 0, 3600)
        _between("group_interval_s", self.group_interval_s, 0, _DAY_S)
        _between("repeat_s", self.repeat_s, 1, 30 * _DAY_S)
        _between("per_hour", self.per_hour, 1, 10_000)
        _severity(self.min_severity)
        if self.external_url:
            _check_url("external_url", self.external_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """``[[webhook]]``: where notices go, as JSON by POST.

    name          what it is called in messages, and `receiver` in the payload
    url           http:// or https://, without user name and password
    secret_file, secret_env   where the key of the signature is: a file, or a variable of the environment; neither: not signed
    token_file    a file with a bearer token, for servers that ask for one
    ca_file       certificates to trust instead of the system's
    timeout_s     how long one attempt may take
    give_up_s     for how long a notice is tried again
    min_severity  least severity that goes there; empty: as [notify] says
    kinds         the kinds that go there; empty: all
    """

    name: str
    url: str = field(repr=False)
    secret_file: Path | None = None
    secret_env: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 10.0
    give_up_s: float = float(_DAY_S)
    min_severity: str = ""
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 64 or not self.name.isprintable():
            raise ConfigError(f"name is {self.name!r}; give 1 to 64 characters that can be printed")
        _check_url("url", self.url)
        if self.secret_file is not None and self.secret_env is not None:
            raise ConfigError("there is both secret_file and secret_env; give one of them")
        _between("timeout_s", self.timeout_s, 0.1, 120)
        _between("give_up_s", self.give_up_s, 1, 30 * _DAY_S)
        if self.min_severity:
            _severity(self.min_severity)
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"kinds names {kind!r}; there are {', '.join(KINDS)}")

    def takes(self, kind: Kind) -> bool:
        """Whether alarms of a kind go there."""
        return not self.kinds or kind in self.kinds

    def secret(self) -> bytes | None:
        """The key of the signature; None: it has none. Raises ConfigError where it should have one."""
        if self.secret_env is not None:
            value = os.environ.get(self.secret_env, "")
            if not value:
                raise ConfigError(f"webhook {self.name}: the environment has no {self.secret_env}; set it to the key of the signature")
            return value.encode()
        return None if self.secret_file is None else _secret(self.name, "secret_file", self.secret_file)

    def token(self) -> str | None:
        """The bearer token; None: it has none. Raises ConfigError where it should have one, or has what no header can carry."""
        if self.token_file is None:
            return None
        token = _secret(self.name, "token_file", self.token_file)
        if any(not 0x21 <= byte <= 0x7E for byte in token):  # no header can carry it, and the refusal of one would repeat it
            raise ConfigError(
                f"webhook {self.name}: token_file {self.token_file} must hold one token and nothing else: "
                "letters, digits and marks of ASCII, no blank and no second line"
            )
        return token.decode("ascii")


def _secret(name: str, key: str, path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"webhook {name}: {key} {path} can be read by others; chmod 600 {path}")
        value = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"webhook {name}: cannot read {key} {path}: {error.strerror}") from error
    if not value:
        raise ConfigError(f"webhook {name}: {key} {path} is empty")
    return value


def _severity(value: str) -> None:
    if value not in SEVERITIES:
        raise ConfigError(f"min_severity is {value!r}; there are {', '.join(SEVERITIES)}")


def _check_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        raise ConfigError(f"{key} is not http:// or https:// with a host; give one such as https://alerts.example/isochrone")
    if parts.username is not None:
        raise ConfigError(f"{key} carries a user name or password; put a token into token_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. watch: (source, workload) of the routes that are watched."""

    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    missing: MissingRules = field(default_factory=MissingRules)
    shift: ShiftRules = field(default_factory=ShiftRules)
    paths: PathRules = field(default_factory=PathRules)
    flips: FlipRules = field(default_factory=FlipRules)
    flips_every_s: float = 300.0
    flips_window_s: float = 600.0
    watch: tuple[tuple[str, str], ...] = ()
    notify: NotifySettings = field(default_factory=NotifySettings)
    webhooks: tuple[Webhook, ...] = ()

    @property
    def false_per_series_day(self) -> float:
        """What the test for RTT shifts comes to at most."""
        return false_alarms_per_day(window=self.shift.window, run=self.shift.run, per_day=_DAY_S / self.evaluate.bucket_s)

    def min_severity(self, webhook: Webhook) -> Severity:
        """The least severity that a webhook is told of."""
        return cast("Severity", webhook.min_severity or self.notify.min_severity)


_TABLES: Mapping[str, type] = {
    "evaluate": EvaluateSettings,
    "data_missing": _MissingTable,
    "shift": _ShiftTable,
    "path_change": _PathTable,
    "route_flip": _FlipTable,
    "notify": NotifySettings,
}


def load_settings(path: Path) -> Settings:
    """Read and check a file. Raises ConfigError that names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the alarms' configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); TOML files are UTF-8") from error
    return parse_settings(text, path)


def parse_settings(text: str, path: Path) -> Settings:
    """Check a configuration given as text; `path` stands in messages, and relative paths start at its folder."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    refuse_unknown(document, {**_TABLES, "webhook": None}, where=str(path))
    folder = path.absolute().parent
    parts: dict[str, object] = {}
    for name, cls in _TABLES.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} must be a table, [{name}]")
        parts[name] = build(cls, table, where=f"{path} [{name}]", folder=folder)
    hooks = document.get("webhook", [])
    if not isinstance(hooks, list) or not all(isinstance(entry, dict) for entry in hooks):
        raise ConfigError(f"{path}: webhook must be an array of tables, [[webhook]]")
    webhooks = tuple(build(Webhook, entry, where=f"{path} [[webhook]] {n}", folder=folder) for n, entry in enumerate(hooks, 1))
    names = [hook.name for hook in webhooks]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{path}: two webhooks are called {next(name for name in names if names.count(name) > 1)!r}; give each its own name"
        )
    return _settings(parts, webhooks)


def _settings(parts: Mapping[str, object], webhooks: tuple[Webhook, ...]) -> Settings:
    evaluate = cast("EvaluateSettings", parts["evaluate"])
    missing = cast("_MissingTable", parts["data_missing"])
    shift = cast("_ShiftTable", parts["shift"])
    path = cast("_PathTable", parts["path_change"])
    flip = cast("_FlipTable", parts["route_flip"])
    per_day = _DAY_S / evaluate.bucket_s
    return Settings(
        evaluate=evaluate,
        missing=MissingRules(
            intervals=missing.intervals,
            least=timedelta(seconds=missing.after_s),
            hold=timedelta(seconds=missing.hold_s),
            forget=timedelta(days=missing.forget_days),
        ),
        shift=ShiftRules.for_rate(
            rate=shift.false_per_series_day,
            per_day=per_day,
            window=shift.window,
            learn=shift.learn,
            run=shift.run or None,
            step_ms=shift.rtt_step_ms,
            share=shift.rtt_share,
            loss_step=shift.loss_step,
            settle=max(1, round(shift.settle_s / evaluate.bucket_s)),
        ),
        paths=PathRules(learn=path.learn, run=path.run, keep=timedelta(seconds=path.keep_s), settle=timedelta(seconds=path.settle_s)),
        flips=FlipRules(worth_ms=flip.worth_ms, run=flip.run, settle=timedelta(seconds=flip.settle_s)),
        flips_every_s=flip.every_s,
        flips_window_s=flip.window_s,
        watch=tuple((source, workload) for source, workload in (each.split() for each in flip.watch)),
        notify=cast("NotifySettings", parts["notify"]),
        webhooks=webhooks,
    )
