"""Families that mix places by other means than attention alone: linear maps, pools, gates, and hybrids with convolutions."""

from __future__ import annotations

from typing import Any

from ghn_init.deepnets.draw import Draw
from ghn_init.families.convolutional import LOGITS, depths, growing
from ghn_init.families.member import CLASSES, SIZE, Recipe

MIXERS = (
    ["SepConv"] * 4,
    ["SepConv", "SepConv", "Attention", "Attention"],
    ["SepConv", "SepConv", "SepConv", "Attention"],
    ["Pooling", "Pooling", "SepConv", "Attention"],
    ["Pooling", "Pooling", "Attention", "Attention"],
)
"""Of a MetaFormer's four stages."""
_MIXER = "timm.models.mlp_mixer.MlpMixer"


def mlp_mixer(draw: Draw) -> Recipe:
    """MLP-Mixer (Tolstikhin et al., 2021, arXiv 2105.01601): one perceptron across patches, one across channels."""
    ratios = [draw.pick((0.5, 0.75, 1.0)), draw.pick((2.0, 3.0, 4.0))]
    arguments = _mixer(draw) | {"mlp_ratio": ratios, "act_layer": _act(draw), "stem_norm": draw.chance(0.2)}
    return Recipe(_MIXER, arguments)


def resmlp(draw: Draw) -> Recipe:
    """ResMLP (Touvron et al., 2021, arXiv 2105.03404): a linear map across patches, affine norms, layer scale."""
    block = "@timm.models.mlp_mixer.ResBlock"
    arguments = _mixer(draw) | {"mlp_ratio": draw.pick((2.0, 2.5, 3.0, 4.0)), "block_layer": block, "act_layer": _act(draw)}
    return Recipe(_MIXER, arguments | {"norm_layer": "@timm.models.mlp_mixer.Affine"})


def gmlp(draw: Draw) -> Recipe:
    """gMLP (Liu et al., 2021, arXiv 2105.08050): channels that are gated by a map across patches."""
    gated = {"block_layer": "@timm.models.mlp_mixer.SpatialGatingBlock", "mlp_layer": "@timm.layers.GatedMlp"}
    return Recipe(_MIXER, _mixer(draw) | gated | {"mlp_ratio": draw.pick((2.0, 3.0, 4.0)), "act_layer": _act(draw)})


def _mixer(draw: Draw) -> dict[str, Any]:
    return {
        "img_size": SIZE,
        "patch_size": draw.pick((4, 4, 4, 8)),
        "num_blocks": draw.integer(3, 8),
        "embed_dim": 8 * draw.integer(8, 16),
        "num_classes": CLASSES,
    }


def _act(draw: Draw) -> str:
    return draw.pick(("@torch.nn.GELU", "@torch.nn.GELU", "@torch.nn.ReLU", "@torch.nn.SiLU"))


def poolformer(draw: Draw) -> Recipe:
    """PoolFormer (Yu et al., 2021, arXiv 2111.11418): pools in the place of attention."""
    stages = draw.integer(3, 4)
    scale = draw.pick((0.0, 1e-5, 0.1))
    first = draw.pick(([7, 4, 2], [3, 2, 1], [4, 4, 0], [3, 1, 1]))
    config = {
        "@": "transformers.PoolFormerConfig",
        "num_encoder_blocks": stages,
        "depths": depths(draw, stages, 3),
        "hidden_sizes": growing(draw, (24, 32), stages),
        "patch_sizes": [first[0]] + [3] * (stages - 1),
        "strides": [first[1]] + [2] * (stages - 1),
        "padding": [first[2]] + [1] * (stages - 1),
        "pool_size": draw.pick((3, 3, 5)),
        "mlp_ratio": float(draw.pick((2, 3, 4))),
        "hidden_act": draw.pick(("gelu", "gelu", "relu", "silu")),
        "use_layer_scale": scale > 0,
        "layer_scale_init_value": scale,
        "drop_path_rate": 0.0,
        "num_labels": CLASSES,
    }
    return Recipe(LOGITS, {"model": {"@": "transformers.PoolFormerForImageClassification", "config": config}})


def metaformer(draw: Draw) -> Recipe:
    """MetaFormer (Yu et al., 2022, arXiv 2210.13452): ConvFormer, CAFormer and mixtures with pools, a mixer for each stage."""
    kinds = draw.pick(MIXERS)
    module, biased = "@timm.models.metaformer.", draw.chance(0.3)
    # Attention reads (B, H, W, C), the others (B, C, H, W).
    norms = [f"LayerNorm{'' if kind == 'Attention' else '2d'}" for kind in kinds]
    arguments = {
        "depths": depths(draw, 4, 2),
        "dims": growing(draw, (32,), 4, (1.25, 1.5, 2.0), unit=32),
        "token_mixers": [module + kind for kind in kinds],
        "mlp_act": draw.pick((module + "StarReLU", module + "StarReLU", "@torch.nn.GELU")),
        "mlp_bias": draw.chance(0.3),
        "layer_scale_init_values": draw.pick((None, None, 1e-5)),
        "norm_layers": [f"@timm.layers.{norm}" if biased else f"{module}{norm}NoBias" for norm in norms],
        "use_mlp_head": draw.chance(0.5),
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.metaformer.MetaFormer", arguments)


def mobilevit(draw: Draw) -> Recipe:
    """MobileViT (Mehta and Rastegari, 2021, arXiv 2110.02178): inverted residuals, then transformers over unfolded maps."""
    heads = draw.pick((2, 4))
    widths = [heads * width for width in growing(draw, (16, 24), 3, (1.25, 1.5), unit=4)]
    necks = growing(draw, (8, 16), 6, (1.25, 1.5), unit=8)
    config = {
        "@": "transformers.MobileViTConfig",
        "image_size": SIZE,
        "hidden_sizes": widths,
        "neck_hidden_sizes": [*necks, draw.pick((128, 192, 256))],
        "num_attention_heads": heads,
        "mlp_ratio": float(draw.pick((1, 2))),
        "expand_ratio": float(draw.pick((2, 3, 4))),
        "hidden_act": draw.pick(("silu", "silu", "relu", "gelu")),
        "conv_kernel_size": 3,
        "qkv_bias": draw.chance(0.7),
        "hidden_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.0,
        "num_labels": CLASSES,
    }
    model = {"@": "transformers.MobileViTForImageClassification", "config": config}
    return Recipe(LOGITS, {"model": model}, small_stem=draw.chance(0.6))


def edgenext(draw: Draw) -> Recipe:
    """EdgeNeXt (Maaz et al., 2022, arXiv 2206.10589): convolutions, and attention between channels after split ones."""
    arguments = {
        "depths": [draw.integer(1, 2), *(draw.integer(1, 3) for _ in range(3))],
        "dims": growing(draw, (16, 24, 32), 4, (1.5, 2.0), unit=8),
        "global_block_counts": [0, 1, 1, 1],
        "kernel_sizes": draw.pick(([3, 5, 7, 9], [3, 3, 3, 3], [3, 3, 5, 5], [7, 7, 7, 7])),
        "heads": [draw.pick((2, 4))] * 4,
        "use_pos_emb": [False, draw.chance(0.5), False, False],
        "ls_init_value": draw.pick((1e-6, 0.1)),
        "expand_ratio": draw.pick((2, 3, 4)),
        "act_layer": _act(draw),
        "stem_type": "overlap",
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.edgenext.EdgeNeXt", arguments, small_stem=True)  # its own would leave nothing of 24 px
