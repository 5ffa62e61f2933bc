"""What one-shot measurements show while they run and when they are over: one function a probe type, from a `State`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.hop_sheets import trace_sheets
from app.sheet import BAD, DIM, GOOD, WARN, Cell, Column, Sheet
from app.state import State, called, ms_text
from probes.model import RoundUnderWay, Target
from records.measurement import HttpResult, InferenceResult, PingResult, PingSample, ThroughputResult
from records.statistics import jitter_rfc3550_ns, loss_ratio, percentile_ns

__all__ = ["VIEWS"]

_BARS = "▁▂▃▄▅▆▇█"
_LOST = "×"
_RECENT = 16

_PING = (
    Column("target", is_number=False),
    Column("sent", 2),
    Column("received", 3),
    Column("loss"),
    Column("last ms", 1),
    Column("min ms", 4),
    Column("median ms"),
    Column("p95 ms", 4),
    Column("max ms", 5),
    Column("jitter ms", 6),
    Column("recent", 7, is_number=False),
)


def bars(rtts_ns: Sequence[int | None]) -> str:
    """The last RTTs as bars from the least of them up; a lost packet is a cross. A full bar is at least a quarter above the least.

    >>> bars([4, None, 8]), bars([100, 101, 125])
    ('▁×█', '▁▁█')
    """
    recent = rtts_ns[-_RECENT:]
    known = [rtt for rtt in recent if rtt is not None]
    low = min(known, default=0)
    span = max(max(known, default=0) - low, low // 4)
    return "".join(_LOST if rtt is None else _BARS[(rtt - low) * (len(_BARS) - 1) // span if span else 0] for rtt in recent)


def _ping(state: State) -> list[Sheet]:
    rows: list[list[Cell]] = []
    notes: list[str] = []
    for target in state.shown:
        lines = [line for line in state.results.get(target, []) if isinstance(line, PingResult)]
        samples = [sample for line in lines for sample in line.samples]
        if not state.is_over:
            host = state.hosts.get(target.address, target.address)
            running = [one for one in state.running if isinstance(one, RoundUnderWay) and one.host == host]
            samples += [sample for one in running for sample in one.samples if isinstance(sample, PingSample)]
        rows.append(_ping_row(target, samples))
        if state.is_over and lines:
            notes += _ping_notes(target, lines[0], samples, alone=len(state.shown) == 1)
            notes += _flow_notes(target, lines, alone=len(state.shown) == 1)
    return [Sheet(_PING, rows, notes=notes)]


def _ping_row(target: Target, samples: Sequence[PingSample]) -> list[Cell]:
    sent = sum(sample.outcome != "send_failed" for sample in samples)
    rtts_ns = [sample.rtt_ns for sample in samples if sample.outcome != "send_failed"]
    known = [rtt for rtt in rtts_ns if rtt is not None]
    loss = loss_ratio(sent, sent - len(known))
    loss_cell: Cell = None if loss is None else (f"{loss:.1%}", GOOD if loss == 0 else BAD if loss == 1 else WARN)
    last: Cell = None
    if rtts_ns:
        last = ms_text(rtts_ns[-1]) if rtts_ns[-1] is not None else ("lost", WARN)
    return [
        called(target),
        str(sent),
        str(len(known)),
        loss_cell,
        last,
        ms_text(min(known, default=None)),
        ms_text(percentile_ns(known, 0.5)),
        ms_text(percentile_ns(known, 0.95)),
        ms_text(max(known, default=None)),
        ms_text(jitter_rfc3550_ns(rtts_ns)),
        bars(rtts_ns),
    ]


def _flow_notes(target: Target, lines: Sequence[PingResult], *, alone: bool) -> list[str]:
    """One line for each flow, where there are several: flows whose least RTTs differ take different paths."""
    if len({line.flow for line in lines}) < 2:
        return []
    notes = []
    for line in sorted(lines, key=lambda one: one.flow or 0):
        known = [sample.rtt_ns for sample in line.samples if sample.rtt_ns is not None]
        said = f"min {ms_text(min(known))}  median {ms_text(percentile_ns(known, 0.5))} ms" if known else "no reply"
        notes.append(f"{'' if alone else f'{called(target)}: '}flow {line.flow}: {said}")
    return notes


def _ping_notes(target: Target, line: PingResult, samples: Sequence[PingSample], *, alone: bool) -> list[str]:
    """What a row of numbers cannot say: how it was timed, and what went wrong."""
    who = "" if alone else f"{called(target)}: "
    sources = sorted({sample.ts_source for sample in samples if sample.ts_source is not None})
    notes = [f"{line.method}, {line.engine}{', timed by ' + ', '.join(sources) if sources else ''}"] if alone else []
    for count, what in (
        (sum(sample.duplicates for sample in samples), "duplicates"),
        (sum(sample.late for sample in samples), "replies after the time-out"),
    ):
        if count:
            notes.append(f"{who}{count} {what}")
    errors: dict[str, int] = {}
    for sample in samples:
        if sample.outcome == "unreachable":
            said = f"unreachable: ICMP type {sample.icmp_type} code {sample.icmp_code} from {sample.responder or 'an unknown router'}"
            errors[said] = errors.get(said, 0) + 1
        elif sample.outcome == "send_failed":
            said = f"not sent: {sample.error or 'unknown error'}"
            errors[said] = errors.get(said, 0) + 1
    return notes + [f"{who}{said} ({count} packets)" for said, count in errors.items()]


_THROUGHPUT = (
    Column("target", is_number=False),
    Column("up Mbit/s"),
    Column("down Mbit/s"),
    Column("RTT ms", 3),
    Column("loaded ms", 2),
    Column("sent again", 4),
    Column("by", 5, is_number=False),
    Column("state", 1, is_number=False),
)


def _throughput(state: State) -> list[Sheet]:
    rows: list[list[Cell]] = []
    notes: list[str] = []
    for target in state.shown:
        lines = [line for line in state.results.get(target, []) if isinstance(line, ThroughputResult)]
        rate: dict[str, Cell] = {}
        for line in lines:
            about = "~" if line.is_estimate else ""
            rate[line.direction] = (line.stop_reason, BAD) if line.throughput_bps is None else f"{about}{line.throughput_bps / 1e6:.2f}"
            if line.error is not None:
                notes.append(f"{called(target)}: {line.direction}: {line.error}")
        ran = [line for line in lines if line.throughput_bps is not None]
        resent = [line.retransmits for line in ran if line.retransmits is not None]
        rows.append(
            [
                called(target),
                rate.get("up"),
                rate.get("down"),
                ms_text(min((line.tcp_min_rtt_ns for line in ran if line.tcp_min_rtt_ns is not None), default=None)),
                ms_text(max((line.tcp_rtt_ns for line in ran if line.tcp_rtt_ns is not None), default=None)),
                str(sum(resent)) if resent else None,
                ran[0].tool if ran else None,
                _state_cell(state, target, len(ran), len(lines)),
            ]
        )
    return [Sheet(_THROUGHPUT, rows, notes=notes)]


_INFERENCE = (
    Column("target", is_number=False),
    Column("model", 4, is_number=False),
    Column("done", 2),
    Column("TTFT ms"),
    Column("network ms", 1),
    Column("E2E ms", 3),
    Column("tokens", 5),
    Column("tokens/s", 3),
    Column("state", 1, is_number=False),
)


def _inference(state: State) -> list[Sheet]:
    rows: list[list[Cell]] = []
    notes: list[str] = []
    for target in state.shown:
        lines = [line for line in state.results.get(target, []) if isinstance(line, InferenceResult)]
        ok = [line for line in lines if line.outcome == "ok"]
        notes += dict.fromkeys(f"{called(target)}: {line.outcome}: {line.error}" for line in lines if line.outcome != "ok")
        rows.append(
            [
                called(target),
                lines[-1].model or None if lines else target.inference_model,
                f"{len(lines)}/{state.count}",
                ms_text(percentile_ns([line.ttft_ns for line in ok if line.ttft_ns is not None], 0.5)),
                ms_text(min((line.tcp_min_rtt_ns for line in ok if line.tcp_min_rtt_ns is not None), default=None)),
                ms_text(percentile_ns([line.e2e_ns for line in ok if line.e2e_ns is not None], 0.5)),
                str(sum(line.output_tokens or 0 for line in ok)) if ok else None,
                _tokens_per_s(ok),
                _state_cell(state, target, len(ok), len(lines)),
            ]
        )
    more = ["of several requests: the median of TTFT and E2E, the least network RTT"] if state.is_over and state.count > 1 else []
    return [Sheet(_INFERENCE, rows, notes=[*more, *notes])]


def _tokens_per_s(lines: Sequence[InferenceResult]) -> str | None:
    """Tokens after the first one over the time after it; tokens that come in bunches make the gaps between them no measure of this."""
    spans = [(line.output_tokens - 1, line.e2e_ns - line.ttft_ns) for line in lines if line.output_tokens and line.e2e_ns and line.ttft_ns]
    tokens, span_ns = (sum(part) for part in zip(*spans, strict=True)) if spans else (0, 0)
    return f"{tokens * 1e9 / span_ns:.1f}" if tokens and span_ns > 0 else None


_HTTP = (
    Column("target", is_number=False),
    Column("RTT ms"),
    Column("dns ms", 4),
    Column("tls ms", 2),
    Column("resumed", 5, is_number=False),
    Column("first byte ms", 3),
    Column("status", 3),
    Column("outcome", 1, is_number=False),
)


def _http(state: State) -> list[Sheet]:
    rows: list[list[Cell]] = []
    notes: list[str] = []
    for target in state.shown:
        lines = [line for line in state.results.get(target, []) if isinstance(line, HttpResult)]
        if not lines:
            rows.append([called(target), None, None, None, None, None, None, _state_cell(state, target, 0, 0)])
        for line in lines:
            resumed = {None: None, True: "yes", False: "no"}[line.tls_resumed]
            good = line.outcome == "ok"
            rows.append(
                [
                    called(target),
                    ms_text(line.tcp_rtt_ns),
                    ms_text(line.dns_ns),
                    ms_text(line.tls_ns),
                    resumed,
                    ms_text(line.ttfb_ns),
                    None if line.http_status is None else str(line.http_status),
                    ("ok", GOOD) if good else (f"{line.outcome} ({line.failure_source})", BAD),
                ]
            )
            if line.error is not None:
                notes.append(f"{called(target)}: {line.error}")
            if line.tls_verified is False:
                notes.append(f"{called(target)}: certificate not accepted: {line.tls_error}")
    return [Sheet(_HTTP, rows, notes=list(dict.fromkeys(notes)))]


def _state_cell(state: State, target: Target, good: int, ended: int) -> Cell:
    """Waiting, at work for how long, or how it ended."""
    if target not in state.started_s:
        return ("not measured" if state.is_over else "waiting", DIM)
    if not state.is_over and target not in state.ended:
        return f"measuring {state.now_s - state.started_s[target]:.1f} s"
    if not ended or target not in state.ended:
        return ("interrupted", WARN)
    return ("ok", GOOD) if good == ended else ("failed", BAD) if not good else (f"{ended - good} of {ended} failed", WARN)


#: By the probe type's name.
VIEWS: dict[str, Callable[[State], list[Sheet]]] = {
    "ping": _ping,
    "traceroute": trace_sheets,
    "throughput": _throughput,
    "inference": _inference,
    "http": _http,
}
