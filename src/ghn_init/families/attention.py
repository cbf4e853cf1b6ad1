"""Families of attention: transformers over patches, in one resolution and in pyramids."""

from __future__ import annotations

from typing import Any

from ghn_init.deepnets.draw import Draw
from ghn_init.families.convolutional import LOGITS, growing
from ghn_init.families.member import CLASSES, SIZE, Recipe

PATCHES = (4, 4, 4, 8)
"""Sides in pixels; they divide 24, 32, 48 and 64."""


def _width(draw: Draw, head_widths: tuple[int, ...] = (12, 16, 20, 24, 28, 32)) -> tuple[int, int]:
    """Hidden width and number of heads."""
    heads = draw.pick((2, 3, 4, 6))
    width = heads * draw.pick(head_widths)
    return (width, heads) if 48 <= width <= 144 else (96, heads)


def vit(draw: Draw) -> Recipe:
    """ViT (Dosovitskiy et al., 2020, arXiv 2010.11929), with class token, mean or attention pooling, registers, layer scale."""
    width, heads = _width(draw)
    kind = draw.pick(("timm", "timm", "timm", "torchvision", "transformers"))
    patch, depth, ratio = draw.pick(PATCHES), draw.integer(2, 6), draw.pick((2, 3, 4))
    if kind == "torchvision":
        arguments = {"image_size": SIZE, "patch_size": patch, "num_layers": depth, "num_heads": heads, "hidden_dim": width}
        arguments |= {"mlp_dim": ratio * width, "num_classes": CLASSES, "representation_size": draw.pick((None, None, 64))}
        return Recipe("torchvision.models.vision_transformer.VisionTransformer", arguments)
    if kind == "transformers":
        act = draw.pick(("gelu", "gelu", "relu", "silu"))
        config = _config("ViT", width, heads, depth, ratio, act)
        config |= {"patch_size": patch, "image_size": SIZE, "num_labels": CLASSES, "qkv_bias": draw.chance(0.7)}
        return Recipe(LOGITS, {"model": {"@": "transformers.ViTForImageClassification", "config": config}})
    pool = draw.pick(("token", "avg", "avg", "map"))
    token = pool == "token" or draw.chance(0.2)
    registers, positions = draw.pick((0, 0, 0, 2, 4)), draw.pick(("learn", "learn", "learn", "none"))
    arguments = _timm_vit(draw, patch, width, heads, depth, ratio) | {
        "global_pool": pool,
        "class_token": token,
        "reg_tokens": registers,
        "pos_embed": positions,
        "no_embed_class": positions == "learn" and bool(token or registers) and draw.chance(0.3),  # else it changes nothing
        "qk_norm": draw.chance(0.2),
        "pre_norm": draw.chance(0.15),
        "init_values": draw.pick((None, None, 1e-5, 0.1)),
    }
    if draw.chance(0.2):
        arguments["mlp_layer"] = "@timm.layers.SwiGLU"
        arguments["act_layer"] = "silu"
    return Recipe("timm.models.vision_transformer.VisionTransformer", arguments)


def _timm_vit(draw: Draw, patch: int, width: int, heads: int, depth: int, ratio: int) -> dict[str, Any]:
    return {
        "img_size": SIZE,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": float(ratio),
        "qkv_bias": draw.chance(0.7),
        "act_layer": draw.pick(("gelu", "gelu", "relu", "silu")),
        "norm_layer": draw.pick(("layernorm", "layernorm", "layernorm", "rmsnorm")),
        "num_classes": CLASSES,
    }


def deit(draw: Draw) -> Recipe:
    """DeiT (Touvron et al., 2020, arXiv 2012.12877): a class and a distillation token, two heads whose outputs are averaged."""
    width, heads = _width(draw)
    patch, depth, ratio = draw.pick(PATCHES), draw.integer(2, 6), draw.pick((2, 3, 4))
    arguments = _timm_vit(draw, patch, width, heads, depth, ratio) | {"init_values": draw.pick((None, None, 1e-5, 0.1))}
    return Recipe("timm.models.deit.VisionTransformerDistilled", arguments)


