"""Draws docs/first-minute.svg, the picture in the README, of a first minute that has really happened.

    python benchmarks/picture.py

clones the last commit of this checkout, runs `python dev.py serve` in the clone as a newcomer would, pastes the line
that it prints, once with the key and once without, and draws what was to be seen. No word in the picture is written by
hand; `tests/test_picture.py` compares it with what is printed today. Port 8080 must be free. Linux and macOS.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "first-minute.svg"
LAST_WORDS = "Ctrl-C stops it."
TITLE = "The first minute: start the server, call it with the key, call it without"

COLUMNS, FONT, COLUMN, LINE, EDGE = 100, 13, 7.83, 19, 18
# Light text on a dark window with a border, so that it stands out on a light page and on a dark one.
STYLE = f"""
  text {{ font: {FONT}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
  .typed {{ fill: #7ee787; font-weight: 600 }}
  .said {{ fill: #c9d1d9 }}
"""


def main() -> int:
    """Live through the minute, and draw it."""
    with tempfile.TemporaryDirectory() as directory:
        clone = Path(directory) / "cookiecutter-secure-mcp"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)  # noqa: S607
        shown = record(clone)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(shown), encoding="utf-8")
    print(f"{PICTURE.name}: {len(shown)} lines. Look at it before you commit it.")
    return 0


def record(clone: Path) -> list[str]:
    """Return what a terminal shows, line by line. What was typed begins with `$ `."""
    server = subprocess.Popen(
        [sys.executable, "dev.py", "serve"], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line.rstrip("\n"))
            if said[-1] == LAST_WORDS:
                break
        (call,) = (line.strip() for line in said if line.startswith("  sed "))
        shown = ["$ python dev.py serve", *said]
        for line in (call, without_key(call)):
            done = subprocess.run(["bash", "-c", line], cwd=clone, capture_output=True, text=True, check=True)  # noqa: S607
            shown += ["", f"$ {line}", done.stdout.rstrip("\n")]
        return shown
    finally:
        server.terminate()
        server.wait(timeout=30)


def without_key(call: str) -> str:
    """Return the line that `dev.py` prints, without the key that it pipes into curl as a header."""
    _, pipe, after = call.partition(" | ")
    assert pipe
    assert " -H @-" in after
    return after.replace(" -H @-", "")


def draw(shown: list[str]) -> str:
    """Return the picture: an SVG with real text, one `<text>` for each line, wrapped as a terminal wraps."""
    rows: list[str] = []
    top = EDGE + 2 * LINE
    width = round(COLUMNS * COLUMN) + 2 * EDGE
    for line in shown:
        if line.startswith("$ ") and rows:  # the server keeps its terminal
            rows.append(f'<path d="M0 {top - 1.5 * LINE:.0f}h{width}" stroke="#30363d"/>')
        pieces = [line[start : start + COLUMNS] for start in range(0, len(line), COLUMNS)] or [""]
        spans = "".join(
            f'<tspan x="{EDGE}" y="{top + number * LINE}">{escape(piece)}</tspan>'
            for number, piece in enumerate(pieces)
        )
        rows.append(f'<text class="{"typed" if line.startswith("$ ") else "said"}">{spans}</text>')
        top += len(pieces) * LINE

    dots = "".join(f'<circle cx="{EDGE + 6 + 20 * n}" cy="{EDGE}" r="6" fill="#484f58"/>' for n in range(3))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" role="img" '
            'xml:space="preserve">',
            f"<title>{TITLE}</title>",
            f"<style>{STYLE}</style>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{top - 1}" rx="8" fill="#0d1117" stroke="#484f58"/>',
            dots,
            *rows,
            "</svg>\n",
        ]
    )


def read(picture: Path = PICTURE) -> list[str]:
    """Return the lines that a picture shows, as `draw` was given them."""
    texts = ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  (our own file)
    return ["".join(text.itertext()) for text in texts]


if __name__ == "__main__":
    sys.exit(main())
