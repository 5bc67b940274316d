"""Draws the figures of `compare.py` as bars: an SVG with real text, which every browser and GitHub show."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parent.parent / "docs" / "comparison.svg"
TITLE = "Calls per processor second, against the official SDK on the same HTTP parser (1.00). Longer is better."

_NAMES, _UNIT, _LINE, _EDGE, _HEADING = 250, 110, 20, 16, 34  # pixels; a unit is a ratio of 1
# Readable on a light page and on a dark one.
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #6e7781 }
  .load { font-weight: 600 }
  .bar { fill: #8c959f }
  .ours { fill: #2f81f7 }
"""


class Load(NamedTuple):
    """One kind of call, and the ratio of each server by its name."""

    name: str
    ratios: Mapping[str, float]


def draw(loads: Sequence[Load], *, ours: str) -> str:
    """Return the picture. The bar of the server `ours` has a colour."""
    rows, top = [f'<text x="{_EDGE}" y="{_EDGE + 8}">{escape(TITLE)}</text>'], _EDGE + 8
    longest = max(ratio for load in loads for ratio in load.ratios.values())
    for load in loads:
        top += _HEADING
        rows.append(f'<text class="load" x="{_EDGE}" y="{top}">{escape(load.name)}</text>')
        for name, ratio in load.ratios.items():
            top += _LINE
            length = ratio * _UNIT
            kind = "ours" if name == ours else "bar"
            rows += [
                f'<text class="name" x="{_EDGE}" y="{top}">{escape(name)}</text>',
                f'<rect class="{kind}" x="{_NAMES}" y="{top - 12}" width="{length:.1f}" height="14" rx="2"/>',
                f'<text class="ratio" x="{_NAMES + length + 6:.1f}" y="{top}">{ratio:.2f}</text>',
            ]
    width, height = max(_NAMES + longest * _UNIT + 60, 680), top + _EDGE
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">'
    return "\n".join([svg, f"<title>{escape(TITLE)}</title>", f"<style>{_STYLE}</style>", *rows, "</svg>\n"])


def read(picture: Path = PICTURE) -> list[Load]:
    """Return the figures that a picture shows, as `draw` was given them."""
    loads: list[Load] = []
    name = ""
    for text in ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314  (our own file)
        kind, shown = text.get("class"), text.text or ""
        if kind == "load":
            loads.append(Load(shown, {}))
        elif kind == "name":
            name = shown
        elif kind == "ratio":
            loads[-1] = Load(loads[-1].name, {**loads[-1].ratios, name: float(shown)})
    return loads
