"""Malformed tables: each fault is named as file:line, all of them at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import sites_csv
from inventory.check import HEADERS, recognise
from inventory.load import BUILT_IN, load, read, workloads
from records.errors import InputError
from records.place import Site

#: How many lines of a long table are enough for its faults.
ENOUGH = {"metros.csv": 30, "endpoints.csv": 3, "onramps.csv": 3, "links.csv": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in tables, the long ones cut short."""
    for table in BUILT_IN.glob("*.csv"):
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / table.name).write_text("".join(lines[: ENOUGH.get(table.name)]), encoding="utf-8")
    return tmp_path


def test_a_copy_reads_the_same(tmp_path: Path) -> None:
    """The tables hold wherever they lie."""
    for table in BUILT_IN.glob("*.csv"):
        shutil.copy(table, tmp_path)
    assert read(tmp_path) == load()


#: (file, what a line begins with, what replaces what, what the message says)
MALFORMED = [
    ("regions.csv", "aws:us-east-1,", ("39.04", "91"), r"lat 91 is out of range; from -90 to 90"),
    ("regions.csv", "aws:us-east-1,", ("-77.49", "200"), r"lon 200 is out of range"),
    ("regions.csv", "aws:us-east-1,", ("39.04", "north"), r"lat 'north' is not a number"),
    ("regions.csv", "aws:us-east-1,", ("39.04", "nan"), r"lat nan is out of range"),
    ("regions.csv", "aws:us-east-1,", ("39.04", ""), r"lat is empty"),
    ("regions.csv", "aws:us-east-1,", (",US,", ",USA,"), r"country 'USA' is not an ISO 3166-1 alpha-2 code"),
    ("regions.csv", "aws:eu-west-2,", (",GB,", ",UK,"), r"country 'UK' .*did you mean GB"),
    ("regions.csv", "aws:eu-west-2,", (",GB,", ",,"), r"country is empty"),
    ("regions.csv", "aws:us-east-1,", ("aws:us-east-1", "ibm:us-east"), r"id 'ibm:us-east' names no provider; write one of aws, azure"),
    ("regions.csv", "aws:us-east-1,", ("aws:us-east-1", "aws:US-East-1"), r"site id 'aws:US-East-1' is not a slug"),
    ("regions.csv", "aws:us-east-2,", ("aws:us-east-2", "aws:us-east-1"), r"the same aws:us-east-1 as in line 2"),
    ("regions.csv", "aws:us-east-1,", (",2025-10", ",last year"), r"as_of 'last year' is not a date; write YYYY, YYYY-MM or YYYY-MM-DD"),
    ("regions.csv", "aws:us-east-1,", (",2025-10", ",2025-13"), r"as_of '2025-13' is not a date"),
    ("regions.csv", "aws:us-east-1,", (",2025-10", ""), r"7 fields, the header names 8"),
    ("regions.csv", "id,", ("lat,", "latitude,"), r"no column lat; the header is id,name"),
    ("regions.csv", "id,", ("name,", "id,"), r"column id twice"),
    ("pops.csv", "sin,", ("edge-gpu", "gpu"), r"node class 'gpu' is not one of bare-metal, vm, edge-gpu"),
    ("pops.csv", "sin,", ("sin,", "pop:sin,"), r"id 'pop:sin': a PoP's id has no colon"),
    ("metros.csv", "metro:lagos,", ("14400000", "14.4e6.0"), r"population '14.4e6.0' is not a number"),
    ("metros.csv", "metro:lagos,", ("14400000", "0"), r"population 0 is out of range; at least 1"),
    ("metros.csv", "metro:lagos,", ("metro:lagos", "lagos"), r"id 'lagos': a metro's id begins with metro:"),
    ("aliases.csv", "tencent:", ("tencent:sa-saopaulo", "tencent:nowhere"), r"points to 'tencent:nowhere', which is no site"),
    ("aliases.csv", "tencent:", ("tencent:sl-saopaulo", "sin"), r"alias 'sin' is a site of its own"),
    ("endpoints.csv", "aws:us-east-1,", ("aws:us-east-1,", "aws:us-east-7,"), r"region 'aws:us-east-7' is not in the inventory"),
    (
        "endpoints.csv",
        "aws:us-east-1,",
        ("dynamodb.", "https://dynamodb."),
        r"host 'https://dynamodb.us-east-1.amazonaws.com' is not a DNS name",
    ),
    ("endpoints.csv", "aws:us-east-1,", (",443,", ",70000,"), r"port 70000 is out of range; from 1 to 65535"),
    ("endpoints.csv", "aws:us-east-1,", (",https,", ",icmp,"), r"protocol 'icmp' is not one of https, tcp"),
    ("endpoints.csv", "aws:us-east-1,", (",region,", ",near,"), r"terminates 'near' is not one of region, edge, unknown"),
    (
        "onramps.csv",
        "aws,",
        ("any -aws:cn-north-1", "azure:eastus"),
        r"regions: 'azure:eastus' is no region of aws",
    ),
    ("onramps.csv", "aws,", (",US,", ",,"), r"country is empty"),
    ("links.csv", "any,", ("any,any", "any,fra"), r"any to fra: `any` stands on both sides or on none"),
    ("links.csv", "any,", ("internet", "backbone"), r"only the internet joins any two sites; backbone names both ends"),
    ("links.csv", "any,", ("any,any", "fra,fra"), r"src and dst are both fra"),
    ("links.csv", "any,", ("any,any", "fra,nowhere"), r"dst 'nowhere' is not in the inventory"),
    (
        "links.csv",
        "any,",
        ("any,any,internet", "fra,aws:us-east-1,backbone"),
        r"backbone joins two PoPs; fra and aws:us-east-1 are a pop and a region",
    ),
    ("links.csv", "any,", ("any,any,internet", "fra,iad,direct-connect"), r"direct-connect joins a PoP and a cloud region"),
    ("links.csv", "any,", ("internet,,,", "internet,,,5"), r"currency is empty though there is a price"),
    ("accelerators.csv", "l4,", ("gpu", "toaster"), r"kind 'toaster' is not one of gpu, asic, cpu"),
    ("accelerators.csv", "l4,", ("0.8048", "-1"), r"usd_per_hour -1 is out of range"),
    ("profiles.csv", "l4,", ("l4,", "l5,"), r"accelerator 'l5' is not in the table of accelerators"),
    ("profiles.csv", "l4,", ("roofline,", "guess,"), r"provenance 'guess' is not one of measured, published, roofline"),
    ("profiles.csv", "l4,", (",32,", ",32.5,"), r"max_batch 32.5 is not a whole number"),
    ("pools.csv", "fra-l40s,", (",fra,", ",fr,"), r"site 'fr' is not in the inventory"),
    ("pools.csv", "fra-l40s,", (",4,", ",0,"), r"device_count 0 is out of range; at least 1"),
    ("pools.csv", "fra-l40s,", ("llama-3.1-8b", "llama-9"), r"no profile for l40s / llama-9"),
    ("pools.csv", "sin-l40s,", ("sin-l40s", "fra-l40s"), r"the same fra-l40s as in line 2"),
    ("workloads.csv", "chat,", (",256,", ",0,"), r"output_tokens 0 is out of range"),
    ("workloads.csv", "chat,", (",13250,", ",100,"), r"ttft_budget_ms 500 is more than e2e_budget_ms 100"),
    (
        "egress_prices.csv",
        "aws,,internet,0,",
        ("internet", "by-post"),
        r"scope 'by-post' is not one of internet, inter-region, direct-connect",
    ),
    ("egress_prices.csv", "aws,,internet,0,", ("aws,,", "aws,gcp:us-east4,"), r"region 'gcp:us-east4' is no region of aws"),
    ("egress_prices.csv", "aws,,internet,10240,", ("10240", "0"), r"the same aws / any / internet / 0.0 as in line 2"),
]


