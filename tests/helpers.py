"""Shared by test files: a tiny data set, tiny networks, a tiny hypernetwork's recipe, random graphs, published files."""

from __future__ import annotations

import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from ghn_init import GHN, GHNConfig
from ghn_init.graph import Graph, Node
from ghn_init.tasks.image_data import Images
from ghn_init.training.recipe import TrainConfig
from zoo import conv

SMALL = GHNConfig({"images": 3}, max_shape=(8, 8, 3, 3), hid=8)
RECIPE = TrainConfig(steps=4, meta_batch=2, batch_size=8, pool=6, warmup=2, bf16=False)


def colours(count: int = 60) -> Images:
    """Three classes told apart by their brightest channel."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, count))
    pixels = torch.from_numpy(rng.integers(0, 90, (count, 3, 16, 16), dtype=np.uint8))
    pixels[torch.arange(count), labels] += 120
    return Images.from_tensors(pixels, labels)


class Tiny(nn.Module):
    """A network for colours: one to four convolutions, with batch norms that keep running statistics, or without norms."""

    def __init__(self, depth: int, width: int, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(depth):
            layers += [conv(width if k else 3, width), nn.BatchNorm2d(width) if norm else nn.Identity(), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def tiny_networks() -> list[nn.Module]:
    return [Tiny(1 + k % 4, 8 + 4 * (k % 3), norm=k != 4) for k in range(6)]


def random_edges(num_nodes: int, seed: int) -> np.ndarray:
    rng = random.Random(seed)
    edges = {(max(0, j - 1 - int(rng.expovariate(0.7))), j) for j in range(1, num_nodes) for _ in range(rng.randint(1, 3))}
    return np.array(sorted(edges), dtype=np.int64).reshape(-1, 2).T


def random_graph(num_nodes: int, seed: int = 0) -> Graph:
    nodes = [Node("input")]
    for k in range(1, num_nodes):
        nodes.append(Node("conv", (8 * (1 + k % 3), 8, 3, 3), f"{k}.weight") if k % 2 else Node("sum"))
    return Graph(tuple(nodes), random_edges(num_nodes, seed))


PUBLISHED_NAMES = {"to_weight.": "decoder.class_layer_predictor.1.", "to_bias.": "bias_class.1."}
"""Of a head's tensors → the published names."""


def published_config(ghn: GHN) -> dict[str, Any]:
    """The configuration as published files have it."""
    config = ghn.config.to_dict()
    (config["num_classes"],) = config.pop("tasks").values()
    assert config.pop("class_width") == config["num_classes"]
    return config


def published_state(ghn: GHN) -> OrderedDict[str, Tensor]:
    """The tensors under the names that published files have."""
    (task,) = ghn.config.tasks
    head = f"heads.{task}."
    state = OrderedDict()
    for name, tensor in ghn.state_dict().items():
        kind, _, rest = name.removeprefix(head).partition(".")
        state[PUBLISHED_NAMES[f"{kind}."] + rest if name.startswith(head) else name] = tensor
    return state


def write_release(ghn: GHN, path: Path, **options: Any) -> Path:
    """As the 2021 release: a dict with the configuration; the decoder's convolutions have 4-D kernels."""
    state = OrderedDict(
        (n, t[..., None, None] if n in ("decoder.conv.0.weight", "decoder.conv.2.weight") else t)
        for n, t in published_state(ghn).items()
    )
    config = {**published_config(ghn), "decoder": "conv", "note": None}
    torch.save({"config": config, "state_dict": state, "epoch": 3}, path, **options)
    return path


def write_hub(ghn: GHN, path: Path, at_the_top: bool = False) -> Path:
    """As the hub repository: a bare state dict."""
    names = ("gnn.0.centrality", "gnn.0.input_dist")
    state = OrderedDict(
        (n.removeprefix("gnn.0.") if at_the_top and n.startswith(names) else n, t) for n, t in published_state(ghn).items()
    )
    joblib.dump(state, path)
    return path
