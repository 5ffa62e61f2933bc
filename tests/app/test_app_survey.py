"""What a survey says of regions, without a network: floors, bounds, contradictions; and the command's words for mistakes."""

from __future__ import annotations

import json
import math
import socket
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from app.commands.survey import _chosen, survey
from app.survey import place_of, region_json, rows, spots
from inventory.continents import CONTINENTS
from inventory.countries import COUNTRIES
from inventory.load import load
from probes.http.survey import alone
from records.errors import OutsideError, UnknownSite, UserError
from records.measurement import HttpResult
from records.place import Site, fibre_floor_ns

INVENTORY = load()
#: Regions whose first endpoint ends in the region itself.
MEASURABLE = [site for site in INVENTORY.regions if any(e.terminates == "region" for e in INVENTORY.endpoints_of(site.id)[:1])]


def connection(region: str, rtt_ns: int | None, n: int = 0, **other: Any) -> HttpResult:
    """A hand-shake with a region's first endpoint; None is a time-out."""
    host = INVENTORY.endpoints_of(region)[0].host
    went: dict[str, Any] = {"outcome": "timeout", "failed_phase": "tcp", "failure_source": "path", "error": "no reply to a SYN"}
    if rtt_ns is not None:
        went = {"outcome": "ok", "tcp_ns": rtt_ns, "tcp_rtt_ns": rtt_ns}
    head = {"id": f"b-{n}", "agent": "cli", "src": "here", "dst": region, "medium": "internet", "target": f"https://{host}/"}
    return HttpResult(**{**head, "started_at_ns": 1, "engine": "t/1", "protocol": "https", **went, **other})


def at(lat: float, lon: float) -> Site:
    return Site(id="here", kind="pop", name="here", lat=lat, lon=lon)


def call(*argv: str) -> Result:
    return CliRunner().invoke(survey, list(argv))


def test_rows_are_ranked_by_the_least_rtt_and_count_what_failed() -> None:
    """Three connections, one of them lost: least, median, 1 of 3; a region that never answered comes last, with its reason."""
    far, near, dead = "aws:us-east-1", "aws:eu-central-1", "gcp:asia-southeast1"
    results = [connection(far, 90_000_000), connection(near, 3_000_000, tls_ns=9), connection(dead, None)]
    results += [connection(near, 2_000_000, tls_ns=4, tls_resumed=True), connection(near, None), connection(near, 7_000_000)]
    made = rows(results, INVENTORY, INVENTORY.site("fra"))
    assert [row.site.id for row in made] == [near, far, dead]
    first, last = region_json(made[0]), region_json(made[2])
    assert first["rtt_ms"] == {"min": 2.0, "median": 3.0}
    assert (first["tried"], first["failed"], first["failed_ratio"]) == (4, 1, 0.25)
    assert (first["tls_ms"], first["tls_resumed_ms"]) == (0.000009, 0.000004)
    assert (first["continent"], first["jurisdiction"]) == ("Europe", "EU")
    assert last["rtt_ms"] == {"min": None, "median": None}
    assert last["inflation"] is None
    assert last["failures"] == [{"outcome": "timeout", "phase": "tcp", "source": "path", "error": "no reply to a SYN", "count": 1}]


@given(
    st.floats(-60, 70),
    st.floats(-180, 180),
    st.lists(st.tuples(st.sampled_from(MEASURABLE), st.floats(1.0, 4.0)), min_size=2, max_size=12, unique_by=lambda pair: pair[0].id),
)
@settings(max_examples=150, deadline=None)
def test_a_bound_never_exceeds_the_floor_of_any_true_place(lat: float, lon: float, reached: list[tuple[Site, float]]) -> None:
    """Wherever the host is, with RTTs that fibre allows from there, no bound is above the true floor and nothing is impossible."""
    here = at(lat, lon)
    results = [connection(site.id, math.ceil(fibre_floor_ns(here, site) * inflation) + 1) for site, inflation in reached]
    for row in rows(results, INVENTORY, None):
        assert not row.is_impossible
        if row.floor_ns is not None:
            assert row.floor_is_bound
            assert row.floor_ns <= fibre_floor_ns(here, row.site) + 2
            assert row.inflation is not None


def test_a_name_that_leads_elsewhere_is_marked_and_bounds_nothing() -> None:
    """Singapore in 2 ms beside Frankfurt, Zurich and Milan in 10: one of them cannot be there, and it is the odd one out."""
    real = {"gcp:europe-west3": 5_000_000, "gcp:europe-west6": 6_000_000, "gcp:europe-west8": 10_000_000, "aws:us-east-1": 95_000_000}
    results = [connection(region, rtt) for region, rtt in {**real, "gcp:asia-southeast1": 2_000_000}.items()]
    with_it = {row.site.id: row for row in rows(results, INVENTORY, None)}
    without = {row.site.id: row for row in rows(results[:-1], INVENTORY, None)}
    assert [region for region, row in with_it.items() if row.is_impossible] == ["gcp:asia-southeast1"]
    assert with_it["gcp:asia-southeast1"].inflation is None
    assert {region: with_it[region].floor_ns for region in real} == {region: without[region].floor_ns for region in real}


