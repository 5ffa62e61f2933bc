"""What every page shares: its head, the controls of the sidebar, errors as messages, and what to do when there is nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Any

import streamlit as st

from app import address, data, metrics, text, turns
from app.identity import by_identity
from app.theme import Theme, theme_of
from inventory.load import load
from records.errors import IsochroneError, NoAnswer
from records.link import LinkEstimate
from records.place import Site

__all__ = [
    "FOCUSED",
    "PAIR_PAGE",
    "PATHS_PAGE",
    "PLOTLY",
    "REFRESH_S",
    "View",
    "csv_of",
    "guard",
    "head",
    "head_html",
    "need_links",
    "next_step",
    "open_pair",
    "pick_site",
    "pick_workload",
    "progress_of",
    "rules",
    "sidebar",
    "strip",
    "strip_html",
    "styles",
    "tell",
    "theme",
    "usual_pair",
    "view",
    "view_of_minute",
]

#: What is live on a page is drawn anew so often.
REFRESH_S = 15
PAIR_PAGE = "app_pages/pair.py"
PATHS_PAGE = "app_pages/paths.py"
#: Where a session keeps the site that the Overview was focused on: pages that start from a site start from this one.
FOCUSED = "focused"

#: No logo and no button that would need another host; the wheel is left to the page.
PLOTLY = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "toImage"], "scrollZoom": False}


@dataclass(frozen=True, slots=True)
class View:
    """What a page looks at: a source, the window and the medium chosen on the left, all links of the window, every known place by id."""

    at: data.Source
    window: str
    medium: str
    all_links: tuple[LinkEstimate, ...]
    sites: Mapping[str, Site]

    @property
    def links(self) -> list[LinkEstimate]:
        """The links over the chosen medium, those kept out by a gate included."""
        return _of_medium(self.all_links, self.medium)

    @property
    def usable(self) -> list[LinkEstimate]:
        """The links that passed every gate; only these are drawn and routed over."""
        return _usable(self.all_links, self.medium)

    def span(self) -> tuple[datetime, datetime]:
        """The window as [start, end) in UTC; for everything, from the first possible time."""
        length = text.window_of(self.window)
        return (self.at.now - length if length else datetime(1970, 1, 1, tzinfo=self.at.now.tzinfo), self.at.now)


# Every rerun of every session asks for these of the same links.
_of_medium = by_identity(16)(metrics.of_medium)


@by_identity(16)
def _usable(links: tuple[LinkEstimate, ...], medium: str) -> list[LinkEstimate]:
    return [link for link in _of_medium(links, medium) if link.gate == "ok"]


def theme() -> Theme:
    """The colours of the theme the browser shows."""
    return theme_of(st.context.theme.type)


@contextmanager
def guard() -> Iterator[None]:
    """Show an error made on purpose as its one sentence; a "no" is information, not a fault."""
    try:
        yield
    except IsochroneError as error:
        tell(error)


def tell(problem: IsochroneError | str) -> None:
    """Show an error made on purpose, or its words, as every page does: one sentence."""
    words, _, drawing = str(problem).partition("\n")
    if isinstance(problem, NoAnswer):
        st.info(text.sentence(words), icon=":material/info:")
    else:
        st.error(text.sentence(words), icon=":material/error:")
    if drawing.strip():  # a database's own drawing of where a query went wrong keeps its columns
        st.code(drawing.strip("\n"), language=None)


def head(title: str, caption: str) -> None:
    """The title of a page and one line that says what it answers."""
    st.html(head_html(title, caption))


def head_html(title: str, caption: str) -> str:
    """The head of a page as HTML."""
    return f'<div class="iso-head"><h1>{escape(title)}</h1><p>{escape(caption)}</p></div>'


def next_step(message: str, *commands: str) -> None:
    """Say why there is nothing to see, and the exact command that changes that."""
    st.info(message, icon=":material/arrow_forward:")
    if commands:
        st.code("\n".join(commands), language="shell")


def sidebar() -> None:
    """The controls every page obeys: the window and the medium, both in the address; below them, where the numbers are from."""
    at = data.source()
    if at is None:
        st.session_state["view"] = None
        with st.sidebar:
            _missing()
        return
    newest = data.newest(at)
    usual = text.default_window(newest, at.now)
    with st.sidebar:
        window = address.choose("Window", list(text.WINDOWS), key="window", usual=usual, titles=text.WINDOW_TITLES.__getitem__, always=True)
        links = data.links(at, window)
        media = metrics.media_of(links) or ["internet"]
        if len(media) > 1:
            media.append("any")
        medium = address.choose(
            "Medium",
            media,
            key="medium",
            usual=media[0],
            titles=text.MEDIUM_TITLES.__getitem__,
            help="What joins two sites. *Fastest of all* takes, for each pair, the medium with the least median RTT.",
        )
        _provenance(newest)
    st.session_state["view"] = View(at, window, medium, links, data.sites(at))


@st.fragment(run_every=REFRESH_S)
def _missing() -> None:
    """That there is no warehouse, until there is one: then the page is drawn anew by itself."""
    with guard():
        if data.source() is not None:
            st.rerun()
        _say_missing()


def _say_missing() -> None:
    st.caption(f"No warehouse at `{data.location()}`")


@st.fragment(run_every=REFRESH_S)
def _provenance(newest: datetime | None) -> None:
    turns.give_way()
    with guard():
        fresh = data.source()
        if fresh is None:
            _say_missing()
            return
        newest = data.newest(fresh) or newest
        told = f"newest sample **{text.age(data.age_s(newest))}** ago" if newest else "imports without a date"
        st.caption(f"Snapshot **{fresh.snapshot}** · {told}  \n`{fresh.location}`")


def view(before: Callable[[], None] = lambda: None) -> View:
    """What the page looks at; stops the page with the next step when there is no warehouse or nothing in it.

    before   what to show above the next step
    """
    found: View | None = st.session_state.pop("view", None)  # a session that waits holds no links
    if found is None:
        before()
        next_step(text.NO_DATA["warehouse"].format(location=data.location()), "isochrone demo", "isochrone up")
        st.stop()
    if not any(data.counts(found.at).values()):
        before()
        next_step(
            text.NO_DATA["empty"].format(location=data.location()),
            "isochrone demo",
            "isochrone agent run --config agent.toml",
            "isochrone import rtt-matrix MATRIX.csv --sites SITES.csv",
        )
        st.stop()
    return found


def view_of_minute() -> View:
    """`view` as it was first seen in this minute, for pages that plan: all sessions share what that takes."""
    seen = view()
    at = data.of_minute(seen.at, seen.window)
    links = data.links(at, seen.window)
    return replace(seen, at=at, all_links=links, sites=data.sites(at)) if links else seen  # the first link is worth a look at once


def progress_of(title: str) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    """What shows a bar here while something is worked out, and takes it away again; see whatif.Progress."""
    place = st.empty()

    @contextmanager
    def shown(_: str, count: int) -> Iterator[Callable[[int], None]]:
        done, drawn = 0, 0.0

        def more(number: int) -> None:
            nonlocal done, drawn
            done += number
            share = min(1.0, done / max(1, count))
            if share - drawn >= 0.01:
                drawn = share
                place.progress(share, f"{title}: {done:,} of {count:,}")

        place.progress(0.0, f"{title}: 0 of {count:,}")
        try:
            yield more
        finally:
            place.empty()

    return shown


def need_links(seen: View) -> None:
    """Stop the page when the window holds no link, and say where the newest measurement is."""
    if not seen.all_links:
        next_step(
            text.NO_DATA["window"].format(window=text.WINDOW_TITLES[seen.window].lower(), newest=text.clock(data.newest(seen.at))),
        )
        st.stop()


def open_pair(src: str, dst: str, medium: str | None = None, page: str = PAIR_PAGE) -> None:
    """Go to the page of one pair."""
    named = {"src": src, "dst": dst, "window": st.session_state.get("window"), "medium": medium or st.session_state.get("medium")}
    st.switch_page(page, query_params={name: value for name, value in named.items() if value})


def usual_pair(seen: View) -> tuple[str | None, str | None]:
    """The pair a page opens with: the usable one furthest from its fibre floor, which is where one looks first."""
    worst = metrics.worst_first(seen.usable, metrics.METRICS["inflation"], near=False)
    return (worst[0].src, worst[0].dst) if worst else (None, None)


def pick_site(label: str, options: Sequence[str], sites: Mapping[str, Site], *, key: str, usual: str | None = None, **settings: Any) -> str:
    """A list of sites to choose from, kept in the address under `key`; one to start from (``src``) starts with the Overview's focus."""
    focused = st.session_state.get(FOCUSED)
    if key == "src" and focused in options:
        usual = focused
    return address.choose(
        label,
        options,
        key=key,
        usual=usual if usual is not None and usual in options else options[0],
        titles=lambda site: text.site_label(sites.get(site), site),
        always=True,
        **settings,
    )


