"""The command line as a whole: its table, its help, its exit statuses, its imports."""

from __future__ import annotations

import ast
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from app.cli import COMMANDS, root
from app.quantities import Duration

TOP = Path(__file__).parents[2]
PACKAGES = ("records", "inventory", "probes", "warehouse", "routing", "alarms", "lab", "app")


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *argv], capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False
    )


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        return [leaf for sub in command.commands.values() for leaf in leaves(sub, f"{name} {sub.name}")]
    return [(name, command)]


def every_command() -> list[tuple[str, click.Command]]:
    context = click.Context(root)
    found = []
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        found += leaves(command, name)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_to_its_name(name: str) -> None:
    """What the table promises is there, under that name."""
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.name == name


def test_every_command_has_a_sentence_and_an_example_to_paste() -> None:
    """`--help` of every command: one sentence, and a line that begins with the command itself."""
    for name, command in every_command():
        assert command.help, name
        first = command.help.strip().split("\n\n")[0]
        assert first.rstrip().endswith("."), f"{name}: the first sentence of its help ends with a full stop"
        _, found, examples = command.help.partition("Example")
        assert found and f"isochrone {name}" in examples, f"{name}: no example"  # noqa: PT018


def test_every_option_says_what_it_is_for() -> None:
    """No option without help."""
    for name, command in every_command():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts[0]}"


def test_help_lists_all_commands_and_ends_well() -> None:
    """`isochrone --help` names every command and exits 0."""
    result = run("--help")
    assert result.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("argv", [("fly",), ("matrix", "--relays", "7"), ("demo", "--seconds", "never")])
def test_a_users_mistake_ends_with_2_and_no_traceback(argv: tuple[str, ...]) -> None:
    """A bad command or argument: exit status 2, one message, no traceback."""
    result = run(*argv)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.strip()


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    """`up` on a taken port: exit status 3, the address in the message, nothing left in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("up", "--port", str(port), "--warehouse", str(tmp_path / "w"))
    assert result.returncode == 3
    assert f"127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ('{"sin": "0123456789abcdef"}', 0o644, "chmod 600"),
        ("{sin", 0o600, "not JSON"),
        ('{"sin": "short"}', 0o600, "16 characters"),
        ('["0123456789abcdef"]', 0o600, "an object of agent id and token"),
        ('{"sin": {"token": "0123456789abcdef", "role": "x"}}', 0o600, "an object of token and site"),
        ('{"sin": "0123456789abcdef", "fra": "0123456789abcdef"}', 0o600, "share a token"),
    ],
)
def test_a_bad_token_file_is_refused_by_name(tmp_path: Path, content: str, mode: int, says: str) -> None:
    """Open to others, malformed, too short or shared: each is refused and never printed."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(content)
    tokens.chmod(mode)
    result = run("collector", "--tokens", str(tokens), "--warehouse", str(tmp_path / "w"))
    assert result.returncode == 2
    assert says in result.stderr
    assert "0123456789abcdef" not in result.stderr


def test_no_file_of_app_hides_a_package() -> None:
    """`streamlit run` puts app/ first on the import path: nothing in it may bear the name of a top-level package."""
    assert not {path.stem for path in (TOP / "app").iterdir()} & set(PACKAGES)


