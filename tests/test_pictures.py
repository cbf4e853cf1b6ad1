"""Pictures of graphs, read as XML: every node once, the edges of the graph, folds that add up, nothing on top of another."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import timm
import torch
from torch import nn

import ghn_init
from ghn_init import GHN, deepnets, trace
from ghn_init.graph import PRIMITIVES, Graph, Node
from ghn_init.viz.measure import shortened, width
from ghn_init.viz.modules import module_paths
from ghn_init.viz.palette import OTHER, PRIMITIVE_COLOURS, STATE_COLOURS, ink
from ghn_init.viz.placed import HEADER
from helpers import random_graph
from zoo import Fn, conv, images, param

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]


@dataclass
class Picture:
    """What a person would see."""

    root: ElementTree.Element

    @classmethod
    def of(cls, text: str) -> Picture:
        return cls(ElementTree.fromstring(text))

    def groups(self, kind: str) -> list[ElementTree.Element]:
        return [group for group in self.root.iter(f"{SVG}g") if group.get("class") == kind]

    @property
    def nodes(self) -> dict[int, int]:
        """Node → of how many it is drawn."""
        found = [(int(group.attrib["data-node"]), int(group.attrib["data-count"])) for group in self.groups("ghn-node")]
        assert len(dict(found)) == len(found)  # each once
        return dict(found)

    @property
    def fields(self) -> dict[int, Rectangle]:
        return {int(group.attrib["data-node"]): rectangle(group) for group in self.groups("ghn-node")}

    @property
    def boxes(self) -> dict[Rectangle, str]:
        return {rectangle(group): group.attrib["data-path"] for group in self.groups("ghn-module")}

    @property
    def edges(self) -> dict[tuple[int, int], list[Point]]:
        found = [group for group in self.root.iter(f"{SVG}g") if "data-from" in group.attrib]
        ways = {(int(group.attrib["data-from"]), int(group.attrib["data-to"])): points(group) for group in found}
        assert len(ways) == len(found)
        return ways

    @property
    def texts(self) -> list[str]:
        return [element.text or "" for element in self.root.iter(f"{SVG}text")]

    def tooltip(self, node: int) -> str:
        (group,) = [group for group in self.groups("ghn-node") if group.attrib["data-node"] == str(node)]
        return group.findtext(f"{SVG}title") or ""

    def fill(self, node: int) -> str:
        (group,) = [group for group in self.groups("ghn-node") if group.attrib["data-node"] == str(node)]
        return group.find(f"{SVG}rect").attrib["fill"]


def rectangle(group: ElementTree.Element) -> Rectangle:
    rect = group.find(f"{SVG}rect")
    x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def points(group: ElementTree.Element) -> list[Point]:
    """Points along a wire, curves in ten steps."""
    found: list[Point] = []
    for letter, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", group.find(f"{SVG}path").attrib["d"]):
        values = [float(value) for value in rest.split()]
        x, y = found[-1] if found else (0.0, 0.0)
        match letter:
            case "M" | "L":
                found.append((values[0], values[1]))
            case "V":
                found.append((x, values[0]))
            case "H" | "h":
                found.append((values[0] + (x if letter == "h" else 0), y))
            case "C" | "Q":
                control = [(x, y), *zip(values[::2], values[1::2], strict=True)]
                found += [bezier(control, k / 10) for k in range(1, 11)]
            case _:
                raise AssertionError(letter)
    return found


def bezier(control: list[Point], t: float) -> Point:
    """De Casteljau's construction."""
    while len(control) > 1:
        control = [((1 - t) * x + t * x2, (1 - t) * y + t * y2) for (x, y), (x2, y2) in pairwise(control)]
    return control[0]


def along(way: list[Point]) -> Iterable[Point]:
    """Points of a wire at most 6 pixels apart; the lowest rows have 20."""
    for (x, y), (x2, y2) in pairwise(way):
        steps = int(max(abs(x2 - x), abs(y2 - y)) / 6) + 1
        yield from ((x + (x2 - x) * k / steps, y + (y2 - y) * k / steps) for k in range(steps + 1))


