"""What an agent remembers of its targets from one life to the next: RTTs, so that a restart knows at once who is near."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from probes.mesh import TargetKey

__all__ = ["recall", "remember"]

_FILE = "mesh.json"


def recall(folder: Path) -> dict[TargetKey, int]:
    """The RTTs in ns that an earlier life left; nothing where there is no such file or no sense in it: it costs a few rounds."""
    try:
        document = json.loads((folder / _FILE).read_bytes())
        found = {tuple(name.rsplit("@", 1)): rtt_ns for name, rtt_ns in document["rtt_ns"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        (key[0], key[1]): rtt_ns
        for key, rtt_ns in found.items()
        if len(key) == 2 and isinstance(rtt_ns, int) and not isinstance(rtt_ns, bool) and 0 < rtt_ns < 10**12
    }


def remember(folder: Path, rtts_ns: Mapping[TargetKey, int]) -> None:
    """Replace what was remembered, whole or not at all. Raises OSError."""
    text = json.dumps({"rtt_ns": {f"{site}@{medium}": rtt_ns for (site, medium), rtt_ns in rtts_ns.items()}})
    draft = folder / f"{_FILE}.tmp"
    with open(draft, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(text)
    draft.rename(folder / _FILE)