def test_the_agent_needs_no_heavy_package() -> None:
    """Importing the agent and its commands in a fresh interpreter loads none of what it must install without."""
    code = (
        "import sys, app.cli, app.commands.agent, app.commands.measure, probes.registry\n"
        "from probes.registry import PROBE_TYPES\n"
        "heavy = {'duckdb', 'streamlit', 'plotly', 'numpy', 'scipy', 'pandas', 'pyarrow', 'networkx', 'msgspec', 'scapy'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_modules_stay_small() -> None:
    """500 lines are the most a module may have."""
    long = {
        str(path.relative_to(TOP)): n
        for package in PACKAGES
        for path in (TOP / package).rglob("*.py")
        if (n := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_every_public_module_says_what_it_is_for() -> None:
    """Every module opens with a docstring."""
    silent = [
        str(path.relative_to(TOP))
        for package in PACKAGES
        for path in (TOP / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


@pytest.mark.parametrize("command", [["inventory", "list", "pops"], ["sql", "--examples"], ["links", "--help"]])
def test_a_full_disk_is_told_in_a_sentence(command: list[str]) -> None:
    """What cannot be written ends the command with status 3, whoever writes it and whenever it is noticed."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("isochrone: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["inventory", "list", "pops"], ["sql", "--examples"], ["links", "--help"]])
def test_a_reader_that_goes_away_is_no_error(command: list[str]) -> None:
    """`isochrone ... | head -1` ends with 0 and in silence, wherever the pipe breaks."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def options_of(kind: type) -> list[tuple[str, click.Parameter]]:
    every = [(f"{name} {param.opts[0]}", param) for name, command in every_command() for param in command.params]
    return [(name, param) for name, param in every if isinstance(param.type, kind)]


@pytest.mark.parametrize("typed", ["nan", "inf", "-inf", "1e308", "-1e308"])
def test_every_number_is_finite_and_bounded(typed: str) -> None:
    """NaN passes all comparisons, and so click's own ranges; a number of 300 digits makes others infinite: status 2 for each."""
    found = options_of(click.types.FloatParamType)
    assert len(found) > 20, "every command's options are looked at"
    for name, param in found:
        try:
            taken = param.type.convert(typed, param, None)
        except click.BadParameter as error:
            assert "finite" in error.message or "range" in error.message, name  # noqa: PT017
        else:
            pytest.fail(f"{name} takes {typed} as {taken}")


def test_every_duration_is_bounded() -> None:
    """What no calendar holds is refused with what is allowed; `all` stays everything."""
    found = options_of(Duration)
    assert len(found) >= 10, "two of every command over links"
    for _, param in found:
        assert param.type.convert("36500d", param, None) == 36_500 * 86_400
        assert param.type.convert("all", param, None) == math.inf
        for typed in ("36526d", "999999999d", "9" * 400 + "d"):
            with pytest.raises(click.BadParameter, match=r"too long; give at most 100 years|too large"):
                param.type.convert(typed, param, None)


@pytest.mark.parametrize(
    "command",
    [
        ["alarms", "evaluate", "--since", "99999999999d"],
        ["alarms", "silence", "--site", "sin", "--for", "9" * 400 + "d"],
        ["alarms", "routes", "sin chat", "--window", "999999999d"],
        ["inventory", "fit", "--site", "sin", "--window", "999999999d"],
    ],
)
def test_a_duration_that_no_calendar_holds_is_told(command: list[str], tmp_path: Path) -> None:
    """Also where it is not an option's own type."""
    done = run(*command, "--warehouse", str(tmp_path))
    assert done.returncode == 2
    assert "too long; give at most" in done.stderr or "too large" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["links", "--json", "--format", "csv"],
        ["matrix", "--json", "--format", "parquet", "-o", "x"],
        ["sql", "FROM links", "--json", "--format", "csv"],
        ["inventory", "fit", "--site", "sin", "--json", "--format", "csv"],
        ["failures", "--pairs", "--groups"],
        ["failures", "--pairs", "--groups-file", "x.csv"],
        ["whatif", "pop-cut-off", "--list"],
        ["whatif", "--all-single-failures", "--list"],
        ["whatif", "pop-cut-off", "--groups", "--grid", "1.site=a,b"],
    ],
)
def test_options_that_contradict_each_other_are_refused(command: list[str], tmp_path: Path) -> None:
    """None of them is left out in silence, and it is told before any warehouse is looked for."""
    done = run(*command, ISOCHRONE_WAREHOUSE=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "give" in done.stderr


def test_the_reference_shows_the_options_that_there_are() -> None:
    """Also the short one for help, which every command takes from the root."""
    text = (TOP / "docs" / "reference" / "cli.md").read_text()
    assert text.count("-h, --help") >= len(every_command())
