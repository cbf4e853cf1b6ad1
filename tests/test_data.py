"""Images: batches, reading data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ghn_init.errors import TrainingError
from ghn_init.tasks import image_data
from ghn_init.tasks.image_data import Images
from ghn_init.tasks.image_reading import load_images
from helpers import colours


def test_batches_depend_on_step_and_seed_alone_and_cover_an_epoch() -> None:
    images = colours(64)
    again, first = images.batch(3, 8, 0), images.batch(3, 8, 0)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], images.batch(3, 8, 1)[0])
    labels = torch.cat([images.batch(step, 8, 0)[1] for step in range(8)])
    assert torch.equal(labels.bincount(), images.labels.bincount())


def test_epochs_have_orders_of_their_own_and_images_are_flipped_and_shifted() -> None:
    images = colours(64)
    first, second = (images.batch(number, 64, 0, lambda pixels: pixels)[0] for number in (0, 1))
    assert not torch.equal(first, second)
    augmented, _ = images.batch(0, 64, 0)
    black = images.normalise(torch.zeros(64, 3, 18, 18, dtype=torch.uint8))
    black[:, :, 1:17, 1:17] = first
    forms = torch.stack([black[:, :, y : y + 16, x : x + 16] for y in range(3) for x in range(3)])
    matches = (torch.cat([forms, forms.flip(4)]) == augmented).flatten(2).all(2)  # (forms, B)
    assert matches.any(0).all()
    assert (matches.float().mean(1) < 0.3).all()


def test_test_images_are_normalised_like_training_images() -> None:
    train = colours(64)
    test = Images.from_tensors(train.pixels[:4] // 2, train.labels[:4], like=train)
    assert (test.mean is train.mean, test.std is train.std, test.num_classes) == (True, True, 3)


def test_a_transform_takes_the_place_of_flips_and_shifts() -> None:
    images = colours(64)

    def black(pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.uint8
        return torch.zeros_like(pixels)

    pixels, labels = images.batch(0, 8, 0, black)
    assert torch.equal(labels, images.batch(0, 8, 0)[1])
    torch.testing.assert_close(pixels[0, :, 0, 0], -images.mean / images.std)


@pytest.mark.parametrize(
    ("transform", "made"),
    [
        (lambda pixels: pixels / 255, r"\(8, 3, 16, 16\) torch.float32"),
        (lambda pixels: pixels[:, :, :12], r"\(8, 3, 12, 16\) torch.uint8"),
        (lambda pixels: (pixels, 0), "tuple"),
    ],
)
def test_a_transform_leaves_images_as_bytes_of_their_size(transform: Callable[[Tensor], Any], made: str) -> None:
    """Floats would be divided by 255 once more."""
    with pytest.raises(TrainingError, match=rf"transform makes {made} of images \(8, 3, 16, 16\) torch.uint8; expected"):
        colours(64).batch(0, 8, 0, transform)


def test_mean_and_deviation_are_those_of_the_whole_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (10, 3, 5, 7), dtype=torch.uint8)
    pixels[:, 2] = 9
    labels, floats = torch.arange(10), pixels.double() / 255
    pieces: list[int] = []
    bincount = Tensor.bincount

    def counted(channel: Tensor, **options: Any) -> Tensor:
        pieces.append(len(channel))
        return bincount(channel, **options)

    monkeypatch.setattr(image_data, "PIECE", 4)
    monkeypatch.setattr(Tensor, "bincount", counted)
    images = Images.from_tensors(pixels, labels)
    assert max(pieces) == 4 * 35
    torch.testing.assert_close(images.mean, floats.mean((0, 2, 3)).float())
    torch.testing.assert_close(images.std, floats.std((0, 2, 3)).float().clamp_min(1e-3))
    monkeypatch.setattr(image_data, "NORMALISED_BY", 5)
    torch.testing.assert_close(Images.from_tensors(pixels, labels).mean, floats[::2].mean((0, 2, 3)).float())


def test_data_sets_are_read_from_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = colours(20)
    columns = {"img": [p.permute(1, 2, 0).numpy() for p in images.pixels], "label": images.labels.tolist()}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "train.parquet")
    loaded = load_images(tmp_path, "train")
    assert torch.equal(loaded.pixels, images.pixels)
    assert torch.equal(loaded.labels, images.labels)
    assert loaded.num_classes == 3
    with pytest.raises(TrainingError, match=r"has neither test.parquet nor a folder test; it has \['train.parquet'\]"):
        load_images(tmp_path, "test")


def parquet(path: Path, labels: list[int | None], names: list[str]) -> None:
    """Writes grey images, each as bright as its class's name is long."""
    datasets = pytest.importorskip("datasets")
    values = [0 if label is None else len(names[label]) for label in labels]
    columns = {"img": [np.full((4, 4, 3), value, dtype=np.uint8) for value in values], "label": labels}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict(columns, features).to_parquet(path)