def blocks(count: int, widths: Callable[[int], int] = lambda k: 8) -> Graph:
    """Residual blocks `blocks.0` and so on, of convolution, norm and sum, each a module."""
    nodes, edges, last = [Node("input")], [], 0
    for k in range(count):
        start, here, w = last, len(nodes), widths(k)
        name = f"blocks.{k}."
        nodes += [
            Node("conv", (w, w, 3, 3), f"{name}conv.weight"),
            Node("bias", (w,), f"{name}conv.bias"),
            Node("bn", (w,), f"{name}norm.weight", f"{name}norm.bias"),
            Node("sum"),
        ]
        edges += [(start, here), (here, here + 1), (here + 1, here + 2), (here + 2, here + 3), (start, here + 3)]
        last = here + 3
    nodes.append(Node("conv", (10, 8), "head.weight"))
    edges.append((last, last + 1))
    return Graph(tuple(nodes), np.array(edges).T)


def attention() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = m.norm(x)
        y = nn.functional.scaled_dot_product_attention(m.q(y), m.k(y), m.v(y))
        return m.head(x + m.proj(y))

    linear = {name: nn.Linear(8, 8) for name in ("q", "k", "v", "proj")}
    return Fn(forward, norm=nn.LayerNorm(8), head=nn.Linear(8, 5), **linear)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "one node": lambda: Graph((Node("input"),), np.empty((2, 0), np.int64)),
    "equal blocks": lambda: blocks(12),
    "other blocks": lambda: blocks(12, lambda k: 8 * (k + 1)),
    "attention": lambda: trace(attention(), torch.zeros(2, 4, 8)),
    "resnet18": lambda: trace(timm.create_model("resnet18")),
    "efficientnet": lambda: trace(timm.create_model("efficientnet_b0")),
    "densenet": lambda: trace(timm.create_model("densenet121")),
    "DeepNets": lambda: trace(deepnets.network("test", 0)),
    "without modules": lambda: random_graph(60),
    "without modules, other edges": lambda: random_graph(200, 3),
}


@lru_cache
def graph_of(name: str) -> Graph:
    return GRAPHS[name]()


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return graph_of(request.param)


def test_the_unfolded_picture_is_the_graph(graph: Graph) -> None:
    picture = Picture.of(graph.to_svg(fold=False))
    assert picture.nodes == dict.fromkeys(range(graph.num_nodes), 1)
    assert picture.edges.keys() == set(graph.edges)


def test_folds_add_up_to_the_graph(graph: Graph) -> None:
    picture = Picture.of(graph.to_svg())
    assert sum(picture.nodes.values()) == graph.num_nodes
    for a, b in picture.edges:
        assert a < b
        assert {a, b} <= picture.nodes.keys()


@pytest.mark.parametrize("fold", [False, True])
def test_nothing_is_on_top_of_another(graph: Graph, fold: bool) -> None:
    picture = Picture.of(graph.to_svg(fold=fold))
    fields, boxes = picture.fields, picture.boxes
    left, top, w, h = (float(value) for value in picture.root.attrib["viewBox"].split())
    for x, y, x2, y2 in [*fields.values(), *boxes]:
        assert left <= x < x2 <= left + w
        assert top <= y < y2 <= top + h
    for one, other in combinations(fields.values(), 2):
        assert apart(one, other)
    for one, other in combinations(boxes, 2):
        assert apart(one, other) or inside(one, other) or inside(other, one)
    for field in fields.values():
        assert all(apart(field, box) or inside(field, box) for box in boxes)
        assert all(apart(field, (x, y, x2, y + HEADER)) for x, y, x2, _ in boxes)


@pytest.mark.parametrize("fold", [False, True])
def test_wires_keep_clear_of_what_they_do_not_join(graph: Graph, fold: bool) -> None:
    picture = Picture.of(graph.to_svg(fold=fold))
    fields = picture.fields
    for (a, b), way in picture.edges.items():
        ends = fields[a], fields[b]
        others = [field for k, field in fields.items() if k not in (a, b)]
        others += [box for box in picture.boxes if not any(inside(end, box) for end in ends)]
        xs, ys = zip(*way, strict=True)
        near = [box for box in others if not apart(box, (min(xs), min(ys), max(xs), max(ys)))]
        for x, y in along(way) if near else ():
            assert not any(l < x < r and t < y < u for l, t, r, u in near), (a, b)  # noqa: E741


