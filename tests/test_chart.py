"""The chart of the comparison shows the figures that it was given, and those of the table in benchmarks/README.md."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import chart
import compare

ROOT = Path(compare.HERE).parent
LOADS = [
    chart.Load("MCP 2026-07-28, 100 B, 16 clients", {"a <bare> function": 2.5, "ours": 1.13, "slow & safe": 0.07}),
    chart.Load("MCP 2025-11-25, 10 KB, 16 clients", {"ours": 2.0}),
]


def test_what_is_drawn_can_be_read_back(tmp_path: Path) -> None:
    picture = tmp_path / "drawn.svg"
    picture.write_text(chart.draw(LOADS, ours="ours"), encoding="utf-8")
    assert chart.read(picture) == LOADS


def test_bars_are_as_long_as_their_figures_and_ours_has_a_colour() -> None:
    root = ET.fromstring(chart.draw(LOADS, ours="ours"))  # noqa: S314  (our own text)
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    ratios = [ratio for load in LOADS for ratio in load.ratios.values()]
    unit = float(bars[0].attrib["width"]) / ratios[0]
    assert [round(float(bar.attrib["width"]) / unit, 2) for bar in bars] == ratios
    assert [bar.attrib["class"] == "ours" for bar in bars] == [False, True, False, True]
    assert max(float(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in bars) < float(root.attrib["width"])


def test_the_chart_in_the_readme_has_the_figures_of_the_table() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    header, rows = next(
        (lines[0], lines[2:])
        for lines in (table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE))
        if "Protocol" in lines[0]
    )
    names = [cell.strip() for cell in header.strip("|").split("|")]
    expected = {}
    for row in rows:
        cells = dict(zip(names, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
        if cells["Clients"] == str(compare.DRAWN) and cells["Payload"] != "1 MB":
            load = f"MCP {cells['Protocol']}, {cells['Payload']}, {cells['Clients']} clients"
            figures = {name: cells[f"{name}: CPU"] for name in compare.TITLES if f"{name}: CPU" in cells}
            expected[load] = {compare.TITLES[name]: float(figure) for name, figure in figures.items()}
    shown = {load.name: dict(load.ratios) for load in chart.read()}
    same_parser = compare.TITLES[compare.HTTPTOOLS]
    assert {load: ratios.pop(same_parser) for load, ratios in shown.items()} == dict.fromkeys(expected, 1.0)
    assert shown == expected
    assert len(expected) == 4
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/comparison.svg)" in readme
