"""Pages and tables as a browser shows them: their scripts do what people click, type, turn and drag.

Needs `pip install playwright` and a Chromium: one that `playwright install chromium` has installed, one on the path, or the
program that CHROMIUM names. Skipped without.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.viz.html_table import html_table
from ghn_init.viz.text_table import shown as shown_as
from test_pictures import blocks, graph_of
from zoo import conv, images

sync_api = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: `playwright install chromium`, or name one in CHROMIUM")
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


class Shown:
    """A page in the browser that has made no request and no error."""

    def __init__(self, browser, file: Path) -> None:
        self.page = browser.new_page(viewport={"width": 1000, "height": 700})
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("request", lambda request: request.url != file.as_uri() and self.faults.append(request.url))
        self.page.goto(file.as_uri())

    def rows(self) -> list[int]:
        """The rows that are shown, from top to bottom."""
        places = "rows => rows.map(row => [Number(row.id.slice(1)), row.style.display, row.getBoundingClientRect().top])"
        found = self.page.eval_on_selector_all("g.row", places)
        return [number for number, display, _ in sorted(found, key=lambda row: row[2]) if display != "none"]

    def view(self) -> tuple[float, float, float]:
        """Left, top and scale."""
        moved = self.page.get_attribute("#view", "transform") or ""
        left, top, scale = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", moved))
        return left, top, scale

    def title(self, text: str):
        """The title of a module or of repeated blocks."""
        return self.page.locator("g.title", has_text=text).first

    def wires(self) -> int:
        """How many are shown."""
        shown = "wires => wires.filter(wire => wire.style.display !== 'none').length"
        return self.page.eval_on_selector_all('g[id^="e"]', shown)


@pytest.fixture
def shown(browser, tmp_path: Path) -> Iterator:
    pages: list[Shown] = []

    def show(html: str) -> Shown:
        file = tmp_path / f"{len(pages)}.html"
        file.write_text(html, "utf-8")
        pages.append(Shown(browser, file))
        return pages[-1]

    yield show
    for page in pages:
        assert page.faults == []
        page.page.close()


def test_repeated_blocks_begin_folded_and_open(shown) -> None:
    seen = shown(blocks(12).to_html())
    folded, wires = seen.rows(), seen.wires()
    title = seen.title("blocks.0–11 × 12")
    assert title.get_attribute("aria-expanded") == "false"
    before = title.bounding_box()
    title.click()
    opened = seen.rows()
    assert title.get_attribute("aria-expanded") == "true"
    assert set(folded) < set(opened)
    assert len(opened) - len(folded) == 11 * (len(folded) - 2)  # of one block of 12, beside input and output
    assert opened == sorted(opened)
    assert seen.wires() > wires
    after = title.bounding_box()
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=0.5)  # it stays under the pointer
    title.press("Enter")
    assert seen.rows() == folded
    assert seen.wires() == wires


def test_all_opens_and_folds_again(shown) -> None:
    graph = graph_of("resnet18")
    seen = shown(graph.to_html())
    folded = seen.rows()
    seen.page.click("#open")
    every = seen.page.locator("g.row").count()
    assert len(seen.rows()) == every > len(folded)
    tops = seen.page.eval_on_selector_all("g.row rect", "boxes => boxes.map(box => box.getBoundingClientRect().top)")
    assert len(set(tops)) > 20  # they are drawn, and not all at one place
    seen.page.click("#close")
    assert seen.rows() == folded


def test_a_search_marks_what_it_finds_and_goes_there(shown) -> None:
    seen = shown(graph_of("resnet18").to_html())
    seen.page.fill("#search", "layer4.1.CONV2")
    assert seen.page.inner_text("#found") == "1 found"
    hit = seen.page.locator(".ghn-node.hit")
    assert hit.count() == 1
    seen.page.press("#search", "Enter")
    assert seen.page.inner_text("#found") == "1 of 1"
    box, picture = hit.bounding_box(), seen.page.locator("#picture").bounding_box()
    assert box["x"] + box["width"] / 2 == pytest.approx(picture["x"] + picture["width"] / 2, abs=2)
    assert box["y"] == pytest.approx(picture["y"] + picture["height"] / 2, abs=30)
    seen.page.fill("#search", "no such name")
    assert seen.page.inner_text("#found") == "0 found"
    assert hit.count() == 0
    seen.page.fill("#search", "")
    assert seen.page.inner_text("#found") == ""


def test_the_wheel_zooms_where_the_pointer_is(shown) -> None:
    seen = shown(graph_of("resnet18").to_html())
    x, y = 400, 300
    picture = seen.page.locator("#picture").bounding_box()
    left, top, scale = seen.view()
    here = ((x - picture["x"] - left) / scale, (y - picture["y"] - top) / scale)
    seen.page.mouse.move(x, y)
    seen.page.mouse.wheel(0, -200)
    seen.page.wait_for_function(
        "before => document.getElementById('view').getAttribute('transform') !== before", arg=f"{scale}"
    )
    seen.page.wait_for_timeout(100)
    left, top, larger = seen.view()
    assert larger > 1.1 * scale
    assert ((x - picture["x"] - left) / larger, (y - picture["y"] - top) / larger) == pytest.approx(here, abs=0.5)
    seen.page.click("#out")
    assert seen.view()[2] == pytest.approx(larger / 1.3)
    seen.page.click("#fit")
    assert seen.view()[2] == pytest.approx(scale)


def test_dragging_moves_the_picture_and_opens_nothing(shown) -> None:
    seen = shown(blocks(12).to_html())
    title = seen.title("blocks.0–11 × 12")
    box, (left, top, scale) = title.bounding_box(), seen.view()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    seen.page.mouse.move(x, y)
    seen.page.mouse.down()
    seen.page.mouse.move(x + 30, y + 50, steps=3)
    seen.page.mouse.up()
    assert seen.view() == pytest.approx((left + 30, top + 50, scale))
    assert title.get_attribute("aria-expanded") == "false"


def test_colours_follow_the_choice(shown, ghn: GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(conv(), nn.BatchNorm2d(8)), ghn, images(), exclude="0.bias")
    seen = shown(prediction.to_html())
    fill = '[data-node="2"] rect'
    assert seen.page.get_attribute(fill, "fill") == "#e69f00"
    assert seen.page.locator("p.legend:visible").get_attribute("data-scheme") == "fate"
    seen.page.select_option("#scheme", "primitive")
    assert seen.page.get_attribute(fill, "fill") == "#b9c9d6"
    assert seen.page.locator("p.legend:visible").get_attribute("data-scheme") == "primitive"


def test_a_table_is_sorted_and_filtered(shown) -> None:
    numbers = (0.5, 10.0, -1.0, 0.25, 1e-7)
    rows = [(name, number) for number in numbers for name in ("b10", "b9", "a", "A<b>")]
    seen = shown(f"<!DOCTYPE html><meta charset=utf-8><body>{html_table(['name', 'number'], rows)}")

    def column(k: int) -> list[str]:
        return seen.page.locator(f"tbody tr:visible td:nth-child({k + 1})").all_inner_texts()

    assert column(1) == [shown_as(number) for _, number in rows]
    by_number = [shown_as(number) for number in sorted(numbers) for _ in range(4)]
    by_name = [name for name in ("a", "A<b>", "b9", "b10") for _ in numbers]
    for k, wanted in ((1, by_number), (0, by_name)):
        title = seen.page.locator("th").nth(k)
        title.click()
        assert (title.get_attribute("aria-sort"), column(k)) == ("ascending", wanted)
        title.click()
        assert (title.get_attribute("aria-sort"), column(k)) == ("descending", wanted[::-1])
    assert seen.page.locator("th[aria-sort]").count() == 1
    field = seen.page.locator("input[type=search]")
    field.fill("B10")
    assert column(0) == ["b10"] * len(numbers)
    field.fill("")
    assert len(column(0)) == len(rows)


def test_a_reports_table_works(shown, ghn: GHN) -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))]
    report = ghn_init.predict(nn.Sequential(*layers), ghn, images(), exclude="2.bias").report
    seen = shown(f"<!DOCTYPE html><meta charset=utf-8><body>{report._repr_html_()}")
    rows = seen.page.locator("tbody tr:visible")
    every = rows.count()
    seen.page.locator("input[type=search]:visible").fill("exclude")
    assert 0 < rows.count() < every
    assert all("exclude" in text for text in rows.all_inner_texts())
    seen.page.locator("summary").click()  # all parameters: a table of its own
    assert seen.page.locator("tbody tr:visible", has_text="2.bias").count() == 1
