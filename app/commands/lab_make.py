"""`isochrone lab from-matrix`: a world from measured round-trip times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.output import emit_json, json_option, note
from records.errors import OutsideError, UserError
from records.link import MEDIA

if TYPE_CHECKING:
    from lab.from_matrix import Matrix

__all__ = ["from_matrix"]

_RTT_COLUMNS = ("rtt_ms", "min_ms", "p50_ms", "p95_ms")


@click.command("from-matrix")
@click.argument("matrix", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--sites", type=click.Path(path_type=Path, dir_okay=False), help="CSV of places that the inventory does not know: id,name,lat,lon."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the world here. [default: standard output]")
@click.option("--only", default=None, metavar="SITE,SITE...", help="Only these sites.")
@click.option("--top", type=click.IntRange(2), default=None, metavar="N", help="Only N sites, those with the most pairs among them.")
@click.option("--rtt-column", type=click.Choice(_RTT_COLUMNS), default="rtt_ms", show_default=True, help="Which column is the RTT.")
@click.option("--jitter", is_flag=True, help="Let links vary as stddev_ms says; the RTT is then the least one.")
@click.option("--keep-impossible", is_flag=True, help="Keep RTTs that are faster than light in fibre.")
@click.option("--medium", type=click.Choice(MEDIA), default="internet", show_default=True, help="The medium of all links.")
@click.option("--name", default=None, help="Name of the world. [default: the file's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of loss and jitter.")
@json_option
def from_matrix(
    matrix: Path,
    sites: Path | None,
    output: Path | None,
    only: str | None,
    top: int | None,
    rtt_column: str,
    jitter: bool,
    keep_impossible: bool,
    medium: Any,
    name: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Make a world of the RTTs in MATRIX (CSV with src,dst,rtt_ms), so that a real grid becomes real packets.

    Example: isochrone lab from-matrix rtt.csv --top 12 -o grid.toml
    """
    from inventory.sites_csv import read
    from lab.from_matrix import read_matrix, world_of
    from lab.toml_text import toml_text

    if as_json and output is None:
        raise UserError("--json reports on standard output, where the world would go too; give -o FILE")
    found = read_matrix(matrix, read(sites) if sites else (), column=rtt_column, keep_impossible=keep_impossible)
    if only is not None:
        found = found.only([site.strip() for site in only.split(",") if site.strip()])
    if top is not None:
        found = found.top(top)
    title = f"{len(found.sites)} sites with the RTTs of {matrix.name}"
    world = world_of(found, name or matrix.stem, title=title, medium=medium, seed=seed, jitter=jitter)
    remarks = _remarks(found)
    text = toml_text(world, [f"Made from {matrix.name} ({rtt_column}) by `isochrone lab from-matrix`.", *remarks])
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, "utf-8")
        except OSError as error:
            raise OutsideError(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        emit_json(
            {
                "world": world.name,
                "sites": list(found.sites),
                "links": len(world.links) // 2,
                "one_way_only": [list(pair) for pair in found.one_way_only],
                "unmeasured": [list(pair) for pair in found.unmeasured],
                "differing": [list(pair) for pair in found.differing],
                "repeated": found.repeated,
                "refused": [{"line": r.line, "src": r.src, "dst": r.dst, "why": r.why} for r in found.refused],
                "unknown": dict(found.unknown),
            }
        )
    for remark in remarks:
        note(remark)
    if output is not None:
        note(f"try: isochrone lab up {output}")


def _remarks(found: Matrix) -> list[str]:
    """What a person should know about the world that was made, a line each."""
    one_way, unmeasured, differing = found.one_way_only, found.unmeasured, found.differing
    said = [f"{len(found.sites)} sites, {len({frozenset(pair) for pair in found.pairs})} pairs."]
    if one_way:
        said.append(f"{len(one_way)} pairs were measured from one end only and take half of that both ways: {_some(one_way)}.")
    if differing:
        said.append(f"{len(differing)} pairs differ by more than 2 % between their ends and have the mean: {_some(differing)}.")
    if unmeasured:
        said.append(f"{len(unmeasured)} pairs were not measured and are not joined: {_some(unmeasured)}.")
    if found.repeated:
        said.append(f"{found.repeated} rows repeat a pair; the median counts.")
    if found.refused:
        kinds = Counter("faster than light in fibre" if "faster than light" in r.why else r.why for r in found.refused)
        said.append("Rows not used: " + ", ".join(f"{count} {why}" for why, count in kinds.most_common()) + ".")
        said += [f"  line {r.line}: {r.src} > {r.dst}: {r.why}" for r in found.refused[:5]]
    if found.unknown:
        names = ", ".join(name for name, _ in found.unknown.most_common(8))
        said.append(f"{len(found.unknown)} sites are not known and left out ({names}); give them with --sites.")
    return said


def _some(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{a} > {b}" for a, b in pairs[:4]) + (", ..." if len(pairs) > 4 else "")
