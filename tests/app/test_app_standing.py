"""The Overview's tables: what they say, by hand, and that sessions which look at the same share one."""

from __future__ import annotations

from app import standing, text
from records.link import LinkEstimate
from records.units import MS


def link(src: str, p50_ms: float | None, floor_ms: float, **more: object) -> LinkEstimate:
    """A measured link to `z`."""
    p50_ns = None if p50_ms is None else round(p50_ms * MS)
    values = {"medium": "internet", "evidence": "measured", "rtt_p50_ns": p50_ns, "fibre_floor_ns": round(floor_ms * MS)} | more
    return LinkEstimate(src=src, dst="z", **values)  # type: ignore[arg-type]


def test_the_worst_links_are_those_furthest_from_the_floor() -> None:
    """2.5 times before twice; a pair with a floor under 2 ms says little; without a median nothing is known; an unknown loss is none."""
    links = (
        link("a", 100.0, 50.0, loss_ratio=0.015),
        link("b", 100.0, 40.0),
        link("near", 90.0, 1.0),
        link("unknown", None, 50.0),
    )
    table = standing.worst(links)
    assert table["from"].to_pylist() == ["b", "a"]
    assert table["inflation"].to_pylist() == [2.5, 2.0]
    assert table["loss_percent"].to_pylist() == [None, 1.5]
    assert table["medium"].to_pylist() == [text.MEDIUM_TITLES["internet"]] * 2
    assert standing.worst(links, limit=1)["from"].to_pylist() == ["b"]
    assert standing.worst(links) is table


def test_gates_that_keep_out_nothing_are_not_named() -> None:
    """Two asymmetric, one good."""
    links = (link("a", 1.0, 1.0, gate="asymmetric"), link("b", 1.0, 1.0, gate="asymmetric"), link("c", 1.0, 1.0))
    table = standing.gates(links)
    assert table["links"].to_pylist() == [2]
    assert table["gate"].to_pylist() == [text.GATE_TITLES["asymmetric"]]
    assert standing.gates(links[2:]).num_rows == 0


def test_an_agent_complains_of_what_matters() -> None:
    """A batch or two that wait are the rule."""
    assert standing.remarks(None, 999_999, 0) == ""
    assert standing.remarks(["clock"], 2_000_000, 1_200) == "clock, 2.00 MB waiting, 1,200 dropped"
