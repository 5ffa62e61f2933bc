"""`isochrone links` and `matrix`: what is known of the network, and the best RTT between every two sites."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.opening import load_links
from app.output import emit_json, form_of, json_option, json_text, note, table, warehouse_option
from app.quantities import MOST_MS, Duration, Number
from records.errors import UserError
from records.link import EVIDENCE, GATES, LinkEstimate
from records.units import ms
from routing.media import quantile_ns

if TYPE_CHECKING:
    from app import answers

__all__ = ["evidence_options", "links", "load_links", "matrix"]


def evidence_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What every command over links reads: the warehouse, the window, and how old a link may be."""
    function = click.option(
        "--max-age",
        "max_age_s",
        type=Duration(),
        default="24h",
        show_default=True,
        metavar="DURATION|all",
        help="A link whose newest sample is older is stale; a source without dates is never.",
    )(function)
    function = click.option(
        "--window",
        "window_s",
        type=Duration(),
        default="all",
        show_default=True,
        metavar="DURATION|all",
        help="Measurements no older than this make the estimates.",
    )(function)
    return warehouse_option(function)


def _say_gates(known: answers.Links) -> None:
    found = known.counts()
    note(f"{len(known.links)} links in snapshot {known.snapshot}: " + ", ".join(f"{n} {gate}" for gate, n in found.items()))


@click.command()
@evidence_options
@click.option("--src", metavar="SITE", help="Only links from this site.")
@click.option("--dst", metavar="SITE", help="Only links to this site.")
@click.option("--gate", type=click.Choice(list(GATES)), help="Only links with this verdict.")
@click.option("--evidence", type=click.Choice(EVIDENCE), help="Only links on this evidence.")
@click.option("--quantile", "asked", multiple=True, type=Number(0, 1), metavar="Q", help="One more quantile of the RTT, as in 0.9.")
@click.option("--modelled", "with_models", is_flag=True, help="Also the models that stand for the pairs nobody measured.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "graphml", "node-link"]),
    default="table",
    show_default=True,
    help="graphml and node-link (JSON) are graphs for networkx and other tools.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here instead of on the screen.")
@json_option
def links(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    src: str | None,
    dst: str | None,
    gate: str | None,
    evidence: str | None,
    asked: tuple[float, ...],
    with_models: bool,
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """List every link with its RTT, its verdict and what it rests on.

    Links that failed a gate are listed too, with the gate's name; only `ok` ones are routed over. Floor is the least
    possible RTT in fibre along the great circle, inflation the median over it. '-' (null in JSON) is not known. Quantiles
    other than p50, p95 and p99 come from the histogram of the samples, within 1 %; an imported matrix has none.

    \b
    Examples:
      isochrone links --window 2h --quantile 0.9
      isochrone links --gate faster_than_light --json
      isochrone links --format graphml -o links.graphml
    """
    form = form_of(form, as_json)
    known = load_links(warehouse, window_s, max_age_s)
    from app import answers  # loaded beside the opening of the warehouse

    ends = [None if name is None else answers.site_id(name, known) for name in (src, dst)]
    chosen = [
        link
        for link in (*known.links, *(answers.unmeasured(known) if with_models else ()))
        if ends[0] in (None, link.src) and ends[1] in (None, link.dst) and gate in (None, link.gate) and evidence in (None, link.evidence)
    ]
    if form == "table" and output is not None:
        raise UserError("--format table is for the screen; for a file take csv, json, graphml or node-link")
    if form != "table":
        _write(output, _links_text(form, chosen, asked, known))
    answers.require_links(known)
    if form == "table":
        table(*_links_table(chosen, asked))
    _say_gates(known)


def _links_table(chosen: Sequence[LinkEstimate], asked: Sequence[float]) -> tuple[list[str], list[list[object]]]:
    from app import answers

    headers = ["src", "dst", "medium", "min ms", "p50 ms", "p95 ms", "p99 ms", *(f"{answers.quantile_name(q)} ms" for q in asked)]
    headers += ["loss %", "Mbit/s", "samples", "age s", "evidence", "RTT from", "grain", "gate", "floor ms", "inflation"]
    rows: list[list[object]] = [
        [
            link.src,
            link.dst,
            link.medium,
            *(ms(value) for value in (link.rtt_min_ns, link.rtt_p50_ns, link.rtt_p95_ns, link.rtt_p99_ns)),
            *(ms(quantile_ns(link, q)) for q in asked),
            None if link.loss_ratio is None else link.loss_ratio * 100,
            None if link.throughput_bps is None else link.throughput_bps / 1e6,
            link.sample_count,
            None if link.age_s is None else round(link.age_s),
            link.evidence,
            link.rtt_from,
            link.grain,
            link.gate,
            ms(link.fibre_floor_ns),
            link.inflation,
        ]
        for link in chosen
    ]
    return headers, rows


def _links_text(form: str, chosen: Sequence[LinkEstimate], asked: Sequence[float], known: answers.Links) -> str:
    from app import answers

    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for at, document in enumerate(answers.links_json(chosen, asked)):
            flat = {f"rtt_{name}_ms": value for name, value in document.pop("rtt_ms").items()}
            row = {name: document[name] for name in ("src", "dst", "medium")} | flat | document
            if at == 0:
                writer.writerow(row)
            writer.writerow(row.values())
        return text.getvalue()
    if form in ("graphml", "node-link"):
        from routing import graph  # networkx takes a while to load

        made = graph.to_networkx(chosen, known.sites)
        return graph.to_graphml(made) + "\n" if form == "graphml" else json_text(graph.to_node_link(made))
    return json_text(answers.links_json(chosen, asked))


def _write(output: Path | None, text: str) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error


@click.command()
@evidence_options
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=Number(0, MOST_MS), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option(
    "--min-gain-ms", type=Number(0, MOST_MS), default=0.0, show_default=True, metavar="MS", help="Keep the direct link for less gain."
)
@click.option("--fail", multiple=True, metavar="SITE", help="Take this site away; may be given again.")
@click.option("--any-hop", "compare", is_flag=True, help="Also say what no, one and two relays lose against any number of them.")
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
    compare: bool,
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
    form = form_of(form, as_json)
    if form == "parquet" and output is None:
        raise UserError("--format parquet is no text; name a file with -o FILE.parquet")
    known = load_links(warehouse, window_s, max_age_s)
    from app import answers  # loaded beside the opening of the warehouse

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
    if compare:
        _say_hops(known, gone, relay_ms)


def _say_hops(known: answers.Links, gone: Sequence[str], relay_ms: float) -> None:
    from routing.alternatives import hop_loss  # SciPy takes a while to load
    from routing.matrix import link_table

    for loss in hop_loss(link_table(known.links, without=gone).direct_ms, relay_ms=relay_ms):
        if loss.within is not None:
            worst = "" if loss.worst_ms is None else f", {loss.mean_ms:.2f} ms on average, {loss.worst_ms:.2f} ms at worst"
            cut = f"; {loss.cut} pairs are cut" if loss.cut else ""
            note(f"{loss.relays} relays: within {loss.near_ms:g} ms of any number of them for {loss.within:.1%} of pairs{worst}{cut}")


def _write_text(form: str, rows: list[Any], cells: Sequence[tuple[object, ...]], output: Path | None) -> None:
    from app import answers

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
