"""The tables of what is asked for: workloads (one request) and applications (many sources that ask)."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path

from inventory.rows import BadRow, Faults, Row, header_faults, read_table
from records.errors import InputError
from records.residency import DATA_CLASSES
from records.serving import Application, Workload
from records.units import MS

__all__ = ["read_applications", "read_workload_file", "read_workloads"]

WORKLOAD_COLUMNS = (
    *("name", "title", "model", "input_tokens", "output_tokens", "upload_bytes", "download_bytes"),
    *("ttft_budget_ms", "e2e_budget_ms", "note"),
)
WORKLOAD_OPTIONAL = ("data_class", "availability", "peak_to_mean")
APPLICATION_COLUMNS = (
    *("name", "title", "workload", "sources", "stream_mbps", "active_ratio", "kept_ratio", "requests_per_hour"),
    *("rtt_budget_ms", "note"),
)


def read_workloads(path: Path, faults: Faults) -> list[Workload]:
    """Workloads from CSV; budgets stand there in ms, empty is no budget; faults are noted."""
    return read_table(path, WORKLOAD_COLUMNS, _workload, lambda workload: workload.name, faults, optional=WORKLOAD_OPTIONAL)


def read_workload_file(path: Path) -> Workload:
    """The one workload of a user's file: CSV with one row, or (``.json``) an object with the same names.

    Raises InputError that names every fault, or says that there are several workloads or none.
    """
    faults = Faults()
    found = _read_json(path, faults) if path.suffix.lower() == ".json" else read_workloads(path, faults)
    faults.fail()
    if len(found) != 1:
        raise InputError(path, None, f"holds {len(found)} workloads; a request has one: leave one row")
    return found[0]


def _read_json(path: Path, faults: Faults) -> list[Workload]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(path, error.lineno, f"is not JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, None, f"cannot be read: {error}; it must be JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise InputError(path, None, f"holds {type(document).__name__}; a workload is one object with {', '.join(WORKLOAD_COLUMNS)}")
    # What a table leaves empty, an object may leave out or set to null.
    may_miss = ("ttft_budget_ms", "e2e_budget_ms", *WORKLOAD_OPTIONAL)
    fields = {str(name).strip().lower(): "" if value is None else str(value).strip() for name, value in document.items()}
    must = [name for name in WORKLOAD_COLUMNS if name not in may_miss]
    if problems := header_faults(list(fields), must, may_miss):
        for problem in problems:
            faults.add(path, None, problem)
        return []
    try:
        return [_workload(Row(path, 1, fields))]
    except BadRow as error:
        faults.add(path, None, str(error))
        return []


def _workload(row: Row) -> Workload:
    ttft_ms, e2e_ms = row.optional_number("ttft_budget_ms", 0), row.optional_number("e2e_budget_ms", 0)
    if ttft_ms is not None and e2e_ms is not None and ttft_ms > e2e_ms:
        raise BadRow(f"ttft_budget_ms {ttft_ms:g} is more than e2e_budget_ms {e2e_ms:g}")
    return Workload(
        name=row.text("name"),
        title=row.text("title"),
        model=row.text("model"),
        input_tokens=row.whole("input_tokens"),
        output_tokens=row.whole("output_tokens", 1),
        upload_bytes=row.whole("upload_bytes"),
        download_bytes=row.whole("download_bytes"),
        ttft_budget_ns=None if ttft_ms is None else round(ttft_ms * MS),
        e2e_budget_ns=None if e2e_ms is None else round(e2e_ms * MS),
        note=row.text("note"),
        data_class=row.one_of("data_class", tuple(DATA_CLASSES)) if row.optional("data_class") else None,
        availability=row.optional_number("availability", 0, 1),
        peak_to_mean=row.optional_number("peak_to_mean", 1),
    )


def read_applications(path: Path, workloads: Container[str], faults: Faults) -> list[Application]:
    """Applications from CSV, each with the workload it asks for; the stream stands there in Mbit/s; faults are noted."""

    def make(row: Row) -> Application:
        workload = row.text("workload")
        if workload not in workloads:
            raise faults.missing(workload, f"workload {workload!r} is not in the table of workloads")
        rtt_ms = row.optional_number("rtt_budget_ms", 0)
        return Application(
            name=row.text("name"),
            title=row.text("title"),
            workload=workload,
            sources=row.whole("sources", 1),
            stream_bps=row.number("stream_mbps", 0) * 1e6,
            active_ratio=row.number("active_ratio", 0, 1),
            kept_ratio=row.number("kept_ratio", 0, 1),
            requests_per_hour=row.number("requests_per_hour", 0),
            rtt_budget_ns=None if rtt_ms is None else round(rtt_ms * MS),
            note=row.text("note"),
        )

    return read_table(path, APPLICATION_COLUMNS, make, lambda application: application.name, faults)
