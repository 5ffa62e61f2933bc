"""The server of the dashboard: Streamlit's own, with what all sessions share made ready before the first one comes.

`streamlit run app/server.py` finds `app` here and serves it; app.dashboard gives the whole command.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from app import access, ahead, alarm_panel, data, standing
from app.board import Board, Home, Poster
from app.shelf import Shelf, needed

__all__ = ["app"]

#: What is long over is looked at anew with every minute of the clock (app.data); just after that it is made ready for who comes next.
MINUTE_S = 60.0
#: Python's collector: the young are looked through after so many new objects, those that lived through it after so many times that.
YOUNG = (5_000, 20)
NEVER = 1_000_000_000
#: What the Overview is made of, down to its map.
FIRST = ("Html/Html.tsx", "Selectbox/Selectbox.tsx", "ButtonGroup/ButtonGroup.tsx", "BidiComponent/BidiComponent.tsx")

BOARD = Board()


def _import() -> None:
    """Import what the pages draw with, then take all of it out of the garbage collector's sight.

    Without this, every collection walks the modules of Plotly, pandas and NumPy again. What lives long is then looked through once a
    minute (_keep_ready) and not whenever a quarter more of it has come: with a hundred sessions that takes a third of a second, in which
    nobody is answered, and came every few seconds. Who asks Streamlit for its collection after every run (runner.postScriptGC) gets
    Python's own.
    """
    import pandas as pd
    import plotly.graph_objects as go

    from app import picture  # noqa: F401
    from app.charts import hops, routes, series  # noqa: F401

    go.Figure(go.Scatter(y=pd.Series([1.0])))
    if not st.get_option("runner.postScriptGC"):
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG, NEVER)


def _look() -> None:
    """Read and draw what the Overview opens with; put it into the page where that is for everybody."""
    from app import picture
    from app.poster import poster

    # No session asks here, and Streamlit says so each time a value is kept.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    opening = picture.ready()
    # Nobody sees a number before the sign-in, where there is one.
    if opening is None or access.configured():
        BOARD.clear()
    else:
        BOARD.put(poster(opening), opening.window)


def _prepare(at: data.Source, window: str) -> None:
    """Read what the Overview shows of a source, as its parts read it."""
    from app import picture

    picture.opening(at, window)
    alarm_panel.open_alarms(at)
    standing.agents(at)
    standing.changed(at)
    data.rejects(at)


async def _keep_ready() -> None:
    log = logging.getLogger(__name__)
    await asyncio.to_thread(_import)
    data.CURRENT.prepare = _prepare
    data.CURRENT.begin()
    ahead.begin()
    while True:
        try:
            await asyncio.to_thread(_look)
        except Exception:  # whoever opens a page is told there what is wrong
            BOARD.clear()
            log.debug("the Overview could not be made ready", exc_info=True)
        if gc.get_threshold()[2] == NEVER:
            gc.collect()
        await asyncio.sleep(MINUTE_S - time.time() % MINUTE_S)


@asynccontextmanager
async def _alive(_: st.App) -> AsyncIterator[None]:
    work = asyncio.create_task(_keep_ready())
    try:
        yield
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


app = st.App(
    Path(__file__).parent / "streamlit_app.py",
    lifespan=_alive,
    middleware=[Middleware(Shelf, first=needed(FIRST)), Middleware(Poster, board=BOARD), Middleware(Home, name="overview")],
)
