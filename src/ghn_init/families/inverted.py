"""Families of inverted residuals, which widen, convolve depthwise and narrow again."""

from __future__ import annotations

from typing import Any

from ghn_init.deepnets.draw import Draw
from ghn_init.families.convolutional import growing
from ghn_init.families.member import CLASSES, Recipe

EFFICIENT = "timm.models.efficientnet.EfficientNet"


def mobilenet_v2(draw: Draw) -> Recipe:
    """MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381): inverted residuals with linear ends."""
    widths = growing(draw, (16, 24), draw.integer(3, 4), (1.5, 1.75, 2.0))
    small = draw.chance(0.5)
    expansion = draw.pick((2, 3, 4, 6))
    if draw.chance(0.5):
        rows = [[expansion, width, draw.integer(1, 3), 2] for width in widths]
        first = [1, draw.pick((8, 16)), 1, 1]
        arguments = {"inverted_residual_setting": [first, *rows], "dropout": 0.0, "num_classes": CLASSES}
        return Recipe("torchvision.models.mobilenetv2.MobileNetV2", arguments, small)
    stages = [[f"ds_r1_k3_s1_c{draw.pick((8, 16))}"]]
    stages += [[f"ir_r{draw.integer(1, 3)}_k3_s2_e{expansion}_c{width}"] for width in widths]
    return Recipe(EFFICIENT, _efficient(draw, stages, draw.pick(("relu6", "relu6", "relu", "hard_swish"))), small)


