"""`isochrone whatif`: the contract's JSON, the shipped cases as the page has them, rankings, grids, and mistakes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli import main
from app.whatif import case_names, read_document
from inventory.load import load

PAGE = Path(__file__).parents[2] / "docs" / "cases.md"
BLOCKS = dict(re.findall(r"<!-- isochrone whatif ([\w-]+) -->\n```text\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments):
    """`isochrone whatif` in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["isochrone", "whatif", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def written(folder, **document):
    path = folder / "scenario.json"
    path.write_text(json.dumps({"name": "t", **document}))
    return path


def test_every_shipped_case_is_on_the_page():
    """And nothing else is; each has the name of its file and a title."""
    assert set(BLOCKS) == set(case_names())
    for name in case_names():
        assert read_document(name)["name"] == name
        assert read_document(name)["title"]


LONG = {"burst", "hybrid-model-push"}  # a dozen programmes each


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in sorted(BLOCKS)])
def test_the_pages_numbers_are_the_programs(name):
    """Word for word, and number for number to what another processor may round otherwise, over models alone.

    scripts/render-cases writes the page anew after a change of the inventory.
    """
    said, written_down = run(name, "--modelled").stdout.split(), BLOCKS[name].split()
    assert len(said) == len(written_down)
    for now, then in zip(said, written_down, strict=True):
        try:
            assert float(now) == pytest.approx(float(then), rel=2e-3, abs=2e-3)
        except ValueError:
            assert now == then


def test_the_json_is_the_contract(tmp_path):
    """baseline, proposed, deltas, per_metro, new_single_points, scenario_hash; the same question has the same bytes."""
    path = written(tmp_path, edits=[{"op": "fail_site", "site": "azure:westeurope"}])
    first, again = run(path, "--modelled", "--json"), run(path, "--modelled", "--json")
    assert (first.returncode, first.stdout) == (0, again.stdout)
    found = json.loads(first.stdout)
    assert {"baseline", "proposed", "deltas", "per_metro", "new_single_points", "scenario_hash"} <= set(found)
    wanted = {"ttft_p95_ms", "e2e_p95_ms", "usd_per_month", "moved_share", "slo_miss_share", "lost_share"}
    assert wanted <= set(found["deltas"])
    assert found["deltas"]["moved_share"] > 0
    assert found["proposed"]["evidence"] == "modelled"
    assert all("azure" not in served["pool"] for row in found["per_metro"] for served in row["served"]["after"])


def test_no_edit_is_the_baseline(tmp_path):
    """Every delta is 0 and nobody regrets anything; a failure and its repair are the same."""
    for edits in ([], [{"op": "fail_site", "site": "fra"}, {"op": "restore_site", "site": "fra"}]):
        found = json.loads(run(written(tmp_path, edits=edits), "--modelled", "--json").stdout)
        assert set(found["deltas"].values()) <= {0, None}
        assert found["baseline"] == found["proposed"]
        assert all(row["regret_ms"] == 0 for row in found["per_metro"])


def test_a_ranking_names_every_site_and_provider():
    """The worst first; a provider hurts at least as much as the pool it has."""
    found = json.loads(run("--all-single-failures", "--modelled", "--json", "--rps", 200).stdout)
    names = [row["name"] for row in found]
    assert {"fra", "aws:us-east-1", "aws", "azure"} <= set(names)
    assert len(names) == len(set(names))
    assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
    assert names.index("azure") <= names.index("azure:westeurope")


def test_a_grid_and_a_draw_vary_one_field(tmp_path):
    """More demand moves the same share or more; draws repeat by their seed."""
    path = written(tmp_path, edits=[{"op": "set_demand", "factor": 1.0}])
    found = json.loads(run(path, "--modelled", "--json", "--grid", "1.factor=1,2.5").stdout)["variants"]
    assert [row["values"] for row in found] == [{"1.factor": value} for value in (1, 2.5)]
    assert found[0]["deltas"]["lost_share"] == 0 < found[1]["deltas"]["lost_share"]
    drawn = [run(path, "--modelled", "--json", "--draw", "1.factor=0.5..1.5", "--count", 1).stdout for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(0.5 <= row["values"]["1.factor"] <= 1.5 for row in json.loads(drawn[0])["variants"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a scenario file or a shipped scenario"),
        (["atlantis"], "shipped are"),
        (["pop-cut-off", "--rps", "-3"], "is not in the range"),
        (["pop-cut-off", "--max-utilisation", "1.2"], "--max-utilisation"),
        (["pop-cut-off", "--grid", "7.site=a"], "has 1 edits"),
        (["pop-cut-off", "--grid", "1.colour=red"], "has site"),
        (["pop-cut-off", "--grid", "nonsense"], "EDIT.FIELD"),
        (["cameras", "--groups"], "worked case"),
        (["pop-cut-off", "--warehouse", "/nonexistent-warehouse"], "no warehouse"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, says):
    """Exit status 2, no traceback."""
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ([{"op": "fail_site", "site": "sni"}], "unknown site 'sni'"),
        ([{"op": "remove_site", "site": "fra"}, {"op": "resize", "site": "fra", "devices": 1}], "unknown site 'fra'"),
        ([{"op": "add_site", "site": "fra", "lat": 1, "lon": 1}], "is there already"),
        ([{"op": "restore_site", "site": "fra"}], "has not failed"),
        ([{"op": "set_residency", "rules": ["gdrp"]}], "no rule 'gdrp'"),
        ([{"op": "resize", "site": "fra", "devices": -2}], "whole number from 0 up"),
    ],
)
def test_contradictions_are_refused_with_the_next_step(tmp_path, edits, says):
    """Each names the edit's trouble."""
    done = run(written(tmp_path, edits=edits), "--modelled")
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ([{"op": "fail_site", "site": site} for site in sorted({pool.site for pool in load().pools})], "is gone"),
        ([{"op": "fail_site", "site": pop.id} for pop in load().pops], "no PoP is left"),
    ],
)
def test_failing_everything_is_no_answer_but_what_to_change(tmp_path, edits, says):
    """Nobody is served: status 1, why, and which edit would help; as one row of a grid it is a row."""
    done = run(written(tmp_path, edits=edits), "--modelled")
    assert done.returncode == 1
    assert says in done.stderr
    assert "take an edit out" in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_no_json_is_named_with_its_line(tmp_path):
    """file:line, as for every file."""
    path = tmp_path / "x.json"
    path.write_text('{"name": "x",\n "edits": [}')
    done = run(path, "--modelled")
    assert (done.returncode, f"{path}:2" in done.stderr) == (2, True)
