"""What the Overview's tables say, made once for all sessions that look at the same: as Arrow tables, which go to a browser as they are.

Of columns Streamlit would make a pandas frame, and an Arrow table of that, in every session on every refresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import streamlit as st

from app import data, health, metrics, text
from app.identity import by_identity
from records.link import GATES, LinkEstimate
from records.units import ms

__all__ = ["agents", "changed", "changes_of", "gates", "remarks", "worst"]

#: Less than this waits between two uploads as a rule, and is not worth a word.
SPOOL_REMARK_BYTES = 1_000_000
#: The standard deviation of normal noise over its median absolute deviation.
MAD_TO_SD = 1.4826
#: A change of loss worth a row.
LOSS_STEP = 0.01


@by_identity(16)
def worst(links: Sequence[LinkEstimate], limit: int = 12) -> pa.Table:
    """The links furthest from the fibre floor; near pairs are left out, their ratio says little."""
    chosen = metrics.worst_first(links, metrics.METRICS["inflation"], near=False)[:limit]
    return pa.table(
        {
            "open": ["Open"] * len(chosen),
            "from": [link.src for link in chosen],
            "to": [link.dst for link in chosen],
            "p50_ms": [ms(link.rtt_p50_ns) for link in chosen],
            "floor_ms": [ms(link.fibre_floor_ns) for link in chosen],
            "inflation": [metrics.METRICS["inflation"].read(link) for link in chosen],
            "loss_percent": [None if link.loss_ratio is None else link.loss_ratio * 100 for link in chosen],
            "medium": [text.MEDIUM_TITLES[link.medium] for link in chosen],
        }
    )


@by_identity(16)
def gates(links: Sequence[LinkEstimate]) -> pa.Table:
    """How many links each gate keeps out, and why; only gates that keep something out."""
    found = Counter(link.gate for link in links)
    shut = [gate for gate in GATES if gate != "ok" and found[gate]]
    return pa.table(
        {
            "gate": [text.GATE_TITLES[gate] for gate in shut],
            "links": [found[gate] for gate in shut],
            "why": [GATES[gate] for gate in shut],
        }
    )


def remarks(reasons: list[str] | None, spool_bytes: int | None, dropped: int | None) -> str:
    """What an agent complains of: why it is degraded, what waits on its disk for the collector, what it had to drop."""
    words = list(reasons or [])
    if (spool_bytes or 0) >= SPOOL_REMARK_BYTES:
        words.append(f"{text.bytes_(spool_bytes)} waiting")
    if dropped:
        words.append(f"{dropped:,} dropped")
    return ", ".join(words)


def agents(at: data.Source) -> pa.Table:
    """Every agent, the longest silent first."""
    return _agents(at.key, data.clock(at))


@st.cache_resource(show_spinner=False, max_entries=4)
def _agents(key: tuple[str, int], now: datetime) -> pa.Table:
    fleet = data.agents(data.Source(*key, now))
    ages = fleet["age_s"]
    order = sorted(range(len(ages)), key=lambda i: -(ages[i] if ages[i] is not None else float("inf")))
    return pa.table(
        {
            "state": [
                "✕ silent"
                if ages[i] is None or ages[i] > data.SILENT_AFTER_S
                else "! degraded"
                if fleet["grade"][i] == "degraded"
                else "✓ ok"
                for i in order
            ],
            "agent": [fleet["agent"][i] for i in order],
            "seen": [f"{text.age(ages[i])} ago" for i in order],
            "why": [remarks(fleet["reasons"][i], fleet["spool_bytes"][i], fleet["dropped_measurements"][i]) for i in order],
        }
    )


def changed(at: data.Source) -> tuple[pa.Table | None, str]:
    """What `changes_of` finds in the last hour; else None, and why there is nothing to show."""
    return _changed(at.key, data.clock(at).replace(second=0))


@st.cache_resource(show_spinner=False, max_entries=4)
def _changed(key: tuple[str, int], now: datetime) -> tuple[pa.Table | None, str]:
    at = data.Source(*key, now)
    found, paths = health.changes(at), health.path_changes(at)
    if not found["src"]:
        turned = sum(paths["changes"])
        said = f" {text.plural(len(paths['src']), 'pair')} changed paths, {'once' if turned == 1 else f'{turned:,} times'} in all."
        return None, "There is no hour to compare yet: it takes five minutes of this hour and of the day before it." + (
            said if turned else " No path changed."
        )
    table = pa.table(changes_of(found, paths))
    if table.num_rows:
        return table, ""
    return None, f"Nothing: {text.plural(len(found['src']), 'link')} are as they were in the day before."


def changes_of(found: data.Columns, paths: data.Columns, limit: int = 8) -> dict[str, list[object]]:
    """What is not as it was: links whose median or loss moved beyond their own noise, and pairs whose path changed, the greatest first.

    A median counts when it moved by 2 ms and 5 % and by three times its usual spread (median absolute deviation, scaled to a standard
    deviation); a loss when it rose or fell by a hundredth.
    """
    turned = dict(zip(zip(paths["src"], paths["dst"], paths["medium"], strict=True), paths["changes"], strict=True))
    rows = []
    for i, key in enumerate(zip(found["src"], found["dst"], found["medium"], strict=True)):
        delta, spread = found["change_ms"][i], (found["was_mad_ms"][i] or 0.0) * MAD_TO_SD
        moved = abs(delta) >= max(2.0, 0.05 * found["was_ms"][i], 3 * spread)
        lost = (found["now_loss"][i] or 0.0) - (found["was_loss"][i] or 0.0)
        if moved or abs(lost) >= LOSS_STEP or key in turned:
            rows.append((abs(delta) + abs(lost) * 1000, key, i, lost))
    rows.sort(key=lambda row: (-row[0], row[1]))
    rows = rows[:limit]
    return {
        "from": [key[0] for _, key, _, _ in rows],
        "to": [key[1] for _, key, _, _ in rows],
        "medium": [text.MEDIUM_TITLES[key[2]] for _, key, _, _ in rows],
        "was": [found["was_ms"][i] for _, _, i, _ in rows],
        "now": [found["now_ms"][i] for _, _, i, _ in rows],
        "change": [found["change_ms"][i] for _, _, i, _ in rows],
        "loss": [lost * 100 for _, _, _, lost in rows],
        "path": [turned.get(key, 0) or None for _, key, _, _ in rows],
    }
