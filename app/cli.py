"""The command line `isochrone`: one table of commands, each loaded only when it is called.

Exit status: 0 done; 1 the answer is no; 2 the user's mistake; 3 something outside failed.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

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
    except click.exceptions.Abort:
        _say("stopped")
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except IsochroneError as error:
        _say(str(error))
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _say(f"this command needs {error.name}, which is not installed; pip install 'isochrone[{extra}]'")
        sys.exit(3)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`isochrone links | head`): not an error, and nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    gc.freeze()  # the process ends: nothing of it need be looked through once more
    sys.exit(status if isinstance(status, int) else 0)


def _say(message: str) -> None:
    click.echo(f"isochrone: {message}", err=True)


if __name__ == "__main__":
    main()
