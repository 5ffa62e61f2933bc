"""`isochrone links`, `matrix` and `route`: what is known of the network, and the answers made from it."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from app import answers
from app.output import emit_json, json_option, note, table, warehouse_option
from app.route_text import show
from records.errors import NoRoute, UserError
from records.link import EVIDENCE, GATES
from records.units import SECOND, ms, parse_duration_ns
from routing.answer import to_json
from routing.gates import GatePolicy
from routing.request import OBJECTIVES, Request
from warehouse import open_warehouse

__all__ = ["links", "matrix", "route"]


class _Duration(click.ParamType[float]):
    """A duration such as 10m or 2h, in seconds; `all` is None."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value == "all":
            return math.inf
        try:
            return parse_duration_ns(value) / SECOND
        except UserError as error:
            self.fail(str(error), param, ctx)


def _evidence_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What every command here reads: the warehouse, the window, and how old a link may be."""
    function = click.option(
        "--max-age",
        "max_age_s",
        type=_Duration(),
        default="24h",
        show_default=True,
        metavar="DURATION|all",
        help="A link whose newest sample is older is stale; a source without dates is never.",
    )(function)
    function = click.option(
        "--window",
        "window_s",
        type=_Duration(),
        default="all",
        show_default=True,
        metavar="DURATION|all",
        help="Measurements no older than this make the estimates.",
    )(function)
    return warehouse_option(function)


def _load(warehouse: str, window_s: float, max_age_s: float) -> answers.Links:
    policy = GatePolicy(max_age_s=None if math.isinf(max_age_s) else max_age_s)
    window = None if math.isinf(window_s) else timedelta(seconds=window_s)
    with open_warehouse(warehouse) as opened:
        return answers.load_links(opened, now=datetime.now(UTC), window=window, policy=policy)


def _say_gates(known: answers.Links) -> None:
    found = known.counts()
    note(f"{len(known.links)} links in snapshot {known.snapshot}: " + ", ".join(f"{n} {gate}" for gate, n in found.items()))


@click.command()
@_evidence_options
@click.option("--src", metavar="SITE", help="Only links from this site.")
@click.option("--dst", metavar="SITE", help="Only links to this site.")
@click.option("--gate", type=click.Choice(list(GATES)), help="Only links with this verdict.")
@click.option("--evidence", type=click.Choice(EVIDENCE), help="Only links on this evidence.")
@json_option
def links(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    src: str | None,
    dst: str | None,
    gate: str | None,
    evidence: str | None,
    as_json: bool,
) -> None:
    """List every link with its RTT, its verdict and what it rests on.

    Links that failed a gate are listed too, with the gate's name; only `ok` ones are routed over. Floor is the least
    possible RTT in fibre along the great circle, inflation the median over it. '-' (null in JSON) is not known.

    \b
    Examples:
      isochrone links
      isochrone links --gate faster_than_light --json
    """
    known = _load(warehouse, window_s, max_age_s)
    ends = [None if name is None else answers.site_id(name, known) for name in (src, dst)]
    chosen = [
        link
        for link in known.links
        if ends[0] in (None, link.src) and ends[1] in (None, link.dst) and gate in (None, link.gate) and evidence in (None, link.evidence)
    ]
    if as_json:
        emit_json(answers.links_json(chosen))
    answers.require_links(known)
    if not as_json:
        headers = ["src", "dst", "medium", "min ms", "p50 ms", "p95 ms", "p99 ms", "loss %", "Mbit/s", "samples", "age s"]
        table(
            [*headers, "evidence", "gate", "floor ms", "inflation"],
            [
                [
                    link.src,
                    link.dst,
                    link.medium,
                    *(ms(value) for value in (link.rtt_min_ns, link.rtt_p50_ns, link.rtt_p95_ns, link.rtt_p99_ns)),
                    None if link.loss_ratio is None else link.loss_ratio * 100,
                    None if link.throughput_bps is None else link.throughput_bps / 1e6,
                    link.sample_count,
                    None if link.age_s is None else round(link.age_s),
                    link.evidence,
                    link.gate,
                    ms(link.fibre_floor_ns),
                    link.inflation,
                ]
                for link in chosen
            ],
        )
    _say_gates(known)


@click.command()
@_evidence_options
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=click.FloatRange(min=0), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option(
    "--min-gain-ms", type=click.FloatRange(min=0), default=0.0, show_default=True, metavar="MS", help="Keep the direct link for less gain."
)
@click.option("--fail", multiple=True, metavar="SITE", help="Take this site away; may be given again.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How to write the rows.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here; parquet needs it.")
@json_option
def matrix(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    relays: int,
    relay_ms: float,
    min_gain_ms: float,
    fail: tuple[str, ...],
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """The best RTT between every two sites, direct or over relays, from links that passed every gate.

    One row for every ordered pair: the direct RTT (empty where no usable link is), the best one, the relays it crosses
    and the weakest evidence on it. Of parallel media the fastest is used. Relays are separated by spaces in CSV.

    \b
    Examples:
      isochrone matrix --relays 1 --format csv -o best.csv
      isochrone matrix --fail sin --min-gain-ms 5
    """
    form = "json" if as_json else form
    if form == "parquet" and output is None:
        raise UserError("--format parquet is no text; name a file with -o FILE.parquet")
    known = _load(warehouse, window_s, max_age_s)
    answers.require_links(known)
    gone = [answers.site_id(name, known) for name in fail]
    rows = answers.matrix_rows(known, relays=relays, relay_ms=relay_ms, min_gain_ms=min_gain_ms, fail=gone)
    cells = [(r.src, r.dst, r.direct_ms, r.best_ms, " ".join(r.relays), r.evidence) for r in rows]
    if form == "parquet":
        assert output is not None
        answers.write_parquet(rows, output)
    elif form == "table" and output is None:
        table(answers.MATRIX_COLUMNS, cells)
    else:
        _write_text(form, rows, cells, output)
    _say_gates(known)
    over_relays = sum(1 for row in rows if row.relays)
    note(f"{len(rows)} pairs, {over_relays} of them faster (or only reachable) over relays")


def _write_text(form: str, rows: list[Any], cells: Sequence[tuple[object, ...]], output: Path | None) -> None:
    try:
        stream = sys.stdout if output is None else output.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    try:
        if form == "json" and output is None:
            emit_json(answers.matrix_json(rows))
        elif form == "json":
            json.dump(answers.matrix_json(rows), stream, indent=2, allow_nan=False)
        elif form == "csv":
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(answers.MATRIX_COLUMNS)
            writer.writerows(cells)
        else:
            raise UserError("--format table is for the screen; for a file take csv, json or parquet")
    finally:
        if output is not None:
            stream.close()


@click.command()
@_evidence_options
@click.option("--from", "source", required=True, metavar="SITE", help="Where the request comes from: a PoP, a region or a metro.")
@click.option("--to", "destination", metavar="SITE", help="Serve it here; without it the planner chooses.")
@click.option(
    "--workload", default="chat", show_default=True, metavar="NAME|FILE", help="A workload of the inventory, or a CSV file of one."
)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="ttft", show_default=True, help="What is to be least.")
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=click.FloatRange(min=0), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option("-k", "k", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="How many routes to name.")
@click.option("--budget-ms", type=float, metavar="X", help="The 95th percentile of TTFT (of E2E for that objective) must keep this.")
@click.option(
    "--connection", type=click.Choice(["cold", "warm"]), default="cold", show_default=True, help="Open a connection first, or not."
)
@click.option(
    "--load", "arrival_rps", type=click.FloatRange(min=0), default=0.0, show_default=True, metavar="RPS", help="Requests/s at each pool."
)
@click.option(
    "--cache-hit", type=click.FloatRange(0, 1), default=0.0, show_default=True, metavar="RATIO", help="Share of the prompt held already."
)
@click.option("--measured-only", is_flag=True, help="Refuse routes with a modelled leg.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws; the same seed, the same answer.")
@json_option
def route(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    source: str,
    destination: str | None,
    workload: str,
    objective: Any,
    relays: int,
    relay_ms: float,
    k: int,
    budget_ms: float | None,
    connection: Any,
    arrival_rps: float,
    cache_hit: float,
    measured_only: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Say where a request should be served and over which route, with alternatives, a backup and the reasons.

    TTFT = connect + upload + relay + queue + prefill + network; E2E = TTFT + decode. Legs that nobody measured are
    modelled and say so. Exit status 1 when no route keeps the constraints: the answer then names the one that binds.

    \b
    Examples:
      isochrone route --from sin
      isochrone route --from metro:lagos --workload voice-agent --objective e2e --json
    """
    asked = answers.workload_of(workload)
    known = _load(warehouse, window_s, max_age_s)
    answers.require_links(known)
    request = Request(
        source=answers.site_id(source, known),
        destination=None if destination is None else answers.site_id(destination, known),
        workload=asked,
        objective=objective,
        relays=relays,
        relay_ms=relay_ms,
        k=k,
        budget_ms=budget_ms,
        connection=connection,
        arrival_rps=arrival_rps,
        cache_hit_ratio=cache_hit,
        measured_only=measured_only,
    )
    answer = answers.route_answer(known, request, seed=seed)
    if as_json:
        emit_json(to_json(answer))
    else:
        show(answer)
    if answer.infeasible is not None:
        raise NoRoute(f"no route from {request.source}: {'; '.join(binding.text for binding in answer.infeasible.binding)}")
