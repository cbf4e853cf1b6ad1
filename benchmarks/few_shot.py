"""The published few-shot protocol: fine-tuning on 100 images per class, default init against predicted parameters.

    python benchmarks/few_shot.py DATA [DATA …] [-o docs/few_shot.md] [--networks resnet18 vit] [--epochs 5 50] [--workers 2]

DATA is `digits` (scikit-learn's, as 32 px colour images), or a folder or hub data set as `ghn-init train` takes it. For each
init, learning rate and weight decay are chosen on a fifth of the 1,000 training images after training on the rest; then it is
trained on all of them for 50 epochs, with each seed, and tested on images that nothing was chosen on. No augmentation; the head
is random for all. The same with five epochs shows what an init is worth where there is little time as well.

Source: Knyazev et al. 2021 (arXiv 2110.13100), section 5.2. There the networks are larger (a ResNet-50 and more); these are
such as two cores can train.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import platform
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import Conditioning, comparison
from ghn_init.tasks import Images, load_images
from ghn_init.viz.race import draw

RATES, DECAYS, BATCH = (0.01, 0.05, 0.2), (1e-4, 1e-2), 64


def resnet18(classes: int) -> nn.Module:
    """timm's ResNet-18 with a quarter of the channels, and 3 × 3 in steps of two for a stem."""
    model = timm.create_model("resnet18", num_classes=classes, channels=(16, 32, 64, 128))
    stem: Any = ghn_init.adapt_stem_(model).conv1
    stem.stride = (2, 2)
    return model.to(memory_format=torch.channels_last)


def vit(classes: int) -> nn.Module:
    """timm's ViT-tiny with two of its twelve blocks, on 16 patches of 8 × 8 pixels."""
    return timm.create_model("vit_tiny_patch16_224", num_classes=classes, img_size=32, patch_size=8, depth=2)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"resnet18": resnet18, "vit": vit}


def few_digits() -> tuple[Images, Images]:
    """scikit-learn's digits."""
    sys.path.append(str(Path(__file__).parent.parent / "examples"))
    from digits import digits

    pixels, labels = digits()
    train, test = _split(labels, 100)
    known = Images.from_tensors(pixels[train], labels[train])
    return known, Images.from_tensors(pixels[test], labels[test], like=known)


def read(data: str) -> tuple[Images, Images]:
    """Training and test images."""
    if data == "digits":
        return few_digits()
    train = load_images(data, "train")
    return train, load_images(data, "test", like=train)


def _split(labels: Tensor, per_class: int) -> tuple[Tensor, Tensor]:
    """Rows of so many of each class, in random order, and the others."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    chosen = torch.cat([order[labels[order] == label][:per_class] for label in labels.unique()])
    chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(1))]
    return chosen, order[~torch.isin(order, chosen)]


def race(job: tuple[str, str, int], seeds: int, per_class: int, test_images: int, plots: Path | None) -> comparison.Comparison:
    """One network on one data set, from every init."""
    data, network, epochs = job
    torch.set_num_threads(1)
    train, test = read(data)
    rows, _ = _split(train.labels, per_class)
    fifth = len(rows) // 5
    ghn = ghn_init.load()
    inits = {
        "default": comparison.named("default"),
        "orthogonal": comparison.named("orthogonal"),
        "predicted": comparison.predicted(ghn, "none", head=False),
        "predicted, conditioned": comparison.predicted(ghn, "orthogonal+noise", head=False),
        "weights alone, conditioned": comparison.predicted(ghn, Conditioning("orthogonal+noise", vectors=False), head=False),
    }
    tuning = (_loader(train, rows[fifth:], shuffle=True), _loader(train, rows[:fifth]))
    found = ghn_init.compare(
        functools.partial(NETWORKS[network], train.num_classes),
        _loader(train, rows, shuffle=True),
        _loader(test, torch.arange(min(test_images, len(test.labels)))),
        inits,
        steps=epochs * len(rows) // BATCH,
        seeds=seeds,
        rates=RATES,
        weight_decays=DECAYS,
        tuning=tuning,
        on_run=lambda run: print(*job, run, flush=True),
    )
    if plots is not None:
        draw(found, plots / f"few-shot-{Path(data).name}-{network}-{epochs}.png")
    return found


def _loader(images: Images, rows: Tensor, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    data = TensorDataset(images.normalise(images.pixels[rows]), images.labels[rows])
    return DataLoader(data, BATCH, shuffle, drop_last=shuffle)


def table(found: Mapping[tuple[str, str, int], comparison.Comparison]) -> list[str]:
    """A row for each network on each data set; in brackets the learning rate and the weight decay that were chosen."""
    inits = list(dict.fromkeys(run.init for outcome in found.values() for run in outcome.runs))
    lines = ["| data | network | epochs | " + " | ".join(inits) + " | ahead |", "| --- " * (len(inits) + 4) + "|"]
    for (data, network, epochs), outcome in found.items():
        cells = [Path(data).name, network, str(epochs)]
        for name in inits:
            best = outcome.of(name)[0]
            cells.append(f"{outcome.mean(name):.1f} ± {outcome.deviation(name):.1f} ({best.lr:g}, {best.weight_decay:g})")
        lines.append("| " + " | ".join([*cells, outcome.winner or "none"]) + " |")
    return lines


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 50])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("--plots", type=Path, help="a folder for pictures of the curves")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    jobs = sorted(itertools.product(options.data, options.networks, options.epochs), key=lambda job: job[2])
    fixed = {name: getattr(options, name) for name in ("seeds", "per_class", "test_images", "plots")}
    run = functools.partial(race, **fixed)
    with ProcessPoolExecutor(options.workers) as pool:
        found = list(pool.map(run, jobs))
    lines = table(dict(zip(jobs, found, strict=True)))
    names = " ".join(Path(data).name for data in options.data)
    epochs = " ".join(map(str, options.epochs))
    command = f"`python benchmarks/few_shot.py {names} --networks {' '.join(options.networks)} --epochs {epochs}`"
    setting = f"{options.per_class} images per class, {options.seeds} seeds"
    machine = f"one thread of an {platform.machine()} CPU for each race"
    versions = f"torch {torch.__version__.split('+')[0]}, timm {timm.__version__}"
    chosen = "In brackets the learning rate and the weight decay that were chosen"
    ahead = "ahead is who leads every other init by a 95 % interval of the paired differences"
    note = f"{setting} (accuracy in percent, mean ± standard deviation), {machine}, {versions}. {chosen}; {ahead}."
    text = f"{command}: {note}\n\n" + "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text("# Few-shot fine-tuning\n\n" + text)


if __name__ == "__main__":
    main()
