"""How a traceroute reads: hop by hop, all flows and rounds of a target together, silent hops in their place. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from app.sheet import BAD, DIM, GOOD, WARN, Cell, Column, Sheet
from app.state import State, called, ms_text
from probes.model import Target, TraceUnderWay
from records.measurement import Hop, TracerouteResult, path_change, reverse_hop_count

__all__ = ["hop_sheet", "trace_sheets", "why_it_ends"]

_SILENT, _WAITING = "(silent)", "..."
_HOPS = (
    Column("hop"),
    Column("address", is_number=False),
    Column("RTT ms"),
    Column("max ms", 5),
    Column("flows", 3),
    Column("answered", 2),
    Column("back", 4),
    Column("MPLS", 1, is_number=False),
)
_TARGETS = (
    Column("target", is_number=False),
    Column("flows", 2),
    Column("hops"),
    Column("silent", 3),
    Column("paths", 4),
    Column("RTT ms"),
    Column("state", 1, is_number=False),
)


def trace_sheets(state: State) -> list[Sheet]:
    """One target, or all when it is over: hop by hop. Several that run: a line each."""
    if len(state.shown) > 1 and not state.is_over:
        return [_targets(state)]
    sheets = []
    for target in state.shown:
        lines = _results(state, target)
        traces: list[TracerouteResult | TraceUnderWay] = [*lines, *_running(state, target)]
        sheets.append(hop_sheet(called(target), traces, is_over=state.is_over))
    return [*sheets, _targets(state)] if len(sheets) > 1 else sheets


def _results(state: State, target: Target) -> list[TracerouteResult]:
    return [line for line in state.results.get(target, []) if isinstance(line, TracerouteResult)]


def _running(state: State, target: Target) -> list[TraceUnderWay]:
    """Without what lies behind the last answer so far: whether there is anything is not known yet."""
    running = [one for one in state.running if isinstance(one, TraceUnderWay) and one.address == target.address]
    return [replace(one, hops=one.hops[: max((hop.ttl for hop in one.hops if hop.address is not None), default=0)]) for one in running]


def _targets(state: State) -> Sheet:
    rows: list[list[Cell]] = []
    for target in state.shown:
        lines, running = _results(state, target), _running(state, target)
        newest: Sequence[TracerouteResult | TraceUnderWay] = [*lines, *running]
        hops = max((len(one.hops) for one in newest), default=0)
        best = min((rtt for one in newest if (rtt := _target_rtt_ns(one)) is not None), default=None)
        silent = max((sum(hop.address is None for hop in one.hops) for one in lines), default=None)
        state_cell: Cell = ("waiting", DIM)
        if (running and not state.is_over) or (lines and target not in state.ended and not state.is_over):
            state_cell = f"tracing {state.now_s - state.started_s.get(target, state.now_s):.1f} s"
        elif lines:
            reached = sum(line.reached for line in lines)
            state_cell = (
                ("reached", GOOD) if reached == len(lines) else (f"{reached} of {len(lines)} reached" if reached else "not reached", BAD)
            )
        elif state.is_over:
            state_cell = ("interrupted", WARN)
        rows.append(
            [
                called(target),
                str(len({one.flow for one in newest})),
                str(hops) if hops else None,
                None if silent is None else str(silent),
                str(len({line.path_hash for line in lines})) if lines else None,
                ms_text(best),
                state_cell,
            ]
        )
    return Sheet(_TARGETS, rows)


def _target_rtt_ns(trace: TracerouteResult | TraceUnderWay) -> int | None:
    return trace.hops[-1].rtt_ns if trace.reached and trace.hops else None


def hop_sheet(name: str, traces: Sequence[TracerouteResult | TraceUnderWay], *, is_over: bool = True) -> Sheet:
    """All traces of one target, hop by hop: a row for each address at a TTL, the most frequent first.

    is_over   traces that have not ended will not any more: they were interrupted
    """
    done = [one for one in traces if isinstance(one, TracerouteResult)]
    flows = {one.flow for one in traces}
    rows: list[list[Cell]] = []
    is_several, has_back = len(traces) > 1, False
    for ttl in range(1, max((len(one.hops) for one in traces), default=0) + 1):
        here = [(one, hop) for one in traces for hop in one.hops if hop.ttl == ttl]
        order = Counter(hop.address for _, hop in here)
        for number, address in enumerate(sorted(order, key=lambda one: (one is None, -order[one], one or ""))):
            seen = [(one, hop) for one, hop in here if hop.address == address]
            met_by = f"{len({one.flow for one, _ in seen})}/{len(flows)}"
            row = _hop_row(address, [hop for _, hop in seen], str(ttl) if not number else "", met_by, is_over=len(done) == len(traces))
            has_back = has_back or row[6] is not None
            rows.append(row)
    columns = [True, True, True, is_several, len(flows) > 1, True, has_back, any(row[7] for row in rows)]
    kept = [i for i, is_kept in enumerate(columns) if is_kept]
    sheet_rows = [[row[i] for i in kept] for row in rows]
    return Sheet(
        tuple(_HOPS[i] for i in kept), sheet_rows, title=_title(name, traces, done, is_over=is_over), notes=_notes(done, has_back=has_back)
    )


def _hop_row(address: str | None, hops: Sequence[Hop], ttl: str, met_by: str, *, is_over: bool) -> list[Cell]:
    rtts = [hop.rtt_ns for hop in hops if hop.rtt_ns is not None]
    probes, replies = sum(hop.probes for hop in hops), sum(hop.replies for hop in hops)
    back = {reverse_hop_count(hop.reply_ttl) for hop in hops} - {None}
    labels = dict.fromkeys(" ".join(str(label.label) for label in hop.mpls) for hop in hops if hop.mpls)
    if address is None:
        return [ttl, (_SILENT if is_over else _WAITING, DIM), None, None, met_by, (f"0/{probes}", DIM), None, ""]
    is_other = bool(back) and back != {hops[0].ttl}
    back_text = " ".join(str(one) for one in sorted(one for one in back if one is not None))
    return [
        ttl,
        address,
        ms_text(min(rtts, default=None)),
        ms_text(max(rtts, default=None)),
        met_by,
        f"{replies}/{probes}" if replies == probes else (f"{replies}/{probes}", WARN),
        (back_text, WARN) if is_other else back_text or None,
        " / ".join(labels),
    ]


def why_it_ends(line: TracerouteResult) -> str | None:
    """What stopped a trace on its way; None when it got there, or when nobody said anything."""
    if line.error is not None:
        return f"not sent: {line.error}"
    last = line.hops[-1] if line.hops and not line.reached else None
    if last is None or last.icmp_type != (1 if ":" in (last.address or "") else 3):
        return None
    return f"hop {last.ttl} ({last.address}) says that the target cannot be reached: ICMP type {last.icmp_type} code {last.icmp_code}"


def _title(name: str, traces: Sequence[TracerouteResult | TraceUnderWay], done: Sequence[TracerouteResult], *, is_over: bool) -> str:
    if not done:
        return f"{name}: {'interrupted, the hops so far' if is_over else 'tracing'}"
    flows = len({one.flow for one in traces})
    reached = sum(one.reached for one in done)
    how = "reached" if reached == len(done) else f"reached by {reached} of {len(done)} traces" if reached else "not reached"
    parts = [done[0].protocol, f"flow {done[0].flow}" if flows == 1 else f"{flows} flows", how]
    if len(done) > 1:
        paths = len({one.path_hash for one in done})
        parts.append("one path" if paths == 1 else f"{paths} different paths")
    return f"{name}: {', '.join(parts)}"


def _notes(done: Sequence[TracerouteResult], *, has_back: bool) -> list[str]:
    notes = []
    last: dict[int, TracerouteResult] = {}
    for line in done:
        before = last.get(line.flow)
        ttl = None if before is None else path_change(before, line)
        if before is not None and ttl is not None:
            old, new = before.hops[ttl - 1].address or _SILENT, line.hops[ttl - 1].address or _SILENT
            notes.append(f"the path of flow {line.flow} changed at hop {ttl}: {old}, then {new}")
        last[line.flow] = line
    notes += dict.fromkeys(why for line in done if (why := why_it_ends(line)) is not None)
    if done and has_back:
        notes.append("back: hops of the way back, guessed from the answer's TTL")
    return notes
