"""`isochrone place`: output, candidates from a file, measured distances, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_app_routes import run

from app.commands.place import _show
from app.placing import place_answer, placement_json
from inventory.load import load


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A warehouse in which Lagos reaches fra in 90 ms and los in 3 ms."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "rtt.csv").write_text("src,dst,rtt_ms\nmetro:lagos,fra,90\nmetro:lagos,los,3\n")
    assert run("import", "rtt-matrix", folder / "rtt.csv", warehouse=folder / "w").returncode == 0
    return folder / "w"


def test_the_contract_of_the_json(measured, tmp_path):
    """Sites, value, bound, gap and every candidate's marginal gain, with what they are of."""
    inventory = load()
    candidates = {site.id for site in (*inventory.pops[:40], *inventory.regions[:10])}  # a proof over all of them takes its time
    (tmp_path / "c.csv").write_text("\n".join(["id", *sorted(candidates)]) + "\n")
    done = run("place", "-k", "4", "--prove", "--keep", "los", "--candidates", tmp_path / "c.csv", "--json", warehouse=measured)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["sites"][0] == "los"
    assert len(set(answer["sites"])) == 4
    assert answer["bound"] == answer["value"]
    assert answer["gap"] == 0
    assert {row["site"] for row in answer["marginal"]} == candidates
    assert {row["site"] for row in answer["marginal"] if row["chosen"]} == set(answer["sites"])
    assert len(answer["metros"]) == len(inventory.metros)
    people = sum(row["people"] for row in answer["metros"])
    assert answer["value"] == pytest.approx(sum(row["people"] * row["rtt_ms"] for row in answer["metros"]) / people)
    lagos = next(row for row in answer["metros"] if row["metro"] == "metro:lagos")
    assert (lagos["site"], lagos["rtt_ms"], lagos["evidence"]) == ("los", 3.0, "measured")
    assert answer["measured_share"] == pytest.approx(lagos["people"] / people)
    text = run("place", "-k", "4", "--objective", "within-budget", warehouse=measured).stdout
    assert "not proven" in text
    assert "Worth most as one more site (share of people)" in text


def test_candidates_from_a_file_with_prices_and_capacities(measured, tmp_path):
    """Known ids and a new place; spending is kept; too little capacity is the answer no."""
    (tmp_path / "c.csv").write_text("id,name,lat,lon,price_usd\nfra,,,,10\nsin,,,,10\nnowhere,Nowhere,0,0,1\n")
    answer = json.loads(
        run("place", "-k", "2", "--candidates", tmp_path / "c.csv", "--spend-usd", "11", "--json", warehouse=measured).stdout
    )
    assert len(answer["sites"]) == 2
    assert "nowhere" in answer["sites"]
    (tmp_path / "c.csv").write_text("id,capacity\nfra,10\nsin,10\n")
    done = run("place", "-k", "2", "--candidates", tmp_path / "c.csv", warehouse=measured)
    assert (done.returncode, "largest candidates serve 20 people" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        ("id\nfra\n", ["-k", "2"], "2 sites asked for among 1 candidates"),
        ("id\nfra\natlantis\n", ["-k", "1"], "unknown site 'atlantis'"),
        ("id,lat\nfra,5\n", ["-k", "1"], "no column lon|only one of lat and lon"),
        ("id,capacity\nfra,5\nsin,\n", ["-k", "1"], "1 of 2 candidates have a capacity and sin has none"),
        ("id\nfra\n", ["-k", "1", "--spend-usd", "5"], "has no price_usd"),
        ("id\nfra\n", ["-k", "1", "--keep", "mars"], "unknown site 'mars'"),
        ("id\n", ["-k", "1"], "holds no candidate"),
        ("id\nfra\n", ["-k", "0"], "0 is not in the range"),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path, monkeypatch, rows, arguments, says):
    """Exit status 2, the value and what is allowed; in a folder without a warehouse everything is modelled."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text(rows)
    done = run("place", *arguments, "--candidates", tmp_path / "c.csv")
    assert done.returncode == 2
    assert any(part in done.stderr for part in says.split("|"))


def test_a_bound_that_says_nothing_is_none(capsys):
    """Out of time the solver knows no more than that no RTT is below 0: that is no proof, in words and in JSON."""
    placed = place_answer(
        3, objective="p50", candidates=None, keep=(), budget_ms=30.0, spend_usd=None, proven=False, time_limit_s=1, known=None
    )
    late = replace(placed, placement=replace(placed.placement, bound=0.0))
    document = placement_json(late)
    assert (document["bound"], document["gap"]) == (None, None)
    _show(late, 1, is_asked=True)
    assert "(no bound was found in 1 s; give --prove more with --time-limit)" in capsys.readouterr().out
    best = replace(placed, placement=replace(placed.placement, bound=placed.placement.value))
    assert placement_json(best)["bound"] == placed.placement.value
