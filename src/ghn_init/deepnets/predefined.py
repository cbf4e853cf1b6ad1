"""The two predefined networks: ResNet-50 with a stem for small images, and a vision transformer of 12 layers of width 128."""

from __future__ import annotations

from torch import nn

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.genotype import VIT
from ghn_init.deepnets.network import DeepNet
from ghn_init.errors import ArchitectureError
from ghn_init.models.stem import adapt_stem_

PREDEFINED = ("resnet50", "vit")

VIT_ARGUMENTS = Arguments(genotype=VIT, n_cells=12, C=128, preproc=False)


def predefined(index: int, num_classes: int = 10, image_size: int = 32) -> nn.Module:
    """The `index`-th predefined network; batch norms use the batch's statistics always.

    Raises:
        ArchitectureError: There is none.
    """
    if index not in range(len(PREDEFINED)):
        raise ArchitectureError(f"index is {index}; the predefined networks are 0 (ResNet-50) and 1 (ViT).")
    if index == 1:
        return DeepNet(VIT_ARGUMENTS, num_classes, image_size)
    import torchvision

    model = torchvision.models.resnet50(num_classes=num_classes, norm_layer=_batch_statistics)
    return adapt_stem_(model, image_size) if image_size <= 32 else model


def _batch_statistics(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)
