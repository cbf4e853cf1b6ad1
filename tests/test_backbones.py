"""Models without a head, and detectors' backbones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torchvision.models import detection, resnet18, segmentation
from transformers import AutoBackbone, AutoModel, ResNetConfig

import ghn_init
from ghn_init import GHN

TINY = ResNetConfig(
    embedding_size=16, hidden_sizes=[16, 24], depths=[1, 1], layer_type="basic", out_features=["stage1", "stage2"]
)


def headless() -> nn.Module:
    model = resnet18()
    model.fc = nn.Identity()
    return model


@pytest.mark.parametrize(
    "build",
    [
        headless,
        lambda: timm.create_model("resnet10t", num_classes=0),
        lambda: timm.create_model("resnet10t", num_classes=0, global_pool=""),
        lambda: timm.create_model("mobilenetv3_small_050", num_classes=0),
        lambda: timm.create_model("resnet10t", features_only=True, out_indices=(1, 4)),
        lambda: AutoBackbone.from_config(TINY),
        lambda: AutoModel.from_config(TINY),
    ],
    ids=[
        "torchvision",
        "timm, pooled",
        "timm, maps",
        "timm, convolution",
        "timm, features",
        "transformers, maps",
        "transformers",
    ],
)
def test_all_of_a_backbone_is_predicted(ghn: GHN, build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ghn_init.initialize(model, ghn, strict=True)
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


def test_a_backbone_gets_what_its_classifier_predicts_for_the_same_layers(ghn: GHN) -> None:
    whole, backbone = ghn_init.predict(resnet18(), ghn), ghn_init.predict(headless(), ghn)
    assert set(whole.tensors) - {"fc.weight", "fc.bias"} == set(backbone.tensors)
    assert {name: t.shape for name, t in backbone.tensors.items()} == {n: whole.tensors[n].shape for n in backbone.tensors}


def detector() -> detection.FasterRCNN:
    torch.manual_seed(0)
    # Few proposals: the tests run the whole detector.
    settings = {"rpn_pre_nms_top_n_test": 20, "rpn_post_nms_top_n_test": 5, "min_size": 64, "max_size": 64}
    return detection.fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, num_classes=3, **settings)


@pytest.mark.parametrize("how", ["the backbone itself", "only"])
def test_a_detectors_backbone_is_initialised_and_the_rest_is_not(ghn: GHN, how: str) -> None:
    model = detector()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if how == "only":
        ghn_init.initialize(model, ghn, ([torch.zeros(3, 64, 64)],), only="backbone.*", strict=True)
    else:
        ghn_init.initialize(model.backbone, ghn, torch.zeros(2, 3, 64, 64), strict=True)
    same = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert same == {name for name in dict(model.named_parameters()) if not name.startswith("backbone.")}
    assert len(same) > 5
    (found,) = model.eval()([torch.rand(3, 64, 64)])
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_a_segmentation_models_backbone(ghn: GHN) -> None:
    model = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    prediction = ghn_init.predict(model, ghn, torch.zeros(2, 3, 64, 64), only="backbone.*", strict=True)
    assert set(prediction.tensors) == {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