def test_classes_go_by_their_names(tmp_path: Path) -> None:
    """A test split may lack a class or number them in another way."""
    parquet(tmp_path / "train.parquet", [1, 0, 2, 0], ["a", "bb", "ccc", "dddd"])
    parquet(tmp_path / "test.parquet", [0, 1, 0], ["ccc", "a"])
    train = load_images(tmp_path, "train")
    test = load_images(tmp_path, "test", like=train)
    assert (train.classes, train.num_classes) == (("a", "bb", "ccc", "dddd"), 4)
    assert (test.classes, test.num_classes) == (train.classes, 4)
    for images in (train, test):
        assert [len(images.classes[label]) for label in images.labels] == images.pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1], ["a", "z"], r"images of classes \['z'\], which its training split lacks"),
        ([0, None], ["a", "bb"], "images without a label"),
    ],
)
def test_labels_that_nothing_is_known_of_are_refused(
    tmp_path: Path, labels: list[int | None], names: list[str], words: str
) -> None:
    parquet(tmp_path / "train.parquet", [1, 0], ["a", "bb"])
    parquet(tmp_path / "test.parquet", labels, names)
    train = load_images(tmp_path, "train")
    with pytest.raises(TrainingError, match=words):
        load_images(tmp_path, "test", like=train)


def test_images_that_come_class_by_class_are_shuffled(tmp_path: Path) -> None:
    """Networks are evaluated on the first images, and with the statistics of batches."""
    datasets = pytest.importorskip("datasets")
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 3, 8, 8)
    labels = [0] * 20 + [1] * 20
    alternating = [row for pair in zip(range(20), range(20, 40), strict=True) for row in pair]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=2)})
    for name, rows in (("train", [*range(20, 40), *range(20)]), ("test", alternating)):
        columns = {"img": [pixels[k].permute(1, 2, 0).numpy() for k in rows], "label": [labels[k] for k in rows]}
        datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / f"{name}.parquet")
    mixed, kept = load_images(tmp_path, "train"), load_images(tmp_path, "test")
    assert 3 < mixed.labels[:20].sum() < 17
    assert torch.equal(mixed.labels, (mixed.pixels[:, 0, 0, 0] >= 20).long())
    assert sorted(mixed.pixels[:, 0, 0, 0].tolist()) == list(range(40))
    assert torch.equal(load_images(tmp_path, "train").labels, mixed.labels)
    assert kept.labels.tolist() == [0, 1] * 20


@pytest.mark.parametrize(
    "labels",
    [
        [1] + [0] * 20 + [1] * 19,  # a stray image
        2 * ([0] * 10 + [1] * 10),  # two sorted sources
        [0] * 15 + [1] * 15 + [0, 1] * 3,  # sorted but for a rest
    ],
)
def test_images_whose_classes_come_in_runs_are_shuffled(tmp_path: Path, labels: list[int]) -> None:
    parquet(tmp_path / "train.parquet", labels, ["a", "bb"])
    images = load_images(tmp_path, "train")
    assert images.labels.tolist() != labels
    assert sorted(images.labels.tolist()) == sorted(labels)
    assert torch.equal(images.pixels[:, 0, 0, 0].long(), images.labels + 1)


