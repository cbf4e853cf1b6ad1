"""Whether predicted weights can be fine-tuned at the rates that people use: losses of the first step, and of a few epochs.

    python benchmarks/first_steps.py [DATA] [-o FILE] [--train] [--only NAME …]
    python benchmarks/first_steps.py [DATA] --every CSV [--part 0/2] [--only NAME …]

The head is random. Loss of the first step (batch statistics), divided by ln(classes), for families as they are and narrow, at
several image sizes, from each init; `eval` is the same in eval mode, with running statistics as `initialize` leaves them
(`reset`: with zero mean and unit variance instead). DATA is images as `ghn-init train` takes them; without, noise.

`--every`: one architecture of every timm module and every torchvision classifier, at its own image size, 8 images. CSV has a
row per model, the smallest models come first, and what it has is not done again; what it has then is summed up.
`--train`: a ResNet-50 at 64 px on 80 images, 16 at a time, by SGD 0.01 (Nesterov momentum 0.9) and AdamW 0.001: losses of
training and of validation (200 images, running statistics) in epochs 1 and 3.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import platform
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from coverage import builders
from ghn_init.tasks import load_images

CLASSES = 10
SIZES = (32, 64, 128)
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]] | None] = {
    "resnet50": ("resnet50", {"channels": (16, 32, 64, 128)}),
    "densenet121": ("densenet121", {"growth_rate": 8}),
    "efficientnet_b0": ("test_efficientnet", {}),
    "mobilenetv3_small_100": ("mobilenetv3_small_050", {}),
    "fasternet_t0": ("fasternet_t0", {"embed_dim": 16, "feature_dim": 128}),
    "dla34": ("dla34", {"channels": (16, 16, 32, 32, 64, 64)}),
    "convnext_atto": ("convnext_atto", {"dims": (16, 32, 64, 128)}),
    "vit_tiny_patch16_224": ("vit_tiny_patch16_224", {"embed_dim": 64, "num_heads": 2}),
    "vgg11": None,
}
"""timm's name → that of a narrow one, and its arguments."""
INITS: Mapping[str, Mapping[str, Any] | None] = {
    "default": None,
    "predicted": {"condition": "none"},
    "orthogonal+noise": {"condition": "orthogonal+noise"},
    "balanced": {"condition": "balanced"},
}
AIM = 1.5
"""The largest loss of a first step over ln(classes)."""
OF_EVERY = ("default", "predicted", "balanced")
"""For all modules: orthogonalising the widest takes minutes."""
Images = tuple[Tensor, Tensor]


def images(data: str | None, count: int) -> Images:
    """(B, 3, 128, 128) and labels."""
    if data is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, 3, 128, 128, generator=generator), torch.arange(count) % CLASSES
    found = load_images(data, "train", image_size=128)
    rows = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
    rows = rows[found.labels[rows] < CLASSES][:count]
    return found.normalise(found.pixels[rows]), found.labels[rows]


def resized(x: Tensor, size: int, channels: int = 3) -> Tensor:
    """(B, 3, H, W) → (B, channels, size, size)."""
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)[:, torch.arange(channels) % 3]


def initialised(build: Callable[[], nn.Module], init: str, ghn: ghn_init.GHN, shape: torch.Size) -> nn.Module:
    """A model from one of `INITS`, its head random."""
    torch.manual_seed(0)
    model = build()
    options = INITS[init]
    if options is not None:
        ghn_init.initialize(model, ghn, torch.empty(2, *shape[1:], device="meta"), head=False, **options)
    return model


def _family(name: str, changes: Mapping[str, Any], size: int) -> nn.Module:
    sized = {"img_size": size} if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=CLASSES, **changes, **sized)


@torch.no_grad()
def loss(model: nn.Module, batch: Images) -> float:
    """Cross entropy over ln(classes), which is that of no idea; in training mode batch statistics are used."""
    torch.manual_seed(0)
    logits = model(batch[0])
    while not isinstance(logits, Tensor):  # main logits come first, auxiliary ones later
        logits = next(iter(logits.values())) if isinstance(logits, Mapping) else logits[0]
    return float(F.cross_entropy(logits.float(), batch[1])) / math.log(CLASSES)


