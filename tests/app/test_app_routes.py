"""`isochrone links`, `matrix` and `route` over a warehouse made by `isochrone import`: output, exit status, messages."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

from app.cli import main
from inventory import load as inventory

GRID = Path(__file__).parents[2].parent / "shared" / "data" / "skyplane" / "latency_2022-04.csv"

MATRIX = """\
src,dst,rtt_ms
fra,iad,90
iad,fra,90
sin,fra,160
fra,sin,160
sin,iad,300
iad,sin,300
sin,aws:us-east-1,260
iad,aws:us-east-1,1.2
fra,aws:us-east-1,20
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments, warehouse=None):
    """The command line, entry point and exit status included, in this process: a start of Python costs a second each."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["isochrone", *map(str, arguments), *(() if warehouse is None else ("--warehouse", str(warehouse)))]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A warehouse with nine links between four sites; fra -> aws:us-east-1 is faster than light."""
    folder = tmp_path_factory.mktemp("routes")
    (folder / "rtt.csv").write_text(MATRIX)
    done = run("import", "rtt-matrix", folder / "rtt.csv", warehouse=folder / "warehouse")
    assert done.returncode == 0, done.stderr
    return folder / "warehouse"


def test_links_lists_every_link_with_its_verdict(small):
    """One JSON document of all nine, gated ones too; counts per gate on standard error."""
    done = run("links", "--json", warehouse=small)
    assert done.returncode == 0, done.stderr
    links = json.loads(done.stdout)
    assert len(links) == 9
    assert {link["gate"] for link in links} == {"ok", "faster_than_light"}
    (bad,) = [link for link in links if link["gate"] != "ok"]
    assert (bad["src"], bad["dst"], bad["rtt_ms"]["p50"], bad["samples"]) == ("fra", "aws:us-east-1", 20, None)
    assert bad["fibre_floor_ms"] == pytest.approx(65.5, abs=0.5)
    assert "8 ok, 1 faster_than_light" in done.stderr
    only = json.loads(run("links", "--json", "--gate", "ok", "--src", "SIN", warehouse=small).stdout)
    assert {link["dst"] for link in only} == {"fra", "iad", "aws:us-east-1"}


def test_matrix_speaks_csv_json_and_parquet(small, tmp_path):
    """The same rows in every format; sin -> iad goes over fra: 160 + 90 + 0.5."""
    text = run("matrix", "--format", "csv", warehouse=small).stdout
    from_csv = {(row["src"], row["dst"]): row for row in csv.DictReader(io.StringIO(text))}
    assert from_csv["sin", "iad"] == {
        "src": "sin",
        "dst": "iad",
        "direct_ms": "300.0",
        "best_ms": "250.5",
        "relays": "fra",
        "evidence": "measured",
    }
    assert from_csv["aws:us-east-1", "sin"]["best_ms"] == ""
    from_json = json.loads(run("matrix", "--json", warehouse=small).stdout)
    assert {(row["src"], row["dst"]): row["relays"] for row in from_json}["sin", "iad"] == ["fra"]
    done = run("matrix", "--format", "parquet", "-o", tmp_path / "m.parquet", warehouse=small)
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "m.parquet").to_pylist() == from_json


def test_matrix_without_a_site_and_with_a_least_gain(small):
    """--fail takes fra away as an end and as a relay; --min-gain-ms keeps the direct link."""
    failed = json.loads(run("matrix", "--json", "--fail", "fra", warehouse=small).stdout)
    assert all("fra" not in (row["src"], row["dst"], *row["relays"]) for row in failed)
    hops = run("matrix", "--json", "--any-hop", warehouse=small).stderr
    assert "2 relays: within 1 ms of any number of them for 100.0% of pairs" in hops
    kept = json.loads(run("matrix", "--json", "--min-gain-ms", "50", warehouse=small).stdout)
    assert next(row for row in kept if (row["src"], row["dst"]) == ("sin", "iad"))["relays"] == []