@pytest.mark.parametrize(("name", "begins", "edit", "says"), MALFORMED)
def test_each_fault_is_named_with_its_line(folder: Path, name: str, begins: str, edit: tuple[str, str], says: str) -> None:
    """One bad row in one file: the error names that file, that line, the value and what is allowed."""
    path = folder / name
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith(begins))
    assert edit[0] in lines[number - 1]
    lines[number - 1] = (
        lines[number - 1].replace(*edit, 1) if edit[1] or not edit[0].startswith(",2025") else lines[number - 1].removesuffix(edit[0])
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        read(folder)
    assert f"{path}:{number}: " in str(caught.value)


def test_every_bad_row_of_every_file_is_reported(folder: Path) -> None:
    """Faults in three files come in one error, one line each; nothing hides behind the first."""
    for name, number, old, new in (("regions.csv", 5, "45.84", "95"), ("regions.csv", 9, ",BR,", ",XX,"), ("pops.csv", 2, "edge-gpu", "x")):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "workloads.csv").unlink()
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value).splitlines()
    assert len(message) == 4  # prices and pools that name what is bad are not called bad too
    assert caught.value.line == 5
    assert [line.partition(": ")[0] for line in message[:3]] == [
        f"{folder}/regions.csv:5",
        f"{folder}/regions.csv:9",
        f"{folder}/pops.csv:2",
    ]
    assert message[-1] == f"{folder}/workloads.csv: no such file"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r":1: is empty; the first line must be the header id,name,lat,lon"),
        (b"id,name,lat\nx,X,1\n", r":1: no column lon"),
        (b"id,name,lat,lon,contry\nx,X,1,2,DE\n", r":1: column 'contry' is not known; did you mean 'country'"),
        (b"id,name,lat,lon\nx,X,1,2\n\n\xff,Y,1,2\n", r"cannot be read: .*UTF-8"),
        (b'id,name,lat,lon\nx,"X,1,2\n', r":2: is not CSV: "),
        (b'id,name,lat,lon\nx,"a\nb",1,2\ny,Y,1\n', r":4: 3 fields, the header names 4"),
        (b"id,name,lat,lon,kind\nx,X,1,2,city\n", r":2: kind 'city' is not one of pop, region, metro"),
        (b"id,name,lat,lon,provider\nx,X,1,2,ibm\n", r":2: provider 'ibm' is not one of aws, azure"),
        (b"id,name,lat,lon\nx,X,1,2\nx,X,3,4\n", r":3: the same x as in line 2"),
        (b"id,name,lat,lon\nx y,X,1,2\n", r":2: site id 'x y' is not a slug"),
    ],
    ids=["empty", "no-column", "misspelt-column", "not-utf8", "open-quote", "short-row", "kind", "provider", "twice", "slug"],
)
def test_a_users_sites_fail_with_the_line(tmp_path: Path, content: bytes, says: str) -> None:
    """A user's SITES.csv with one fault: the message names the line and what to write."""
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        sites_csv.read(path)