def test_wires_begin_and_end_at_their_nodes(graph: Graph) -> None:
    picture = Picture.of(graph.to_svg())
    for (a, b), way in picture.edges.items():
        (x, y), (x2, y2) = way[0], way[-1]
        one, other = picture.fields[a], picture.fields[b]
        if one[1] == other[1] and x2 - x < 4:  # a bias beside its weight
            assert (x, x2) == (one[2], other[0])
        else:
            assert one[0] < x < one[2] or one[0] - 200 < x < one[2]  # below a row, its bias is part of it
            assert y == one[3]
            assert other[0] < x2 < other[2] + 50
            assert y2 + 5 == pytest.approx(other[1])


def apart(one: Rectangle, other: Rectangle) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def inside(one: Rectangle, other: Rectangle) -> bool:
    return other[0] <= one[0] and other[1] <= one[1] and one[2] <= other[2] and one[3] <= other[3]


def test_what_goes_up_between_columns_is_of_one_node(graph: Graph) -> None:
    risers: dict[float, set[int]] = {}
    for (a, _), way in Picture.of(graph.to_svg()).edges.items():
        for (x, y), (x2, y2) in pairwise(way):
            if x == x2 and y2 < y:
                risers.setdefault(x, set()).add(a)
    assert all(len(sources) == 1 for sources in risers.values())


def test_texts_stay_in_their_fields(graph: Graph) -> None:
    for group in Picture.of(graph.to_svg(fold=False)).groups("ghn-node"):
        left, top, right, bottom = rectangle(group)
        spans = []
        for text in group.iter(f"{SVG}text"):
            x, length = float(text.attrib["x"]), float(text.attrib["textLength"])
            assert left < x
            assert x + length <= right
            assert top < float(text.attrib["y"]) < bottom
            spans.append((x, x + length))
        assert all(a < b for (_, a), (b, _) in combinations(spans, 2))


def test_repeated_blocks_are_folded() -> None:
    picture = Picture.of(blocks(12).to_svg())
    assert picture.nodes == {0: 1, 1: 12, 2: 12, 3: 12, 4: 12, 49: 1}
    assert "blocks.0–11 × 12" in picture.texts
    assert picture.edges.keys() == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 49)}
    heads = [line.split(" ")[0] for line in picture.tooltip(1).splitlines()]
    assert heads == ["12", *(f"blocks.{k}.conv.weight" for k in range(12))]


def test_blocks_of_other_shapes_are_not() -> None:
    picture = Picture.of(blocks(12, lambda k: 8 if k < 6 else 16).to_svg())
    assert {"blocks.0–5 × 6", "blocks.6–11 × 6"} <= set(picture.texts)
    assert set(picture.nodes.values()) == {1, 6}
    assert set(Picture.of(blocks(12, lambda k: 8 * (k + 1)).to_svg()).nodes.values()) == {1}


def test_parallel_layers_are_not_folded() -> None:
    experts = {f"expert{k}": nn.Linear(8, 8) for k in range(6)}
    graph = trace(Fn(lambda m, x: torch.cat([getattr(m, name)(x) for name in experts]), **experts), torch.zeros(2, 8))
    picture = Picture.of(graph.to_svg())
    assert set(picture.nodes.values()) == {1}
    assert experts.keys() <= set(picture.texts)


def test_folds_are_nested_and_channels_from_outside_are_ranges() -> None:
    stage = nn.Sequential(*(conv() if k == 0 else conv(8) for k in range(1)), *(conv(8) for _ in range(4)))
    stages = nn.Sequential(*(nn.Sequential(*(conv(8) for _ in range(4)), nn.BatchNorm2d(8)) for _ in range(3)))
    graph = trace(nn.Sequential(stage, stages), images())
    assert 12 in Picture.of(graph.to_svg()).nodes.values()
    dense = set(Picture.of(graph_of("densenet").to_svg()).texts)
    assert {"bn 96–224", "conv 128×96–224×1×1", "conv 32×128×3×3"} <= dense