def test_route_says_where_and_why(small):
    """A person reads ranks, parts and reasons; a program reads the contract's JSON."""
    done = run("route", "--from", "sin", "--to", "aws:us-east-1", warehouse=small)
    assert done.returncode == 0, done.stderr
    assert "relay via fra and iad" not in done.stdout
    assert "connect " in done.stdout
    assert "sin → aws:us-east-1" in done.stdout
    two = run("route", "--from", "sin", "--to", "aws:us-east-1", "--relays", "2", "--json", warehouse=small)
    answer = json.loads(two.stdout)
    assert answer["routes"][0]["sites"] == ["sin", "fra", "iad", "aws:us-east-1"]
    assert answer["routes"][0]["rtt_ms"]["p50"] == pytest.approx(160 + 90 + 1.2 + 1.0)
    assert "relay via fra and iad saves 7.8 ms against direct" in answer["routes"][0]["reasons"]
    assert answer["snapshot"] > 0
    assert answer["infeasible"] is None


def test_no_route_is_exit_status_1_and_the_answer_still_says_why(small):
    """A budget nobody keeps: the JSON names the rule, standard error one line."""
    done = run("route", "--from", "sin", "--to", "aws:us-east-1", "--budget-ms", "5", "--json", warehouse=small)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["routes"] == []
    assert answer["infeasible"]["binding"][0]["rule"] == "budget_ms"
    assert done.stderr.startswith("isochrone: no route from sin")
    assert "What would give one" in run("route", "--from", "sin", "--budget-ms", "5", warehouse=small).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("route", "--from", "sni"), 2, "unknown site 'sni'; did you mean"),
        (("matrix", "--fail", "mars"), 2, "unknown site 'mars'"),
        (("links", "--src", "mars"), 2, "unknown site 'mars'"),
        (("route", "--from", "sin", "--workload", "dance"), 2, "no workload 'dance'"),
        (("matrix", "--relays", "3"), 2, "3 is not in the range"),
        (("matrix", "--format", "parquet"), 2, "name a file with -o"),
        (("matrix", "--format", "csv", "-o", "/no/such/folder/m.csv"), 2, "cannot write /no/such/folder/m.csv"),
        (("links", "--window", "soon"), 2, "cannot read 'soon' as a duration"),
    ],
)
def test_mistakes_get_one_clear_line(small, arguments, status, says):
    """What, value, what is allowed; never a traceback."""
    done = run(*arguments, warehouse=small)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_warehouse_says_what_to_do_next(tmp_path):
    """No warehouse is the user's mistake; one without links is the answer no; both name the next step."""
    for command in (["links"], ["matrix"], ["route", "--from", "sin"]):
        done = run(*command, warehouse=tmp_path / "none")
        assert (done.returncode, "isochrone demo" in done.stderr) == (2, True)
    from warehouse import open_warehouse

    open_warehouse(tmp_path / "empty", mode="write").close()
    for command in (["links"], ["matrix"], ["route", "--from", "sin"]):
        done = run(*command, warehouse=tmp_path / "empty")
        assert done.returncode == 1
        assert "holds no link; `isochrone demo` measures some here, `isochrone import rtt-matrix FILE.csv`" in done.stderr


def test_a_route_under_a_law_says_what_the_law_costs_or_that_it_does_not_hold(small):
    """From Frankfurt under the GDPR only the EEA serves; from Singapore the rule does not hold and a note says so."""
    done = run("route", "--from", "fra", "--residency", "gdpr", "--json", warehouse=small)
    answer = json.loads(done.stdout)
    assert answer["routes"]
    assert {inventory.load().sites[r["sites"][-1]].country for r in answer["routes"]} <= inventory.load().rules["gdpr"].process
    assert answer["rule_prices"][0]["rule"] == "residency:gdpr"
    assert "does not hold for data of people in SG" in run("route", "--from", "sin", "--residency", "gdpr", warehouse=small).stderr
    for typed, says in (("GER", "did you mean DE"), ("usa", "did you mean US"), ("ZZ", "such as SG"), ("", "such as SG")):
        for law in (["--residency", "gdpr"], []):
            refused = run("route", "--from", "fra", *law, "--subject-country", typed, warehouse=small)
            assert (refused.returncode, refused.stdout) == (2, ""), "a law is never dropped for a country that does not exist"
            assert f"--subject-country {typed!r}" in refused.stderr
            assert says in refused.stderr
    assert run("route", "--from", "sin", "--residency", "gdpr", "--subject-country", "de", warehouse=small).returncode == 0
    wrong = run("route", "--from", "fra", "--residency", "gdrp", warehouse=small)
    assert (wrong.returncode, "did you mean gdpr" in wrong.stderr) == (2, True)
    wrong = run("route", "--from", "fra", "--availability", "pop", warehouse=small)
    assert (wrong.returncode, "WHO=RATIO" in wrong.stderr) == (2, True)


