"""The command line `isochrone`: one table of commands, each loaded only when it is called.

Exit status: 0 done; 1 the answer is no; 2 the user's mistake; 3 something outside failed; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import select
import sys
from pathlib import Path
from typing import NoReturn

import click

from records.errors import IsochroneError

__all__ = ["main", "root"]

#: Command -> where it lives. Loading on call keeps `isochrone --help` instant and lets an agent run without the
#: packages of the warehouse and the dashboard.
COMMANDS = {
    "demo": "app.commands.demo:demo",
    "up": "app.commands.up:up",
    "collector": "app.commands.up:collector",
    "dashboard": "app.commands.up:dashboard",
    "agent": "app.commands.agent:agent",
    "ping": "app.commands.measure:ping",
    "traceroute": "app.commands.measure:traceroute",
    "throughput": "app.commands.measure:throughput",
    "infer": "app.commands.measure:infer",
    "http": "app.commands.measure:http",
    "serving": "app.commands.serving:serving",
    "stamp": "app.commands.stamp:stamp",
    "stamp-reflector": "app.commands.stamp:stamp_reflector",
    "survey": "app.commands.survey:survey",
    "lab": "app.commands.lab:lab",
    "doctor": "app.commands.doctor:doctor",
    "import": "app.commands.imports:import_",
    "sql": "app.commands.sql:sql",
    "export": "app.commands.sql:export",
    "alarms": "app.commands.alarms:alarms",
    "warehouse": "app.commands.data:warehouse",
    "inventory": "app.commands.inventory:inventory",
    "links": "app.commands.routes:links",
    "matrix": "app.commands.routes:matrix",
    "route": "app.commands.route:route",
    "alternatives": "app.commands.alternatives:alternatives",
    "failures": "app.commands.failures:failures",
    "place": "app.commands.place:place",
    "whatif": "app.commands.whatif:whatif",
}

#: Which extra brings a package, for the message when it is not installed.
_EXTRA_OF = {
    "cryptography": "warehouse",
    "duckdb": "warehouse",
    "ijson": "warehouse",
    "msgspec": "warehouse",
    "pyarrow": "warehouse",
    "starlette": "warehouse",
    "uvicorn": "warehouse",
    "networkx": "app",
    "numpy": "app",
    "scipy": "app",
    "streamlit": "app",
    "plotly": "app",
    "pandas": "app",
    "xllamacpp": "lab",
    "gguf": "lab",
    "scapy": "scapy",
}


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports the module of one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except ModuleNotFoundError as error:
                extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
                if extra is None:
                    raise
                rows.append((name, f"(not installed here: needs the extra '{extra}')"))
                continue
            assert command is not None
            rows.append((name, command.get_short_help_str(100)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="isochrone", prog_name="isochrone")
@click.option(
    "--inventory",
    metavar="FOLDER",
    help="Your own tables (pops.csv, ...) over the built-in ones, for any command. [env: ISOCHRONE_INVENTORY]",
)
def root(inventory: str | None) -> None:
    """Measure the network between edge PoPs and clouds, keep it, and find the fastest route for AI inference.

    Example: isochrone demo
    """
    if inventory is not None:
        # Through the environment, so that every process a command starts sees the same places.
        os.environ["ISOCHRONE_INVENTORY"] = str(Path(inventory).absolute())


def main() -> None:
    """Entry point: run the command, turn errors made on purpose into one line and an exit status."""
    try:
        status = root.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is said here, and not by Python at its end
    except click.exceptions.Abort:
        _end("stopped", STOPPED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except IsochroneError as error:
        _end(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _end(f"this command needs {error.name}, which is not installed; pip install 'isochrone[{extra}]'", 3)
    except SystemExit:
        # click takes a BrokenPipeError for itself, and ends with a status of its own.
        if not _is_unread():
            raise
        _unwritten(BrokenPipeError())
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        _unwritten(error)
    except (KeyboardInterrupt, Exception) as error:
        if not _is_stopped(error):
            raise
        _end("stopped", STOPPED)
    gc.freeze()  # the process ends: nothing of it need be looked through once more
    sys.exit(status if isinstance(status, int) else 0)


#: Exit status after Ctrl-C: 128 and the signal's number, as a shell has it.
STOPPED = 130
#: A file that takes no more, wherever it is: the disk is full, its quota is spent, it has failed, nobody reads it.
_UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


def _is_stopped(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: DuckDB takes KeyboardInterrupt for itself and says so in a RuntimeError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or (type(error) is RuntimeError and str(error) == "Query interrupted"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unwritten(error: OSError) -> NoReturn:
    """End where something could not be written; a reader that went away (`isochrone links | head`) is no error."""
    is_unread = isinstance(error, BrokenPipeError) and _is_unread()
    with contextlib.suppress(OSError, AttributeError, ValueError):  # what is left of it would fail once more at Python's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if is_unread:
        sys.exit(0)
    _end(f"cannot write {error.filename or 'the output'}: {error.strerror}; see to the place it goes to, or send it elsewhere", 3)


def _is_unread() -> bool:
    """Whether the reader of our output is gone."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _end(message: str, status: int) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody may be there to read it
        click.echo(f"isochrone: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
