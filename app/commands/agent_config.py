"""`isochrone agent config key / sign / publish / list`: configurations that an operator signs and agents take."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.output import emit_json, json_option, note, table
from probes.settings import check_slug
from records.errors import ConfigError, OutsideError, UserError

if TYPE_CHECKING:
    from records.pushed import Pushed

__all__ = ["config"]

_configs = click.option(
    "--configs",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="What `isochrone collector --configs` hands on.",
)
_key = click.option("--key", "key_file", type=click.Path(path_type=Path), metavar="FILE", help="The key to sign with (mode 0600).")
_agent = click.option("--agent", metavar="ID", help="For this agent.")
_site = click.option("--site", metavar="SITE", help="For the agents of this site.")
_all = click.option("--all", "is_all", is_flag=True, help="For all agents.")


@click.group()
def config() -> None:
    """Push configurations to agents: signed here, handed on by the collector, taken whole or not at all.

    Example: isochrone agent config publish mesh.toml --key signing.key --site sin --configs /var/lib/isochrone/configs
    """


@config.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The key to sign with goes there (mode 0600).")
@click.option(
    "--configs", "folder", type=click.Path(path_type=Path), metavar="FOLDER", help="Put its public half there, for agents to pin."
)
def key(out: Path, folder: Path | None) -> None:
    """Make the key (Ed25519) that configurations are signed with. Agents pin its public half when they enrol, and take no other.

    Example: isochrone agent config key --out signing.key --configs /var/lib/isochrone/configs
    """
    from warehouse.publications import KEY, Publications, make_key

    if folder is not None and Publications(folder).key is not None:
        raise UserError(f"{folder / KEY} is there already, and agents have pinned it; see docs/security.md before you replace it")
    public = make_key(out)
    if folder is None:
        click.echo(public, nl=False)
    else:
        Publications(folder).put_key(public)
        note(f"agents pin {folder / KEY} when they enrol")
    note(f"keep {out} where configurations are signed, and away from the collector")


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@_agent
@_site
@_all
@click.option("--generation", type=click.IntRange(1, 10**15), required=True, metavar="N", help="Higher than any that was published.")
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The key to sign with (mode 0600).")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The signed document goes there.")
def sign(file: Path, agent: str | None, site: str | None, generation: int, key_file: Path, out: Path, *, is_all: bool) -> None:
    """Sign a configuration where the key is, to be published elsewhere.

    Example: isochrone agent config sign mesh.toml --key signing.key --all --generation 7 --out mesh.signed
    """
    from warehouse.publications import sign as sign_with

    document, _ = sign_with(_pushed(file, agent, site, generation, is_all=is_all), key_file)
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as target:
            target.write(document)
    except FileExistsError:
        raise UserError(f"{out} is there already; choose another --out") from None
    except OSError as error:
        raise OutsideError(f"cannot write {out}: {error.strerror}") from error
    note(f"signed generation {generation}; beside the collector: isochrone agent config publish {out} --configs FOLDER")


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@_agent
@_site
@_all
@_key
@_configs
@json_option
def publish(file: Path, agent: str | None, site: str | None, key_file: Path | None, folder: Path, *, is_all: bool, as_json: bool) -> None:
    """Publish a configuration: a document that was signed before, or with --key a TOML file, signed with the next generation.

    The newest that names an agent is the one for it; an empty file takes back what was pushed. [limits], [mesh], [[probe]] and
    [[target]] can be pushed; what the PoP's own file forbids stays forbidden.

    Example: isochrone agent config publish mesh.toml --key signing.key --site sin --configs /var/lib/isochrone/configs
    """
    from warehouse.publications import Publications
    from warehouse.publications import sign as sign_with

    publications = Publications(folder)
    if key_file is not None:
        document, public = sign_with(_pushed(file, agent, site, publications.next_generation(), is_all=is_all), key_file)
        publications.put_key(public)
    elif agent or site or is_all:
        raise UserError("whom a signed document is for is signed too; give --key FILE to sign a TOML file here")
    else:
        document = _read(file)
    made = publications.put(document)
    said = {"generation": made.generation, "for": made.audience, "made_at": made.made_at, "bytes": made.size_bytes}
    if as_json:
        emit_json(said)
    note(f"published generation {made.generation} for {made.audience}; agents ask for it within their config_interval_s (60 s)")


@config.command("list")
@_configs
@json_option
def list_(folder: Path, *, as_json: bool) -> None:
    """List what is published, the newest first: the first that names an agent is the one for it.

    Example: isochrone agent config list --configs /var/lib/isochrone/configs
    """
    from warehouse.publications import Publications

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; `isochrone agent config key --configs` makes one")
    rows = [
        {"generation": entry.generation, "for": entry.audience, "made_at": entry.made_at, "bytes": entry.size_bytes}
        for entry in Publications(folder).all()
    ]
    if as_json:
        emit_json(rows)
        return
    table(
        ["generation", "for", "signed", "bytes"], [[r["generation"], r["for"], f"{r['made_at']:%Y-%m-%d %H:%M}", r["bytes"]] for r in rows]
    )


def _pushed(file: Path, agent: str | None, site: str | None, generation: int, *, is_all: bool) -> Pushed:
    """What is to be signed, once it has shown to be something that an agent could take."""
    from probes.pushed import merged
    from records.pushed import Pushed

    if sum((agent is not None, site is not None, is_all)) != 1:
        raise UserError("whom is it for? give one of --agent ID, --site SITE, --all")
    for name, value in (("--agent", agent), ("--site", site)):
        if value is not None:
            check_slug(name, value)
    try:
        toml = _read(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from None
    pushed = Pushed(generation=generation, made_at=datetime.now(UTC), agent=agent, site=site, toml=toml)
    try:
        merged({}, pushed)
    except ConfigError as error:
        if "files and variables" not in str(error):  # an agent's own file may have them
            raise ConfigError(f"{file}: {error}") from None
    return pushed


def _read(path: Path) -> bytes:
    from records.pushed import MAX_PUSHED_BYTES

    try:
        with path.open("rb") as file:
            content = file.read(2 * MAX_PUSHED_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > 2 * MAX_PUSHED_BYTES:
        raise UserError(f"{path} is larger than {2 * MAX_PUSHED_BYTES} bytes")
    return content