def mobilenet_v3(draw: Draw) -> Recipe:
    """MobileNetV3 (Howard et al., 2019, arXiv 1905.02244): with squeeze-and-excite, hard swish, and a head after the pool."""
    widths = growing(draw, (16, 24), draw.integer(3, 4), (1.5, 1.75))
    small = draw.chance(0.5)
    if draw.chance(0.4):
        return Recipe("torchvision.models.mobilenetv3.MobileNetV3", _torchvision_v3(draw, widths), small)
    stages = [[f"ds_r1_k3_s1_e1_c{draw.pick((8, 16))}_nre"]]
    for place, width in enumerate(widths):
        squeeze = draw.pick(("", "_se0.25"))
        act = "_nre" if place < 2 else ""
        kernel, expansion = draw.pick((3, 5)), draw.pick((2, 3, 4, 6))
        stages.append([f"ir_r{draw.integer(1, 3)}_k{kernel}_s2_e{expansion}_c{width}{squeeze}{act}"])
    stages.append([f"cn_r1_k1_s1_c{3 * widths[-1]}"])
    arguments = {
        "block_args": _decoded(stages),
        "stem_size": draw.pick((8, 16, 24)),
        "num_features": draw.pick((128, 256, 512)),
        "act_layer": f"@torch.nn.{draw.pick(('Hardswish', 'Hardswish', 'ReLU', 'SiLU'))}",
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.mobilenetv3.MobileNetV3", arguments, small)


def _torchvision_v3(draw: Draw, widths: list[int]) -> dict[str, Any]:
    before = draw.pick((8, 16))
    rows = []
    for place, width in enumerate(widths):
        for repeat in range(draw.integer(1, 3)):
            rows.append({
                "@": "torchvision.models.mobilenetv3.InvertedResidualConfig",
                "input_channels": before,
                "kernel": draw.pick((3, 5)),
                "expanded_channels": before * draw.pick((2, 3, 4, 6)),
                "out_channels": width,
                "use_se": draw.chance(0.5),
                "activation": "RE" if place < 2 else "HS",
                "stride": 1 if repeat else 2,
                "dilation": 1,
                "width_mult": 1.0,
            })  # fmt: skip
            before = width
    last = draw.pick((128, 256, 512))
    return {"inverted_residual_setting": rows, "last_channel": last, "dropout": 0.0, "num_classes": CLASSES}


def efficientnet(draw: Draw) -> Recipe:
    """EfficientNet (Tan and Le, 2019, arXiv 1905.11946) and V2 (arXiv 2104.00298), whose first stages are fused."""
    second = draw.chance(0.4)
    stages = [[f"ds_r1_k3_s1_e1_c{draw.pick((8, 16))}_se0.25"]]
    if second:
        stages = [[f"cn_r{draw.integer(1, 2)}_k3_s1_e1_c{draw.pick((8, 16))}_skip"]]
    for place, width in enumerate(growing(draw, (16, 24), draw.integer(3, 4), (1.5, 1.75, 2.0))):
        kernel, repeats, expansion = draw.pick((3, 5)), draw.integer(1, 3), draw.pick((2, 4, 6))
        fused = second and place < 2
        kind = f"er_r{repeats}_k3_s2_e{min(expansion, 4)}" if fused else f"ir_r{repeats}_k{kernel}_s2_e{expansion}"
        stages.append([f"{kind}_c{width}" + ("" if fused else draw.pick(("_se0.25", "_se0.25", "_se0.125", "")))])
    return Recipe(EFFICIENT, _efficient(draw, stages, draw.pick(("silu", "silu", "relu", "gelu"))), draw.chance(0.4))


def mnasnet(draw: Draw) -> Recipe:
    """MNASNet (Tan et al., 2018, arXiv 1807.11626): stages that differ in kernel, expansion and squeeze-and-excite."""
    stages = [[f"ds_r1_k3_s1_c{draw.pick((8, 16))}_noskip"]]
    for width in growing(draw, (16, 24), draw.integer(3, 5), (1.25, 1.5)):
        kernel, repeats, expansion = draw.pick((3, 5)), draw.integer(1, 3), draw.pick((3, 6))
        stride = 2 if len(stages) % 2 or len(stages) < 4 else 1
        stages.append([f"ir_r{repeats}_k{kernel}_s{stride}_e{expansion}_c{width}{draw.pick(('', '_se0.25'))}"])
    return Recipe(EFFICIENT, _efficient(draw, stages, "relu"), draw.chance(0.5))


def ghostnet(draw: Draw) -> Recipe:
    """GhostNet (Han et al., 2020, arXiv 1911.11907) and V2 (arXiv 2211.12905): half of the maps are cheap ones."""
    small, before = draw.chance(0.6), draw.pick((8, 12, 16))
    version = draw.pick(("v1", "v2")) if small else "v1"  # V2 pools the smallest maps once more, and 24 px need all they have
    rows: list[list[list[float]]] = [[[3, before, before, 0, 1]]]
    for width in growing(draw, (16, 24), draw.integer(3, 4), (1.5, 1.75)):
        kernel, squeeze, expansion = draw.pick((3, 5)), draw.pick((0, 0.25)), draw.pick((2, 3, 4))
        rows.append([[kernel, expansion * before, width, squeeze, 2]])
        rows.append([[kernel, expansion * width, width, squeeze, 1] for _ in range(draw.integer(1, 2))])
        before = width
    arguments = {"cfgs": rows, "drop_rate": 0.0, "version": version, "num_classes": CLASSES}
    return Recipe("timm.models.ghostnet.GhostNet", arguments, small)


def rexnet(draw: Draw) -> Recipe:
    """ReXNet (Han et al., 2020, arXiv 2007.00992): widths that grow in every block."""
    arguments = {
        "initial_chs": draw.pick((8, 12, 16)),
        "final_chs": draw.integer(60, 140),
        "width_mult": draw.pick((0.5, 0.75, 1.0)),
        "depth_mult": draw.pick((0.5, 1.0)),
        "se_ratio": draw.pick((0.0, 1 / 12, 0.25)),
        "ch_div": draw.pick((1, 4, 8)),
        "act_layer": draw.pick(("swish", "relu", "gelu")),
        "dw_act_layer": draw.pick(("relu6", "relu", "hard_swish")),
        "drop_rate": 0.0,
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.rexnet.RexNet", arguments, draw.chance(0.4))


def _efficient(draw: Draw, stages: list[list[str]], act: str) -> dict[str, Any]:
    """Arguments of timm's EfficientNet, of which all these are."""
    return {
        "block_args": _decoded(stages),
        "stem_size": draw.pick((8, 16, 24)),
        "num_features": draw.pick((128, 256, 512)),
        "act_layer": act,
        "num_classes": CLASSES,
    }


def _decoded(stages: list[list[str]]) -> dict[str, Any]:
    """Stages in timm's notation: ir inverted residual, r repeats, k kernel, s stride, e expansion, c channels."""
    return {"@": "timm.models._efficientnet_builder.decode_arch_def", "arch_def": stages}
