"""What deploy/ holds, by the tools that read such files: systemd's own judgement of the units, and what a compose file may say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from app.cli import root

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (`apt-get install systemd`)"
)


def options_of(argv: list[str]) -> set[str]:
    """The options of `isochrone ...` that a command line uses; fails where a command or an option does not exist."""
    command: click.Command = root
    context = click.Context(root, info_name="isochrone")
    words = iter(argv)
    used = set()
    for word in words:
        if word.startswith("-"):
            name = word.partition("=")[0]
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
            assert name in known, f"{command.name} has no {name}"
            used.add(name)
        elif isinstance(command, click.Group) and (child := command.get_command(context, word)) is not None:
            command = child
    assert command is not root
    return used


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_has_no_mistake_and_the_exposure_that_its_manual_gives(tmp_path: Path, unit: Path) -> None:
    """`systemd-analyze verify` has nothing to say, and `security` no more than docs/install.md tells."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/isochrone/bin/isochrone", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, []), done.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    if "Overall exposure level" not in judged.stdout:
        pytest.skip(f"this systemd judges no files: {judged.stderr.strip()[:100]}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    told = re.search(rf"`{unit.name}` \| .* \| ([0-9.]+) \|", (ROOT / "docs" / "install.md").read_text())
    assert found is not None
    assert told is not None
    assert float(found[1]) <= float(told[1])


def test_each_service_has_a_user_and_folders_of_its_own() -> None:
    """No two share a user or a state directory, and each user is dynamic or made by the sysusers file."""
    texts = {unit.stem: unit.read_text() for unit in UNITS}
    assert len(texts) == 3
    for key in ("User", "StateDirectory"):
        values = [re.search(rf"(?m)^{key}=(.+)$", text) for text in texts.values()]
        assert len({value[1] for value in values if value}) == 3
    made = (DEPLOY / "isochrone.sysusers").read_text()
    for text in texts.values():
        user = re.search(r"(?m)^User=(.+)$", text)
        assert user is not None
        assert "DynamicUser=yes" in text or f"u     {user[1]} " in made


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_units_command_exists(unit: Path) -> None:
    """ExecStart is a command of this version with options that it has, and its variables are in the environment file beside it."""
    text = unit.read_text()
    start = re.search(r"(?m)^ExecStart=/opt/isochrone/bin/isochrone (.+)$", text)
    assert start is not None
    assert options_of(shlex.split(start[1]))
    named = re.search(r"(?m)^EnvironmentFile=/etc/isochrone/(.+)$", text)
    variables = set(re.findall(r"\$\{?([A-Z_]+)", start[1])) - {"CREDENTIALS_DIRECTORY"}
    given = set() if named is None else set(re.findall(r"(?m)^([A-Z_]+)=", (DEPLOY / named[1]).read_text()))
    assert variables <= given


def test_the_compose_file_starts_what_exists() -> None:
    """Every command in it is one of this version; the image is built from a file that is there; no secret stands in it."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    ours = {name: service for name, service in document["services"].items() if "build" in service}
    assert set(ours) == {"collector-a", "collector-b", "dashboard"}
    for service in ours.values():
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["cap_drop"] == ["ALL"]
        options_of(service["command"])
    for service in document["services"].values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert value.startswith("${"), key
    volumes = {volume.partition(":")[0] for service in document["services"].values() for volume in service.get("volumes", [])}
    assert {volume for volume in volumes if not volume.startswith(".")} == set(document["volumes"])
