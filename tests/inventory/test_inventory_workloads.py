"""Workloads and applications: the figures of the source material, and a user's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.answers import workload_of
from inventory.load import load
from records.errors import InputError, UserError
from records.residency import DATA_CLASSES

HEADER = "name,title,model,input_tokens,output_tokens,upload_bytes,download_bytes,ttft_budget_ms,e2e_budget_ms,note"


def test_the_thousand_cameras_are_648_terabytes_a_month() -> None:
    """1,000 cameras x 2 Mbit/s / 8 x 86,400 s x 30 days; a hundredth of it where only what is of interest is sent on."""
    cameras = load().applications["cameras-1000"]
    assert cameras.stream_bytes_per_month == 1000 * 250_000 * 86_400 * 30 == 648e12
    assert cameras.kept_bytes_per_month == pytest.approx(6.48e12)


def test_every_use_of_the_issue_is_there_and_says_what_it_rests_on() -> None:
    """Chat, voice, video, betting, gaming, trading, vehicles, shop, batch; each with its class of data and its sources."""
    inventory = load()
    assert {
        "chat",
        "voice-agent",
        "video-frame",
        "shop-page",
        "game-dialogue",
        "trading-signal",
        "batch-summary",
    } <= inventory.workloads.keys()
    assert {"betting-odds", "vehicle-advice", "rag-answer"} <= inventory.workloads.keys()
    assert {a.workload for a in inventory.applications.values()} == inventory.workloads.keys()
    for workload in inventory.workloads.values():
        assert workload.data_class in DATA_CLASSES
        assert workload.availability is not None
        assert workload.peak_to_mean is not None
        assert "(assumption)" in workload.note
    for application in inventory.applications.values():
        assert "(assumption)" in application.note


def test_a_mean_rate_counts_the_hours_that_are_used() -> None:
    """A hundred pages a second all day; 100,000 documents a day."""
    applications = load().applications
    assert applications["web-shop"].requests_per_second == pytest.approx(100)
    assert applications["nightly-batch"].requests_per_second * 86_400 == pytest.approx(100_000, rel=1e-3)


def test_a_workload_may_be_a_file_of_either_kind(tmp_path: Path) -> None:
    """CSV with one row, without the optional columns too, and JSON with the same names are read alike."""
    table = tmp_path / "mine.csv"
    table.write_text(f"{HEADER}\nmine,Mine,llama-3.1-8b,100,10,400,2000,300,,a test\n")
    document = tmp_path / "mine.json"
    fields = {"name": "mine", "title": "Mine", "model": "llama-3.1-8b", "input_tokens": 100, "output_tokens": 10}
    document.write_text(json.dumps(fields | {"upload_bytes": 400, "download_bytes": 2000, "ttft_budget_ms": 300, "note": "a test"}))
    assert workload_of(str(table)) == workload_of(str(document))
    assert workload_of(str(table)).data_class is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("w.json", "[1]", "holds list; a workload is one object"),
        ("w.json", '{"name": "x",\n}', r"w.json:2: is not JSON"),
        ("w.json", '{"name": "x"}', "no column title, model, input_tokens"),
        ("w.json", '{"name": "x", "input_token": 3}', "column 'input_token' is not known; did you mean"),
        ("w.csv", HEADER, "holds 0 workloads"),
        ("w.csv", f"{HEADER}\na,A,m,1,0,1,1,,,n", "w.csv:2: output_tokens 0 is out of range; at least 1"),
        ("w.csv", f"{HEADER},data_class\na,A,m,1,1,1,1,,,n,secret", "w.csv:2: data_class 'secret' is not one of public, personal"),
        ("w.csv", f"{HEADER},peak_to_mean\na,A,m,1,1,1,1,,,n,0.5", "w.csv:2: peak_to_mean 0.5 is out of range; at least 1"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, name: str, text: str, says: str) -> None:
    """One clear error with the file and, where there is one, the line."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        workload_of(str(tmp_path / name))


def test_a_name_that_is_none_lists_those_there_are() -> None:
    """A mistyped name is the user's mistake."""
    with pytest.raises(UserError, match="known workloads are chat, voice-agent"):
        workload_of("chatt")
