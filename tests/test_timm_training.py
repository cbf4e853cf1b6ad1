"""An exported folder and a registered name in timm's training, step by step as its train script goes.

On scikit-learn's digits; on CIFAR-10 where the environment variable GHN_INIT_CIFAR10 names a folder with `test.parquet`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import Mixup, create_dataset, create_loader, resolve_data_config
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.utils import CheckpointSaver, ModelEmaV2, accuracy, dispatch_clip_grad
from torch import Tensor, nn

import ghn_init

CIFAR10 = os.environ.get("GHN_INIT_CIFAR10", "")

# The train script's arguments: its defaults, but for sizes.
ARGS = Namespace(
    opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9, sched="cosine", epochs=2, warmup_epochs=1, warmup_lr=1e-5, min_lr=0,
    cooldown_epochs=0, batch_size=16, input_size=(3, 32, 32), num_classes=10, model="", drop=0.0, drop_path=None, gp=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/CLASS/*.png` and `validation/CLASS/*.png`, 48 and 16 images of ten classes."""
    root = tmp_path_factory.mktemp("images")
    if CIFAR10:
        found = datasets.load_dataset("parquet", data_files=f"{CIFAR10}/test.parquet", split="train[:64]")
        pixels, labels = [np.asarray(image) for image in found["img"]], found["label"]
    else:
        digits = pytest.importorskip("sklearn.datasets").load_digits()
        pixels = (digits.images[:64, :, :, None] / 16 * 255).astype(np.uint8).repeat(3, 3)
        labels = digits.target[:64].tolist()
    for split in ("train", "validation"):
        for label in range(10):
            (root / split / str(label)).mkdir(parents=True)
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        split = "train" if k < 48 else "validation"
        Image.fromarray(image).resize((32, 32)).save(root / split / str(label) / f"{k}.png")
    return root


def loader(model: nn.Module, root: Path, split: str) -> Iterable[tuple[Tensor, Tensor]]:
    """Images and labels as the script reads them."""
    data_config = resolve_data_config(vars(ARGS), model=model)
    is_training = split == "train"
    dataset = create_dataset("", root=str(root), split=split, is_training=is_training, batch_size=ARGS.batch_size)
    return create_loader(
        dataset, input_size=data_config["input_size"], batch_size=ARGS.batch_size, is_training=is_training,
        use_prefetcher=False, interpolation=data_config["interpolation"], mean=data_config["mean"],
        std=data_config["std"], num_workers=0, persistent_workers=False, crop_pct=data_config["crop_pct"],
        device=torch.device("cpu"),
    )  # fmt: skip


def train(model: nn.Module, root: Path, output: Path) -> tuple[list[float], float]:
    """Losses of all updates and the last accuracy in percent; the order of calls is the script's."""
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=ARGS))
    ema = ModelEmaV2(model, decay=0.9)
    loaders = {split: loader(model, root, split) for split in ("train", "validation")}
    mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=ARGS.num_classes)
    train_loss, validate_loss = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()
    saver = CheckpointSaver(model=model, optimizer=optimizer, args=ARGS, model_ema=ema, checkpoint_dir=str(output))
    updates = len(loaders["train"])
    scheduler, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(ARGS), updates_per_epoch=updates)
    losses, top1 = [], 0.0
    for epoch in range(epochs):
        model.train()
        for step, batch in enumerate(loaders["train"]):
            images, target = mixup(*batch)
            loss = train_loss(model(images), target)
            loss.backward()
            dispatch_clip_grad(model.parameters(), value=5.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
            losses.append(loss.item())
            scheduler.step_update(num_updates=epoch * updates + step + 1)
        model.eval()
        with torch.no_grad():
            outputs, targets = zip(*((model(images), target) for images, target in loaders["validation"]), strict=True)
        top1 = float(accuracy(torch.cat(outputs), torch.cat(targets))[0])
        saver.save_checkpoint(epoch, metric=top1)
        scheduler.step(epoch + 1, validate_loss(torch.cat(outputs), torch.cat(targets)).item())
    return losses, top1


def made(name: str, pretrained: bool) -> nn.Module:
    """The script's call of `create_model`."""
    return timm.create_model(
        name, pretrained=pretrained, in_chans=3, num_classes=ARGS.num_classes, drop_rate=ARGS.drop,
        drop_path_rate=ARGS.drop_path, drop_block_rate=None, global_pool=ARGS.gp, bn_momentum=None, bn_eps=None,
        scriptable=False, checkpoint_path="",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's data sets leave that to the garbage collector
@pytest.mark.parametrize("how", ["exported", "registered"])
def test_timms_training_runs_on_predicted_parameters(tmp_path: Path, folder: Path, how: str) -> None:
    torch.manual_seed(1)
    expected = ghn_init.timm.create_model("resnet10t", num_classes=10)
    name = ghn_init.timm.register("resnet10t")
    if how == "exported":
        name = f"local-dir:{ghn_init.timm.export(expected, tmp_path / 'exported')}"
    torch.manual_seed(1)  # of the head, which is random
    model = made(name, pretrained=how == "exported")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in before.items())
    torch.manual_seed(0)
    (tmp_path / "output").mkdir()
    losses, top1 = train(model, folder, tmp_path / "output")
    assert len(losses) == ARGS.epochs * 3
    assert np.isfinite(losses).all()
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) == len(list(model.parameters()))
    resumed = timm.create_model(name, num_classes=10)
    timm.models.load_checkpoint(resumed, str(tmp_path / "output" / "last.pth.tar"), use_ema=False)
    assert torch.equal(resumed.fc.weight, model.fc.weight)
    resumed.eval()
    with torch.no_grad():
        right = [resumed(images).argmax(1) == labels for images, labels in loader(resumed, folder, "validation")]
    assert top1 == 100 * torch.cat(right).double().mean().item()
