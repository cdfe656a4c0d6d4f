"""The rooms of the project as a picture and a table: `python -m scripts.draw_rooms` writes both into docs/.

The picture shows the fewest arrows that say the same as all imports: where an arrow would follow from two others, it is
left out. The table has all of them.
"""

import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from scripts.imports import LEVELS, ROOT, Room, arrows, lines_of, reduced, rooms

DOCUMENT, PICTURE = Path("docs/architecture.md"), Path("docs/rooms.svg")
OPENING, CLOSING = "<!-- rooms: python -m scripts.draw_rooms -->\n", "<!-- end of rooms -->"

# Pixels.
WIDTH, MARGIN, GAP = 1100, 20, 36
# Centre and width of rooms that do not take the whole width of their level.
PLACED: dict[str, tuple[int, int]] = {
    "main.py": (130, 220),
    "from Python": (375, 250),
    "sweep.py": (640, 260),
    "results.py": (930, 300),
    "sweeps": (730, 640),
    "stages/recipes.py": (490, 420),
    "stages": (490, 420),
    "stages/methods": (845, 240),
    "stages/common": (410, 380),
    "training": (310, 580),
    "metrics.py": (115, 190),
    "models": (325, 190),
    "data registry": (840, 230),
    "data/generated": (695, 184),
    "data/photos": (875, 160),
    "data/sources": (779, 352),
    "data": (690, 530),
    "losses": (1020, 120),
}
_STYLE = (
    "text{font-family:DejaVu Sans,Verdana,sans-serif;fill:#222}.name{font-size:14px;font-weight:bold}"
    ".holds{font-size:11px;fill:#555}.lines{font-size:11px;fill:#888;text-anchor:end}"
    ".arrow{stroke:#0072B2;stroke-width:1.6;fill:none;marker-end:url(#head)}"
)


@dataclass(frozen=True)
class Box:
    """Where a room is drawn: its left and right edge, its top and bottom."""

    left: float
    right: float
    top: float
    bottom: float


def boxes(levels: Sequence[Sequence[Room]] = LEVELS) -> dict[str, Box]:
    """Room -> its box; rooms without a place of their own share the width of their level."""
    placed: dict[str, Box] = {}
    top = float(MARGIN)
    for level in levels:
        share = (WIDTH - 2 * MARGIN) / len(level)
        height = max(_height(room, PLACED.get(room.name, (0, int(share) - 10))[1]) for room in level)
        for number, room in enumerate(level):
            centre, width = PLACED.get(room.name, (MARGIN + share * (number + 0.5), share - 10 * (len(level) > 1)))
            placed[room.name] = Box(centre - width / 2, centre + width / 2, top, top + height)
        top += height + GAP
    return placed


def _wrapped(room: Room, width: float) -> list[str]:
    return textwrap.wrap(room.holds, int((width - 20) / 6))


def _height(room: Room, width: float) -> float:
    return 30 + 14 * len(_wrapped(room, width))


def svg(joined: Mapping[str, set[str]], lines: Mapping[str, int], levels: Sequence[Sequence[Room]] = LEVELS) -> str:
    """The picture: a box for each room, an arrow for each import between rooms that no longer way implies."""
    placed = boxes(levels)
    bottom = max(box.bottom for box in placed.values()) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:g}" '
        f'width="{WIDTH}" height="{bottom:g}">',
        "<title>The rooms of the project and which imports which</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#0072B2"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{bottom:g}" fill="#fff"/>',
    ]
    for room in rooms(levels):
        box = placed[room.name]
        parts.append(
            f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.right - box.left:g}" '
            f'height="{box.bottom - box.top:g}" rx="6" fill="#F3F6F9" stroke="#8AA"/>'
        )
        parts.append(f'<text class="name" x="{box.left + 10:g}" y="{box.top + 20:g}">{escape(room.name)}</text>')
        parts.append(f'<text class="lines" x="{box.right - 8:g}" y="{box.top + 19:g}">{lines[room.name]:,}</text>')
        for number, line in enumerate(_wrapped(room, box.right - box.left)):
            y = box.top + 36 + 14 * number
            parts.append(f'<text class="holds" x="{box.left + 10:g}" y="{y:g}">{escape(line)}</text>')
    fewest = reduced(joined)
    for room in rooms(levels):
        for target in sorted(fewest[room.name]):
            parts.append(f'<path class="arrow" d="{_route(room.name, target, placed)}"/>')
    return "\n".join([*parts, "</svg>", ""])


def _route(source: str, target: str, placed: Mapping[str, Box]) -> str:
    """Straight down where both boxes overlap and no third is between them; else out of the side, and down."""
    start, end = placed[source], placed[target]
    between = [box for name, box in placed.items() if name not in (source, target) and start.bottom < box.top < end.top]
    left, right = max(start.left, end.left) + 12, min(start.right, end.right) - 12
    free = [
        left + step
        for step in range(int(right - left) + 1 if right >= left else 0)
        if not any(box.left - 6 < left + step < box.right + 6 for box in between)
    ]
    if free:
        x = min(free, key=lambda x: abs(x - (left + right) / 2))
        return f"M{x:g} {start.bottom:g}V{end.top - 1:g}"
    x = (end.left + end.right) / 2
    side = start.right if x > start.right else start.left
    return f"M{side:g} {(start.top + start.bottom) / 2:g}H{x:g}V{end.top - 1:g}"


def table(joined: Mapping[str, set[str]], lines: Mapping[str, int]) -> str:
    """The rooms from top to bottom: what is in each, its lines, and all rooms that it imports."""
    rows = ["| room | lines | what is in it | imports |", "| --- | ---: | --- | --- |"]
    order = [room.name for room in rooms()]
    for level in LEVELS:
        for room in level:
            targets = ", ".join(f"`{name}`" for name in order if name in joined[room.name]) or "–"
            files = ", ".join(f"`{place}`" for place in room.places)
            holds = room.holds if room.places == (room.name,) else f"{room.holds}: {files}"
            rows.append(f"| `{room.name}` | {lines[room.name]:,} | {holds} | {targets} |")
    return "\n".join(rows)


def written_lines(text: str) -> dict[str, int]:
    """Room -> the lines that the table in a document gives it."""
    found = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \|", text, flags=re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in found}


def with_table(text: str, joined: Mapping[str, set[str]], lines: Mapping[str, int]) -> str:
    """The document with its table of rooms made from `joined` and `lines`."""
    head, rest = text.split(OPENING)
    return f"{head}{OPENING}\n{table(joined, lines)}\n\n{CLOSING}{rest.split(CLOSING)[1]}"


def main() -> int:
    """Write the picture and the table."""
    joined, lines = arrows(), lines_of()
    (ROOT / PICTURE).write_text(svg(joined, lines), encoding="utf-8")
    document = ROOT / DOCUMENT
    document.write_text(with_table(document.read_text(encoding="utf-8"), joined, lines), encoding="utf-8")
    print(f"{PICTURE} and the table in {DOCUMENT} are written: {sum(lines.values()):,} lines in {len(lines)} rooms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
