"""What a collector tells a monitoring system: a table of metrics and its text in the OpenMetrics format (1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "Value", "render"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


#: Of a metric: a number, or one for each value of its label, or for each tuple of its labels' values.
Value = float | Mapping[str, float] | Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; label is the name of its only label, or the names of several, None when it has none."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    label: str | tuple[str, ...] | None = None


METRICS = (
    Metric("isochrone_batches", "counter", "", "Batches answered, by outcome: stored, already or a refusal.", "outcome"),
    Metric("isochrone_rows", "counter", "", "Rows committed, by table.", "table"),
    Metric("isochrone_rejects", "counter", "", "Lines and batches kept as rejects, by reason.", "reason"),
    Metric("isochrone_commits", "counter", "", "Transactions committed."),
    Metric("isochrone_commit_seconds", "counter", "seconds", "Time spent in transactions."),
    Metric("isochrone_last_commit_seconds", "gauge", "seconds", "Time the newest transaction took."),
    Metric("isochrone_commit_failures", "counter", "", "Batches whose transaction failed."),
    Metric("isochrone_care_seconds", "counter", "seconds", "Time spent on maintenance, by job (see warehouse/care.py).", "job"),
    Metric("isochrone_care_failures", "counter", "", "Maintenance that failed and is tried again, by job.", "job"),
    Metric("isochrone_longest_care_step_seconds", "gauge", "seconds", "Longest time that a commit may have waited for maintenance."),
    Metric("isochrone_queue_batches", "gauge", "", "Batches waiting for their commit."),
    Metric("isochrone_queue_bytes", "gauge", "bytes", "Memory of the rows that wait for their commit."),
    Metric("isochrone_received_bytes", "gauge", "bytes", "Memory of the bodies that are coming in or wait to be read."),
    Metric("isochrone_enrolments", "counter", "", "Enrolments and rotations, and what was refused of them, by outcome.", "outcome"),
    Metric("isochrone_certificate_expiry_timestamp_seconds", "gauge", "seconds", "When the collector's certificate expires."),
    Metric("isochrone_alarms", "gauge", "", "Alarms that are open, by kind and whether somebody acknowledged them.", ("kind", "state")),
    Metric("isochrone_alarms_opened", "counter", "", "Alarms opened since this collector began, by kind.", "kind"),
    Metric("isochrone_alarm_notices", "counter", "", "Attempts to send a notice: sent, retried, given_up or unknown.", "outcome"),
    Metric("isochrone_alarm_notices_waiting", "gauge", "", "Notices that no webhook has taken yet."),
    Metric("isochrone_alarm_notices_held", "gauge", "", "Notices held back by the limit of notices an hour."),
    Metric("isochrone_alarm_route_looks", "counter", "", "Looks at each watched route: planned, or failed (no route, no data).", "outcome"),
    Metric("isochrone_alarm_evaluation_failures", "counter", "", "Evaluations of the alarms that failed."),
    Metric("isochrone_alarm_evaluation_seconds", "gauge", "seconds", "Time the newest evaluation of the alarms took."),
    Metric("isochrone_alarm_evaluation_timestamp_seconds", "gauge", "seconds", "When the alarms were last evaluated."),
)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value)


def render(values: Mapping[str, Value]) -> str:
    """The values by metric name (with a label: by label value, several: by a tuple) as OpenMetrics text; what has none is left out."""
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
            names = metric.label if isinstance(metric.label, tuple) else (str(metric.label),)
            for key, n in sorted(value.items()):
                texts = key if isinstance(key, tuple) else (key,)
                labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in zip(names, texts, strict=True))
                lines.append(f"{metric.name}{suffix}{{{labels}}} {_number(n)}")
        else:
            lines.append(f"{metric.name}{suffix} {_number(value)}")
    return "\n".join([*lines, "# EOF", ""])