def test_a_users_sites_read_with_what_the_id_says(tmp_path: Path) -> None:
    """Optional columns may be absent: the id says the kind and the provider; spaces, a BOM and CRLF do no harm."""
    path = tmp_path / "mine.csv"
    path.write_bytes(
        "\ufeffID, name ,lat,lon,country,remark\r\nlab-1,Lab one,1.5,103.8,SG,x\r\naws:xx-1,New,-10,20,,\r\n\r\nmetro:y,,0,0,,\r\n".encode()
    )
    assert sites_csv.read(path) == [
        Site(id="lab-1", kind="pop", name="Lab one", lat=1.5, lon=103.8, country="SG"),
        Site(id="aws:xx-1", kind="region", name="New", lat=-10, lon=20, provider="aws"),
        Site(id="metro:y", kind="metro", name="metro:y", lat=0, lon=0),
    ]


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    """A path that is a folder, or nothing, is a clear error and not a traceback."""
    with pytest.raises(InputError, match="cannot be read"):
        sites_csv.read(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        sites_csv.read(tmp_path / "none.csv")


def test_a_users_workloads_read_alone(tmp_path: Path) -> None:
    """A file of workloads of the user's own is read by name; a bad row names its line."""
    path = tmp_path / "mine.csv"
    path.write_text(",".join(HEADERS["workloads"]) + "\nask,Ask,m,10,1,40,200,,900,mine\n", encoding="utf-8")
    assert workloads(path)["ask"].e2e_budget_ns == 900_000_000
    path.write_text(",".join(HEADERS["workloads"]) + "\nask,Ask,m,ten,1,40,200,,900,mine\n", encoding="utf-8")
    with pytest.raises(InputError, match=r":2: input_tokens 'ten' is not a number"):
        workloads(path)


def test_every_table_is_recognised_by_its_header(tmp_path: Path) -> None:
    """Under any name, a file with a table's header is that table."""
    for kind, columns in HEADERS.items():
        path = tmp_path / "anything.csv"
        path.write_text(",".join(reversed(columns)) + "\n", encoding="utf-8")
        assert recognise(path) == kind


@given(st.text(alphabet=st.sampled_from('id,name\nlat\r"lon1.-9e:é\x00 '), max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_text_is_sites_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str, header: bool) -> None:
    """Whatever a file holds, reading it gives sites or an InputError, never another exception."""
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_text(("id,name,lat,lon\n" if header else "") + text, encoding="utf-8", newline="")
    try:
        sites = sites_csv.read(path)
    except InputError:
        return
    assert all(-90 <= site.lat <= 90 for site in sites)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True),
            st.floats(-90, 90),
            st.floats(-180, 180),
            st.sampled_from(["", "DE", "SG"]),
        ),
        unique_by=lambda row: row[0],
        max_size=10,
    )
)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, places: list[tuple[str, float, float, str]]) -> None:
    """Sites written as CSV come back equal, coordinates to the last bit."""
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    lines = ["id,name,lat,lon,country", *(f"{name},{name},{lat!r},{lon!r},{country}" for name, lat, lon, country in places)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [(site.id, site.lat, site.lon, site.country) for site in sites_csv.read(path)] == [
        (name, lat, lon, country or None) for name, lat, lon, country in places
    ]
