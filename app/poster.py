"""The Overview's figures and map in the page itself, so that they are seen before Streamlit's scripts have run.

A browser has to load and run five megabytes of scripts, open a session and wait for its first run until a page of Streamlit's shows
anything. What the Overview opens with is known before anyone asks (app.picture), so the answer to a new visit brings it along: the same
HTML, rules, script and data as on the live page, at the same place, drawn at once. The live map takes it away when it has drawn. It
answers no click, and is hidden from screen readers: the live page says the same a moment later.

app.board says to whom it is shown.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from app import frame, picture
from app.components import netmap
from app.theme import DARK, LIGHT, Theme

__all__ = ["poster"]

_HERE = Path(__file__).parent / "components"

#: Where the live page has the same: beside its list of pages, from 768 pixels on; its head in the first of two columns of 3 and 7.
_RULES = """
html{font-size:15px}
#iso-poster{position:fixed;z-index:1000;pointer-events:none;inset:0 0 auto var(--sidebar,232px)}
@media (max-width:768px){#iso-poster{display:none}}
"""
_INNER = """
:host{font:400 15px/1.6 "Source Sans",sans-serif}
.page{box-sizing:border-box;padding:0 33px 15px;color:var(--text);background:var(--page)}
.page>.head{box-sizing:border-box;width:calc(30% - 7.5px);height:72.75px;display:flex;align-items:flex-end}
.page>*+*{margin-top:15px}
*{box-sizing:border-box}
"""


def poster(opening: picture.Opening) -> bytes:
    """The picture as HTML, for before the element that Streamlit fills.

    What is said in it (names of sites) may come from anyone who has measured: it is escaped as HTML, and as JSON within a script.
    """
    light, dark = json.loads(opening.light), json.loads(opening.dark)
    both = {name: value for name, value in light.items() if dark[name] == value}
    drawn = {"both": both} | {name: {key: of[key] for key in of if key not in both} for name, of in (("light", light), ("dark", dark))}
    data = json.dumps(drawn, separators=(",", ":")).replace("<", r"\u003c")
    inner = "".join(f'<style data-theme="{colours.name}" media="not all">{_colours(colours)}</style>' for colours in (LIGHT, DARK))
    return (
        f'<style>{_RULES}</style><div id="iso-poster" aria-hidden="true"><template shadowrootmode="open">'
        f"<style>{netmap.styles()}{_INNER}</style>{inner}"
        f'<script type="application/json">{data}</script>'
        f'<div class="page"><div class="head">{frame.head_html(picture.TITLE, picture.QUESTION)}</div>'
        f'{frame.strip_html(opening.figures)}<div class="iso-map">{netmap.HTML}</div></div>'
        f"</template></div><script>{_script()}</script>"
    ).encode()


def _colours(colours: Theme) -> str:
    return f":host{{--page:{colours.page};--text:{colours.text}}}{frame.rules(colours)}"


@lru_cache(maxsize=1)
def _script() -> str:
    """The map's module and what shows it here, as one function: it runs at once, where a module waits for the page."""
    module = netmap.script().replace("export default function", "const show = function")
    return f"(() => {{{module}\n{(_HERE / 'poster.js').read_text('utf-8')}}})();"
