"""The pages of the dashboard (`isochrone dashboard`); app.server serves them, over the warehouse named by ISOCHRONE_WAREHOUSE."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import address, frame, sign_in, turns

STATIC = Path(__file__).parent / "static"

PAGES = {
    "Observe": (
        ("overview.py", "Overview", "public"),
        ("mesh.py", "Mesh", "grid_on"),
        ("pair.py", "Pair", "timeline"),
        ("paths.py", "Paths", "route"),
        ("inference.py", "Inference", "bolt"),
    ),
    "Decide": (
        ("routes.py", "Routes", "alt_route"),
        ("isochrones.py", "Isochrones", "target"),
        ("whatif.py", "What-if", "device_unknown"),
        ("scenario.py", "Scenario", "tune"),
        ("placement.py", "Placement", "add_location_alt"),
        ("cost.py", "Cost", "payments"),
    ),
    "Trust": (
        ("fleet.py", "Fleet", "dns"),
        ("quality.py", "Data quality", "fact_check"),
    ),
    "Explore": (
        ("inventory.py", "Inventory", "inventory_2"),
        ("sql.py", "SQL", "database"),
    ),
}

#: Pages for the role analyst alone: a question in SQL may take the machine for itself.
ANALYSTS = {"sql.py"}


st.set_page_config(page_title="Isochrone", page_icon=str(STATIC / "mark.svg"), layout="wide", initial_sidebar_state=232)
frame.styles()
st.logo(str(STATIC / ("logo-dark.svg" if frame.theme().name == "dark" else "logo.svg")), size="large", icon_image=str(STATIC / "mark.svg"))
with frame.guard():
    role = sign_in.enter()
    page = st.navigation(
        {
            group: [
                st.Page(f"app_pages/{file}", title=title, icon=f":material/{icon}:", default=file == "overview.py")
                for file, title, icon in pages
                if role == "analyst" or file not in ANALYSTS
            ]
            for group, pages in PAGES.items()
        },
        expanded=True,
    )
    address.enter(page.url_path)
    with turns.click():
        frame.sidebar()
        page.run()
        address.entered()
