"""What `make dist` makes: the same bytes from two checkouts, the same wheel from the sdist, and an agent that runs from it alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("build") is None, reason="needs the extra dist: pip install 'isochrone[dist]', as make dist does"
    ),
]

#: What an agent must do without (CONTRIBUTING.md).
LEFT_OUT = ("duckdb", "streamlit", "numpy", "scipy", "pandas", "pyarrow", "plotly", "networkx", "scapy")


def build(source: Path, out: Path, mask: int) -> list[Path]:
    """Run a checkout's own scripts/build-dist under a umask."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, str(source / "scripts" / "build-dist"), "--out", str(out)]
    done = subprocess.run(command, env=environ, umask=mask, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Path]]]:
    """Two builds, of two copies of what is committed, in folders of other names, with other times and modes."""
    place = tmp_path_factory.mktemp("dist")
    found = []
    for name, mask in (("one", 0o022), ("another-name", 0o077)):
        (place / name).mkdir()
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=False)
        if archive.returncode:
            pytest.skip("this is no checkout with history")
        subprocess.run(["tar", "-x", "-m", "-C", str(place / name)], input=archive.stdout, umask=mask, check=True)
        found.append(build(place / name, place / f"{name}-dist", mask))
    return place, found


def test_two_builds_are_the_same_bytes(built: tuple[Path, list[list[Path]]]) -> None:
    """And what pip makes of the sdist is the same wheel."""
    place, ((sdist, wheel), others) = built
    assert [sha256(path.read_bytes()).hexdigest() for path in others] == [sha256(path.read_bytes()).hexdigest() for path in (sdist, wheel)]
    environ = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "PIP_CONSTRAINT": str(ROOT / "scripts" / "build-constraints.txt")}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-cache-dir",
        "--wheel-dir",
        str(place / "from-sdist"),
        str(sdist),
    ]
    subprocess.run(command, env=environ, check=True)
    (again,) = (place / "from-sdist").iterdir()
    assert again.read_bytes() == wheel.read_bytes()


def test_the_wheel_has_what_the_packages_have(built: tuple[Path, list[list[Path]]]) -> None:
    """Every file that is committed in a package, SQL, tables, pictures and all, and nothing else."""
    _, ((_, wheel), _) = built
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD"], capture_output=True, text=True, check=True)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {name.rstrip("*") for name in settings}
    wanted = {name for name in tracked.stdout.splitlines() if name.split("/")[0] in packages and not name.endswith(".md")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_an_agent_runs_from_a_clean_install(built: tuple[Path, list[list[Path]]], tmp_path: Path) -> None:
    """`pip install isochrone[agent]`: none of the heavy packages, and `isochrone agent run` measures and keeps what it measured."""
    _, ((_, wheel), _) = built
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[agent]"]
    subprocess.run([str(part) for part in install], check=True)
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.lower()
    assert [name for name in LEFT_OUT if f"\n{name}==" in f"\n{listed}"] == []
    (tmp_path / "agent.toml").write_text(
        '[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\nallow_private_targets = true\ndrain_s = 0\n'
        '[collector]\nurl = "http://127.0.0.1:9"\n'
        '[[probe]]\ntype = "ping"\ninterval_s = 1\n[[target]]\nsite = "fra"\naddress = "127.0.0.1"\n'
    )
    run = [str(tmp_path / "venv" / "bin" / "isochrone"), "agent", "run", "--config", "agent.toml", "--seconds", "4"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "ping" in done.stderr.splitlines()[-1]
    assert "in the spool" in done.stderr.splitlines()[-1]
