"""From the version before to this one and back, each as the program that it was: of the newest release's tag, or of the oldest commit
whose program can make a warehouse where there is no tag yet. It runs with the packages of today.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The first commit with `isochrone import`.
OLDEST = "4c1d24f25b4f9884c6badee27e6522ece1fa59c0"
MATRIX = "src,dst,rtt_ms\nsin,fra,160.5\nfra,sin,161.25\nsin,nrt,70\n"
ROWS = "SELECT src, dst, rtt_ns FROM rtt_matrix ORDER BY src, dst"


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the program in a folder."""
    environ = os.environ | {"PYTHONPATH": str(program)}
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, cwd=program, env=environ, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The program of the version before."""
    describe = ["git", "-C", str(ROOT), "describe", "--tags", "--abbrev=0", "--match", "v*"]
    described = subprocess.run(describe, capture_output=True, text=True, check=False)
    version = described.stdout.strip() or OLDEST
    program = tmp_path / "program"
    program.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", version], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"{version} is not in this checkout: it has no history")
    subprocess.run(["tar", "-x", "-C", str(program)], input=archive.stdout, check=True)
    return program


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_the_version_before_to_this_one_and_back(older: Path, tmp_path: Path) -> None:
    """Its rows are there after the upgrade; it refuses the newer warehouse in a sentence; rolled back, it reads what it had."""
    kept, matrix = str(tmp_path / "kept"), tmp_path / "matrix.csv"
    matrix.write_text(MATRIX)

    def rows(program: Path) -> list[dict[str, object]]:
        done = run(program, "sql", ROWS, "--format", "json", "--warehouse", kept)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    assert run(older, "import", "rtt-matrix", str(matrix), "--warehouse", kept).returncode == 0
    before = rows(older)
    assert [(row["src"], row["dst"], row["rtt_ns"]) for row in before] == [
        ("fra", "sin", 161_250_000),
        ("sin", "fra", 160_500_000),
        ("sin", "nrt", 70_000_000),
    ]
    waiting = run(ROOT, "sql", ROWS, "--warehouse", kept)
    assert waiting.returncode == 2
    assert "is of an older version" in waiting.stderr
    matrix.write_text(MATRIX.replace("sin,nrt,70", "nrt,fra,230"))
    assert run(ROOT, "import", "rtt-matrix", str(matrix), "--warehouse", kept).returncode == 0
    assert [row for row in rows(ROOT) if row["src"] != "nrt"] == sorted([*before, *before[:2]], key=lambda row: (row["src"], row["dst"]))
    refused = run(older, "sql", ROWS, "--warehouse", kept)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "newer version" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run(ROOT, "warehouse", "rollback", "--warehouse", kept).returncode == 2
    done = run(ROOT, "warehouse", "rollback", "--discard", "--warehouse", kept, "--json")
    assert json.loads(done.stdout)["lost_batches"] == 1, done.stderr
    assert rows(older) == before