def reset_(model: nn.Module) -> nn.Module:
    """Zero mean and unit variance for all running statistics."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    return model


def family_rows(batch: Images, ghn: ghn_init.GHN, only: Collection[str] | None) -> Iterator[list[str]]:
    """The table over families, widths and sizes."""
    for name, narrow in FAMILIES.items():
        if only is not None and name not in only:
            continue
        for width, of in (("as it is", (name, {})), ("narrow", narrow)):
            for size in SIZES if of is not None else ():
                own = (resized(batch[0], size), batch[1])
                build = functools.partial(_family, *of, size)  # type: ignore[misc]  # not None where there are sizes
                cells = []
                for init in INITS:
                    model = initialised(build, init, ghn, own[0].shape)
                    cells.append(f"{loss(model.train(), own):.3g}")
                cells += [f"{loss(model.eval(), own):.3g}", f"{loss(reset_(model).eval(), own):.3g}"]
                yield [name, width, str(size), *cells]


def measure_every(path: Path, batch: Images, ghn: ghn_init.GHN, only: Collection[str] | None, part: str) -> None:
    """Adds rows to a CSV file; models that can't be run are rows too."""
    done = {row["model"] for row in rows_of(path)}
    models = dict(builders(False, num_classes=CLASSES))
    sizes = {name: size_of(name, build) for name, build in models.items() if only is None or name.partition(":")[2] in only}
    index, count = map(int, part.split("/"))
    for name in sorted(sizes, key=sizes.__getitem__)[index::count]:
        if name in done:
            continue
        build, (_, side, channels) = models[name], sizes[name]
        own = (resized(batch[0][:8], side, channels), batch[1][:8])
        try:
            cells = [f"{loss(initialised(build, init, ghn, own[0].shape).train(), own):.3g}" for init in OF_EVERY]
        except Exception as error:  # whatever a model raises on eight images
            cells = [f"{type(error).__name__}"] * len(OF_EVERY)
        line = ",".join([name, str(side), *cells])
        with path.open("a") as file:  # a line at once: several parts may write
            file.write(f"{line}\n")
        print(line, flush=True)


def size_of(name: str, build: Callable[[], nn.Module]) -> tuple[int, int, int]:
    """Parameters of a model, and side and channels of its images."""
    try:
        with torch.device("meta"):
            model = build()
    except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
        model = build()
    shape = getattr(model, "pretrained_cfg", {}).get("input_size", (3, 299 if "inception" in name else 224))
    return sum(parameter.numel() for parameter in model.parameters()), shape[1], shape[0]


def rows_of(path: Path) -> list[dict[str, str]]:
    """What a CSV file of models has; a new one gets its heading."""
    if not path.exists():
        path.write_text(",".join(["model", "px", *OF_EVERY]) + "\n")
    with path.open() as file:
        return list(csv.DictReader(file))


def summary(rows: list[dict[str, str]]) -> str:
    """How many models start above the aim, and which."""
    numbers = [row for row in rows if row["balanced"][0].isdigit()]  # not an error's name, nor inf or nan
    lines = [f"{len(rows)} models, of which {len(rows) - len(numbers)} give no number on eight images.", ""]
    lines += ["| init | median | largest | above 1.5 |", "| --- " * 4 + "|"]
    for init in OF_EVERY:
        values = [float(row[init]) for row in numbers]
        above = sum(value > AIM for value in values)
        lines.append(f"| {init} | {statistics.median(values):.3g} | {max(values):.3g} | {above} of {len(values)} |")
    lines += ["", "| above 1.5 | px | default | predicted | balanced |", "| --- " * 5 + "|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in numbers if float(row["balanced"]) > AIM]
    return "\n".join(lines)


def training_rows(batch: Images, ghn: ghn_init.GHN) -> Iterator[list[str]]:
    """The table of a few epochs."""
    x, y = resized(batch[0], 64), batch[1]
    makers: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        "SGD 0.01": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=2e-5),
        "AdamW 0.001": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=2e-5),
    }
    for label, optimizer in makers.items():
        for init in INITS:
            model = initialised(lambda: timm.create_model("resnet50", num_classes=CLASSES), init, ghn, x.shape)
            found = _train(model, optimizer(list(model.parameters())), (x[:80], y[:80]), (x[80:], y[80:]))
            yield [label, init, *(f"{value:.3g}" for epoch in (0, 2) for value in found[epoch])]


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, train: Images, val: Images) -> list[tuple[float, float, float]]:
    """Of each epoch: mean training loss, validation loss, validation accuracy in percent."""
    found = []
    for _ in range(3):
        losses = []
        model.train()
        for rows in torch.randperm(len(train[1])).split(16):
            value = F.cross_entropy(model(train[0][rows]), train[1][rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        with torch.no_grad():
            logits = model.eval()(val[0])
        right = float((logits.argmax(1) == val[1]).float().mean())
        found.append((sum(losses) / len(losses), float(F.cross_entropy(logits, val[1])), 100 * right))
    return found


def main() -> None:
    """Prints or writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--every", type=Path, metavar="CSV")
    parser.add_argument("--part", default="0/1", help="of several processes, this one of so many: 0/2")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--only", nargs="+", help="names of the models in the first two tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ghn = ghn_init.load()
    batch = images(options.data, 280)
    few = (batch[0][:32], batch[1][:32])
    if options.every:
        measure_every(options.every, few, ghn, options.only, options.part)
        print(summary(rows_of(options.every)))
        return
    tables = [
        (["model", "width", "px", *INITS, "balanced, eval", "balanced, eval, reset"], family_rows(few, ghn, options.only))
    ]
    if options.train:
        epochs = [f"epoch {epoch}, {what}" for epoch in (1, 3) for what in ("training", "validation", "right, %")]
        tables.append((["optimiser", "init", *epochs], training_rows(batch, ghn)))
    lines = [f"torch {torch.__version__.split('+')[0]}, timm {timm.__version__}, {platform.machine()} CPU."]
    for header, rows in tables:
        print("", *(table := ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]), sep="\n", flush=True)
        for row in rows:
            table.append("| " + " | ".join(row) + " |")
            print(table[-1], flush=True)
        lines += ["", *table]
    if options.output:
        options.output.write_text("# The first steps of fine-tuning\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
