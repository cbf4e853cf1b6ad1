"""A split of an image classification data set, read with `datasets` into one uint8 tensor."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ghn_init.connection import cached_if_cut_off
from ghn_init.errors import TrainingError
from ghn_init.models.order import in_runs, shuffled
from ghn_init.tasks.image_data import Images, stride

FEW = 20
"""Images of a class on average below which chance alone might leave a class out."""


def load_images(
    source: str | Path,
    split: str,
    like: Images | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    first: int | None = None,
    thin: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> Images:
    """Reads a split of an image classification data set with `datasets`; where classes come in runs, it is shuffled.

    Args:
        source: A hub data set (`uoft-cs/cifar10`), or a local folder with `train.parquet` and `test.parquet` of its schema (an
            image column and a class label column), or with a folder per class in `train` and `test`.
        split: `train` or `test`.
        like: Takes classes (by their names), normalisation and size from this data set.
        image_size: Side in pixels; images are resized and cropped to that square. By default they must all have one size.
        limit: Reads so many of the images at most, drawn at random, always the same; others are not decoded. One of each class
            is among the first where there are few of each.
        first: Reads so many of the first images alone.
        thin: Reads those images alone that normalisation is computed of: of large data sets some 10,000.
        on_image: Called for each image with how many have been read, and of how many.

    Raises:
        TrainingError: No such folder, file or data set, no images, no image and label columns, one class alone, folders in that
            of a class, or images without a label, of a class that `like` lacks, of several sizes, or that can't be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise TrainingError(f"reading images needs the training extra ({error}): pip install 'ghn_init[train]'.") from error

    data = _read(Path(source), source, split)
    images = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in data.features.items() if isinstance(kind, datasets.ClassLabel)]
    if len(images) != 1 or not labels:
        raise TrainingError(f"{source} has columns {dict(data.features)}; expected one image and a class label.")
    names = tuple(data.features[labels[0]].names)
    classes = like.classes if like is not None and like.classes else names
    chosen = _numbered(data[labels[0]][:], names, classes, source)
    if like is None and len(present := chosen.unique()) < 2:
        raise TrainingError(f"{source} has images of class {classes[int(present)]!r} alone; expected two classes at least.")
    order = _mixed(chosen, limit)[:first]
    order = order[:: stride(len(order)) if thin else 1]
    side = like.pixels.shape[2] if like is not None else image_size
    pixels = torch.empty(0, 3, 0, 0, dtype=torch.uint8, device="cpu")
    for number, image in enumerate(_decoded(data, images[0], order.tolist(), source)):
        one = _pixels(image, side)
        if number == 0:
            pixels = torch.empty(len(order), *one.shape, dtype=torch.uint8, device="cpu")
        height, width = one.shape[1:]
        if height != width or one.shape != pixels.shape[1:]:  # at the first, before all are in memory
            sizes = sorted({tuple(pixels.shape[2:]), (height, width)})
            raise TrainingError(f"the images of {source} have sizes such as {sizes}; pass image_size to resize them.")
        pixels[number] = one
        if on_image is not None:
            on_image(number + 1, len(order))
    return Images.from_tensors(pixels, chosen[order], like, classes)


def _decoded(data: Any, column: str, order: Sequence[int], source: str | Path) -> Iterator[Any]:
    """PIL images; one that can't be read is named. Decoded here: `datasets` takes half as long again for a row at a time."""
    import datasets
    from PIL.Image import DecompressionBombError

    kind = datasets.Image()
    files = data.cast_column(column, datasets.Image(decode=False)).select(order)
    for row, file in zip(order, files[column], strict=True):
        if file is None:
            raise TrainingError(f"{source}: image {row} is missing; leave it out.")
        name = file["path"] or f"image {row}"
        try:
            image = kind.decode_example(file)
        except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:  # what Pillow raises
            raise TrainingError(f"{source}: {name} is no image that can be read ({error}); leave it out.") from error
        if image.mode == "F":
            raise TrainingError(
                f"{source}: {name} is an image of floats, of which it is not known what is white; convert it to 8 bits."
            )
        yield image


def _numbered(labels: Sequence[int], names: tuple[str, ...], classes: tuple[str, ...], source: str | Path) -> Tensor:
    """(n,) labels as places in `classes`; a split that lacks a class numbers them otherwise."""
    present = set(labels)
    if strange := present - set(range(len(names))):
        raise TrainingError(f"{source} has images without a label ({strange}); leave them out.")
    if unknown := sorted({names[label] for label in present} - set(classes)):
        raise TrainingError(f"{source} has images of classes {unknown[:3]}, which its training split lacks; leave them out.")
    places = {name: place for place, name in enumerate(classes)}
    return torch.tensor([places[names[label]] for label in labels], device="cpu")


