"""Graphs and predicted values against the published implementation's, on torchvision's models.

`GHN_INIT_PARITY=folder` also checks `ghn2-imagenet-shape.{json,safetensors}` in that folder, which are too large to ship.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import ghn_init
from ghn_init.hypernetwork.slots import fill
from ghn_init.tracing.inputs import BATCH

DATA = Path(__file__).parent / "data" / "parity"
GRAPHS: dict[str, dict[str, Any]] = json.loads((DATA / "graphs.json").read_text())
LARGE = Path(os.environ.get("GHN_INIT_PARITY", ""))
DIFFERENT = {
    "swin_v2_s": "no sums around window shifts, no gates for logit scales, which no data flows through",
}
"""Models whose graphs differ from the published ones on purpose. docs/checkpoints.md lists them too."""

FAMILIES = {
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mobilenet_v3_small",
    "regnet_y_400mf", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_32",
}  # fmt: skip
"""One of each, which the quick tests compare; the others are marked slow."""
COMPARED = [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.slow) for name in GRAPHS if name not in DIFFERENT]


@lru_cache(maxsize=2)
def figures(folder: Path, tag: str) -> tuple[ghn_init.GHN, dict[str, dict[str, list[float] | None]]]:
    packed = folder / f"{tag}.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / f"{tag}.json").read_bytes()
    return ghn_init.load(folder / f"{tag}.safetensors"), json.loads(text)


@lru_cache(maxsize=1)
def model_and_graph(name: str, num_classes: int) -> tuple[nn.Module, ghn_init.Graph]:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # RegNets compute their widths with tensors, which meta tensors can't.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    size = 299 if name == "inception_v3" else 224
    return model, ghn_init.trace(model, torch.empty(BATCH, 3, size, size, device="meta"))


@pytest.mark.parametrize("name", COMPARED)
def test_graph_equals_the_published_one(name: str) -> None:
    _, graph = model_and_graph(name, 10)
    distances = graph.distances
    assert {
        "nodes": graph.num_nodes,
        "edges_1hop": graph.edge_index.shape[1],
        "edges_virtual": int((distances > 1).sum()),
        "dist_sum": int(distances.sum(dtype="int64")),
        "primitives": graph.primitives,
    } == GRAPHS[name]


def test_every_quick_comparison_is_there() -> None:
    assert GRAPHS.keys() - DIFFERENT.keys() >= FAMILIES


def test_graph_that_differs_on_purpose_differs_as_documented() -> None:
    _, graph = model_and_graph("swin_v2_s", 10)
    published = GRAPHS["swin_v2_s"]["primitives"]
    assert "cse" in published
    assert "cse" not in graph.primitives
    same = published.keys() - {"cse", "sum"}
    assert {key: graph.primitives[key] for key in same} == {key: published[key] for key in same}


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("tag", ["ghn2-tiny", "ghn3-tiny"])
def test_values_equal_the_published_ones(name: str, tag: str) -> None:
    ghn, published = figures(DATA, tag)
    compare(name, ghn, published[name])


@pytest.mark.skipif(not (LARGE / "ghn2-imagenet-shape.safetensors").is_file(), reason="GHN_INIT_PARITY is not set")
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "vit_b_32", "squeezenet1_1", "densenet121"])
def test_values_of_the_imagenet_shape_equal_the_published_ones(name: str) -> None:
    ghn, published = figures(LARGE, "ghn2-imagenet-shape")
    compare(name, ghn, published[name])


def compare(name: str, ghn: ghn_init.GHN, published: dict[str, list[float] | None]) -> None:
    (outputs,) = ghn.config.tasks.values()
    model, _ = model_and_graph(name, outputs)
    size = 299 if name == "inception_v3" else 224
    images = torch.empty(BATCH, 3, size, size, device="meta")
    prediction = ghn_init.predict(model, ghn, images, head=True)
    assert set(prediction.kept) <= {parameter for parameter, numbers in published.items() if numbers is None}
    wrong = {}
    for parameter, slot in prediction.slots.items():
        numbers = published[parameter]
        if numbers is None:
            continue
        error = relative_error(fill(slot, prediction.cores[parameter]), numbers, slot.kind == "position")
        if not error < 1e-4:
            wrong[parameter] = error
    assert wrong == {}


def relative_error(tensor: Tensor, numbers: list[float], position: bool) -> float:
    """Largest error of norm and values, relative to norm and root mean square."""
    norm, _, *values = numbers
    n = tensor.numel()
    flat = tensor.flatten()
    at = [flat[k].item() for k in (0, n // 3, n // 2, n - 1)]
    rms = norm / math.sqrt(n)
    errors = [abs(a - b) / rms for a, b in zip(at, values, strict=True)]
    if position:  # rows for class tokens are random
        return errors[-1]
    if n < 1_000_000:  # the published sums of larger tensors were taken in single precision
        errors.append(abs(flat.double().norm().item() - norm) / norm)
    return max(errors)
