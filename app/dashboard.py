"""How to start the dashboard: a process of its own, so that a crowded page never costs a measurement."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["SCRIPT", "argv", "environment"]

#: The script Streamlit runs; its settings lie beside it in `.streamlit/config.toml`.
SCRIPT = Path(__file__).parent / "streamlit_app.py"


def argv(host: str, port: int) -> list[str]:
    """The command that serves the dashboard at an address; add `environment` to its environment.

    Ready when ``GET /_stcore/health`` answers 200 with the body ``ok``. Ends on SIGTERM.
    """
    return [
        *(sys.executable, "-m", "streamlit", "run", str(SCRIPT)),
        *("--server.address", host, "--server.port", str(port)),
        *("--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"),
    ]


def environment(warehouse: str) -> dict[str, str]:
    """What the process must find in its environment: where the measurements are kept."""
    return {"ISOCHRONE_WAREHOUSE": warehouse}
