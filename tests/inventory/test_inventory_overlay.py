"""A user's own tables over the built-in ones: what they replace, what they stand beside, and what their faults are."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inventory.load import BUILT_IN, load, read
from records.errors import InputError

ROOT = Path(__file__).parents[2]
POPS = """id,name,metro,country,lat,lon,node_classes,source,as_of
fra,My Frankfurt,Frankfurt,DE,50.1,8.7,vm,mine,2026
lab-1,Lab,Ashburn,US,39.0,-77.5,bare-metal edge-gpu,mine,2026
"""


def write(folder: Path, **tables: str) -> Path:
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def test_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    """Without a table of one's own the built-in inventory stands."""
    assert read(BUILT_IN, own=tmp_path) == load()


def test_a_users_fleet_stands_in_place_of_the_reference_fleet(tmp_path: Path) -> None:
    """Only the user's PoPs are left; pools and links at PoPs that are gone go with them; regions, metros and prices stay."""
    built_in = load()
    own = read(BUILT_IN, own=write(tmp_path, pops=POPS))
    assert [(pop.id, pop.name) for pop in own.pops] == [("fra", "My Frankfurt"), ("lab-1", "Lab")]
    assert own.node_classes["lab-1"] == ("bare-metal", "edge-gpu")
    assert own.attachment == {}
    assert (own.regions, own.metros, own.egress, own.endpoints) == (built_in.regions, built_in.metros, built_in.egress, built_in.endpoints)
    assert {pool.site for pool in own.pools} <= {"fra", *(site.id for site in own.regions)}
    assert any(pool.site == "fra" for pool in own.pools)
    assert {end for link in own.links for end in (link.src, link.dst) if ":" not in end} <= {"any", "fra"}
    assert list(own.media_between("fra", "aws:eu-central-1")) == ["internet", "direct-connect"]


def test_rows_about_the_world_stand_beside_the_built_in_ones(tmp_path: Path) -> None:
    """A region of one's own is added; a price of one's own replaces every tier of that region and scope, and nothing else."""
    regions = "id,name,metro,country,lat,lon,source,as_of\naws:xx-new-1,New,Porto,PT,41.15,-8.61,mine,2026\n"
    prices = "provider,region,scope,from_gb_per_month,usd_per_gb,source,as_of\naws,,internet,0,0.01,contract,2026\n"
    built_in = load()
    own = read(BUILT_IN, own=write(tmp_path, regions=regions, egress_prices=prices))
    assert [region.id for region in own.regions][-1] == "aws:xx-new-1"
    assert own.regions[:-1] == built_in.regions
    assert own.jurisdiction_of("aws:xx-new-1") == "EU"
    assert own.egress_usd_per_gb("aws:us-east-1", "internet", 1e6) == 0.01  # the built-in tiers are gone
    assert own.egress_usd_per_gb("gcp:us-east4") == built_in.egress_usd_per_gb("gcp:us-east4")


def test_a_users_rows_must_hold_and_name_what_is_there(tmp_path: Path) -> None:
    """A reference of the user's to a PoP of the reference fleet that is gone is a fault of theirs, with file and line."""
    links = "src,dst,medium,capacity_gbps,port_usd_per_month,usd_per_gb,commitment_months,currency,source,as_of\n"
    folder = write(tmp_path, pops=POPS + "bad,Bad,X,DE,99,0,vm,mine,2026\n", links=links + "fra,iad,backbone,10,,,,,mine,2026\n")
    with pytest.raises(InputError) as caught:
        read(BUILT_IN, own=folder)
    assert str(caught.value).splitlines() == [
        f"{folder}/pops.csv:4: lat 99 is out of range; from -90 to 90",
        f"{folder}/links.csv:2: dst 'iad' is not in the inventory; `isochrone inventory list pops` names the PoPs",
    ]


