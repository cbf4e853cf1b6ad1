"""A drawing as SVG: standalone, without scripts or anything from outside, the same bytes for the same graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from ghn_init.viz.colouring import Paint
from ghn_init.viz.drawing import Drawing, Rectangle
from ghn_init.viz.measure import SIZE, width
from ghn_init.viz.palette import BOX, EDGE, LIGHT
from ghn_init.viz.placed import HEADER, SHEETS, Edge, Point
from ghn_init.viz.rows import BESIDE, CHIP, PADDING

MARGIN = 14.0
CORNER = 5
ROUND = 8.0
"""Radii of corners of boxes and of wires, in pixels."""
TIP = 5.0
"""Pixels from the end of a wire's line to what it points at."""
FONT = "'DejaVu Sans Mono', Menlo, ui-monospace, 'Liberation Mono', Consolas, monospace"
FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
STYLE = (
    f".ghn-graph text{{font-family:{FONT};font-size:{SIZE}px}}"
    f".ghn-edge{{fill:none;stroke:{EDGE};stroke-width:1.5}}"
    f".ghn-arrow{{fill:{EDGE}}}"
    f".ghn-box{{fill:{BOX};fill-opacity:.08;stroke:{BOX};stroke-width:1}}"
    f".ghn-sheet{{fill:none;stroke:{BOX};stroke-width:1}}"
    f".ghn-node rect,.ghn-legend rect{{stroke:{BOX};stroke-opacity:.6}}"
    f".ghn-title{{fill:{BOX}}}"
    f".ghn-graph .ghn-name{{fill:{LIGHT};font-weight:600}}"
)


def attributes(values: Mapping[str, object]) -> str:
    """` a="1" b="2"`, escaped."""
    return "".join(f" {name}={quoteattr(printable(str(value)))}" for name, value in values.items())


def printable(text: str) -> str:
    """A text without the characters that XML forbids; names of modules may hold any."""
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def tag(name: str, values: Mapping[str, object], *inner: str) -> str:
    """An element."""
    body = "".join(inner)
    return f"<{name}{attributes(values)}>{body}</{name}>" if body else f"<{name}{attributes(values)}/>"


def number(value: float) -> str:
    """At most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def label(text: str, x: float, y: float, **more: object) -> str:
    """A text that takes the room that was measured for it, with its left end and its base line at a point."""
    if not text:
        return ""
    size = more.pop("size", SIZE)
    assert isinstance(size, int | float)
    values = {"x": number(x), "y": number(y), "textLength": number(width(text, size)), "lengthAdjust": "spacingAndGlyphs"}
    if size != SIZE:
        values["style"] = f"font-size:{number(size)}px"
    return tag("text", {**values, **more}, escape(printable(text)))


def curve(points: Sequence[Point]) -> str:
    """The data of a path: straight with round corners, or an S where it moves down and sideways at once."""
    (x, y), *rest = points
    parts = [f"M{number(x)} {number(y)}"]
    for k, (x2, y2) in enumerate(rest):
        after = rest[k + 1] if k + 1 < len(rest) else None
        if x2 != x and y2 != y:
            middle = number((y + y2) / 2)
            parts.append(f"C{number(x)} {middle} {number(x2)} {middle} {number(x2)} {number(y2)}")
        elif after is not None and (after[0] == x2) != (x == x2) and (after[1] == y2) != (y == y2):
            (bx, by), (ax, ay) = _towards((x2, y2), (x, y)), _towards((x2, y2), after)
            parts.append(f"L{number(bx)} {number(by)}Q{number(x2)} {number(y2)} {number(ax)} {number(ay)}")
        else:
            parts.append(f"V{number(y2)}" if x2 == x else f"H{number(x2)}")
        x, y = x2, y2
    return "".join(parts)


def _towards(start: Point, end: Point) -> Point:
    """A corner's radius along the way from a corner."""
    (x, y), (x2, y2) = start, end
    step = min(ROUND, (abs(x2 - x) + abs(y2 - y)) / 2)
    return x + step * ((x2 > x) - (x2 < x)), y + step * ((y2 > y) - (y2 < y))


def edge(ends: Edge, points: Sequence[Point]) -> str:
    """An arrow from node to node."""
    (x, y) = points[-1]
    before = points[:-1] if points[-2][1] < y - TIP else points[:-2]
    way = [*before, (x, y - TIP)]
    tip = f"M{number(x - 3.5)} {number(y - 6)}h7l-3.5 6z"
    data: dict[str, object] = {"data-from": ends[0], "data-to": ends[1]}
    arrow = tag("path", {"class": "ghn-arrow", "d": tip})
    return tag("g", data, tag("path", {"class": "ghn-edge", "d": curve(way)}), arrow)


