"""Files of measurements into a warehouse: sites found or named, everything once, what is wrong kept with its reason."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from warehouse_builders import NOW

from inventory.sites_csv import read_addresses
from records.errors import InputError, UserError
from records.place import Site
from warehouse import Warehouse
from warehouse.importers.files import Beside, import_measurements
from warehouse.importers.names import Names
from warehouse.importers.report import ImportReport
from warehouse.maintain import verify
from warehouse.queries import measurement_counts, rejects

PLACES = {"sin": (1.35, 103.82), "fra": (50.11, 8.68), "iad": (39.04, -77.49)}
SITES = {name: Site(id=name, kind="pop", name=name, lat=lat, lon=lon) for name, (lat, lon) in PLACES.items()}
HOSTS = {"192.0.2.0/24": "fra", "192.0.2.128/25": "iad", "2001:db8::7": "fra", "h.example": "fra", "probe:7": "sin"}
AT = datetime(2026, 2, 1, tzinfo=UTC)


def _atlas(n: int, *, dst: str = "192.0.2.7", rtt: float | None = 160.0) -> str:
    packet = {"rtt": rtt} if rtt is not None else {"x": "*"}
    head = {"type": "ping", "prb_id": 7, "timestamp": 1_767_225_600 + n, "fw": 5080, "dst_addr": dst}
    return json.dumps({**head, "result": [packet, {"x": "*"}]})


def _import(
    wh: Warehouse,
    format_name: str,
    *files: Path,
    sites: Mapping[str, Site] = SITES,
    hosts: Mapping[str, str] = HOSTS,
    now: datetime = NOW,
    **beside: object,
) -> ImportReport:
    names = Names(sites=frozenset(sites), hosts=hosts)
    return import_measurements(wh, format_name, files, known_sites=sites, names=names, beside=Beside(**beside), now=now)  # type: ignore[arg-type]


def _file(folder: Path, text: str, name: str = "f") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_stored_once_however_it_comes(wh: Warehouse, tmp_path: Path) -> None:
    """The same file twice, under another name, as an array, and in a file that overlaps: each measurement once."""
    lines = [_atlas(n) for n in range(5)]
    path = _file(tmp_path, "\n".join(lines))
    assert (_import(wh, "ripe-atlas", path).stored, measurement_counts(wh)["ping"]) == (5, 5)
    before = wh.snapshot_id()
    again = _import(wh, "ripe-atlas", path, _file(tmp_path, "\n".join(lines), "copy"), now=NOW + timedelta(days=1))
    assert (again.read, again.stored, again.already, wh.snapshot_id()) == (10, 0, 10, before)
    more = _file(tmp_path, f"[{', '.join([*lines[3:], _atlas(9), _atlas(9)])}]", "more")
    report = _import(wh, "ripe-atlas", more)
    assert (report.read, report.stored, report.already) == (4, 1, 3)
    assert measurement_counts(wh)["ping"] == 6
    with wh.cursor() as cursor:
        assert cursor.execute("SELECT count(*), count(DISTINCT measurement_id), bool_or(is_duplicate_id) FROM ping_sample").fetchone() == (
            12,
            6,
            False,
        )
        assert cursor.execute("SELECT DISTINCT src, dst, target, rtt_ns, timeout_ns FROM ping_sample ORDER BY rtt_ns").fetchall() == [
            ("sin", "fra", "192.0.2.7", 160_000_000, None),
            ("sin", "fra", "192.0.2.7", None, None),
        ]
    assert verify(wh) == []


def test_two_that_look_the_same_without_a_time_are_two(wh: Warehouse, tmp_path: Path) -> None:
    """Undated runs of one file are told apart by their place in it."""
    text = "PING 192.0.2.7 (192.0.2.7) 56(84) bytes of data.\n--- x ---\n1 packets transmitted, 0 received, 100% packet loss, time 0ms\n"
    path = _file(tmp_path, text + text)
    assert _import(wh, "ping", path, src="sin", at=AT).stored == 2
    assert _import(wh, "ping", path, src="sin", at=AT).already == 2
    assert _import(wh, "ping", path, src="sin", at=AT + timedelta(hours=1)).stored == 2


def test_unknown_hosts_are_named_and_stored_once_they_are_known(wh: Warehouse, tmp_path: Path) -> None:
    """What is at no known site is rejected and listed; with the site known, only that is new."""
    path = _file(tmp_path, "\n".join([_atlas(0), _atlas(1, dst="198.51.100.1"), _atlas(2, dst="198.51.100.1")]))
    report = _import(wh, "ripe-atlas", path)
    assert (report.stored, report.rejected, report.unknown_names) == (1, {"unknown_site": 2}, {"198.51.100.1": 2})
    report = _import(wh, "ripe-atlas", path, hosts={**HOSTS, "198.51.100.1": "iad"})
    assert (report.stored, report.already, report.rejected) == (2, 1, {})
    assert measurement_counts(wh)["ping"] == 3
    assert verify(wh) == []


@pytest.mark.parametrize(
    ("names", "site"),
    [
        (["192.0.2.7"], "fra"),
        (["192.0.2.200"], "iad"),
        (["::ffff:192.0.2.7"], "fra"),
        (["2001:0db8:0:0::7"], "fra"),
        (["H.Example."], "fra"),
        (["unheard", "probe:7"], "sin"),
        (["sin"], "sin"),
        (["198.51.100.1"], None),
        ([], None),
    ],
)
def test_which_site_a_host_is_at(names: list[str], site: str | None) -> None:
    """Addresses in any form, the most exact network, names in any case, the first that has a site."""
    assert Names(sites=frozenset(SITES), hosts=HOSTS).site(names) == site


def test_reasons_of_the_shell(wh: Warehouse, tmp_path: Path) -> None:
    """No source, a site to itself, the future, nothing at all: kept with file and place."""
    text = "PING 192.0.2.7 (192.0.2.7) 56(84) bytes of data.\n--- x ---\n1 packets transmitted, 0 received, 100% packet loss, time 0ms\n"
    path = _file(tmp_path, text)
    assert _import(wh, "ping", path, at=AT).rejected == {"no_source": 1}
    assert _import(wh, "ping", path, at=AT, src="fra").rejected == {"same_site": 1}
    assert _import(wh, "ping", path, at=NOW + timedelta(days=2), src="sin").rejected == {"from_the_future": 1}
    assert _import(wh, "ping", path, src="sin").rejected == {"no_time": 1}
    assert _import(wh, "ping", _file(tmp_path, " \n\n", "blank"), src="sin").rejected == {"empty": 1}
    assert {(row["source"], row["line_number"]) for row in rejects(wh).to_pylist()} == {(str(path), 1), (str(tmp_path / "blank"), None)}
    os.utime(path, (AT.timestamp(), AT.timestamp()))
    assert _import(wh, "ping", path, src="sin", at="mtime").stored == 1
    with pytest.raises(UserError, match="--src 'xxx' is no known site"):
        _import(wh, "ping", path, src="xxx")
    with pytest.raises(InputError, match="no such file"):
        _import(wh, "ping", tmp_path / "none")
    with pytest.raises(InputError, match="is a folder"):
        _import(wh, "ping", tmp_path)


def test_faster_than_light_is_stored_and_counted(wh: Warehouse, tmp_path: Path) -> None:
    """Singapore to Frankfurt in a millisecond: stored, and said."""
    report = _import(wh, "ripe-atlas", _file(tmp_path, "\n".join([_atlas(0, rtt=1.0), _atlas(1, rtt=170.0)])))
    assert (report.stored, report.flagged) == (2, {"faster_than_light": 1})


def test_what_no_column_holds_costs_no_other(wh: Warehouse, tmp_path: Path) -> None:
    """A TTL beyond 64 bits and a NUL in a name are rejected; the one beside them is stored."""
    wide = json.loads(_atlas(1))
    wide["result"] = [{"rtt": 160.0, "ttl": 1 << 70}]
    nul = json.loads(_atlas(2)) | {"dst_name": "h.example", "dst_addr": "a\0b"}
    report = _import(wh, "ripe-atlas", _file(tmp_path, "\n".join([_atlas(0), json.dumps(wide), json.dumps(nul)])))
    assert report.stored == 1
    assert sum(report.rejected.values()) == 2
    assert verify(wh) == []


def test_a_large_file_is_never_whole_in_memory(wh: Warehouse, tmp_path: Path) -> None:
    """20 MB, of which nothing is at a known site: read in less memory than a quarter of it; progress tells every byte."""
    pad = "x" * 3300
    path = tmp_path / "large"
    with path.open("w") as file:
        for n in range(6000):
            file.write(_atlas(n, dst="198.51.100.1").replace('"fw"', f'"pad": "{pad}", "fw"') + "\n")
    size = path.stat().st_size
    assert size > 19_000_000
    moved: list[int] = []
    names = Names(sites=frozenset(SITES), hosts=HOSTS)
    tracemalloc.start()
    report = import_measurements(wh, "ripe-atlas", [path], known_sites=SITES, names=names, beside=Beside(), now=NOW, progress=moved.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.rejected == {"unknown_site": 6000}
    assert peak < size / 4, peak
    assert sum(moved) == size
    assert len(moved) > 1


def test_addresses_of_sites_csv(tmp_path: Path) -> None:
    """Several hosts in one field; a host at two sites is the user's mistake."""
    path = _file(tmp_path, "id,name,lat,lon,address\na,A,1,2,192.0.2.1; 2001:db8::/32\nb,B,1,2,probe:7\nc,C,1,2,\n")
    assert read_addresses(path) == {"192.0.2.1": "a", "2001:db8::/32": "a", "probe:7": "b"}
    with pytest.raises(InputError, match=r":3: host '192.0.2.1' is at a already"):
        read_addresses(_file(tmp_path, "id,name,lat,lon,address\na,A,1,2,192.0.2.1\nb,B,1,2,192.0.2.1\n"))
