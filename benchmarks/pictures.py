"""Draws the pictures of `docs/pictures.md`, and times pictures and pages.

    python benchmarks/pictures.py [-o docs/pictures] [--only resnet50 gpt2]

Prints a table: nodes of the graph, rows of the picture, CPU seconds for picture and page (the better of two runs), their sizes.
Models are on the meta device, but the one whose prediction is drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import deepnets
from ghn_init.graph import Graph

MIXED = 500
"""Blocks of the last model, so that it has about 3,000 nodes."""


class Block(nn.Module):
    """A residual block of two convolutions; its inner width is its own."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) → the same."""
        return x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


def mixed() -> nn.Module:
    """A model without two equal neighbours, in stages of 20 blocks."""
    blocks = [Block(16, 8 + k * k % 61) for k in range(MIXED)]
    stages = [nn.Sequential(*blocks[k : k + 20]) for k in range(0, MIXED, 20)]
    return nn.Sequential(nn.Conv2d(3, 16, 3), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def gpt2() -> nn.Module:
    """GPT-2 as published."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def named(name: str) -> Callable[[], nn.Module]:
    """timm's model of that name."""
    return lambda: timm.create_model(name)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": named("resnet50"),
    "vit_base_patch16_224": named("vit_base_patch16_224"),
    "swin_tiny_patch4_window7_224": named("swin_tiny_patch4_window7_224"),
    "tf_efficientnetv2_l": named("tf_efficientnetv2_l"),
    "densenet121": named("densenet121"),
    "deepnets_test_0": lambda: deepnets.network("test", 0),
    "gpt2": gpt2,
    f"{MIXED} different blocks": mixed,
}
IN_THE_DOCS = ("resnet50", "tf_efficientnetv2_l", "deepnets_test_0")


def best_of_two(make: Callable[[], str]) -> tuple[str, float]:
    """What is made, and the CPU seconds of the better run."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        text = make()
        seconds.append(time.process_time() - start)
    return text, min(seconds)


def row(name: str, graph: Graph, svg: tuple[str, float], page: tuple[str, float]) -> str:
    """A row of the table."""
    rows = svg[0].count('class="ghn-node"')
    figures = (
        f"{graph.num_nodes:,}",
        f"{rows:,}",
        *(f"{s:.2f} s, {len(text.encode()) / 1000:,.0f} kB" for text, s in (svg, page)),
    )
    return f"| {name} | {' | '.join(figures)} |"


def prediction() -> str:
    """A vision transformer for ten classes, by what happens to its parameters."""
    torch.manual_seed(0)
    return ghn_init.predict(timm.create_model("vit_small_patch16_224", num_classes=10)).to_svg()


def main() -> None:
    """Draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", nargs="*", default=[*MODELS, "prediction"])
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    print("| model | nodes | drawn | picture | page |\n| --- | --- | --- | --- | --- |")
    for name in (name for name in MODELS if name in args.only):
        with torch.device("meta"):
            graph = ghn_init.trace(MODELS[name]())
        svg, page = best_of_two(graph.to_svg), best_of_two(graph.to_html)
        print(row(name, graph, svg, page), flush=True)
        if name in IN_THE_DOCS:
            (args.output / f"{name}.svg").write_text(svg[0], encoding="utf-8")
    if "prediction" in args.only:
        (args.output / "prediction.svg").write_text(prediction(), encoding="utf-8")


if __name__ == "__main__":
    main()
