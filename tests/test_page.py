"""The page with a graph: one file that needs nothing else, holds every node once, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.graph import Graph, Node
from test_pictures import GRAPHS, blocks, graph_of
from zoo import conv, images

HARM = '</script><script>alert("1")</script><img src=x onerror=alert(1)>"\'&'


class Page(HTMLParser):
    """Tags with their attributes, and what is in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.titles: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "title":
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        if self.inside == "title":
            self.titles[-1] += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])

    def ids(self, letter: str) -> list[int]:
        found = [re.fullmatch(rf"{letter}(\d+)", attributes.get("id") or "") for _, attributes in self.tags]
        return [int(match[1]) for match in found if match]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_page_has_every_node_and_edge_once(name: str) -> None:
    graph = graph_of(name)
    page = Page(graph.to_html())
    nodes = [int(attributes["data-node"]) for _, attributes in page.tags if "data-node" in attributes]
    assert sorted(nodes) == list(range(graph.num_nodes))
    edges = [(int(a["data-from"]), int(a["data-to"])) for _, a in page.tags if "data-from" in a]
    assert sorted(edges) == sorted(set(graph.edges))
    rows, units = page.ids("r"), page.data["units"]
    assert sorted(rows + page.ids("u")) == list(range(len(units)))
    assert page.ids("u") == page.ids("h")
    assert page.ids("e") == list(range(len(page.data["edges"])))
    assert {k for k, (*_, kind) in enumerate(units) if kind == 0} == set(rows)


def test_the_script_is_told_what_is_in_what() -> None:
    page = Page(blocks(12).to_html())
    units = page.data["units"]
    (fold,) = [k for k, (*_, kind) in enumerate(units) if kind == 2]
    inner = [k for k, (parent, *_) in enumerate(units) if parent == fold]
    assert len(inner) == 12
    for k, (parent, y, height, _) in enumerate(units):
        if parent >= 0:
            assert parent < k
            assert units[parent][1] < y < y + height < units[parent][1] + units[parent][2]
    assert "blocks.0–11 × 12" in page.text
    names = page.data["names"]
    assert names["1"] == "blocks.0.conv.weight"
    assert names["47"] == "blocks.11.norm.weight blocks.11.norm.bias"


def test_the_page_needs_nothing_else() -> None:
    page = Page(graph_of("resnet18").to_html())
    assert "://" not in page.text
    assert not re.search(r"url\(|@import|<link|<iframe|fetch\(|XMLHttpRequest|import\(", page.text)
    assert all(name not in attributes for _, attributes in page.tags for name in ("src", "href", "xlink:href"))
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


@pytest.mark.parametrize("name", [HARM, "]]>", "<!--", "\x00\ud800", "--><svg onload=alert(1)>"])
def test_names_inject_nothing(name: str) -> None:
    def page(inner: str, title: str) -> Page:
        nodes = (
            Node("input"),
            Node("conv", (8, 3), f"{inner}.a.weight"),
            Node("bn", (8,), f"{inner}.b.weight", f"{inner}.b.bias"),
        )
        return Page(Graph(nodes, np.array([[0, 1], [1, 2]])).to_html(title))

    harmless, found = page("name", "title"), page(name, name)
    assert [(tag, sorted(attributes)) for tag, attributes in found.tags] == [
        (tag, sorted(attributes)) for tag, attributes in harmless.tags
    ]
    assert found.scripts[1] == harmless.scripts[1]
    assert found.data["names"]["1"] == f"{name}.a.weight"
    assert found.titles[0] == name.replace("\x00", "�").replace("\ud800", "�")
    found.text.encode()


def test_a_prediction_can_be_seen_in_two_colourings(ghn: GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(conv(), nn.BatchNorm2d(8)), ghn, images(), exclude="0.bias")
    page = Page(prediction.to_html())
    assert page.titles[0] == "Sequential"
    assert [attributes["value"] for tag, attributes in page.tags if tag == "option"] == ["fate", "primitive"]
    colours = page.data["colours"]
    assert colours["fate"]["2"] == ["#e69f00", "#111827"]  # kept
    assert colours["primitive"]["2"] == ["#b9c9d6", "#111827"]
    assert colours["fate"].keys() == colours["primitive"].keys() == {"0", "1", "2", "3"}
    assert any(title.startswith("bias\n0.bias 8: kept, left out by exclude; norm ") for title in page.titles)
    assert not any(tag == "option" for tag, _ in Page(prediction.graph.to_html()).tags)
    assert prediction.to_html("mine").count("<title>mine</title>") == 1
