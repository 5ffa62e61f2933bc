"""How to start the dashboard: a process of its own, so that a crowded page never costs a measurement."""

from __future__ import annotations

import sys
from pathlib import Path

from app.access import ENVIRONMENT as ACCESS

__all__ = ["SCRIPT", "SERVER", "argv", "environment"]

#: The script Streamlit runs for every session; its settings lie beside it in `.streamlit/config.toml`.
SCRIPT = Path(__file__).parent / "streamlit_app.py"
#: What is started: the server of that script.
SERVER = Path(__file__).parent / "server.py"


def argv(host: str, port: int, access: Path | None = None) -> list[str]:
    """The command that serves the dashboard at an address; add `environment` to its environment.

    access  the file of the sign-in and its roles (app.access); only its path is on the command line

    Ready when ``GET /_stcore/health`` answers 200 with the body ``ok``. Ends on SIGTERM.
    """
    return [
        *(sys.executable, "-m", "streamlit", "run", str(SERVER)),
        *("--server.address", host, "--server.port", str(port)),
        *("--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"),
        *("--logger.level", "error"),  # else it says of each value that is kept before the first session that no session keeps it
        *(() if access is None else ("--secrets.files", str(access))),
    ]


def environment(warehouse: str, access: Path | None = None) -> dict[str, str]:
    """What the process must find in its environment: where the measurements are kept, and who may see them."""
    return {"ISOCHRONE_WAREHOUSE": warehouse} | ({} if access is None else {ACCESS: str(access)})