def _mixed(labels: Tensor, limit: int | None) -> Tensor:
    """The order as it is; a random one where some are chosen or classes come in runs: batches would be of few classes."""
    if not in_runs(labels) and (limit is None or limit >= len(labels)):
        return torch.arange(len(labels), device="cpu")
    order = shuffled(len(labels))
    if limit is not None and limit < FEW * len(labels.unique()):  # then chance leaves some classes out
        order = _one_of_each_first(labels, order)
    return order[:limit]


def _one_of_each_first(labels: Tensor, order: Tensor) -> Tensor:
    """The same order, but for one image of each class, which come before all others."""
    by_class = labels[order].argsort(stable=True)
    changes = labels[order][by_class].diff() != 0
    first = torch.zeros(len(order), dtype=torch.bool, device="cpu")
    first[by_class[torch.cat([torch.tensor([True], device="cpu"), changes])]] = True
    return torch.cat([order[first], order[~first]])


def _read(folder: Path, source: str | Path, split: str) -> Any:
    """The split as a `datasets.Dataset`."""
    import datasets

    if (folder / f"{split}.parquet").is_file():
        return _loaded(folder / f"{split}.parquet", "parquet", "", split)
    if (folder / split).is_dir():
        classes = sorted(path.name for path in (folder / split).iterdir() if path.is_dir() and any(path.iterdir()))
        if len(classes) < 2:
            raise TrainingError(
                f"{folder / split} has images of classes {classes}; expected a folder for each of two at least."
            )
        if nested := _nested(folder / split):
            raise TrainingError(
                f"{nested[0]} has images below the folder of a class ({len(nested)} such folders); move them up into "
                f"{folder / split}/CLASS."
            )
        return _loaded(folder / split, "imagefolder", "/*/*", split)
    if folder.is_dir():
        there = sorted(p.name for p in folder.iterdir())
        flat = len([name for name in there if (folder / name).is_dir()]) > 1 and not {"train", "test", "val"} & set(there)
        todo = f"; if these are classes, put their folders into {folder / split}" if flat else ""
        raise TrainingError(f"{folder} has neither {split}.parquet nor a folder {split}; it has {there[:8]}{todo}.")
    if folder.is_file():
        raise TrainingError(f"{folder} is a file; pass its folder, with {split}.parquet or with {split}/CLASS/….")
    try:
        with cached_if_cut_off():
            return datasets.load_dataset(str(source), split=split)
    except (OSError, ValueError) as error:  # no connection, no such data set, no such split
        raise TrainingError(
            f"{str(source)!r} is no folder here, and its split {split!r} could not be had from the hub "
            f"({type(error).__name__}: {error}); pass a folder with {split}.parquet, or check name and connection."
        ) from error


def _loaded(place: Path, kind: str, below: str, split: str) -> Any:
    """What `datasets` reads from a file or folder."""
    import datasets

    try:
        return datasets.load_dataset(kind, data_files={split: glob.escape(str(place)) + below}, split=split)
    except (OSError, ValueError) as error:  # of no rows too
        raise TrainingError(
            f"{place} has no images that can be read ({type(error).__name__}: {error}); expected labelled images in files that "
            f"Pillow reads."
        ) from error


def _nested(folder: Path) -> list[Path]:
    """Folders with images that are in no class's folder themselves; hidden ones are passed over, as `datasets` does."""
    from PIL import Image

    known = Image.registered_extensions().keys()
    found = []
    for name, below, files in os.walk(folder):
        below[:] = sorted(one for one in below if not one.startswith((".", "__")))
        deep = len(Path(name).relative_to(folder).parts) > 1
        if deep and any(Path(file).suffix.lower() in known for file in files):
            found.append(Path(name))
    return found


def _pixels(image: Any, side: int | None) -> Tensor:
    """(3, H, W) uint8 of a PIL image."""
    from PIL import ImageOps

    image = _in_bytes(image).convert("RGB")
    if side is not None and image.size != (side, side):
        image = ImageOps.fit(image, (side, side))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def _in_bytes(image: Any) -> Any:
    """A PIL image of 8 bits a channel: grey ones of 16 would be cut off at 255, so that nearly all of them is white."""
    from PIL import Image

    greys = np.asarray(image) if image.mode.startswith("I") else None
    if greys is None or (image.mode == "I" and greys.max() < 256):  # 32 bits, of which 8 are used
        return image
    return Image.fromarray((greys.clip(0, 65535) / 257).round().astype(np.uint8))
