"""Families of convolutional networks, but for inverted residuals: a stream of choices → a constructor and arguments."""

from __future__ import annotations

import math

from ghn_init.deepnets.draw import Draw
from ghn_init.families.member import CLASSES, SIZE, Recipe

LOGITS = "ghn_init.families.wrappers.Logits"


def growing(
    draw: Draw, first: tuple[int, ...], stages: int, growth: tuple[float, ...] = (1.5, 2.0), unit: int = 8
) -> list[int]:
    """Widths of stages, each a multiple of `unit`, growing by one factor."""
    width, factor = draw.pick(first), draw.pick(growth)
    return [round(width * factor**k / unit) * unit for k in range(stages)]


def depths(draw: Draw, stages: int, most: int) -> list[int]:
    """Numbers of a stage's blocks."""
    return [draw.integer(1, most) for _ in range(stages)]


def resnet(draw: Draw) -> Recipe:
    """ResNet (He et al., 2015, arXiv 1512.03385), from BasicBlocks or Bottlenecks, with variants of arXiv 1812.01187."""
    basic, stages = draw.chance(0.6), draw.integer(3, 4)
    if draw.chance(0.25):
        config = {
            "@": "transformers.ResNetConfig",
            "embedding_size": draw.pick((16, 24, 32)),
            "hidden_sizes": growing(draw, (16, 24, 32) if basic else (32, 48, 64), stages),
            "depths": depths(draw, stages, 2),
            "layer_type": "basic" if basic else "bottleneck",
            "hidden_act": draw.pick(("relu", "relu", "gelu", "silu")),
            "num_labels": CLASSES,
        }
        model = {"@": "transformers.ResNetForImageClassification", "config": config}
        return Recipe(LOGITS, {"model": model}, small_stem=draw.chance(0.7))
    return _timm_resnet(draw, basic)


def resnext(draw: Draw) -> Recipe:
    """ResNeXt (Xie et al., 2016, arXiv 1611.05431): Bottlenecks with grouped convolutions."""
    return _timm_resnet(draw, False, draw.pick((2, 4, 8)), draw.pick((8, 12, 16)))


def _timm_resnet(draw: Draw, basic: bool, cardinality: int = 1, base_width: int = 64) -> Recipe:
    norm = draw.pick(("batchnorm2d", "batchnorm2d", "batchnorm2d", "groupnorm")) if cardinality == 1 else "batchnorm2d"
    unit = 32 if norm == "groupnorm" else 8  # timm's group norms have 32 groups
    first = (16, 24) if basic else (8, 16) if cardinality == 1 else (16, 24, 32)
    stem = draw.pick(("", "deep", "deep"))
    block = "BasicBlock" if basic else "Bottleneck"
    arguments = {
        "block": f"@timm.models.resnet.{block}",
        "layers": depths(draw, 4, 2),
        "channels": growing(
            draw, (32,) if unit == 32 else first, 4, (1.5, 1.75) if unit == 32 else (1.5, 1.75, 2.0), unit=unit
        ),
        "stem_type": stem,
        "avg_down": draw.chance(0.3),
        "act_layer": draw.pick(("relu", "relu", "silu", "gelu", "leaky_relu")),
        "norm_layer": norm,
        "zero_init_last": draw.chance(0.5),
        "num_classes": CLASSES,
    }
    if stem:  # else it has 64 channels always
        arguments["stem_width"] = 32 if unit == 32 else draw.pick((8, 12, 16, 24))
    if cardinality > 1:
        arguments |= {"cardinality": cardinality, "base_width": base_width}
    if draw.chance(0.3):
        arguments["block_args"] = {"attn_layer": draw.pick(("se", "eca"))}
    return Recipe("timm.models.resnet.ResNet", arguments, small_stem=draw.chance(0.7))


def regnet(draw: Draw) -> Recipe:
    """RegNet X and Y (Radosavovic et al., 2020, arXiv 2003.13678): widths grow with depth; Y has squeeze-and-excite."""
    se_ratio = draw.pick((0.0, 0.25))
    group = draw.pick((4, 8, 16))
    if draw.chance(0.4):
        stages = 4
        params = {
            "@": "torchvision.models.regnet.BlockParams",
            "depths": depths(draw, stages, 3),
            "widths": growing(draw, (32, 48), stages, unit=16),
            "group_widths": [group] * stages,
            "bottleneck_multipliers": [draw.pick((1.0, 1.0, 0.5)) if group < 16 else 1.0]
            * stages,  # torchvision fits no groups
            "strides": [draw.pick((1, 2)), 2, 2, 2],
            "se_ratio": se_ratio or None,
        }
        act = draw.pick(("ReLU", "ReLU", "SiLU", "Hardswish"))  # torchvision passes inplace=, which GELU doesn't take
        arguments = {"block_params": params, "stem_width": draw.pick((16, 24, 32)), "num_classes": CLASSES}
        arguments["activation"] = f"@torch.nn.{act}"
        return Recipe("torchvision.models.regnet.RegNet", arguments, small_stem=draw.chance(0.5))
    cfg = {
        "@": "timm.models.regnet.RegNetCfg",
        **_four_stages(draw),
        "group_size": group,
        "bottle_ratio": draw.pick((1.0, 1.0, 0.5)),
        "se_ratio": se_ratio,
        "stem_width": draw.pick((16, 24, 32)),
        "downsample": draw.pick(("conv1x1", "conv1x1", "avg")),
        "act_layer": draw.pick(("relu", "relu", "silu")),
    }
    return Recipe("timm.models.regnet.RegNet", {"cfg": cfg, "num_classes": CLASSES}, small_stem=draw.chance(0.6))


