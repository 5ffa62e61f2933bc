"""How the tests share a machine: those that own namespaces, or a browser, run one after the other on one worker."""

from __future__ import annotations

from pathlib import Path

import pytest

#: Files that start a whole world, whose processes and namespaces they count.
_WORLDS = {"test_app_demo.py"}
_TOP = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test of packets through namespaces into the group `lab`, each test of pages in chromium into `browser`."""
    for item in items:
        place = item.path.relative_to(_TOP)
        if item.get_closest_marker("lab") is not None or place.parts[0] == "lab" or place.name in _WORLDS:
            item.add_marker(pytest.mark.xdist_group("lab"))
        elif item.get_closest_marker("browser") is not None:
            item.add_marker(pytest.mark.xdist_group("browser"))