def box(here: Rectangle) -> str:
    """The frame of a module; of folded blocks it looks like a stack of sheets."""
    x, y, w, h = here.x, here.y, here.width, here.height
    sheets = []
    if here.unit.count > 1:
        w, h = w - SHEETS, h - SHEETS
        for k in (SHEETS / 2, SHEETS):
            way = f"M{number(x + w)} {number(y + k)}h{number(k)}v{number(h)}h{number(-w)}v{number(-k)}"
            sheets.append(tag("path", {"class": "ghn-sheet", "d": way}))
    frame = {"x": number(x), "y": number(y), "width": number(w), "height": number(h), "rx": CORNER, "class": "ghn-box"}
    return tag("g", {"class": "ghn-module", "data-path": here.unit.path}, *sheets, tag("rect", frame))


def header(here: Rectangle) -> str:
    """The title bar of a module; what enters it goes on below."""
    w, x, y = here.width - (SHEETS if here.unit.count > 1 else 0), here.x, here.y
    bar = f"M{number(x)} {number(y + HEADER)}v{number(CORNER - HEADER)}a{CORNER} {CORNER} 0 0 1 {CORNER} -{CORNER}"
    bar += f"h{number(w - 2 * CORNER)}a{CORNER} {CORNER} 0 0 1 {CORNER} {CORNER}v{number(HEADER - CORNER)}z"
    text = label(here.unit.title, x + PADDING, y + 14.5, **{"class": "ghn-name"})
    return tag("g", {}, tag("path", {"class": "ghn-title", "d": bar}), text)


def row(here: Rectangle, paint: Paint) -> str:
    """A row: its nodes, one field for each."""
    assert here.row is not None
    content, first = here.row, here.row.nodes[0]
    w = here.width - (BESIDE + CHIP if len(content.nodes) == 2 else 0)
    x, y = here.x, here.y
    texts = label(content.name, x + PADDING, y + 14, fill=paint.ink(first))
    texts += label(content.detail, x + w - PADDING - width(content.detail), y + 14, fill=paint.ink(first))
    made = _field(first, x, y, w, here.height, content.named, texts, paint)
    if len(content.nodes) == 2:
        second = content.nodes[1]
        left = x + w + BESIDE
        joint = {"d": f"M{number(x + w)} {number(y + here.height / 2)}h{number(BESIDE)}", "class": "ghn-edge"}
        text = label("bias", left + (CHIP - width("bias", 11)) / 2, y + 14, size=11, fill=paint.ink(second))
        made += tag("g", {"data-from": first, "data-to": second}, tag("path", joint))
        made += _field(second, left, y, CHIP, here.height, True, text, paint)
    return made


def _field(node: int, x: float, y: float, w: float, h: float, square: bool, texts: str, paint: Paint) -> str:
    data = {"class": "ghn-node", "data-node": node, "data-count": paint.count(node)}
    shape = {"x": number(x), "y": number(y), "width": number(w), "height": number(h), "rx": 4 if square else number(h / 2)}
    tooltip = tag("title", {}, escape(printable(paint.tooltip(node))))
    return tag("g", data, tooltip, tag("rect", {**shape, "fill": paint.fill(node)}), texts)


def legend(entries: Sequence[tuple[str, str]], most: float) -> tuple[str, float, float]:
    """Swatches with texts in rows of at most `most` pixels, above the picture; the element, its width and its height."""
    widths = [width(text, 11) + 2 * PADDING for text, _ in entries]
    parts, left, top, right = [], 0.0, 0.0, 0.0
    for (text, fill), w in zip(entries, widths, strict=True):
        if left > 0 and left + w > most:
            left, top = 0.0, top + 22
        shape = {"x": number(left), "y": number(top), "width": number(w), "height": 18, "rx": 4, "fill": fill}
        parts.append(tag("rect", shape) + label(text, left + PADDING, top + 13, size=11, fill=Paint.on(fill)))
        right = max(right, left + w)
        left += w + 6
    place = f"translate(0 {number(-(top + 18 + MARGIN))})"
    return tag("g", {"class": "ghn-legend", "transform": place}, *parts), right, top + 18


def svg(made: Drawing, paint: Paint, name: str) -> str:
    """The picture with a legend below it."""
    least = max(made.width, 300.0)
    key, key_width, key_height = legend(paint.legend, least)
    w, h = max(made.width, key_width) + 2 * MARGIN, made.height + key_height + 3 * MARGIN
    boxes = [here for here in made.rectangles if here.row is None]
    body = [
        *(box(here) for here in boxes),
        *(edge(ends, points) for ends, points in made.edges.items()),
        *(header(here) for here in boxes),
        *(row(here, paint) for here in made.rectangles if here.row is not None),
        key,
    ]
    corner = f"{number(-MARGIN)} {number(-2 * MARGIN - key_height)} {number(w)} {number(h)}"
    size: dict[str, object] = {"viewBox": corner, "width": number(w), "height": number(h)}
    about = {"xmlns": "http://www.w3.org/2000/svg", "class": "ghn-graph", **size, "role": "img", "aria-label": name}
    return tag("svg", about, f"<style>{STYLE}</style>", "\n".join(["", *body, ""])) + "\n"
