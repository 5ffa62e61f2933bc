"""Worlds from measured matrices: every RTT is the file's, what cannot be used is told, and pings agree."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_tools import run_at, truth_of

from inventory.load import load as load_inventory
from lab import namespaces
from lab.from_matrix import Matrix, Measured, read_matrix, world_of
from lab.namespace_lab import NamespaceLab
from lab.reading import parse_text
from lab.toml_text import toml_text
from lab.truth import pair_truths
from lab.world import start
from records.errors import InputError, UserError
from records.place import Site

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SITES = [
    Site(id="x", kind="pop", name="Ex", lat=0, lon=0),
    Site(id="y", kind="pop", name='Wy "quoted" \\ ü', lat=0, lon=10),
    Site(id="z", kind="pop", name="Zed", lat=0, lon=90),
]
# A quarter of the equator is 10,007.5 km: 100.1 ms there and back at 2c/3.
ROWS = """src,dst,rtt_ms,stddev_ms,loss_ratio
x,y,20,2,0.19
y,x,24,,
x,z,130,,
x,z,120,,
x,z,150,,
z,y,90,,
y,z,60,,
z,z,1,,
x,nowhere,5,,
x,sin,200,,
"""


def test_what_becomes_of_each_row(tmp_path: Path) -> None:
    """Halves of both directions, the median of repeated rows, one end only, an impossible row, a stranger, the inventory's sites."""
    path = tmp_path / "m.csv"
    path.write_text(ROWS)
    matrix = read_matrix(path, SITES)
    assert list(matrix.sites) == ["x", "y", "z", "sin"]
    assert {pair: m.rtt_ms for pair, m in matrix.pairs.items()} == {
        ("x", "y"): 20, ("y", "x"): 24, ("x", "z"): 130, ("z", "y"): 90, ("x", "sin"): 200}  # fmt: skip
    assert matrix.repeated == 2
    assert [(r.line, r.src, r.dst) for r in matrix.refused] == [(8, "y", "z"), (9, "z", "z")]
    assert "faster than light in fibre, which needs 89.0 ms" in matrix.refused[0].why
    assert dict(matrix.unknown) == {"nowhere": 1}
    assert matrix.one_way_only == [("x", "z"), ("z", "y"), ("x", "sin")]
    assert matrix.unmeasured == [("y", "sin"), ("z", "sin")]
    assert matrix.differing == [("x", "y")]

    world = world_of(matrix, "My Grid!", title="t", jitter=True)
    assert (world.name, [site.id for site in world.sites]) == ("my-grid", ["x", "y", "z", "sin"])
    link = world.link_by_key
    assert (link["x", "y", "internet"].delay_ns, link["y", "x", "internet"].delay_ns) == (10_000_000, 12_000_000)
    assert link["x", "y", "internet"].jitter_ns == pytest.approx(2e6 / math.sqrt(2), abs=1)
    assert link["x", "y", "internet"].loss_ratio == pytest.approx(0.1)
    assert link["y", "x", "internet"].loss_ratio == 0
    assert link["x", "z", "internet"].delay_ns == link["z", "x", "internet"].delay_ns == 65_000_000
    assert ("y", "sin", "internet") not in link
    assert parse_text(toml_text(world, ["a comment", ""]), "again") == world
    kept = read_matrix(path, SITES, keep_impossible=True)
    assert kept.pairs["y", "z"].rtt_ms == 60


@given(
    rtts=st.dictionaries(
        st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] != pair[1]), st.floats(0.01, 900), min_size=1
    )
)
@settings(max_examples=40)
def test_the_truth_is_the_matrix(rtts: dict[tuple[int, int], float]) -> None:
    """For any matrix: a pair's RTT is its own value or the mean of both; who was not measured is not joined; TOML keeps it."""
    ids = sorted({f"s{n}" for pair in rtts for n in pair})
    sites = {site: Site(id=site, kind="pop", name=site, lat=0, lon=0) for site in ids}
    matrix = Matrix(sites=sites, pairs={(f"s{a}", f"s{b}"): Measured(rtt, None, None) for (a, b), rtt in rtts.items()})
    world = world_of(matrix, "m", title="m")
    found = {(p.src, p.dst): p.rtt_ns / 1e6 for p in pair_truths(world)}
    for a in range(6):
        for b in range(6):
            values = [rtts[pair] for pair in ((a, b), (b, a)) if pair in rtts]
            assert (f"s{a}", f"s{b}") in found if values else (f"s{a}", f"s{b}") not in found
            if values:
                assert found[f"s{a}", f"s{b}"] == pytest.approx(sum(values) / len(values), abs=2e-6)
    assert parse_text(toml_text(world), "again") == world


def test_choosing_sites() -> None:
    """`top` drops whoever loses least, one after the other; `only` takes those named and refuses strangers."""
    sites = {site: Site(id=site, kind="pop", name=site, lat=0, lon=0) for site in "abcde"}
    pairs = [*(a + b for a in "abc" for b in "abc" if a != b), "da", "db", "ea"]
    matrix = Matrix(sites=sites, pairs={(a, b): Measured(1, None, None) for a, b in pairs})
    assert [list(matrix.top(n).sites) for n in (5, 4, 3, 2)] == [list("abcde"), list("abcd"), list("abc"), list("ab")]
    assert set(matrix.only(["d", "a", "c"]).pairs) == {("a", "c"), ("c", "a"), ("d", "a")}
    with pytest.raises(UserError, match="no usable pair of 'q'; its sites are a, b"):
        matrix.only(["a", "q"])
    with pytest.raises(UserError, match="no pair of the matrix can be used"):
        world_of(Matrix(), "m", title="m")


