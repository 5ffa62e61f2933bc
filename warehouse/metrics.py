"""What a collector tells a monitoring system: a table of metrics and its text in the OpenMetrics format (1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "render"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; label is the name of its only label, None when it has none."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    label: str | None = None


METRICS = (
    Metric("isochrone_batches", "counter", "", "Batches answered, by outcome: stored, already or a refusal.", "outcome"),
    Metric("isochrone_rows", "counter", "", "Rows committed, by table.", "table"),
    Metric("isochrone_rejects", "counter", "", "Lines and batches kept as rejects, by reason.", "reason"),
    Metric("isochrone_commits", "counter", "", "Transactions committed."),
    Metric("isochrone_commit_seconds", "counter", "seconds", "Time spent in transactions."),
    Metric("isochrone_last_commit_seconds", "gauge", "seconds", "Time the newest transaction took."),
    Metric("isochrone_commit_failures", "counter", "", "Batches whose transaction failed."),
    Metric("isochrone_care_seconds", "counter", "seconds", "Time spent on maintenance, by job (see warehouse/care.py).", "job"),
    Metric("isochrone_longest_care_step_seconds", "gauge", "seconds", "Longest time that a commit may have waited for maintenance."),
    Metric("isochrone_queue_batches", "gauge", "", "Batches waiting for their commit."),
    Metric("isochrone_queue_bytes", "gauge", "bytes", "Memory of the rows that wait for their commit."),
    Metric("isochrone_received_bytes", "gauge", "bytes", "Memory of the bodies that are coming in or wait to be read."),
    Metric("isochrone_enrolments", "counter", "", "Enrolments and rotations, and what was refused of them, by outcome.", "outcome"),
    Metric("isochrone_certificate_expiry_timestamp_seconds", "gauge", "seconds", "When the collector's certificate expires."),
)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value)


def render(values: Mapping[str, float | Mapping[str, float]]) -> str:
    """The values by metric name (with a label: by label value) as OpenMetrics text; a metric without a value is left out."""
    lines = []
    for metric in METRICS:
        value = values.get(metric.name)
        if value is None:
            continue
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        if metric.unit:
            lines.append(f"# UNIT {metric.name} {metric.unit}")
        lines.append(f"# HELP {metric.name} {_escaped(metric.help)}")
        suffix = "_total" if metric.kind == "counter" else ""
        if isinstance(value, Mapping):
            lines += [f'{metric.name}{suffix}{{{metric.label}="{_escaped(key)}"}} {_number(n)}' for key, n in sorted(value.items())]
        else:
            lines.append(f"{metric.name}{suffix} {_number(value)}")
    return "\n".join([*lines, "# EOF", ""])
