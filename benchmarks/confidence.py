"""How well it can be told beforehand what predicted parameters are worth: measured on networks that meta-training never saw.

    python benchmarks/confidence.py measure CIFAR10 PHOTOGRAPHS -o OUT [--ghn CHECKPOINT] [--part 0/2] [--own OTHER]
    python benchmarks/confidence.py fit OUT [--ghn CHECKPOINT] [--picture PNG] [--write FOLDER]

Networks: of DeepNets-1M `val`, members of the families' `val` and of held-out families, models of timm as they are. Each is
measured twice: accuracy on 1,000 test images of CIFAR-10 without training, the head predicted; and how far it is ahead of its
own init after 100 steps of 32 on at most 2,000 photographs, the head random, with the best rate for each init, found on a fifth
of the images as `transfer.py` finds it (what is chosen there is judged there, for both alike).

OUT holds a file per network: interrupted, the same command goes on. Where OTHER holds measurements of other weights, runs from
the networks' own init are taken from there. `fit` leaves out one family after the other: what the fit without it expects of it,
and how often its intervals hold.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from textwrap import fill
from typing import Any

import timm
import torch
from torch import Tensor, nn

import ghn_init
import transfer
from ghn_init import deepnets, families
from ghn_init.confidence.confidence import Confidence, Known, Measure, seen_clues
from ghn_init.confidence.regression import Expectation, fit
from ghn_init.errors import GHNInitError
from ghn_init.evaluation.accuracy import accuracy
from ghn_init.heads.expect import spread
from ghn_init.prediction.clues import clues
from ghn_init.saving import save_json
from ghn_init.tasks import Images, load_images
from ghn_init.viz.style import COLOURS, QUIET, figure, finish

SIDE = 32
STEPS, SEED = 100, 0
ACCURACY_IMAGES = 1_000
SEEN = 64
"""Photographs in one batch."""
TRAINING_GRAPHS = 200
LEVEL = 0.9

MODELS = {
    "regnetx_002": "regnet",
    "regnety_002": "regnet",
    "mobilenetv2_050": "mobilenet-v2",
    "mobilenetv3_small_050": "mobilenet-v3",
    "convnext_atto": "convnext",
    "ghostnet_050": "ghostnet",
    "edgenext_xx_small": "edgenext",
    "hardcorenas_a": "mobilenet-v3",
    "tinynet_e": "efficientnet",
    "lcnet_050": "mobilenet-v3",
    "vit_tiny_patch16_224": "vit",
    "deit_tiny_patch16_224": "deit",
}
"""Of timm, as wide and deep as they are, their stems fitted to small images; and the family that each belongs to."""
TOLD = {
    "gain": "points ahead of the model's own init after 100 steps of 32 photographs",
    "accuracy": "% right on CIFAR-10 without training",
}
TASKS = {"gain": None, "accuracy": "cifar10"}


@dataclass(frozen=True)
class Case:
    """A network: a name, its family, and how it is made for so many classes."""

    name: str
    family: str
    make: Callable[[int], nn.Module]


def cases() -> list[Case]:
    """All, those of a kind spread evenly."""
    kinds = [
        [Case(f"val-{k}", "deepnets", lambda classes, k=k: deepnets.network("val", k, classes, SIDE)) for k in range(32)],
        [_member("val", k) for k in range(38)],
        [_member("held-out", k) for k in range(32)],
        [Case(name, family, lambda classes, name=name: _timm(name, classes)) for name, family in MODELS.items()],
    ]
    placed = [((i + 0.5) / len(kind), case) for kind in kinds for i, case in enumerate(kind)]
    return [case for _, case in sorted(placed, key=lambda entry: entry[0])]


def _member(split: str, k: int) -> Case:
    member = families.member(split, k)
    return Case(f"{split}-{member.family}-{k}", member.family, lambda classes: member.module(classes, SIDE))


def _timm(name: str, classes: int) -> nn.Module:
    sized = {"img_size": SIDE, "patch_size": 4} if name.startswith(("vit", "deit")) else {}
    model = timm.create_model(name, num_classes=classes, **sized)
    return model if sized else ghn_init.adapt_stem_(model)


def measured(
    case: Case, ghn: ghn_init.GHN, test: Images, photographs: Images, own: dict[str, float] | None
) -> dict[str, object]:
    """A network's clues and measures; `own` is what its own init reached at each rate, where that is known."""
    torch.manual_seed(SEED)
    model = case.make(test.num_classes)
    right = accuracy(ghn, model, test, "cifar10", bf16=True)
    order = transfer.training_rows(photographs)
    judge, train = order[: len(order) // 5], order[len(order) // 5 :]
    runs: dict[str, dict[str, float]] = {"default": dict(own or {}), "predicted": {}}
    for init, start in (("default", None), ("predicted", ghn)):
        done = runs[init]

        def measure_(rate: float, start: ghn_init.GHN | None = start, done: dict[str, float] = done) -> float:
            if str(rate) not in done:
                done[str(rate)] = tuned(case, start, rate, photographs, train, judge)
            return done[str(rate)]

        transfer.highest(transfer.RATES, measure_)
    torch.manual_seed(SEED)
    model = case.make(photographs.num_classes)
    prediction = ghn_init.predict(model, ghn, torch.empty(2, 3, SIDE, SIDE, device="meta"), head=False)
    with torch.no_grad():
        (embeddings,) = ghn.embed_nodes([prediction.graph])
    elements = sum(parameter.numel() for parameter in model.parameters())
    told = clues(prediction.graph, prediction.slots, prediction.cores, elements, embeddings, SIDE)
    pixels = photographs.normalise(photographs.pixels[order[:SEEN]])
    before = spread(model, prediction.graph, pixels)
    told |= seen_clues(before, spread(model, prediction.graph, pixels, dict(prediction.tensors)))
    best = {init: max(values.values()) for init, values in runs.items()}
    measures = {"accuracy": right, "gain": best["predicted"] - best["default"]}
    return {"name": case.name, "family": case.family, "clues": told, "measures": measures, "runs": runs}


def tuned(case: Case, ghn: ghn_init.GHN | None, rate: float, images: Images, train: Tensor, judge: Tensor) -> float:
    """Accuracy in percent after a few steps at one rate."""
    torch.manual_seed(SEED)
    model = case.make(images.num_classes)
    if ghn is not None:
        ghn_init.initialize(model, ghn, torch.zeros(2, 3, SIDE, SIDE), head=False, seed=SEED)
    model.to(memory_format=torch.channels_last)
    transfer.train(model, images, train, rate, SEED, bf16=True, steps=STEPS)
    batches = transfer.batches(images, train, SEED)
    ghn_init.recalibrate_batchnorm(model, [next(batches) for _ in range(20)])
    return transfer.tested(model, images, judge)


def measure(options: argparse.Namespace) -> None:
    """Measures what is left."""
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    ghn = ghn_init.load(options.ghn)
    test = load_images(options.cifar10, "test", limit=ACCURACY_IMAGES)
    photographs = load_images(options.photographs, "train", image_size=SIDE)
    part, _, parts = options.part.partition("/")
    for case in cases()[int(part) :: int(parts)]:
        path = options.out / f"{case.name}.json"
        if path.exists():
            if json.loads(path.read_text())["weights"] != ghn.fingerprint:
                raise SystemExit(f"{path} is of other weights than {options.ghn}; pass another folder.")
            continue
        try:
            other = options.own / path.name if options.own else path
            own = json.loads(other.read_text())["runs"]["default"] if other.exists() else None
            found = measured(case, ghn, test, photographs, own)
        except GHNInitError as error:
            print(f"{case.name}: {error}", flush=True)
            continue
        save_json(path, {"weights": ghn.fingerprint, **found})
        print(case.name, {name: round(value, 1) for name, value in found["measures"].items()}, flush=True)


def known(ghn: ghn_init.GHN) -> Known:
    """Of networks like those of meta-training: half of them DeepNets-1M's, half families'."""
    found = []
    for k in range(TRAINING_GRAPHS):
        model = families.network("train", k // 2) if k % 2 else deepnets.network("train", k // 2)
        with torch.no_grad():
            (embeddings,) = ghn.embed_nodes([ghn_init.trace(model, torch.empty(2, 3, SIDE, SIDE, device="meta"))])
        found.append(embeddings.double().mean(0))
    return Known.of(torch.stack(found))


def report(options: argparse.Namespace) -> None:
    """Fits, tells how well, and writes what goes with the checkpoint."""
    rows = [json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]
    ghn = ghn_init.load(options.ghn)
    others = {row["weights"] for row in rows} - {ghn.fingerprint}
    if others and options.write:
        raise SystemExit(f"{options.out} is of weights {', '.join(sorted(others))}, {options.ghn} has {ghn.fingerprint}.")
    graphs = known(ghn)
    told = [{**row["clues"], "distance": graphs.distance(row["clues"])} for row in rows]
    groups = [row["family"] for row in rows]
    alone = [{name: value for name, value in row.items() if name not in seen_clues(1, 1)} for row in told]
    lines, points, measures = [], {}, {}
    for name in TOLD:
        values = [row["measures"][name] for row in rows]
        expected = without_families(alone, values, groups)
        lines.append(row_of(TOLD[name], values, expected))
        lines.append(row_of(f"{TOLD[name]}, one batch seen", values, without_families(told, values, groups)))
        points[name] = [(e.value, v, e.high - e.value, g) for e, v, g in zip(expected, values, groups, strict=True)]
        measures[name] = Measure(TOLD[name], TASKS[name], fit(alone, values, groups), fit(told, values, groups))
    print("\n".join([HEADER, *lines]))
    print(f"{len(rows)} networks of {len(set(groups))} families; {platform.machine()}, torch {torch.__version__.split('+')[0]}")
    print(gains(rows))
    if options.write:
        Confidence(graphs, measures).write(options.write)
    if options.picture:
        draw(points, options.picture)


def without_families(clues_: list[dict[str, float]], values: list[float], groups: list[str]) -> list[Expectation]:
    """What a fit that never saw its family expects of each network."""
    found: dict[int, Expectation] = {}
    for group in dict.fromkeys(groups):
        others = [k for k, other in enumerate(groups) if other != group]
        without = fit([clues_[k] for k in others], [values[k] for k in others], [groups[k] for k in others])
        found |= {k: without.expect(clues_[k], "", LEVEL) for k, other in enumerate(groups) if other == group}
    return [found[k] for k in range(len(groups))]


KINDS = {
    "ResNet, ResNeXt, RegNet, VGG, DenseNet": ("resnet", "resnext", "regnet", "vgg", "densenet"),
    "MobileNet, EfficientNet, MNASNet, ShuffleNet": ("mobilenet-v2", "mobilenet-v3", "efficientnet", "mnasnet", "shufflenet"),
    "ConvNeXt, PoolFormer, MetaFormer": ("convnext", "poolformer", "metaformer"),
    "ViT, DeiT, Swin, BERT-like": ("vit", "deit", "swin", "bert"),
    "MLP-Mixer, ResMLP": ("mlp-mixer", "resmlp"),
}
"""Families of the split `val`, as the table of gains has them."""


def gains(rows: list[dict[str, Any]]) -> str:
    """Accuracy after the steps from both inits, by kind of network."""
    kinds: dict[str, list[dict[str, Any]]] = {"DeepNets-1M, random cells": [row for row in rows if row["family"] == "deepnets"]}
    kinds |= {kind: [r for r in rows if r["name"].startswith("val-") and r["family"] in own] for kind, own in KINDS.items()}
    kinds["families held out of meta-training"] = [row for row in rows if row["name"].startswith("held-out-")]
    kinds["timm's models, as wide as they are"] = [row for row in rows if row["name"] in MODELS]
    kinds["all"] = rows
    lines = ["| networks | default, % | predicted, % | gain | of so many lose more than a point |", "| --- " * 5 + "|"]
    for kind, own in kinds.items():
        if own:
            means = [fmean(max(row["runs"][init].values()) for row in own) for init in ("default", "predicted")]
            gained = [row["measures"]["gain"] for row in own]
            error = f" ± {stdev(gained) / len(gained) ** 0.5:.1f}" if len(gained) > 1 else ""
            lost = f"{sum(gain < -1 for gain in gained)} of {len(gained)}"
            lines.append(f"| {kind} | {means[0]:.1f} | {means[1]:.1f} | {fmean(gained):+.1f}{error} | {lost} |")
    return "\n".join(lines)


HEADER = (
    "| expected | mean | deviation | error | within 90 %, % | expected to lose: lost |\n| --- | --- | --- | --- | --- | --- |"
)


def row_of(what: str, values: list[float], expected: list[Expectation]) -> str:
    """A line of the table."""
    mean = fmean(values)
    deviation = fmean((value - mean) ** 2 for value in values) ** 0.5
    error = fmean((value - e.value) ** 2 for value, e in zip(values, expected, strict=True)) ** 0.5
    held = 100 * fmean(e.low <= value <= e.high for value, e in zip(values, expected, strict=True))
    losing = [value < 0 for value, e in zip(values, expected, strict=True) if e.value < 0]
    cells = [what, f"{mean:.1f}", f"{deviation:.1f}", f"{error:.1f}", f"{held:.0f}", f"{sum(losing)} of {len(losing)}"]
    return "| " + " | ".join(cells) + " |"


def draw(points: dict[str, list[tuple[float, float, float, str]]], path: Path) -> None:
    """Measured against expected, a panel per measure, in the intervals' band."""
    made, panels = figure(4.4 * len(points), 3.8, panels=len(points))
    for axes, (name, own) in zip(panels, points.items(), strict=True):
        kinds = (
            ("DeepNets-1M", [p for p in own if p[3] == "deepnets"]),
            ("families, timm", [p for p in own if p[3] != "deepnets"]),
        )
        for (label, shown), colour in zip(kinds, COLOURS, strict=False):
            axes.scatter([p[0] for p in shown], [p[1] for p in shown], s=12, color=colour, linewidths=0, label=label)
        ends = [f(value for p in own for value in p[:2]) for f in (min, max)]
        half = fmean(p[2] for p in own)
        axes.plot(ends, ends, color=QUIET, linewidth=0.8)
        axes.fill_between(ends, [x - half for x in ends], [x + half for x in ends], color=QUIET, alpha=0.15, linewidth=0)
        axes.set(xlabel="expected by a fit without the family", ylabel="measured", title=fill(TOLD[name], 40))
        axes.legend(frameon=False, fontsize="small")
    finish(made, panels, path)


def main() -> None:
    """One of two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.add_argument("cifar10")
    one.add_argument("photographs")
    one.add_argument("-o", "--out", type=Path, required=True)
    one.add_argument("--own", type=Path, help="of other weights; runs from the networks' own init are read there")
    one.add_argument("--part", default="0/1", help="of several processes, this one of so many: 0/2")
    one.set_defaults(run=measure)
    two = commands.add_parser("fit")
    two.add_argument("out", type=Path)
    two.add_argument("--picture", type=Path)
    two.add_argument("--write", type=Path, help="the checkpoint's folder")
    two.set_defaults(run=report)
    for command in (one, two):
        command.add_argument("--ghn", default=ghn_init.DEFAULT)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
