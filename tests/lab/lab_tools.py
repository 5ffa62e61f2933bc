"""What the lab's tests share: running a command at a site, and looking up the truth of a pair."""

from __future__ import annotations

import subprocess

from lab.namespace_lab import NamespaceLab
from lab.truth import PairTruth


def run_at(lab: NamespaceLab, site: str, *argv: str, timeout_s: float = 60.0) -> str:
    """What a command at a site prints, on either stream."""
    done = subprocess.run(lab.command(site, argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


def truth_of(lab: NamespaceLab, src: str, dst: str, medium: str = "internet") -> PairTruth:
    """The truth of one pair."""
    return next(pair for pair in lab.truth() if (pair.src, pair.dst, pair.medium) == (src, dst, medium))
