"""The colours of the dashboard, for light and dark, chosen so that the colour-blind can read them.

One rule for every scale: *more* stands out further from the page. So on white the large values are dark and on
black they are bright. Class colours go from blue to orange to magenta, which stay apart in protanopia,
deuteranopia and tritanopia; continuous scales have one hue and run in lightness only. Colour never carries a meaning
alone: width, number or word says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DARK", "LIGHT", "PARTS", "Theme", "ThemeName", "gradient", "rgba", "scale_of", "theme_of"]

ThemeName = Literal["light", "dark"]
RGB = tuple[int, int, int]

#: Parts of a route's latency, in the order they happen.
PARTS = ("connect", "upload", "relay", "queue", "prefill", "network", "decode")


@dataclass(frozen=True, slots=True)
class Theme:
    """What the drawing code needs to know of a theme; colours as #RRGGBB.

    classes   five colours from good to bad, for links on the map and for ratios
    sequence  a continuous scale from little to much, for quantities such as RTT and age
    quiet     lines that are there and not meant
    no_data   what is not measured: a grey of its own, on no scale
    parts     one colour for each of PARTS
    """

    name: ThemeName
    page: str
    text: str
    muted: str
    line: str
    ocean: str
    land: str
    border: str
    pop: str
    region: str
    no_data: str
    quiet: str
    accent: str
    reverse: str
    warning: str
    classes: tuple[str, ...]
    sequence: tuple[str, ...]
    parts: tuple[str, ...]


LIGHT = Theme(
    name="light",
    page="#FFFFFF",
    text="#17212B",
    muted="#5B6975",
    line="#DCE3E9",
    ocean="#F3F6F8",
    land="#E1E7EC",
    border="#F8FAFB",
    pop="#17212B",
    region="#4A5968",
    no_data="#ECEFF2",
    quiet="#B9C5CF",
    accent="#0B7285",
    reverse="#B86A14",
    warning="#B3261E",
    classes=("#8FB3C7", "#3F8DB5", "#D08A2E", "#C0491D", "#7F1146"),
    sequence=("#DCECF2", "#A9D0DD", "#6CAEC4", "#3587A7", "#185E84", "#0B3355"),
    parts=("#5C6BC0", "#3F8DB5", "#7B8794", "#C0491D", "#D9A03F", "#0B7285", "#A9C7B4"),
)

DARK = Theme(
    name="dark",
    page="#0E141B",
    text="#E3EAF0",
    muted="#93A1AE",
    line="#293643",
    ocean="#121A23",
    land="#212D39",
    border="#121A23",
    pop="#F2F6F9",
    region="#A9B7C4",
    no_data="#1A222B",
    quiet="#3D4C5A",
    accent="#38B2C8",
    reverse="#F0A04B",
    warning="#FF8A80",
    classes=("#3E6A85", "#4FA3CE", "#E3B341", "#F57C4A", "#FF6FA3"),
    sequence=("#17303F", "#1D4A5E", "#286D86", "#4296AE", "#85C5D3", "#DDF4F8"),
    parts=("#8C9EFF", "#4FA3CE", "#9AA7B4", "#F57C4A", "#E3B341", "#38B2C8", "#6F9C80"),
)


def theme_of(name: str | None) -> Theme:
    """The theme of that name; light when the browser has not said yet."""
    return DARK if name == "dark" else LIGHT


def _rgb(colour: str) -> RGB:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def rgba(colour: str, alpha: float) -> str:
    """A colour with an opacity of 0..1, as CSS.

    >>> rgba("#0B7285", 0.25)
    'rgba(11,114,133,0.25)'
    """
    red, green, blue = _rgb(colour)
    return f"rgba({red},{green},{blue},{alpha:g})"


def gradient(colours: tuple[str, ...], count: int = 256) -> bytes:
    """`count` colours evenly along a scale, linear in sRGB, as red, green, blue bytes.

    >>> gradient(("#000000", "#FFFFFF"), 3).hex()
    '000000808080ffffff'
    """
    if count < 2 or len(colours) < 2:
        raise ValueError("a gradient needs two colours and two steps")
    out = bytearray()
    for step in range(count):
        place = step * (len(colours) - 1) / (count - 1)
        at = min(int(place), len(colours) - 2)
        share = place - at
        low, high = _rgb(colours[at]), _rgb(colours[at + 1])
        out += bytes(int(a + (b - a) * share + 0.5) for a, b in zip(low, high, strict=True))
    return bytes(out)


def scale_of(theme: Theme, kind: Literal["classes", "sequence"]) -> tuple[str, ...]:
    """The colours of a scale by its name."""
    return theme.classes if kind == "classes" else theme.sequence
