"""deploy/isochrone-agent.service, by systemd's own judgement."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "isochrone-agent.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (`apt-get install systemd`)"
)


@needs_systemd
def test_the_unit_has_no_mistake(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of it, but that the program is not installed here."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/isochrone/bin/isochrone", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


@needs_systemd
def test_the_manual_gives_the_units_exposure() -> None:
    """What docs/agent.md says of `systemd-analyze security` is no better than what it says here."""
    argv = ["systemd-analyze", "security", "--offline=yes", str(UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if "Overall exposure level" not in done.stdout:
        pytest.skip(f"this systemd judges no files: {done.stderr.strip()[:100]}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    told = re.search(r"gives it \*\*([0-9.]+) \(OK\)\*\*", (ROOT / "docs" / "agent.md").read_text())
    assert found is not None
    assert told is not None
    assert float(found[1]) <= float(told[1])