def test_images_in_a_random_order_keep_it(tmp_path: Path) -> None:
    for seed in range(3):
        labels = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(seed)).tolist()
        parquet(tmp_path / "train.parquet", labels, list("abcde"))
        assert load_images(tmp_path, "train").labels.tolist() == labels


def test_a_limit_draws_images_before_they_are_decoded(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", [0] * 30 + [1, 0, 1] * 10, ["a", "bb"])
    read: list[tuple[int, int]] = []
    some = load_images(tmp_path, "train", limit=20, on_image=lambda *count: read.append(count))
    assert read == [(number, 20) for number in range(1, 21)]
    assert 0 < some.labels.sum() < 18  # not the first ones
    assert torch.equal(some.pixels[:, 0, 0, 0].long(), some.labels + 1)
    assert torch.equal(load_images(tmp_path, "train", limit=20).labels, some.labels)
    assert load_images(tmp_path, "train", limit=60).labels.tolist() == [0] * 30 + [1, 0, 1] * 10
    assert len(load_images(tmp_path, "train", limit=100).labels) == 60


def test_parts_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "train.parquet", [0, 1, 1] * 7000, ["a", "bb"])
    read: list[tuple[int, int]] = []
    whole = load_images(tmp_path, "train")
    thin = load_images(tmp_path, "train", thin=True, on_image=lambda *count: read.append(count))
    assert read[-1] == (10_500, 10_500)
    assert torch.equal(thin.pixels, whole.pixels[::2])
    assert (thin.mean.tolist(), thin.std.tolist()) == (whole.mean.tolist(), whole.std.tolist())
    first = load_images(tmp_path, "train", like=whole, first=5, on_image=lambda *count: read.append(count))
    assert read[-1] == (5, 5)
    assert torch.equal(first.pixels, whole.pixels[:5])
    assert torch.equal(first.labels, whole.labels[:5])


def test_folders_that_hold_no_data_are_named(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    (tmp_path / "train").mkdir()
    with pytest.raises(TrainingError, match=r"train has images of classes \[\]; expected a folder for each of two"):
        load_images(tmp_path, "train")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir()
        image_module.new("RGB", (8, 8)).save(tmp_path / "train" / name / "0.png")
        if name == "cat":
            with pytest.raises(
                TrainingError, match=r"train has images of classes \['cat'\]; expected a folder for each of two"
            ):
                load_images(tmp_path, "train")
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"dog/1.png is no image that can be read .*; leave it out"):
        load_images(tmp_path, "train")


def test_images_below_the_folder_of_a_class_are_not_passed_over(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name / ".thumbnails").mkdir(parents=True)
        (tmp_path / "train" / name / "notes").mkdir()
        (tmp_path / "train" / name / "notes" / "0.txt").write_text("a note")
        for place in (".", ".thumbnails"):
            image_module.new("RGB", (8, 8)).save(tmp_path / "train" / name / place / "0.png")
    assert len(load_images(tmp_path, "train").labels) == 2
    (tmp_path / "train" / "dog" / "small" / "brown").mkdir(parents=True)
    image_module.new("RGB", (8, 8)).save(tmp_path / "train" / "dog" / "small" / "brown" / "1.PNG")
    words = r"train/dog/small/brown has images below the folder of a class \(1 such folders\); move them up into .*train/CLASS"
    with pytest.raises(TrainingError, match=words):
        load_images(tmp_path, "train")


def test_data_without_images_are_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        np.save(tmp_path / "train" / name / "0.npy", np.zeros(3))
    with pytest.raises(TrainingError, match=r"train has no images that can be read .*expected labelled images"):
        load_images(tmp_path, "train")
    parquet(tmp_path / "train.parquet", [], ["a", "b"])
    with pytest.raises(TrainingError, match=r"train.parquet has no images that can be read .*no data"):
        load_images(tmp_path, "train")
    (tmp_path / "train.parquet").write_text("no table")
    with pytest.raises(TrainingError, match=r"train.parquet has no images that can be read .*ArrowInvalid"):
        load_images(tmp_path, "train")


