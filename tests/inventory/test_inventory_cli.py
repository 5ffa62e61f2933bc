"""`isochrone inventory` as a person calls it: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inventory.load import load

ROOT = Path(__file__).parents[2]


def isochrone(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "inventory", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "kind",
    [
        "pops",
        "regions",
        "metros",
        "endpoints",
        "prices",
        "compute-prices",
        "currencies",
        "accelerators",
        "models",
        "profiles",
        "workloads",
        "applications",
        "pools",
        "jurisdictions",
        "rules",
    ],
)
def test_every_kind_is_listed(kind: str) -> None:
    """Each kind is one JSON list; the table has as many lines, and a header."""
    result = isochrone("list", kind, "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) >= 6
    if kind == "regions":
        assert len(rows) == len(load().regions)
        assert {"provider": "oracle", "id": "oracle:sa-saopaulo-1", "country": "BR"}.items() <= next(
            row for row in rows if row["id"] == "oracle:sa-saopaulo-1"
        ).items()
        assert len(isochrone("list", kind).stdout.splitlines()) == len(rows) + 1


def test_not_known_is_null_and_not_zero() -> None:
    """An unknown price is null in the JSON; a price known to be nothing is 0."""
    prices = json.loads(isochrone("list", "prices", "--json").stdout)
    tencent = [price["usd_per_gb"] for price in prices if price["provider"] == "tencent"]
    assert tencent
    assert set(tencent) == {None}
    assert [p["usd_per_gb"] for p in prices if p["provider"] == "oracle" and p["scope"] == "direct-connect"] == [0]


def test_the_built_in_tables_hold() -> None:
    """`inventory check` without files checks ours: all rows hold."""
    result = isochrone("check", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert {file["kind"] for file in document["files"]} >= {"regions", "pops", "egress_prices", "pools"}
    assert all(file["rows"] > 0 and file["faults"] == [] for file in document["files"])


def test_a_users_pool_may_stand_at_a_users_site(tmp_path: Path) -> None:
    """Files of one call refer to each other, in any order; alone, the pool's site is unknown."""
    sites, pools = tmp_path / "mine.csv", tmp_path / "pools.csv"
    sites.write_text("id,name,lat,lon\nlab,Lab,1,2\n", encoding="utf-8")
    pools.write_text("id,site,accelerator,device_count,model,source,as_of\np,lab,l4,1,llama-3.1-8b,me,2026\n", encoding="utf-8")
    assert isochrone("check", str(pools), str(sites)).returncode == 0
    alone = isochrone("check", str(pools))
    assert alone.returncode == 1
    assert f"{pools}:2: site 'lab' is not in the inventory" in alone.stderr


def test_bad_rows_end_with_one(tmp_path: Path) -> None:
    """Every bad row is named as file:line on standard error, the JSON says the same, and the status is 1."""
    path = tmp_path / "sites.csv"
    path.write_text("id,name,lat,lon\nok,Ok,1,2\nbad,Bad,100,2\nworse,Worse,x,2\n", encoding="utf-8")
    result = isochrone("check", str(path), "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "files": [
            {
                "file": str(path),
                "kind": "sites",
                "rows": 1,
                "faults": [
                    {"line": 3, "problem": "lat 100 is out of range; from -90 to 90"},
                    {"line": 4, "problem": "lat 'x' is not a number"},
                ],
            }
        ],
    }
    text = isochrone("check", str(path))
    assert f"{path}:3: lat 100" in text.stderr
    assert f"{path}:4: lat 'x'" in text.stderr
    assert "Traceback" not in text.stderr


def test_a_mistake_ends_with_two(tmp_path: Path) -> None:
    """A file that is not there, a header nobody knows and a kind nobody has are the user's mistakes: status 2."""
    strange = tmp_path / "strange.csv"
    strange.write_text("a,b\n1,2\n", encoding="utf-8")
    for arguments, says in (
        (("check", str(tmp_path / "none.csv")), "no such file"),
        (("check", str(strange)), "is that of no table; known are"),
        (("check", str(tmp_path)), "cannot be read"),
        (("list", "ponies"), "'ponies' is not one of"),
    ):
        result = isochrone(*arguments)
        assert result.returncode == 2
        assert says in result.stderr
        assert "Traceback" not in result.stderr
