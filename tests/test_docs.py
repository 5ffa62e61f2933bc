"""The documentation holds: every command in it exists with the options it is given, the safe ones run as they stand, every link leads
somewhere, every page is in the index, and the reference is what the code says.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from app.cli import root

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "inventory" / "README.md", *sorted(DOCS.glob("*.md"))]
#: Commands that neither wait, nor listen, nor send a packet.
SAFE = {"import", "links", "matrix", "route", "alternatives", "failures", "sql", "whatif", "inventory", "warehouse", "export"}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Every `isochrone ...` of a page's sh blocks and of its indented ones, as words."""
    text = page.read_text("utf-8")
    blocks = [body for kind, body in _BLOCK.findall(text) if kind in {"sh", ""}]
    blocks += ["\n".join(re.findall(r"^    (isochrone .*)$", _BLOCK.sub("", text), re.MULTILINE))]
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if "isochrone " not in line:
                continue
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue  # not a command: the output of one
            while words:
                cut = next((n for n, word in enumerate(words) if word in {"|", "&&", ";", ">", "<"}), len(words))
                part, words = words[:cut], words[cut + 1 :]
                while part and re.match(r"[A-Z_]+=|sudo$", part[0]):
                    part = part[1:]
                if part and re.fullmatch(r"(?:\S*/bin/)?isochrone", part[0]):
                    yield part[1:]


def resolve(argv: list[str]) -> tuple[str, list[str]]:
    """(path of the command, its options) of a command line. Raises AssertionError where there is no such command."""
    command: click.Command = root
    context = click.Context(root, info_name="isochrone")
    names: list[str] = []
    used: list[str] = []
    takes_value = False
    for word in argv:
        if takes_value:
            takes_value = False
        elif re.match(r"--?[A-Za-z]", word):
            name, has_value, _ = word.partition("=")
            option = next((one for one in command.params if name in (*one.opts, *one.secondary_opts)), None)
            assert option is not None or name in {"--help", "-h", "--version"}, f"isochrone {' '.join(names)} has no {name}"
            used.append(name)
            takes_value = isinstance(option, click.Option) and not option.is_flag and not option.count and not has_value
        elif isinstance(command, click.Group):
            child = command.get_command(context, word)
            if child is None:
                assert command.invoke_without_command, f"isochrone {' '.join(names)} has no command {word!r}"
                break
            command = child
            names.append(word)
    return " ".join(names), used


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists_with_its_options(page: Path) -> None:
    """As they stand in the page; `lab exec HOST -- CMD` only up to there."""
    for argv in commands(page):
        resolve(argv[: argv.index("--")] if "--" in argv else argv)


def test_there_are_commands_to_look_at() -> None:
    """The reader above reads: the pages have a hundred of them, and one that does not exist is found."""
    assert sum(1 for page in PAGES for _ in commands(page)) > 100
    for wrong in (["warehouse", "bakcup"], ["route", "--form", "sin"], ["nothing"]):
        with pytest.raises(AssertionError):
            resolve(wrong)


@pytest.mark.parametrize(
    "name", ["start", pytest.param("own-network", marks=pytest.mark.slow), pytest.param("backup", marks=pytest.mark.slow)]
)
def test_safe_commands_run_in_the_order_of_the_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer's way through a guide: its files as it gives them, its commands one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("ISOCHRONE_WAREHOUSE", "ISOCHRONE_INVENTORY"):
        monkeypatch.setenv(variable, "")  # so that it is put back afterwards
        monkeypatch.delenv(variable)
    texts = {page: (DOCS / f"{page}.md").read_text("utf-8") for page in ("start", "own-network")}
    (tmp_path / "my-network").mkdir()
    for page, file in (("start", "rtts.csv"), ("own-network", "my-network/pops.csv")):
        (body,) = [body for kind, body in _BLOCK.findall(texts[page]) if kind == "csv"]
        (tmp_path / file).write_text(body)
    run = [argv for argv in commands(DOCS / f"{name}.md") if SAFE & set(argv[:3]) and argv[:2] != ["warehouse", "rollback"]]
    run = [argv for argv in run if not any(word.isupper() for word in argv)]  # DIR, and what is the reader's
    if name == "backup":
        run.insert(0, ["import", "rtt-matrix", "rtts.csv"])
    assert len(run) >= 4
    for argv in run:
        result = CliRunner().invoke(root, argv, standalone_mode=False)
        os.environ.pop("ISOCHRONE_INVENTORY", None)  # what --inventory says holds for its own command
        assert result.exception is None, f"isochrone {shlex.join(argv)}: {result.exception!r}"
        assert result.stdout.strip() or "warehouse" in argv, shlex.join(argv)


def test_links_lead_somewhere_and_every_page_is_in_the_index() -> None:
    """Links between pages, to files and pictures; docs/README.md names every page."""
    broken = []
    for page in [*PAGES, *sorted(DOCS.glob("reference/*.md"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text("utf-8"))):
            path, _, _ = target.partition("#")
            if path and "://" not in path and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
    index = (DOCS / "README.md").read_text("utf-8")
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page.name != "README.md"]
    assert [page for page in pages if f"({page}" not in index] == []


@pytest.mark.slow
def test_the_reference_is_what_the_code_says() -> None:
    """`make docs` would change nothing; `make lint` asks the same."""
    command = [sys.executable, str(ROOT / "scripts" / "build-docs"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