def test_rows_that_do_not_hold_have_lines(tmp_path: Path) -> None:
    """A value that is no number, one out of range and an empty end are all named at once, with file and line."""
    path = tmp_path / "bad.csv"
    path.write_text("src,dst,rtt_ms\nx,y,fast\nx,,3\nx,y,-4\n")
    with pytest.raises(InputError) as caught:
        read_matrix(path, SITES)
    assert re.findall(r"bad\.csv:(\d): (\w+)", str(caught.value)) == [("2", "rtt_ms"), ("3", "dst"), ("4", "rtt_ms")]
    path.write_text("from,to,rtt_ms\n")
    with pytest.raises(InputError, match=r"bad\.csv:1: no column src, dst"):
        read_matrix(path, SITES)


def real_matrix(name: str, folder: Path) -> Path:
    """A public grid in the columns of the contract; skips where the data is not."""
    source, columns = {
        "skyplane": (DATA / "skyplane" / "latency_2022-04.csv", ("src_region", "dst_region", "min_rtt")),
        "azure": (DATA / "azure-latency-2026" / "azure_rtt_p95_2026-07-30_long.csv", ("src", "dst", "rtt_p95_ms")),
    }[name]
    if not source.exists():
        pytest.skip(f"the public grid {source.name} is not on this machine")
    path = folder / f"{name}.csv"
    with source.open() as given, path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["src", "dst", "rtt_ms"])
        for row in csv.DictReader(given):
            if name == "azure" or row["src_tier"] == row["dst_tier"] == "PREMIUM":
                ends = [row[column] if name == "skyplane" else f"azure:{row[column]}" for column in columns[:2]]
                writer.writerow([*ends, row[columns[2]]])
    return path


def floor_ms(a: str, b: str) -> float:
    """Least RTT in fibre by the angle between two unit vectors."""
    places = [load_inventory().sites[site] for site in (a, b)]
    (lat1, lon1), (lat2, lon2) = ((math.radians(place.lat), math.radians(place.lon)) for place in places)
    cosine = math.sin(lat1) * math.sin(lat2) + math.cos(lat1) * math.cos(lat2) * math.cos(lon1 - lon2)
    return 2 * 6371.0088 * math.acos(max(-1.0, min(1.0, cosine))) / (299_792.458 * 2 / 3) * 1000


@pytest.mark.parametrize("name", ["skyplane", "azure"])
def test_a_real_grid_becomes_its_own_truth(name: str, tmp_path: Path) -> None:
    """Every pair of a public grid has in the truth the RTT that the file gives, unless light could not have made it."""
    path = real_matrix(name, tmp_path)
    world = world_of(read_matrix(path), name, title=name)
    resolve = load_inventory().resolve
    given: dict[tuple[str, str], list[float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            src, dst = resolve(row["src"]), resolve(row["dst"])
            if src and dst and src != dst and float(row["rtt_ms"]) >= 0.98 * floor_ms(src, dst):
                given.setdefault((src, dst), []).append(float(row["rtt_ms"]))
    assert all(len(values) == 1 for values in given.values())
    truth = {(p.src, p.dst): p.rtt_ns / 1e6 for p in pair_truths(world)}
    for (src, dst), rtt_ms in truth.items():
        values = [value for pair in ((src, dst), (dst, src)) for value in given.get(pair, [])]
        assert rtt_ms == pytest.approx(sum(values) / len(values), abs=2e-6)
    assert set(given) <= set(truth)
    assert len(truth) > 2500


@pytest.mark.lab
@pytest.mark.waits
def test_a_real_grid_becomes_real_packets(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """By the command line: six sites of the Skyplane grid; the least of some pings is the file's RTT within 0.5 ms or 2 %."""
    path = real_matrix("skyplane", tmp_path)
    out = tmp_path / "world.toml"
    argv = [sys.executable, "-m", "app.cli", "lab", "from-matrix", str(path), "--top", "6", "-o", str(out), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    report = json.loads(done.stdout)
    assert len(report["sites"]) == 6
    assert report["unmeasured"] == []
    assert all("faster than light" in refused["why"] for refused in report["refused"])
    world = parse_text(out.read_text("utf-8"), str(out))
    lab = start(world, tmp_path / "lab", "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    try:
        sites = [site.id for site in world.sites]
        for src, dst in ((sites[0], sites[1]), (sites[2], sites[5]), (sites[4], sites[3])):
            truth = truth_of(lab, src, dst)
            for attempt in (1, 2):
                text = run_at(lab, src, "ping", "-n", "-q", "-c", "6", "-i", "0.05", "-W", "2", truth.address)
                found = re.search(r"= ([0-9.]+)/", text)
                assert found, text
                if abs(float(found[1]) - truth.rtt_ns / 1e6) <= max(0.5, 0.02 * truth.rtt_ns / 1e6):
                    break
                assert attempt == 1, (src, dst, found[1], truth.rtt_ns / 1e6)
    finally:
        lab.stop()
