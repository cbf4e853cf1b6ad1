"""`ghn-init evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

import ghn_init
from ghn_init import deepnets
from ghn_init.cli.console import Checkpoint, app, check_file, check_picture, err, out, progress_bar
from ghn_init.cli.console import table as new_table
from ghn_init.errors import TrainingError
from ghn_init.evaluation.accuracy import Accuracies
from ghn_init.evaluation.accuracy import evaluate as evaluate_split
from ghn_init.evaluation.results import CIFAR10, PUBLISHED, Evaluation, SGDResult, picture
from ghn_init.evaluation.sgd import sgd_accuracy
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.tasks.images import Images, load_images
from ghn_init.training.networks import Network


@app.command()
def evaluate(
    data: Annotated[str, typer.Argument(help="Folder with train.parquet and test.parquet, or a hub data set")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    split: Annotated[list[str] | None, typer.Option(help=", ".join(deepnets.SPLITS) + "; may be given several times")] = None,
    networks: Annotated[int, typer.Option(min=1, help="The first ones of each split")] = 100,
    images: Annotated[int | None, typer.Option(min=1, help="Test images; by default all")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 1,
    bf16: Annotated[bool, typer.Option(help="Run the networks in bfloat16 where it is faster")] = False,
    sgd: Annotated[int, typer.Option(min=0, help="Train as many of the first split by SGD, the cheapest ones")] = 0,
    sgd_steps: Annotated[list[int] | None, typer.Option(min=1, help="Steps of SGD; may be given several times")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A JSON file; what is in it is not done again")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture: accuracy against network size")] = None,
) -> None:
    """Measures accuracies of predicted parameters, without any training, on unseen networks of DeepNets-1M."""
    check_file(output, "--output")
    check_picture(plot)
    hypernetwork = ghn_init.load(ghn)
    with err.status("reading images"):
        train = load_images(data, "train")
        test = load_images(data, "test", train)
    if train.num_classes != hypernetwork.config.num_classes:
        raise TrainingError(f"{ghn!r} has {hypernetwork.config.num_classes} classes, {data} has {train.num_classes}.")
    test = replace(test, pixels=test.pixels[:images], labels=test.labels[:images])
    weights = {"ghn": ghn, "weights": _fingerprint(hypernetwork)}
    setting: dict[str, object] = {**weights, "data": Path(data).name, "images": len(test.labels), "bf16": bf16}
    found = Evaluation.resume(output, setting)
    splits = split or ["test"]
    for name in splits:
        _predicted(found, hypernetwork, test, name, _count(name, networks), workers, output)
    if sgd:
        chosen = _cheapest(splits[0], _count(splits[0], networks), test)[:sgd]
        _trained(found, train, test, splits[0], chosen, sgd_steps or [500, 2500], output)
    _report(found, PUBLISHED if train.classes == CIFAR10 else {})
    if plot is not None:
        picture(found, plot)


def _fingerprint(ghn: GHN) -> str:
    """Tells weights apart that go by the same name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(ghn.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _count(split: str, networks: int) -> int:
    return min(networks, len(deepnets.PREDEFINED)) if split == "predefined" else networks


def _predicted(found: Evaluation, ghn: GHN, test: Images, split: str, count: int, workers: int, output: Path | None) -> None:
    """Adds the networks of a split that have no result yet, and saves after each of them."""
    missing = [index for index in range(count) if index not in found.done(split)]
    with progress_bar(show=bool(missing)) as bar:
        rows = evaluate_split(ghn, test, split, missing, bf16=bool(found.setting["bf16"]), workers=workers)
        for row in bar.track(rows, total=len(missing), description=split):
            found.results.append(row)
            found.save(output)


def _cheapest(split: str, count: int, images: Images) -> list[int]:
    """Indices of a split's first networks, those first whose training costs least by estimate."""
    size = images.pixels.shape[2]
    with torch.device("meta"):
        modules = [deepnets.network(split, index, images.num_classes, size) for index in range(count)]
    costs = [Network.of(module, images.num_classes, size).seconds for module in modules]
    return sorted(range(count), key=costs.__getitem__)


def _trained(
    found: Evaluation, train: Images, test: Images, split: str, indices: list[int], steps: list[int], output: Path | None
) -> None:
    """Adds networks trained by SGD that have no result yet."""
    known = {(r.split, r.index, r.steps) for r in found.sgd}
    jobs = [(index, n) for index in indices for n in steps if (split, index, n) not in known]
    with progress_bar(show=bool(jobs)) as bar:
        for index, n in bar.track(jobs, description="SGD"):
            torch.manual_seed(index)
            module = deepnets.network(split, index, test.num_classes, test.pixels.shape[2])
            top1 = sgd_accuracy(module, train, test, n, bf16=bool(found.setting["bf16"]), seed=index)
            found.sgd.append(SGDResult(split, index, n, top1))
            found.save(output)


def _report(found: Evaluation, published: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table of all splits beside published means, and one of the networks that were trained as well."""
    own = new_table("split", "mean accuracy, %", "standard error", "best", "networks", *(f"published {k}" for k in published))
    for split in found.splits:
        rows = [r for r in found.results if r.split == split]
        groups = {split: None} if split != "predefined" else {deepnets.PREDEFINED[r.index]: [r.index] for r in rows}
        for name, indices in groups.items():
            values = found.accuracies(split, indices)
            beside = [f"{row[name]:.1f}" if name in row else "" for row in published.values()]
            single = len(values.values) == 1
            error, best = ("", "") if single else (f"{values.standard_error:.1f}", f"{values.best:.1f}")
            own.add_row(name, f"{values.mean:.1f}", error, best, str(len(values.values)), *beside)
    out.print(own)
    if not found.sgd:
        return
    table = new_table("trained by SGD", "mean accuracy, %", "standard error", "best", "networks", "predicted, same networks")
    for split, steps in dict.fromkeys((r.split, r.steps) for r in found.sgd):
        rows_sgd = [r for r in found.sgd if (r.split, r.steps) == (split, steps)]
        values = Accuracies(tuple(r.accuracy for r in rows_sgd))
        same = found.accuracies(split, [r.index for r in rows_sgd])
        figures = (f"{values.mean:.1f}", f"{values.standard_error:.1f}", f"{values.best:.1f}", str(len(rows_sgd)))
        table.add_row(f"{split}, {steps:,} steps", *figures, f"{same.mean:.1f}" if same.values else "")
    out.print(table)