def pick_workload(**settings: Any) -> str:
    """The name of a workload of the inventory, kept in the address."""
    workloads = load().workloads
    names = list(workloads)
    return address.choose("Workload", names, key="workload", usual=names[0], titles=lambda name: workloads[name].title, **settings)


def strip(items: Sequence[tuple[str, str, str, bool]]) -> None:
    """A row of figures: (name, value, remark, whether it calls for attention)."""
    st.html(strip_html(items))


def strip_html(items: Sequence[tuple[str, str, str, bool]]) -> str:
    """The row of `strip` as HTML; what is said is escaped."""
    cells = "".join(
        f'<div class="iso-kpi{" iso-alert" if alert else ""}" title="{escape(f"{name}: {value}" + (f" · {remark}" if remark else ""))}">'
        f'<div class="n">{escape(name)}</div>'
        f'<div class="v{" long" if len(value) > 13 else ""}">{_breakable(value)}</div><div class="r">{escape(remark)}</div></div>'
        for name, value, remark, alert in items
    )
    return f'<div class="iso-strip">{cells}</div>'


def _breakable(words: str) -> str:
    """Words as HTML, where a line may end after the provider of a region too."""
    return _REGION.sub(r"\1<wbr>", escape(words))


#: The colon within a region's id, as in azure:westeurope.
_REGION = re.compile(r"(?<=[a-z]{2})(:)(?=[a-z]{2})")


