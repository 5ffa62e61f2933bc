"""Topologies: what a file may say, and what its mistakes are called."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from lab.reading import parse, parse_file, parse_text
from lab.topology import available, builtin, load
from records.errors import InputError, UnknownSite, UserError

GOOD = """
name = "pair"
sites = [
    { id = "a", kind = "pop", name = "A", lat = 0, lon = 0 },
    { id = "b", kind = "pop", name = "B", lat = 0, lon = 90, serves = true },
]
routers = [{ id = "r", medium = "internet", lat = 0, lon = 45 }, { id = "s", medium = "backbone" }]
links = [
    { between = ["a", "r"], inflation = 1.5, jitter_ms = 0.1, loss = [0.01, 0.02], rate = "100Mbit/s" },
    { between = ["r", "b"], delay_ms = [3, 4.5], rate = ["1Gbit/s", "10Mbit/s"], queue_ms = 20 },
    { between = ["a", "b"], medium = "direct-connect", delay_ms = 1 },
]
"""


def test_a_topology_is_read_as_written() -> None:
    """Units, pairs, defaults and the great circle: a quarter of the equator at 2c/3 and inflation 1.5 is 37.6 ms."""
    world = parse_text(GOOD, "pair.toml")
    there, back = world.link_by_key["a", "r", "internet"], world.link_by_key["r", "a", "internet"]
    # An eighth of the equator of a sphere of 6371.0088 km at 199,861.6 km/s, times 1.5.
    assert there.delay_ns == back.delay_ns == pytest.approx(1.5 * 5003.77 / 199_861.639 * 1e9, rel=1e-4)
    assert (there.loss_ratio, back.loss_ratio, there.jitter_ns) == (0.01, 0.02, 100_000)
    assert (there.rate_bps, there.queue_ns) == (100_000_000, 50_000_000)
    assert [world.link_by_key[key].delay_ns for key in (("r", "b", "internet"), ("b", "r", "internet"))] == [3_000_000, 4_500_000]
    assert world.link_by_key["b", "r", "internet"].rate_bps == 10_000_000
    assert world.link_by_key["a", "b", "direct-connect"].rate_bps is None
    assert [site.serves for site in world.sites] == [False, True]


FULL = (
    GOOD.replace('"backbone" }', '"backbone", silent = true, icmp_per_s = 50, mpls = [16004, 24] }')
    .replace('delay_ms = 1 }', 'delay_ms = 1, mtu = [1400, 1500], metric = [10, 20] }')
)  # fmt: skip


def test_routers_and_links_say_how_they_forward() -> None:
    """Silence, ICMP limit, labels, MTU and metric are read as written, are off by default, and decide the weight."""
    world = parse_text(FULL, "full.toml")
    plain, special = world.router_by_id["r"], world.router_by_id["s"]
    assert (plain.silent, plain.icmp_per_s, plain.mpls) == (False, None, ())
    assert (special.silent, special.icmp_per_s, special.mpls) == (True, 50, (16004, 24))
    there, back = world.link_by_key["a", "b", "direct-connect"], world.link_by_key["b", "a", "direct-connect"]
    assert (there.mtu, back.mtu, there.metric, back.metric) == (1400, 1500, 10, 20)
    assert (there.weight, back.weight) == (10, 20)
    delayed = world.link_by_key["b", "r", "internet"]
    assert (delayed.mtu, delayed.metric, delayed.weight) == (None, None, 4_500_000)
    assert parse(json.loads(json.dumps(world.document())), "full.toml") == world


@pytest.mark.parametrize("name", available())
def test_a_document_reads_back_the_same(name: str) -> None:
    """Every built-in world survives being written as JSON and read again, to the nanosecond."""
    world = builtin(name)
    assert parse(json.loads(json.dumps(world.document())), name) == world


MISTAKES = {
    "unknown key": ('name = "pair"', 'name = "pair"\nseeed = 3', "seeed: unknown key; did you mean 'seed'"),
    "name is no slug": ('name = "pair"', 'name = "My Pair"', "name: 'My Pair' is not a slug"),
    "kind": ('kind = "pop", name = "B"', 'kind = "hub", name = "B"', "sites[2].kind: 'hub' is not one of pop, region, metro"),
    "latitude": ("lat = 0, lon = 90", "lat = 95, lon = 90", "sites[2]: site b: coordinates 95.0, 90.0 are off the Earth"),
    "same id twice": ('id = "r", medium = "internet"', 'id = "a", medium = "internet"', "routers[1].id: 'a' is already the id"),
    "medium": ('medium = "backbone"', 'medium = "carrier-pigeon"', "routers[2].medium: 'carrier-pigeon' is not one of internet, backbone"),
    "unknown end": ('["r", "b"]', '["r", "bb"]', "links[2].between: there is no site or router 'bb'"),
    "to itself": ('["r", "b"]', '["r", "r"]', "links[2].between: joins 'r' to itself"),
    "two media": ('["r", "b"]', '["r", "s"]', "links[2].between: joins two media"),
    "no medium": (', medium = "direct-connect"', "", "links[3].medium: missing; both ends are sites"),
    "no delay": (", delay_ms = 1 ", " ", "links[3].delay_ms: give exactly one of delay_ms and inflation"),
    "negative delay": ("delay_ms = [3, 4.5]", "delay_ms = [3, -1]", "links[2].delay_ms: -1 is out of range; 0 to 10000"),
    "three delays": ("delay_ms = [3, 4.5]", "delay_ms = [3, 4, 5]", "links[2].delay_ms: [3, 4, 5] is not one value or a pair"),
    "text for a number": ("jitter_ms = 0.1", 'jitter_ms = "0.1"', "links[1].jitter_ms: '0.1' is not a finite number"),
    "loss in percent": ("loss = [0.01, 0.02]", "loss = 2", "links[1].loss: 2 is out of range; 0 to 1"),
    "faster than light": ("inflation = 1.5", "inflation = 0.9", "links[1].inflation: 0.9 is out of range; 1 to 1000"),
    "inflation of nowhere": ('["r", "b"], delay_ms = [3, 4.5]', '["s", "b"], inflation = 2', "links[2].inflation: s has no lat and lon"),
    "rate": ('"1Gbit/s"', '"1 gigabit"', "links[2].rate: cannot read '1 gigabit' as a rate"),
    "rate as a number": ('rate = "100Mbit/s"', "rate = 100", "links[1].rate: 100 is not a rate"),
    "queue without rate": ("delay_ms = 1 ", "delay_ms = 1, queue_ms = 5 ", "links[3].queue_ms: a queue without a rate"),
    "linked twice": ('["r", "b"]', '["r", "a"]', "links[2].between: r and a are already joined over internet by link 1"),
    "serves": ("serves = true", 'serves = "yes"', "sites[2].serves: 'yes' is not true or false"),
    "silent": ('medium = "backbone"', 'medium = "backbone", silent = 1', "routers[2].silent: 1 is not true or false"),
    "icmp_per_s": ('medium = "backbone"', 'medium = "backbone", icmp_per_s = 0', "routers[2].icmp_per_s: 0 is out of range; 1 to 1e+06"),
    "label": ('medium = "backbone"', 'medium = "backbone", mpls = [3]', "routers[2].mpls: 3 is not an MPLS label"),
    "label alone": ('medium = "backbone"', 'medium = "backbone", mpls = 16', "routers[2].mpls: 16 is not a list of at most 8 labels"),
    "mtu": ("delay_ms = 1 ", "delay_ms = 1, mtu = 576 ", "links[3].mtu: 576 is out of range; 1280 to 65535"),
    "metric": ("delay_ms = 1 ", "delay_ms = 1, metric = [1, 0] ", "links[3].metric: 0 is out of range; 1 to 1e+12"),
    "metric of a half": ("delay_ms = 1 ", "delay_ms = 1, metric = 1.5 ", "links[3].metric: 1.5 is not a whole number"),
    "provider": ("serves = true", 'provider = "acme"', "sites[2].provider: 'acme' is not one of aws, azure"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_file_line_table_and_key(name: str) -> None:
    """Every kind of mistake is one InputError that names the file, the line, the table and the key."""
    old, new, message = MISTAKES[name]
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    tomllib.loads(text)
    with pytest.raises(InputError) as caught:
        parse_text(text, "pair.toml")
    # The mistake stands where the text was changed, or in the line that was added there.
    line = text[: GOOD.index(old)].count("\n") + new.count("\n") + 1
    assert str(caught.value).startswith(f"pair.toml:{line}: {message}")
    assert caught.value.exit_status == 2


def test_a_site_without_links_is_refused() -> None:
    """A site that nobody could reach is a mistake in the file."""
    with pytest.raises(InputError, match="site 'b' has no link"):
        parse_text(GOOD.replace('["r", "b"]', '["r", "s"]').replace('medium = "backbone"', 'medium = "internet"').replace(
            '{ between = ["a", "b"], medium = "direct-connect", delay_ms = 1 },', ""), "x")  # fmt: skip


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    """What is not TOML is reported with the file and the line."""
    path = tmp_path / "bad.toml"
    path.write_text('name = "x"\nsites = [\n  { id = }\n]\n')
    with pytest.raises(InputError, match=r"bad\.toml:3: not TOML") as caught:
        parse_file(path)
    assert caught.value.line == 3


def test_unknown_worlds_files_and_sites(tmp_path: Path) -> None:
    """A world, file or site that is not there is named, with what there is."""
    with pytest.raises(UserError, match=r"no built-in world 'demo'; there are .*demo-14"):
        load("demo")
    with pytest.raises(InputError, match="there is no such file"):
        load(str(tmp_path / "none.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read it"):
        load(str(binary))
    with pytest.raises(UnknownSite, match="unknown site 'hubb'; did you mean hub"):
        builtin("triangle").site("hubb")