def test_one_class_alone_is_refused_but_for_a_part_of_more(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", [1, 1, 1], ["a", "bb"])
    with pytest.raises(TrainingError, match="has images of class 'bb' alone; expected two classes at least"):
        load_images(tmp_path, "train")
    parquet(tmp_path / "test.parquet", [1, 1, 0], ["a", "bb"])
    assert load_images(tmp_path, "train", like=load_images(tmp_path, "test")).labels.tolist() == [1, 1, 1]


def test_images_without_a_file_are_told_by_number(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parquet(tmp_path / "good.parquet", [0, 1, 0], ["a", "b"])
    table = datasets.Dataset.from_parquet(str(tmp_path / "good.parquet")).cast_column("img", datasets.Image(decode=False))
    damaged = table.map(lambda row, k: {"img": {"path": None, "bytes": b"no"} if k == 1 else row["img"]}, with_indices=True)
    damaged.cast_column("img", datasets.Image()).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(TrainingError, match=r"image 1 is no image"):
        load_images(tmp_path, "train")


def test_images_are_read_into_memory_whatever_the_default_device(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", [0, 1, 0], ["a", "b"])
    expected = load_images(tmp_path, "train", limit=2)
    with torch.device("meta"):
        found = load_images(tmp_path, "train", limit=2)
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)


def test_images_that_are_missing_are_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parquet(tmp_path / "good.parquet", [0, 1, 0], ["a", "b"])
    table = datasets.Dataset.from_parquet(str(tmp_path / "good.parquet")).cast_column("img", datasets.Image(decode=False))
    some = table.map(lambda row, k: {"img": None if k == 2 else row["img"]}, with_indices=True)
    some.cast_column("img", datasets.Image()).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(TrainingError, match=r"image 2 is missing; leave it out"):
        load_images(tmp_path, "train")


def test_images_of_more_pixels_than_pillow_decodes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_module = pytest.importorskip("PIL.Image")
    parquet(tmp_path / "train.parquet", [0, 1, 0], ["a", "b"])
    monkeypatch.setattr(image_module, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(TrainingError, match=r"image 0 is no image that can be read .*exceeds limit"):
        load_images(tmp_path, "train")


def test_images_of_several_sizes_are_told_at_the_first_that_differs(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k, size in enumerate([(8, 8), (8, 8), (9, 8)]):
            image_module.new("RGB", size).save(tmp_path / "train" / name / f"{k}.png")
    read: list[int] = []
    with pytest.raises(TrainingError, match=r"sizes such as \[.*\(8, 9\)\]; pass image_size"):
        load_images(tmp_path, "train", on_image=lambda number, count: read.append(number))
    assert len(read) < 6
    assert len(load_images(tmp_path, "train", image_size=8).labels) == 6


def test_data_sets_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr("ghn_init.connection.has_no_address", lambda url: False)  # what is said without any: test_connection.py
    with pytest.raises(TrainingError, match=r"'someone/images' is no folder here.*no route.*folder with train.parquet"):
        load_images("someone/images", "train")


def labelled(labels: list[Any], **options: Any) -> Images:
    return Images.from_tensors(torch.zeros(len(labels), 3, 4, 4).byte(), torch.tensor(labels), **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda out: Images.from_tensors(torch.zeros(2, 3, 4, 4), torch.zeros(2)), r"\(2, 3, 4, 4\) torch.float32; expected"),
        (lambda out: Images.from_tensors(torch.zeros(2, 3, 4, 4).byte(), torch.zeros(3)), r"labels are \(3,\) for 2 images"),
        (lambda out: Images.from_tensors(np.zeros((2, 3, 4, 4)), [0, 1]), r"pixels are ndarray; .* torch.as_tensor\(pixels\)"),
        (lambda out: Images.from_tensors(torch.zeros(2, 3, 4, 4).byte(), [0, 1]), r"labels are list; expected a tensor"),
        (lambda out: labelled([0.0, 0.5]), "labels are torch.float32; expected whole numbers"),
        (lambda out: labelled([-1, 0]), "labels go from -1 to 0; expected 0 to 0, one for each of 1 classes"),
        (lambda out: labelled([1, 2], classes=("a", "b")), "labels go from 1 to 2; expected 0 to 1, one for each of 2 classes"),
        (lambda out: labelled([0, 2], like=labelled([0, 1])), "labels go from 0 to 2; expected 0 to 1"),
    ],
)
def test_bad_data_is_named(tmp_path: Path, call: Callable[[Path], object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        call(tmp_path)


def test_folders_of_classes_are_read_and_resized(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    image_module = pytest.importorskip("PIL.Image")
    for split in ("train", "test"):
        for label, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
            folder = tmp_path / split / f"class{label}"
            folder.mkdir(parents=True)
            for k, size in enumerate([(20, 30), (40, 24)]):
                image_module.new("RGB", size, colour).save(folder / f"{k}.png")
    with pytest.raises(TrainingError, match=r"sizes such as \[\(30, 20\)\]; pass image_size"):
        load_images(tmp_path, "train")
    images = load_images(tmp_path, "train", image_size=16)
    assert images.pixels.shape == (4, 3, 16, 16)
    assert sorted(images.labels.tolist()) == [0, 0, 1, 1]
    red, blue = images.pixels[:, 0, 0, 0], images.pixels[:, 2, 0, 0]
    assert torch.equal(images.labels, (blue > red).long())
    assert load_images(tmp_path, "test", like=images).pixels.shape == (4, 3, 16, 16)


def test_labels_of_any_whole_kind_are_int64() -> None:
    first = labelled([0, 1])
    for kind in (torch.int32, torch.uint8, torch.bool):
        images = Images.from_tensors(first.pixels, torch.tensor([1, 0], dtype=kind), like=first)
        assert (images.labels.dtype, images.labels.tolist()) == (torch.int64, [1, 0])


def test_a_folder_is_read_by_its_name_whatever_is_in_it(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    image_module = pytest.importorskip("PIL.Image")
    for folder, count in (("my*data", 2), ("my[1]data", 3)):
        for label in ("a", "b"):
            (tmp_path / folder / "train" / label).mkdir(parents=True)
            for k in range(count):
                image_module.new("RGB", (8, 8)).save(tmp_path / folder / "train" / label / f"{k}.png")
    assert len(load_images(tmp_path / "my*data", "train").labels) == 4
    assert len(load_images(tmp_path / "my[1]data", "train").labels) == 6
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for folder, count in (("p[1]", 4), ("p1", 6)):
        (tmp_path / folder).mkdir()
        rows = {"image": [image_module.new("RGB", (8, 8))] * count, "label": [0, 1] * (count // 2)}
        datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / folder / "train.parquet"))
    assert len(load_images(tmp_path / "p[1]", "train").labels) == 4


def test_grey_images_of_16_bits_keep_their_greys(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    image_module = pytest.importorskip("PIL.Image")
    grey = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        image_module.fromarray(grey).save(tmp_path / "train" / label / "0.png")
    images = load_images(tmp_path, "train")
    assert images.pixels[0].tolist() == 3 * [[[0, 100], [200, 255]]]
    image_module.fromarray((grey // 257).astype(np.int32)).save(tmp_path / "train" / "a" / "1.tiff")
    assert {tuple(image.unique().tolist()) for image in load_images(tmp_path, "train").pixels} == {(0, 100, 200, 255)}
    image_module.fromarray(grey.astype(np.float32)).save(tmp_path / "train" / "a" / "2.tiff")
    with pytest.raises(TrainingError, match=r"a/2.tiff is an image of floats, of which .*convert it"):
        load_images(tmp_path, "train")


def test_each_class_is_among_the_first_of_few_images(tmp_path: Path) -> None:
    labels = [k % 50 for k in range(2000)]
    parquet(tmp_path / "train.parquet", labels, [f"class{k}" for k in range(50)])
    some = load_images(tmp_path, "train", limit=100)
    assert (len(some.labels), sorted(some.labels[:50].tolist())) == (100, list(range(50)))
    assert some.labels[:50].tolist() != sorted(some.labels[:50].tolist())
    assert some.labels[50:].bincount(minlength=50).max() > 2  # the others are drawn by chance
