"""Where a lab lives: the option that says it, the lab that is found there, and something done to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.output import note
from records.errors import InputError, UserError

if TYPE_CHECKING:
    from lab.namespace_lab import NamespaceLab

__all__ = ["attached", "do", "state_dir_option"]

F = TypeVar("F", bound=Callable[..., Any])


def state_dir_option(function: F) -> F:
    """The option ``--state-dir`` of every command about a running lab."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ISOCHRONE_LAB",
        default=None,
        metavar="FOLDER",
        help="Where the lab keeps its state; one lab lives in each. [default: one place per user; env: ISOCHRONE_LAB]",
    )(function)


def attached(state_dir: Path | None) -> NamespaceLab:
    """The lab that runs there, whose network can be asked and changed; raises UserError where there is none such."""
    from lab.loopback import CANNOT
    from lab.namespace_lab import NamespaceLab
    from lab.world import attach

    found = attach(state_dir)
    if not isinstance(found, NamespaceLab):
        raise UserError(f"this is a loopback lab: nothing in it is counted or changed ({CANNOT})")
    return found


def do(running: NamespaceLab, request: dict[str, object]) -> None:
    """Do what a request says, in the words of lab/actions.py, and say it; raises UserError with what is wrong with it."""
    from lab.actions import ACTION_KEYS, read_action
    from lab.tables import Table

    try:
        action = read_action(Table(request, "the command", "", ACTION_KEYS), running.topology)
    except InputError as error:
        raise UserError(error.problem.partition(": ")[2] or error.problem) from None
    running.do(action)
    note(str(action))