def test_a_workload_from_a_file(small, tmp_path):
    """A CSV with one workload is used; one with a bad row names file and line."""
    header = "name,title,model,input_tokens,output_tokens,upload_bytes,download_bytes,ttft_budget_ms,e2e_budget_ms,note\n"
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(header + "mine,Mine,llama-3.1-8b,10,1,100,100,,,mine\n")
    bad.write_text(header + "mine,Mine,llama-3.1-8b,many,1,100,100,,,mine\n")
    answer = json.loads(run("route", "--from", "sin", "--workload", good, "--json", warehouse=small).stdout)
    assert answer["request"]["workload"]["name"] == "mine"
    done = run("route", "--from", "sin", "--workload", bad, warehouse=small)
    assert (done.returncode, f"{bad}:2" in done.stderr) == (2, True)


def test_the_public_grid_through_the_warehouse_equals_networkx(tmp_path):
    """Imported, gated and counted; every pair's best over one relay is networkx's on the links that are ok, to the ns."""
    if not GRID.exists():
        pytest.skip(f"no {GRID}: the public grid is not here")
    maps = ("src=src_region", "dst=dst_region", "rtt_ms=avg_rtt", "min_ms=min_rtt", "stddev_ms=mdev_rtt")
    options = [option for pair in maps for option in ("--map", pair)] + ["--where", "src_tier=PREMIUM", "--where", "dst_tier=PREMIUM"]
    done = run("import", "rtt-matrix", GRID, *options, warehouse=tmp_path / "w")
    assert done.returncode == 0, done.stderr
    links = json.loads(run("links", "--json", warehouse=tmp_path / "w").stdout)
    assert len(links) == 4692
    impossible = [link for link in links if link["gate"] == "faster_than_light"]
    assert len(impossible) == pytest.approx(105, rel=0.03)
    graph = nx.DiGraph()
    for link in links:
        if link["gate"] == "ok":
            graph.add_edge(link["src"], link["dst"], weight=round(link["rtt_ms"]["p50"] * 1e6))
    table = json.loads(run("matrix", "--relays", "1", "--relay-ms", "0.5", "--format", "json", warehouse=tmp_path / "w").stdout)
    assert len(table) == len(graph) * (len(graph) - 1) == 4692
    for row in table:
        src, dst = row["src"], row["dst"]
        ways = [graph.edges[src, dst]["weight"]] if graph.has_edge(src, dst) else []
        ways += [
            graph.edges[src, via]["weight"] + graph.edges[via, dst]["weight"] + 500_000
            for via in set(graph.successors(src)) & set(graph.predecessors(dst))
        ]
        assert round(row["best_ms"] * 1e6) == min(ways)
        assert (row["direct_ms"] is not None) == graph.has_edge(src, dst)


def test_links_go_to_networkx_and_to_csv(small, tmp_path):
    """GraphML and node-link JSON hold the same graph, gated links and sites included; CSV has a column for every field."""
    for form in ("graphml", "node-link", "csv"):
        done = run("links", "--format", form, "-o", tmp_path / form, warehouse=small)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    from_xml = nx.read_graphml(tmp_path / "graphml", force_multigraph=True)
    from_json = nx.node_link_graph(json.loads((tmp_path / "node-link").read_text()), edges="edges")
    assert from_xml.number_of_edges() == from_json.number_of_edges() == 9
    for src, dst, medium, attributes in from_json.edges(keys=True, data=True):
        read = dict(from_xml.get_edge_data(src, dst).values().__iter__().__next__())
        read.pop("id", None)
        assert read == {name: value for name, value in attributes.items() if value is not None}
        assert medium == attributes["medium"] == "internet"
    assert from_xml.nodes["sin"]["country"] == "SG"
    rows = list(csv.DictReader((tmp_path / "csv").open()))
    assert (rows[0]["rtt_p50_ms"], rows[0]["loss_ratio"], rows[0]["gate"]) == ("20.0", "", "faster_than_light")