def test_from_a_given_place_what_beats_its_floor_is_marked() -> None:
    """98 % of the floor is allowed, less is not; a region in the same city has no inflation."""
    here = at(INVENTORY.sites["aws:us-east-1"].lat, INVENTORY.sites["aws:us-east-1"].lon)
    floor = fibre_floor_ns(here, INVENTORY.sites["aws:eu-central-1"])
    for rtt, impossible in ((int(0.985 * floor), False), (int(0.975 * floor), True)):
        (row,) = rows([connection("aws:eu-central-1", rtt)], INVENTORY, here)
        assert (row.is_impossible, row.inflation is None, row.floor_ns, row.floor_is_bound) == (impossible, impossible, floor, False)
    (same,) = rows([connection("aws:us-east-1", 300_000)], INVENTORY, here)
    assert (same.floor_ns, same.inflation, same.is_impossible) == (0, None, False)


def test_every_region_is_measured_or_said_not_to_be() -> None:
    """No region is dropped: each is a spot with its endpoints, preferred first, or not measurable."""
    found, without = spots(INVENTORY.regions, INVENTORY)
    assert sorted([*(spot.site for spot in found), *(site.id for site in without)]) == sorted(site.id for site in INVENTORY.regions)
    for spot in found:
        assert [endpoint.host for endpoint in spot.endpoints] == [e.host for e in INVENTORY.endpoints_of(spot.site)]


@pytest.mark.parametrize(
    ("text", "place"),
    [("fra", ("fra", 50.11, 8.68)), ("47.4,8.5", ("here", 47.4, 8.5)), ("home=-33.9, 18.4", ("home", -33.9, 18.4))],
)
def test_places_a_person_may_name(text: str, place: tuple[str, float, float]) -> None:
    """A site, coordinates, or coordinates with an id."""
    found = place_of(text, INVENTORY)
    assert (found.id, found.lat, found.lon) == place


def test_places_that_are_none() -> None:
    """One message each; a misspelt site gets the nearest ones."""
    with pytest.raises(UnknownSite):
        place_of("frankfort-west", INVENTORY)
    for wrong in ("47.4,east", "1,2,3", "x=91,0", "A B=1,2"):
        with pytest.raises(UserError):
            place_of(wrong, INVENTORY)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--near", "3"], "--near needs to know where this host is"),
        (["--store", "x"], "--store needs to know the site"),
        (["--store", "x", "--from", "1,2"], "--store needs to know the site"),
        (["--region", "fra"], "is no cloud region"),
        (["--region", "azure:chinaeast"], "no endpoint is known of azure:chinaeast"),
        (["-o", "x.txt"], "neither csv nor a file"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(argv: list[str], said: str) -> None:
    """Exit status 2 by UserError, without a packet."""
    result = call(*argv)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_regions_are_chosen_by_cloud_and_by_distance() -> None:
    """--near goes by the great circle, --provider and --region by name; each region once."""
    zurich = at(47.4, 8.5)
    near = _chosen(INVENTORY, zurich, ["gcp"], [], 2)
    assert {site.id for site in near} == {"gcp:europe-west6", "gcp:europe-west8"}  # Zurich and Milan
    named = _chosen(INVENTORY, None, [], ["aws:us-east-1", "AWS:us-east-1", "westeurope"], None)
    assert [site.id for site in named] == ["aws:us-east-1", "azure:westeurope"]


def test_one_survey_at_a_time() -> None:
    """A second one on this host is told to wait; the lock is gone with the first."""
    with alone():
        refused = call("--region", "aws:us-east-1").exception
    assert isinstance(refused, OutsideError)
    assert "another survey runs" in str(refused)
    with alone():
        pass


def test_a_host_whose_names_do_not_resolve_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look-up fails: one message, OutsideError (exit status 3), and not two hundred of them."""

    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    result = call("--json")
    assert isinstance(result.exception, OutsideError)
    assert "none of the first 32 names could be looked up" in str(result.exception)
    assert result.output == ""


def test_every_country_is_on_one_continent() -> None:
    """The continents divide the 249 countries, and a few that are easily misplaced are where M49 has them."""
    assert sorted(code for codes in CONTINENTS.values() for code in codes) == sorted(COUNTRIES)
    for code, continent in (("MX", "North America"), ("TR", "Asia"), ("RU", "Europe"), ("EG", "Africa"), ("GU", "Oceania")):
        assert code in CONTINENTS[continent]


def test_json_holds_only_what_json_can() -> None:
    """A row with nothing known is plain JSON with nulls."""
    (row,) = rows([connection("aws:us-east-1", None)], INVENTORY, None)
    assert json.loads(json.dumps(region_json(row), allow_nan=False))["fibre_floor_ms"] is None