def _four_stages(draw: Draw) -> dict[str, float]:
    """Parameters of widths (equations 2 to 4 of the paper) that fall into four stages, as timm asks for."""
    while True:
        depth, w0 = draw.integer(5, 10), draw.pick((24, 32, 40))
        wa, wm = draw.pick((12.0, 16.0, 20.0, 24.0, 32.0)), draw.pick((1.75, 2.0, 2.25))
        if {round(math.log(1 + wa * block / w0) / math.log(wm)) for block in range(depth)} == {0, 1, 2, 3}:
            return {"depth": depth, "w0": w0, "wa": wa, "wm": wm}


def densenet(draw: Draw) -> Recipe:
    """DenseNet (Huang et al., 2016, arXiv 1608.06993): each layer reads all earlier ones of its block."""
    small = draw.chance(0.6)
    blocks = [draw.integer(2, 5) for _ in range(draw.integer(3, 4) if small else 3)]  # with its own stem 24 px allow three
    growth, bottleneck = draw.pick((12, 16, 20, 24)), draw.pick((2, 3, 4))
    arguments = {"growth_rate": growth, "block_config": blocks, "bn_size": bottleneck, "num_classes": CLASSES}
    if draw.chance(0.5):
        first = {"num_init_features": draw.pick((16, 24, 32))}
        return Recipe("torchvision.models.densenet.DenseNet", {**arguments, **first}, small_stem=small)
    varied = {"act_layer": draw.pick(("relu", "relu", "silu", "gelu")), "stem_type": "" if small else draw.pick(("", "deep"))}
    return Recipe("timm.models.densenet.DenseNet", {**arguments, **varied}, small_stem=small)


def vgg(draw: Draw) -> Recipe:
    """VGG (Simonyan and Zisserman, 2014, arXiv 1409.1556): 3×3 convolutions and max pools, with the head of small images."""
    widths, cfg = growing(draw, (24, 32, 40), draw.integer(3, 4)), []
    for width in widths:
        cfg += [*[width] * draw.integer(1, 3), "M"]
    features = {"@": "torchvision.models.vgg.make_layers", "cfg": cfg, "batch_norm": draw.chance(0.7)}
    head = {"channels": widths[-1], "hidden": draw.pick((0, 64, 128, 256)), "num_classes": CLASSES}
    return Recipe("ghn_init.families.wrappers.headed", {"features": features, **head})


def shufflenet(draw: Draw) -> Recipe:
    """ShuffleNet V2 (Ma et al., 2018, arXiv 1807.11164): halves of the channels pass, then all are shuffled."""
    widths = growing(draw, (32, 40, 48, 64), 3)
    arguments = {
        "stages_repeats": [draw.integer(2, 4) for _ in range(3)],
        "stages_out_channels": [draw.pick((16, 24, 32)), *widths, draw.pick((128, 256, 512))],
        "num_classes": CLASSES,
    }
    return Recipe("torchvision.models.shufflenetv2.ShuffleNetV2", arguments, small_stem=draw.chance(0.6))


def convnext(draw: Draw) -> Recipe:
    """ConvNeXt (Liu et al., 2022, arXiv 2201.03545) and V2 (arXiv 2301.00808), which has response normalisation."""
    if draw.chance(0.3):
        stages = draw.integer(2, 3)
        second = draw.chance(0.5)
        config = {
            "@": f"transformers.ConvNext{'V2' if second else ''}Config",
            "patch_size": draw.pick((2, 4)),
            "num_stages": stages,
            "hidden_sizes": growing(draw, (32, 48, 64), stages),
            "depths": depths(draw, stages, 3),
            "hidden_act": draw.pick(("gelu", "gelu", "silu", "relu")),
            "image_size": SIZE,
            "num_labels": CLASSES,
        }
        if not second:
            config["layer_scale_init_value"] = draw.pick((0.0, 1e-6, 0.1))
        model = {"@": f"transformers.ConvNext{'V2' if second else ''}ForImageClassification", "config": config}
        return Recipe(LOGITS, {"model": model})
    grn, patch = draw.chance(0.4), draw.pick((1, 2, 4))
    arguments = {
        "depths": depths(draw, 4, 3),
        "dims": growing(draw, (16, 24) if patch == 1 else (16, 24, 32, 40), 4),
        "kernel_sizes": draw.pick((3, 5, 7, 7)),
        "patch_size": patch,
        "output_stride": 8 if patch == 1 else 16,  # 24 px can be halved so often
        "ls_init_value": None if grn else draw.pick((None, 1e-6, 0.1)),
        "use_grn": grn,
        "conv_mlp": draw.chance(0.5),
        "act_layer": draw.pick(("gelu", "gelu", "silu", "relu")),
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.convnext.ConvNeXt", arguments)
