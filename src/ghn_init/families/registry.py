"""All families: what draws their members, and whether training may see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ghn_init.deepnets.draw import Draw
from ghn_init.families import attention, convolutional, inverted, mixing
from ghn_init.families.member import Recipe


@dataclass(frozen=True)
class Family:
    """A family.

    Attributes:
        draw: Draws a member's recipe; its docstring names the paper.
        held_out: Whether it is in the split `held-out` alone.
    """

    draw: Callable[[Draw], Recipe]
    held_out: bool = False


FAMILIES = {
    "resnet": Family(convolutional.resnet),
    "resnext": Family(convolutional.resnext),
    "regnet": Family(convolutional.regnet),
    "densenet": Family(convolutional.densenet),
    "vgg": Family(convolutional.vgg),
    "mobilenet-v2": Family(inverted.mobilenet_v2),
    "mobilenet-v3": Family(inverted.mobilenet_v3),
    "efficientnet": Family(inverted.efficientnet),
    "mnasnet": Family(inverted.mnasnet),
    "shufflenet": Family(convolutional.shufflenet),
    "convnext": Family(convolutional.convnext),
    "vit": Family(attention.vit),
    "deit": Family(attention.deit),
    "swin": Family(attention.swin),
    "bert": Family(attention.bert),
    "mlp-mixer": Family(mixing.mlp_mixer),
    "resmlp": Family(mixing.resmlp),
    "poolformer": Family(mixing.poolformer),
    "metaformer": Family(mixing.metaformer),
    "ghostnet": Family(inverted.ghostnet, held_out=True),
    "rexnet": Family(inverted.rexnet, held_out=True),
    "gmlp": Family(mixing.gmlp, held_out=True),
    "cait": Family(attention.cait, held_out=True),
    "xcit": Family(attention.xcit, held_out=True),
    "pvt": Family(attention.pvt, held_out=True),
    "mobilevit": Family(mixing.mobilevit, held_out=True),
    "edgenext": Family(mixing.edgenext, held_out=True),
}
"""By name; of different kinds are those that are held out."""
