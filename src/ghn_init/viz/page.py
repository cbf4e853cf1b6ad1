"""A page with the picture of a graph: zoom, search by parameter name, modules and repeated blocks that open and close.

One file without anything from outside. Whatever comes from the model is escaped, and the page's own policy lets no script
run but this one, whose hash it names.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ghn_init.viz.colouring import Fate, Paint
from ghn_init.viz.drawing import Drawing
from ghn_init.viz.folding import Folding
from ghn_init.viz.modules import module_tree
from ghn_init.viz.palette import LIGHT
from ghn_init.viz.picture import drawn, shaped
from ghn_init.viz.placed import HEADER, MARK
from ghn_init.viz.svg import STYLE, box, edge, header, label, printable, row, tag
from ghn_init.viz.tree import MOST_ROWS, Unit

if TYPE_CHECKING:
    from ghn_init.graph import Graph

SCHEMES = {"primitive": "colour: primitive", "fate": "colour: what happens"}


def to_html(graph: Graph, fates: Mapping[str, Fate] | None = None, *, name: str = "graph") -> str:
    """The page, see `Graph.to_html`.

    Args:
        graph: It.
        fates: Dotted parameter name → what happened to it; adds the choice between two colourings.
        name: Of the model.
    """
    made, paint = drawn(graph, shaped(Folding(graph, whole=True).folded(module_tree(graph))), fates)
    plain = Paint(graph, range(graph.num_nodes))
    schemes = {"primitive": plain} if fates is None else {"fate": paint, "primitive": plain}
    script, style = (files("ghn_init.viz").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css"))
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    data = json.dumps(_data(made, schemes), separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(
        [
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(printable(name))}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head><body>',
            _bar(graph, schemes, name),
            _picture(made, paint),
            f'<script type="application/json" id="data">{data}</script>',
            f"<script>{script}</script></body></html>\n",
        ]
    )


def _bar(graph: Graph, schemes: Mapping[str, Paint], name: str) -> str:
    """The tools above the picture, and the legends."""
    options = [tag("option", {"value": scheme}, SCHEMES[scheme]) for scheme in schemes]
    choice = tag("select", {"id": "scheme", "aria-label": "colours"}, *options) if len(options) > 1 else ""
    search = {"id": "search", "type": "search", "placeholder": "parameter name", "aria-label": "search by parameter name"}
    buttons = {"open": "open all", "close": "fold", "out": "−", "in": "+", "fit": "fit"}
    legends = [
        tag("p", {"class": "legend", "data-scheme": scheme}, *(_swatch(*entry) for entry in paint.legend))
        for scheme, paint in schemes.items()
    ]
    return tag(
        "header",
        {},
        tag("strong", {}, escape(printable(name))),
        tag("span", {}, f"{graph.num_nodes:,} nodes"),
        tag("input", search),
        tag("output", {"id": "found"}, " "),
        choice,
        *(tag("button", {"id": key, "type": "button"}, text) for key, text in buttons.items()),
        *legends,
    )


def _swatch(text: str, fill: str) -> str:
    return tag("span", {"style": f"background:{fill};color:{Paint.on(fill)}"}, escape(text))


def _picture(made: Drawing, paint: Paint) -> str:
    """The picture, all open, with an id for each thing that moves: frames, edges, titles and rows."""
    boxes = [(k, here) for k, here in enumerate(made.rectangles) if here.row is None]
    rows = [(k, here) for k, here in enumerate(made.rectangles) if here.row is not None]
    titles = [
        tag(
            "g",
            {"id": f"h{k}", "class": "title", "role": "button", "tabindex": 0},
            header(here),
            label("▾", here.x + here.width - MARK, here.y + 14.5, fill=LIGHT, **{"class": "mark"}),
        )
        for k, here in boxes
    ]
    body = [
        *(tag("g", {"id": f"u{k}"}, box(here)) for k, here in boxes),
        *(tag("g", {"id": f"e{k}"}, edge(ends, points)) for k, (ends, points) in enumerate(made.edges.items())),
        *titles,
        *(tag("g", {"id": f"r{k}", "class": "row"}, row(here, paint)) for k, here in rows),
    ]
    return tag("svg", {"class": "ghn-graph", "id": "picture"}, tag("g", {"id": "view"}, "\n".join(body)))


def _data(made: Drawing, schemes: Mapping[str, Paint]) -> dict[str, Any]:
    """What the script has to know: rectangles, wires and colours."""
    home = {node: k for k, here in enumerate(made.rectangles) if here.row is not None for node in here.row.nodes}
    units = [[here.parent, here.y, here.height, _kind(here.unit)] for here in made.rectangles]
    edges = [[home[a], home[b], [value for point in points for value in point]] for (a, b), points in made.edges.items()]
    colours = {
        scheme: {str(node): [paint.fill(node), paint.ink(node)] for node in paint.members} for scheme, paint in schemes.items()
    }
    names = {str(node): paint.names(node) for paint in schemes.values() for node in paint.members}
    extent = {"width": made.width, "height": made.height, "header": HEADER, "most": MOST_ROWS}
    return {"units": units, "edges": edges, "colours": colours, "names": names, **extent}


def _kind(unit: Unit) -> int:
    """0 for a row, 1 for a module, 2 for blocks that repeat."""
    return 0 if not unit.children else 1 + (unit.blocks > 1)