@pytest.mark.parametrize(("name", "says"), [("pop.csv", "did you mean pops.csv"), ("zzz.csv", "known are regions.csv, pops.csv")])
def test_a_file_of_no_table_is_not_left_unread(tmp_path: Path, name: str, says: str) -> None:
    """A misspelt file name must not make a fleet vanish."""
    (tmp_path / name).write_text(POPS, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read(BUILT_IN, own=tmp_path)


def test_a_folder_that_is_not_there_is_a_clear_mistake(tmp_path: Path) -> None:
    """A wrong path is named, and not taken for an empty folder."""
    with pytest.raises(InputError, match="no such folder; ISOCHRONE_INVENTORY or --inventory"):
        read(BUILT_IN, own=tmp_path / "none")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_command_line_takes_a_folder(tmp_path: Path, by: str) -> None:
    """`--inventory` before a command and ISOCHRONE_INVENTORY do the same; a fault ends with status 2 and its line."""
    write(tmp_path, pops=POPS)

    def run() -> subprocess.CompletedProcess[str]:
        options = ["--inventory", str(tmp_path)] if by == "option" else []
        environment = {**os.environ, **({"ISOCHRONE_INVENTORY": str(tmp_path)} if by == "environment" else {})}
        command = [sys.executable, "-m", "app.cli", *options, "inventory", "list", "pops", "--json"]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)

    result = run()
    assert result.returncode == 0, result.stderr
    assert [row["id"] for row in json.loads(result.stdout)] == ["fra", "lab-1"]
    write(tmp_path, pops=POPS.replace("50.1", "north"))
    result = run()
    assert result.returncode == 2
    assert f"{tmp_path}/pops.csv:2: lat 'north' is not a number" in result.stderr
    assert "Traceback" not in result.stderr


def test_links_are_built_for_a_fleet_of_ones_own(tmp_path: Path) -> None:
    """`scripts/build_links.py` joins a user's PoP to the clouds whose on-ramps are in its metro, and the result loads."""
    write(tmp_path, pops=POPS)
    command = [sys.executable, "scripts/build_links.py", "--inventory", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["src"] for row in rows} == {"any", "fra", "lab-1"}
    write(tmp_path, links=result.stdout)
    own = read(BUILT_IN, own=tmp_path)
    assert "direct-connect" in own.media_between("lab-1", "aws:us-east-1")
    assert "direct-connect" not in own.media_between("lab-1", "aws:eu-central-1")


def test_a_list_of_sites_adds_places(tmp_path: Path) -> None:
    """sites.csv brings places with no more than a position; a region among them may have a host of its own."""
    endpoints = "region,host,port,protocol,terminates,basis,source,as_of,note\noracle:xx-1,a.example,443,tcp,region,memory,mine,2026,\n"
    sites = "id,name,lat,lon,country\nlab-2,Lab two,1,103,SG\noracle:xx-1,Cell,2,103,\n"
    own = read(BUILT_IN, own=write(tmp_path, sites=sites, endpoints=endpoints))
    assert own.site("Lab two").id == "lab-2"
    assert [endpoint.host for endpoint in own.endpoints_of("oracle:xx-1")] == ["a.example"]
    assert (own.jurisdiction_of("lab-2"), own.jurisdiction_of("oracle:xx-1")) == ("SG", None)
    assert len(own.pops) == len(load().pops) + 1


def test_check_takes_the_folder_and_names_all_its_faults(tmp_path: Path) -> None:
    """With --inventory, check goes over the folder's tables as they stand over the built-in ones: status 1, each fault with its line."""
    pools = "id,site,accelerator,device_count,model,source,as_of\na,lab-1,l4,1,llama-3.1-8b,me,2026\nb,iad,l4,1,llama-3.1-8b,me,2026\n"
    write(tmp_path, pops=POPS + "x y,Bad,X,DE,9,0,vm,mine,2026\n", pools=pools)
    command = [sys.executable, "-m", "app.cli", "--inventory", str(tmp_path), "inventory", "check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert f"{tmp_path}/pops.csv:4: site id 'x y' is not a slug" in result.stderr
    assert f"{tmp_path}/pools.csv:3: site 'iad' is not in the inventory" in result.stderr
    assert "pools.csv:2" not in result.stderr
