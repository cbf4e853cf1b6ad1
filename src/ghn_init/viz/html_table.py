"""A table for notebooks: a click on a title sorts, a field filters the rows; without scripts it is a plain table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from ghn_init.viz.svg import printable
from ghn_init.viz.text_table import Cell, shown


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """The table; numbers are right-aligned, and sorted as numbers.

    None is an empty cell. Whatever a cell says is escaped.

    Args:
        columns: Titles.
        rows: A cell for each column.
    """
    script, style = (files("ghn_init.viz").joinpath(f"html_table.{kind}").read_text("utf-8") for kind in ("js", "css"))
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="ghn-table"><style>{style}</style>{table}</div><script>{script}</script>'


def _cell(value: Cell) -> str:
    if value is None or isinstance(value, str):
        return f"<td>{escape(printable(value or ''))}</td>"
    return f'<td class="number" data-value="{value}">{shown(value)}</td>'