def test_blocks_need_not_be_modules() -> None:
    layers = [layer for _ in range(4) for layer in (conv(8), nn.BatchNorm2d(8), nn.MaxPool2d(2, 1))]
    picture = Picture.of(trace(nn.Sequential(conv(3, 8), nn.ReLU(), *layers), images()).to_svg())
    assert sorted(set(picture.nodes.values())) == [1, 4]


def test_operations_stand_in_the_module_that_computes_them() -> None:
    graph = trace(timm.create_model("resnet18"))
    paths = [".".join(path) for path in module_paths(graph)]
    found = {node.primitive: paths[k] for k, node in enumerate(graph.nodes) if not node.parameters}
    assert found["max_pool"] == found["glob_avg"] == ""
    sums = [path for path, node in zip(paths, graph.nodes, strict=True) if node.primitive == "sum"]
    assert sums == [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    vit = trace(timm.create_model("vit_tiny_patch16_224", depth=2))
    paths = [".".join(path) for path in module_paths(vit)]
    found = [(node.primitive, path) for path, node in zip(paths, vit.nodes, strict=True) if not node.parameters]
    block = [("msa", "blocks.{}.attn"), ("sum", "blocks.{}"), ("sum", "blocks.{}")]
    assert found == [("input", ""), ("sum", ""), *((kind, path.format(k)) for k in range(2) for kind, path in block)]


def test_deep_modules_can_be_closed() -> None:
    graph = graph_of("resnet18")
    picture = Picture.of(graph.to_svg(depth=0))
    assert picture.boxes == {}
    assert sum(picture.nodes.values()) == graph.num_nodes
    assert {"layer1.0–1 × 2", "layer4", "conv1", "fc"} <= set(picture.texts)
    assert {"10 nodes", "12 nodes"} <= set(picture.texts)
    assert "layer4.0" in Picture.of(graph.to_svg(depth=1)).texts
    assert picture.tooltip(4).startswith("4 conv, 4 bn, 2 sum\nlayer1.0.conv1.weight 64×64×3×3")


def test_a_graph_of_thousands_of_nodes_fits_a_page() -> None:
    def different(k: int) -> int:
        return 8 * (1 + k * k % 101)

    graph = blocks(750, different)
    stages = [node if node.weight is None else renamed(node) for node in graph.nodes]
    graph = Graph(tuple(stages), graph.edge_index)
    picture = Picture.of(graph.to_svg())
    assert graph.num_nodes == sum(picture.nodes.values()) == 3002
    assert len(picture.nodes) < 250
    assert len(Picture.of(graph.to_svg(fold=False)).nodes) == 3002


def renamed(node: Node) -> Node:
    """`blocks.123.x` → `stages.1.blocks.23.x`."""
    names = [name and re.sub(r"blocks\.(\d+)", lambda m: f"stages.{int(m[1]) // 50}.blocks.{int(m[1]) % 50}", name)
        for name in (node.weight, node.bias)]  # fmt: skip
    return Node(node.primitive, node.shape, *names)


def test_tall_pictures_are_cut_into_columns() -> None:
    graph = blocks(12, lambda k: 8 * (k + 1))
    picture = Picture.of(graph.to_svg())
    assert picture.edges.keys() == set(graph.edges)
    assert len({box[0] for box in picture.boxes}) >= 2
    assert float(picture.root.attrib["height"]) < 900


def test_the_same_graph_is_the_same_picture() -> None:
    code = "import pickle, sys\nfor graph in pickle.load(sys.stdin.buffer): print(graph.to_svg(), graph.to_html())"
    graphs = pickle.dumps([blocks(9, lambda k: 8 + k // 3), random_graph(50), graph_of("DeepNets")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pages = []
    for seed in ("1", "2"):
        options = {"input": graphs, "env": {**environment, "PYTHONHASHSEED": seed}}
        pages.append(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120, **options).stdout
        )
    assert pages[0] == pages[1]


def test_names_may_hold_anything() -> None:
    name = "a<b>&\"'\x00\x0b漢 ]]>"
    picture = Picture.of(Graph((Node("input"), Node("conv", (8, 3), f"{name}.weight")), np.array([[0], [1]])).to_svg())
    shown = name.replace("\x00", "�").replace("\x0b", "�")
    assert shown in picture.texts
    assert picture.tooltip(1) == f"conv\n{shown}.weight 8×3"


def test_long_names_are_shortened_and_told_in_full() -> None:
    name = "word" * 40
    graph = Graph((Node("input"), Node("conv", (8, 3), f"{name}.weight")), np.array([[0], [1]]))
    picture = Picture.of(graph.to_svg())
    assert name not in picture.texts
    assert name in picture.tooltip(1)
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abc…fghijk"
    assert width("漢") == pytest.approx(width("ab"), abs=0.11)


def test_notebooks_show_the_picture() -> None:
    graph = blocks(2)
    assert graph._repr_svg_() == graph.to_svg()


def test_every_primitive_has_a_colour_on_which_text_can_be_read() -> None:
    assert PRIMITIVE_COLOURS.keys() == set(PRIMITIVES)
    colours = [*PRIMITIVE_COLOURS.values(), *STATE_COLOURS.values(), OTHER]
    assert len(set(PRIMITIVE_COLOURS.values())) == len(PRIMITIVES)
    for colour in colours:
        assert contrast(colour, ink(colour)) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_prediction_shows_what_happens_to_parameters(ghn: GHN) -> None:
    model = Fn(lambda m, x: m.b(m.a(x)) * m.gate, a=conv(3, 8, 1), b=conv(8, 40, 1), gate=param(1))
    prediction = ghn_init.predict(model, ghn, images(), exclude="a.bias")
    picture = Picture.of(prediction.to_svg())
    assert len(picture.nodes) == 5
    states = [STATE_COLOURS[state] for state in ("no parameter", "predicted", "kept", "predicted, tiled", "predicted, tiled")]
    assert [picture.fill(node) for node in range(5)] == states
    before, after = (float(norm) for norm in re.findall(r"norm (\S+) → (\S+)", picture.tooltip(1))[0])
    assert before == pytest.approx(model.a.weight.norm().item(), rel=1e-2)
    assert after == pytest.approx(prediction.tensors["a.weight"].norm().item(), rel=1e-2)
    assert picture.tooltip(2).startswith("bias\na.bias 8: kept, left out by exclude; norm ")
    assert {"predicted 1", "kept 2", "predicted, tiled 2", "no parameter"} <= set(picture.texts)  # the gate has no node


def test_a_norm_of_which_one_parameter_is_kept_is_kept(ghn: GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(conv(), nn.BatchNorm2d(8)), ghn, images(), exclude="1.bias")
    assert Picture.of(prediction.to_svg()).fill(3) == STATE_COLOURS["kept"]


def test_a_prediction_on_the_meta_device_has_norms_after_alone(ghn: GHN) -> None:
    with torch.device("meta"):
        model = conv(3, 8, 1)
    tooltip = Picture.of(ghn_init.predict(model, ghn, images()).to_svg()).tooltip(1)
    assert re.fullmatch(r"conv\nweight 8×3×1×1: predicted, norm [\d.]+", tooltip)


def test_notebooks_show_a_prediction_with_its_summary(ghn: GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(conv(), nn.BatchNorm2d(8)), ghn, images())
    html = prediction._repr_html_()
    assert html.startswith(f"<div><p>{prediction.report.summary}</p>")
    assert prediction.to_svg() in html


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=lambda file: file.stem)
def test_pictures_in_the_docs_are_small_and_complete(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) < 150_000
    picture = Picture.of(text)
    assert {a for edge in picture.edges for a in edge} <= picture.nodes.keys()
    assert f"(pictures/{file.name})" in (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")


def test_a_picture_in_the_docs_is_what_is_drawn_today() -> None:
    file = ROOT / "docs" / "pictures" / "deepnets_test_0.svg"
    assert file.read_text(encoding="utf-8") == graph_of("DeepNets").to_svg(), "run benchmarks/pictures.py"
