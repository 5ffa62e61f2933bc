"""What has come since the last look is synced: every new file once, then the folders that name it, whatever comes and goes meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.durable import NewFiles


@pytest.fixture
def synced(monkeypatch):
    """The paths that were synced, in their order."""
    found, real = [], os.fsync

    def fsync(handle):
        found.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_files_come_first_then_their_folders_from_below(tmp_path: Path, synced) -> None:
    """A file in two new folders: itself, its folder, the folder's folder, the root; what was there before is left alone."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("a")
    new = NewFiles(tmp_path)
    folder = tmp_path / "table" / "day=1"
    folder.mkdir(parents=True)
    (folder / "b").write_text("b")
    assert new.sync() == 1
    assert synced == [str(path) for path in (folder / "b", folder, folder.parent, tmp_path)]
    synced.clear()
    assert new.sync() == 0
    assert synced == []


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "remove", "drop"]), st.integers(0, 3), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=14,
    )
)
@settings(max_examples=25, deadline=None)
def test_every_file_that_stays_is_synced_once_however_soon_it_follows(steps, tmp_path_factory) -> None:
    """Files written and removed, folders dropped, a sync after some of them: it counts what it has not seen of what is there."""
    root = tmp_path_factory.mktemp("lake")
    new, seen = NewFiles(root), set()
    for step, where, name, is_synced in [*steps, ("write", 0, 0, True)]:
        folder = root / f"t{where % 2}" / f"d{where}"
        if step == "write":
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(name)).write_text("x")
        elif step == "remove":
            (folder / str(name)).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        if is_synced:
            there = {path for path in root.rglob("*") if path.is_file()}
            assert new.sync() == len(there - seen)
            seen = there