def styles() -> None:
    """The few rules Streamlit's theme has no setting for."""
    st.html(f"<style>{rules(theme())}</style>")


def rules(colours: Theme) -> str:
    """These rules, as CSS in the colours of a theme."""
    return (
        ".iso-strip{display:grid;grid-template-columns:repeat(auto-fit,minmax(98px,1fr));overflow:hidden;"
        f"border:1px solid {colours.line};border-radius:6px}}"
        f".iso-kpi{{padding:9px clamp(9px,1vw,14px) 8px;box-shadow:-1px 0 0 {colours.line},0 -1px 0 {colours.line};min-width:0}}"
        # What does not fit goes on below, on two lines more at most; the whole of it is the cell's title.
        ".iso-kpi>*{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;overflow:hidden;overflow-wrap:anywhere}"
        f".iso-kpi .n{{font-size:.76rem;color:{colours.muted}}}"
        ".iso-kpi .v{font-size:clamp(1.12rem,1.55vw,1.42rem);font-weight:600;line-height:1.3;letter-spacing:-.01em;"
        "font-variant-numeric:tabular-nums}"
        f".iso-kpi .r{{font-size:.76rem;line-height:1.35;color:{colours.muted};-webkit-line-clamp:3}}"
        f".iso-alert .v{{color:{colours.warning}}}"
        ".iso-kpi .v.long{font-size:1.02rem;line-height:1.3;padding:.22em 0 .3em}"
        ".iso-head{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 16px;padding:2px 0 4px}"
        ".iso-head h1{font-size:1.5rem;font-weight:600;margin:0;padding:0;line-height:1.3}"
        f".iso-head p{{margin:0;color:{colours.muted};font-size:.92rem}}"
        # Fifteen pages and the two controls below them are to be seen at once, on a laptop too.
        "[data-testid=stSidebarHeader]{margin-bottom:2px}[data-testid=stNavSectionHeader]{margin-top:5px;margin-bottom:1px}"
        "[data-testid=stSidebarNavItems]{gap:0}[data-testid=stSidebarNavItems]>*{margin-top:0;padding-top:1px;padding-bottom:2px}"
        "[data-testid=stSidebarNavItems] li{margin-top:0;margin-bottom:0}[data-testid=stSidebarNavLinkContainer]{margin:0}"
        "[data-testid=stSidebarNavLink]{min-height:0;padding-top:0;padding-bottom:0;margin:0;align-items:center}"
        f"[data-testid=stSidebarNavLink]:focus-visible{{outline:2px solid {colours.accent};outline-offset:-2px;box-shadow:none}}"
        "[data-testid=stSidebarNavSeparator]{padding-top:5px}"
        "[data-testid=stSidebarUserContent]{padding-bottom:10px}[data-testid=stSidebarUserContent] [data-testid=stVerticalBlock]{gap:7px}"
        "[data-testid=stMainBlockContainer]{padding-left:2.2rem;padding-right:2.2rem}"
        "[data-testid=stTextArea] textarea{font-family:'Source Code Pro',monospace;font-size:.86rem;line-height:1.5}"
        ".iso-tree{font-size:.84rem;line-height:1.45}.iso-tree h4{font-size:.8rem;font-weight:600;margin:0 0 4px;padding:0}"
        ".iso-tree details+h4{margin-top:14px}.iso-tree summary{cursor:pointer;padding:3px 6px;border-radius:4px}"
        f".iso-tree summary:hover{{background:{colours.ocean}}}.iso-tree summary span,.iso-tree li span{{color:{colours.muted}}}"
        ".iso-tree ul{list-style:none;margin:2px 0 8px;padding:0 0 0 20px}.iso-tree li{padding:2px 0;margin:0;font-size:.82rem}"
        f".iso-tree li i{{color:{colours.accent};font-style:normal}}.iso-tree li span{{display:block}}"
        "[data-testid=stCaptionContainer] p{font-variant-numeric:tabular-nums}"
        # As high as a list to choose from, so that labels and controls of a row stand level.
        "[data-testid=stButtonGroup] [role=radiogroup]:has(>[data-variant=segmented_control]){padding-bottom:0;margin-bottom:0}"
        "[data-testid=stButtonGroup] [data-variant=segmented_control]{min-height:2.5rem}"
        # On a small screen tables stand one below the other: side by side each would show half of its columns.
        "@media(max-width:1100px){[data-testid=stColumn]:has([data-testid=stDataFrame]){min-width:100%}}"
    )


def csv_of(columns: Mapping[str, Sequence[Any]]) -> Callable[[], str]:
    """A function that writes the columns as CSV (RFC 4180), called only when the button is pressed; None is an empty field."""

    def write() -> str:
        import csv
        import io

        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return out.getvalue()

    return write