def test_links_by_window_and_quantile_and_with_models(small):
    """A matrix has no samples, so a quantile of its own is unknown; models fill the pairs nobody measured, and say so."""
    plain = json.loads(run("links", "--json", "--quantile", "0.9", warehouse=small).stdout)
    assert plain[0]["rtt_ms"]["p90"] is None
    both = json.loads(run("links", "--json", "--modelled", warehouse=small).stdout)
    assert len(both) == 4 * 3 + 1  # every ordered pair, and the gated link beside its model
    made = {(link["src"], link["dst"]): link["evidence"] for link in both if link["evidence"] != "measured"}
    assert made == {
        ("aws:us-east-1", "fra"): "modelled",
        ("fra", "aws:us-east-1"): "modelled",
        ("aws:us-east-1", "iad"): "assumed",
        ("aws:us-east-1", "sin"): "assumed",
    }
    assert "table is for the screen" in run("links", "-o", "x.txt", warehouse=small).stderr


def test_alternatives_name_routes_a_backup_and_the_front(small, tmp_path):
    """sin -> iad: over fra 250.5, direct 300; the backup of the relayed one is the direct link."""
    answer = json.loads(run("alternatives", "--from", "sin", "--to", "iad", "--json", warehouse=small).stdout)
    assert [(route["sites"], route["rtt_ms"]) for route in answer["routes"]] == [(["sin", "fra", "iad"], 250.5), (["sin", "iad"], 300.0)]
    assert answer["backup"]["sites"] == ["sin", "iad"]
    assert answer["pair"]["rtt_ms"] == 550.5
    assert [point["sites"] for point in answer["pareto"]] == [["sin", "fra", "iad"]]
    text = run("alternatives", "--from", "sin", "--to", "iad", warehouse=small).stdout
    assert "backup" in text
    (tmp_path / "groups.csv").write_text("site,group\nfra,cable\nmars,cable\n")
    for arguments, status, says in (
        (["--to", "sin"], 2, "both sin"),
        (["--to", "mars"], 2, "unknown site 'mars'"),
        (["--to", "iad", "--groups", tmp_path / "groups.csv"], 2, "unknown site 'mars'"),
        (["--to", "lhr"], 1, "lhr has no link|unknown site"),
    ):
        done = run("alternatives", "--from", "sin", *arguments, warehouse=small)
        assert done.returncode == status, done.stderr
        assert any(part in done.stderr for part in says.split("|"))


def test_failures_rank_what_each_loss_does_to_the_others(small, tmp_path):
    """Without fra, sin -> iad takes the direct 300 for 250.5; alone or in two processes the same; groups by file."""
    alone = json.loads(run("failures", "--json", warehouse=small).stdout)
    assert len(alone) == 4
    by_name = {row["name"]: row for row in alone}
    assert (by_name["fra"]["slower_pairs"], by_name["fra"]["worst_ms"], by_name["fra"]["lost_pairs"]) == (2, 49.5, 0)
    # fra -> aws:us-east-1 is left with sin: 160 + 260 + 0.5 for 90 + 1.2 + 0.5.
    assert (by_name["iad"]["slower_pairs"], by_name["iad"]["worst_ms"]) == (1, pytest.approx(328.8))
    assert alone[0]["name"] == "iad"
    both = [json.loads(run("failures", "--json", "--pairs", *more, warehouse=small).stdout) for more in ((), ("--workers", "2"))]
    assert both[0] == both[1]
    assert len(both[0]) == 6
    (tmp_path / "g.csv").write_text("site,group\nfra,cable\niad,cable\n")
    (group,) = [
        row
        for row in json.loads(run("failures", "--groups-file", tmp_path / "g.csv", "--json", warehouse=small).stdout)
        if row["name"] == "cable"
    ]
    assert (group["sites"], group["lost_pairs"]) == (["fra", "iad"], 0)
