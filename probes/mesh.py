"""Who is measured how often: the nearest and the landmarks always, the rest in rotation, and faster what moves. Pure.

Rules, above the code that keeps them:

* A probe with a `rest_interval_s` is on the mesh. Its landmarks and nearest targets are measured every `interval_s`; every
  other one once in `rest_interval_s`, at its own phase of it: a rotation whose load is spread evenly and which adding a
  target does not disturb.
* Nearest are the `nearest` targets of the least RTT, landmarks apart. Who is among them stays until another one's RTT is
  less by a tenth: two equally near targets do not take turns.
* A target whose RTT is not known yet is new: measured every `new_interval_s` until it answers, for three rounds at most.
* A target whose RTT moved (probes/shift.py) is measured every `fast_interval_s` for `fast_for_s`, by every probe that has
  one; a target that is only suspected, until the suspicion is settled. At most `fast_at_most` targets at a time, and who
  comes when that many are fast already is counted and stays at its pace: an event that moves everything at once must not
  become a flood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from probes.shift import Finding, ShiftDetector
from records.errors import ConfigError
from records.units import MS, SECOND

__all__ = ["Mesh", "MeshProbe", "MeshSettings", "TargetKey", "Tier"]

Tier = Literal["landmark", "nearest", "new", "rest"]
#: Site and medium.
TargetKey = tuple[str, str]

_STICKY = 0.9
_NEW_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """``[mesh]``: tiers of the probes that have a `rest_interval_s` or a `fast_interval_s`.

    nearest         how many targets of the least RTT are measured every interval_s
    landmarks       sites, or sites over one medium (``fra@backbone``), that always are
    new_interval_s  how often a target of unknown RTT is tried, for three rounds at most
    fast_for_s      how long a target whose RTT moved is measured faster
    fast_at_most    how many targets at a time
    shift_ms        the least change of the RTT that counts
    shift_ratio     the same as a share of the RTT
    shift_rounds    how many rounds in a row must show it
    """

    nearest: int = 20
    landmarks: tuple[str, ...] = ()
    new_interval_s: float = 60.0
    fast_for_s: float = 900.0
    fast_at_most: int = 20
    shift_ms: float = 1.0
    shift_ratio: float = 0.1
    shift_rounds: int = 3

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "nearest": (0, 100_000),
            "new_interval_s": (1, 86_400),
            "fast_for_s": (1, 86_400),
            "fast_at_most": (0, 100_000),
            "shift_ms": (0.001, 60_000),
            "shift_ratio": (0.001, 10),
            "shift_rounds": (2, 20),
        }
        for key, (least, most) in limits.items():
            value = getattr(self, key)
            if not least <= value <= most:
                raise ConfigError(f"{key} is {value}; give {least} to {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshProbe:
    """The three paces of a probe in ns; None where it has none of its own."""

    interval_ns: int
    rest_interval_ns: int | None = None
    fast_interval_ns: int | None = None

    @property
    def is_tiered(self) -> bool:
        """It measures the rest more rarely."""
        return self.rest_interval_ns is not None

    def new_interval_ns(self, settings: MeshSettings) -> int:
        """How often it tries a target of unknown RTT."""
        rest_ns = self.rest_interval_ns or self.interval_ns
        return min(rest_ns, max(self.interval_ns, round(settings.new_interval_s * SECOND)))


@dataclass(slots=True)
class _Known:
    tier: Tier
    detectors: dict[str, ShiftDetector]
    rounds: int = 0
    remembered_ns: int | None = None
    fast_until_ns: int | None = None
    is_proven: bool = False

    @property
    def rtt_ns(self) -> int | None:
        """The least baseline of its probes; what an earlier life remembered until there is one."""
        found = [one for detector in self.detectors.values() if (one := detector.baseline_ns) is not None]
        if found:
            return min(found)
        return None if self.detectors else self.remembered_ns


class Mesh:
    """The tiers of one agent's targets.

    settings    of the tiers
    probes      the paces by kind
    targets     every target of a probe that has more than one pace
    remembered  RTTs in ns that an earlier life measured
    """

    def __init__(
        self,
        settings: MeshSettings,
        probes: Mapping[str, MeshProbe],
        targets: Iterable[TargetKey],
        remembered: Mapping[TargetKey, int] | None = None,
    ) -> None:
        self.shifts = 0
        self.fast_refused = 0
        self._settings = settings
        self._probes = dict(probes)
        self._known: dict[TargetKey, _Known] = {}
        self.update(settings, probes, targets, remembered)

    def update(
        self,
        settings: MeshSettings,
        probes: Mapping[str, MeshProbe],
        targets: Iterable[TargetKey],
        remembered: Mapping[TargetKey, int] | None = None,
    ) -> None:
        """Go on with another configuration: a target that stays keeps what is known of it."""
        is_same_sense = (settings.shift_ms, settings.shift_ratio, settings.shift_rounds) == (
            self._settings.shift_ms,
            self._settings.shift_ratio,
            self._settings.shift_rounds,
        )
        self._settings, self._probes = settings, dict(probes)
        before, self._known = self._known, {}
        for key in targets:
            known = before.get(key) or _Known("new", {}, remembered_ns=(remembered or {}).get(key))
            if not is_same_sense:
                known.remembered_ns = known.rtt_ns
                known.detectors = {}
            known.detectors = {kind: one for kind, one in known.detectors.items() if kind in self._probes}
            if known.tier in {"landmark", "nearest"}:
                known.tier = "rest"  # ranked again below
            self._known[key] = known
        self.rank()

    def observe(self, kind: str, key: TargetKey, rtt_ns: int | None, now_ns: int) -> bool:
        """A round that yields an RTT has ended (None: nothing came back). True when the target's pace may have changed."""
        known = self._known.get(key)
        if known is None or kind not in self._probes:
            return False
        detector = known.detectors.get(kind)
        if detector is None:
            settings = self._settings
            detector = known.detectors[kind] = ShiftDetector(
                step_ns=round(settings.shift_ms * MS), share=settings.shift_ratio, rounds=settings.shift_rounds
            )
        known.rounds += 1
        finding = detector.observe(rtt_ns)
        if known.tier == "new" and (rtt_ns is not None or known.rounds >= _NEW_ROUNDS):
            known.tier = "rest"
            self.rank()
            return True
        if finding is Finding.SHIFTED:
            self.shifts += 1
            return self._speed_up(known, now_ns, round(self._settings.fast_for_s * SECOND), is_proven=True)
        if finding is Finding.SUSPECT and not known.is_proven:
            return self._speed_up(known, now_ns, self._settle_ns(), is_proven=False)
        if finding is Finding.CALM and known.fast_until_ns is not None and not known.is_proven:
            known.fast_until_ns = None
            return True
        return False

    def interval_ns(self, kind: str, key: TargetKey) -> int:
        """How often a probe measures a target now."""
        probe = self._probes[kind]
        known = self._known.get(key)
        if known is None:
            return probe.interval_ns
        if known.fast_until_ns is not None and probe.fast_interval_ns is not None:
            return probe.fast_interval_ns
        if not probe.is_tiered or known.tier in {"landmark", "nearest"}:
            return probe.interval_ns
        if known.tier == "new":
            return probe.new_interval_ns(self._settings)
        return probe.rest_interval_ns or probe.interval_ns

    def rank(self) -> None:
        """Choose the nearest again."""
        marks = set(self._settings.landmarks)
        ranked = []
        for key, known in self._known.items():
            site, medium = key
            if site in marks or f"{site}@{medium}" in marks:
                known.tier = "landmark"
            elif known.tier == "landmark":
                known.tier = "rest"
            if known.tier == "landmark":
                continue
            rtt_ns = known.rtt_ns
            if rtt_ns is not None:
                ranked.append((rtt_ns * (_STICKY if known.tier == "nearest" else 1.0), key))
            elif known.tier == "nearest":
                known.tier = "rest"
        near = {key for _, key in sorted(ranked)[: self._settings.nearest]}
        for _, key in ranked:
            self._known[key].tier = "nearest" if key in near else "rest"

    def calm_down(self, now_ns: int) -> None:
        """End the faster pace of the targets whose time is up."""
        for known in self._known.values():
            if known.fast_until_ns is not None and known.fast_until_ns <= now_ns:
                known.fast_until_ns, known.is_proven = None, False

    def targets(self) -> tuple[TargetKey, ...]:
        """Every target on the mesh."""
        return tuple(self._known)

    def tier(self, key: TargetKey) -> Tier | None:
        """The tier of a target; None when it is on no mesh."""
        known = self._known.get(key)
        return None if known is None else known.tier

    def rtts_ns(self) -> dict[TargetKey, int]:
        """What a next life should remember."""
        return {key: rtt_ns for key, known in self._known.items() if (rtt_ns := known.rtt_ns) is not None}

    @property
    def fast(self) -> int:
        """How many targets are measured faster now."""
        return sum(known.fast_until_ns is not None for known in self._known.values())

    def _settle_ns(self) -> int:
        """Time for the rounds that settle a suspicion."""
        slowest = max((probe.fast_interval_ns or 0 for probe in self._probes.values()), default=0)
        return (self._settings.shift_rounds + 2) * slowest

    def _speed_up(self, known: _Known, now_ns: int, for_ns: int, *, is_proven: bool) -> bool:
        if not any(probe.fast_interval_ns for probe in self._probes.values()):
            return False
        if known.fast_until_ns is None and self.fast >= self._settings.fast_at_most:
            self.fast_refused += 1
            return False
        is_new = known.fast_until_ns is None
        known.fast_until_ns = max(known.fast_until_ns or 0, now_ns + for_ns)
        known.is_proven = known.is_proven or is_proven
        return is_new