def swin(draw: Draw) -> Recipe:
    """Swin (Liu et al., 2021, arXiv 2103.14030) and V2 (arXiv 2111.09883): attention in windows that shift."""
    stages = draw.integer(2, 3)
    heads = draw.pick((2, 3, 4))
    second = draw.chance(0.4)
    arguments = {
        "patch_size": draw.pick((2, 4)),
        "embed_dim": heads * draw.pick((8, 12, 16)),
        "depths": [draw.pick((1, 2, 2)) for _ in range(stages)],
        "num_heads": [heads * 2**k for k in range(stages)],
        "window_size": draw.pick((3, 4, 6)),
        "mlp_ratio": draw.pick((2.0, 3.0, 4.0)),
        "num_classes": CLASSES,
    }
    if draw.chance(0.35):
        for name in ("patch_size", "window_size"):
            arguments[name] = [arguments[name]] * 2
        if second:
            arguments |= {
                "block": "@torchvision.models.swin_transformer.SwinTransformerBlockV2",
                "downsample_layer": "@torchvision.models.swin_transformer.PatchMergingV2",
            }
        return Recipe("torchvision.models.swin_transformer.SwinTransformer", {**arguments, "stochastic_depth_prob": 0.0})
    arguments |= {"img_size": SIZE, "drop_path_rate": 0.0, "qkv_bias": draw.chance(0.8)}
    if second:
        return Recipe("timm.models.swin_transformer_v2.SwinTransformerV2", arguments)
    return Recipe("timm.models.swin_transformer.SwinTransformer", arguments)


def bert(draw: Draw) -> Recipe:
    """BERT (Devlin et al., 2018, arXiv 1810.04805) over patches: norms after the residual sums, learned positions."""
    width, heads = _width(draw)
    act = draw.pick(("gelu", "gelu", "relu", "gelu_new"))
    config = _config("Bert", width, heads, draw.integer(2, 6), draw.pick((2, 3, 4)), act)
    config |= {"vocab_size": 1, "pad_token_id": 0, "type_vocab_size": 1, "max_position_embeddings": 256}
    arguments = {"patch_size": draw.pick(PATCHES), "pooled": draw.chance(0.5), "num_classes": CLASSES}
    return Recipe("ghn_init.families.wrappers.PatchBert", {"config": config, **arguments})


def _config(kind: str, width: int, heads: int, depth: int, ratio: int, act: str) -> dict[str, Any]:
    """A configuration of transformers, without dropout."""
    return {
        "@": f"transformers.{kind}Config",
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "intermediate_size": ratio * width,
        "hidden_act": act,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def cait(draw: Draw) -> Recipe:
    """CaiT (Touvron et al., 2021, arXiv 2103.17239): talking heads, layer scale, a class token in the last layers alone."""
    width, heads = _width(draw)
    arguments = {
        "img_size": SIZE,
        "patch_size": draw.pick(PATCHES),
        "embed_dim": width,
        "depth": draw.integer(1, 4),
        "num_heads": heads,
        "mlp_ratio": draw.pick((2.0, 3.0, 4.0)),
        "depth_token_only": draw.integer(1, 2),
        "init_values": draw.pick((1e-4, 0.1)),
        "qkv_bias": draw.chance(0.7),
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.cait.Cait", arguments)


def xcit(draw: Draw) -> Recipe:
    """XCiT (Ali et al., 2021, arXiv 2106.09681): attention between channels, a stem of convolutions."""
    width, heads = _width(draw, (16, 32))
    arguments = {
        "img_size": SIZE,
        "patch_size": 8,  # 8 and 16 are what its stem can do
        "embed_dim": width // 8 * 8,
        "depth": draw.integer(2, 5),
        "num_heads": heads,
        "mlp_ratio": draw.pick((2.0, 3.0, 4.0)),
        "cls_attn_layers": draw.integer(1, 2),
        "eta": draw.pick((1.0, 0.1)),
        "tokens_norm": draw.chance(0.5),
        "use_pos_embed": draw.chance(0.7),
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.xcit.Xcit", arguments)


def pvt(draw: Draw) -> Recipe:
    """PVT v2 (Wang et al., 2021, arXiv 2106.13797): a pyramid whose attention reads fewer keys."""
    widths = growing(draw, (16, 24, 32), 4, (1.5, 2.0), unit=16)
    arguments = {
        "depths": [draw.integer(1, 2) for _ in widths],
        "embed_dims": widths,
        "num_heads": [1, 2, 4, 8],
        "sr_ratios": [draw.pick((2, 4)), 2, 1, 1],
        "mlp_ratios": [draw.pick((2.0, 4.0)), 4.0, draw.pick((2.0, 4.0)), 4.0],
        "qkv_bias": draw.chance(0.8),
        "linear": draw.chance(0.3),
        "num_classes": CLASSES,
    }
    return Recipe("timm.models.pvt_v2.PyramidVisionTransformerV2", arguments)
