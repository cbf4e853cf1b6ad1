"""Images of the user's own that a command starts a model from."""

# Axes: B images

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

import ghn_init
from ghn_init.cli.console import reading

if TYPE_CHECKING:
    from torch import Tensor

    from ghn_init.tasks.image_data import Images

Data = Annotated[
    str | None,
    typer.Argument(
        help="Images to fit batch norms and head to: folder with train.parquet or train/CLASS/…, or a hub data set",
        show_default=False,
    ),
]
ImageSize = Annotated[int | None, typer.Option(min=8, help="Side that images of DATA are resized to, in pixels")]
BATCH = 64


@dataclass(frozen=True)
class Loader:
    """Batches of (images, labels), normalised when they are asked for."""

    images: Images

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.images.labels), BATCH):
            rows = slice(start, start + BATCH)
            yield self.images.normalise(self.images.pixels[rows]), self.images.labels[rows]


def read(data: str, image_size: int | None) -> Images:
    """Images of the training split, as many as a head is fitted to."""
    from ghn_init.heads.fit import MAX_IMAGES

    with reading() as count:
        return ghn_init.tasks.load_images(data, "train", image_size=image_size, limit=MAX_IMAGES, on_image=count)


def numbered(num_classes: int | None, images: Images) -> str:
    """What to do where a head has another number of classes than DATA; empty where it has not."""
    own = images.num_classes
    return "" if num_classes in (None, own) else f"DATA has {own} classes: pass --num-classes {own}, or leave it out."


def normalised_by(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """As the model's configuration says."""
    import torch

    return replace(images, mean=torch.tensor(mean), std=torch.tensor(std))
