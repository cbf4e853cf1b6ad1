"""The verb: accuracies of predicted parameters on unseen networks, and of the same networks trained by SGD."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from ghn_init import deepnets
from ghn_init.checkpoints.pretrained import DEFAULT, given
from ghn_init.errors import EvaluationError
from ghn_init.evaluation.accuracy import form_of, image_inputs, predicted_top1
from ghn_init.evaluation.results import OWN, Evaluation, Result, SGDResult
from ghn_init.evaluation.sgd import sgd_accuracy
from ghn_init.hypernetwork.config import unlike
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction import cost
from ghn_init.prediction.functional import told_apart
from ghn_init.processes import ended
from ghn_init.progress import counting
from ghn_init.tasks.image_data import Images
from ghn_init.tasks.image_reading import load_images
from ghn_init.tasks.images import ImageTask, task_name
from ghn_init.tasks.task import class_names
from ghn_init.tracing.trace import read
from ghn_init.tracing.untouched import seed_torch

OnResult = Callable[[Result | SGDResult, int, int], None]
"""Called with a result, how many of its kind are done, and how many there will be."""


def evaluate(
    data: str | Path | Images,
    ghn: GraphHyperNetwork | str | os.PathLike[str] | None = None,
    *,
    networks: str | Sequence[str] | Iterable[nn.Module] = "test",
    count: int = 100,
    images: int | None = None,
    image_size: int | None = None,
    task: str | None = None,
    bf16: bool = False,
    workers: int = 1,
    seed: int = 0,
    sgd: int = 0,
    sgd_steps: Sequence[int] = (500, 2500),
    out: str | Path | None = None,
    on_result: OnResult | None = None,
) -> Evaluation:
    """Measures accuracies of predicted parameters on images, without any training of the networks.

    Args:
        data: A hub data set, or a folder with `train.parquet` and `test.parquet`, or with a folder per class in `train` and
            `test`; or test images in memory, shuffled where classes come in runs, since norms use the statistics of batches.
            Classes are brought into the order of the head's where names are known of both.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        networks: Splits of DeepNets-1M (`ghn_init.deepnets.SPLITS`), or modules (B, 3, H, W) → (B, classes), whose parameters
            that can't be predicted keep their values.
        count: The first ones of each split.
        images: How many test images, the first ones; by default all.
        image_size: Side in pixels to which images that are read here are resized and cropped; by default they have one size.
        task: Whose head is predicted; by default the one of the data's name (`cifar10` for `uoft-cs/cifar10`), else the only
            one that has as many outputs as the data have classes.
        bf16: Run the networks in bfloat16 where it is faster.
        workers: Processes of one thread each, for networks of splits; with 1, this process does it all.
        seed: Of the splits.
        sgd: Train as many networks of the first split by SGD from PyTorch's own init, those that are cheapest by estimate.
        sgd_steps: For so many steps each.
        out: A JSON file: what is in it is not done again, each result is saved when it is there.
        on_result: Called after each result; without it there is a progress bar.

    Returns:
        All results; printed, it is a table.

    Raises:
        EvaluationError: No task fits the data, the head is of other classes, a module has not an output for each class, the
            file is of another evaluation or can't be written, SGD has no training images or no split, a number is too small,
            or a process ended.
        TrainingError: The data can't be read.
        ArchitectureError: No such split or network.
        GHNInitError: As in `ghn_init.load` and `ghn_init.trace`.

    Example:
        >>> import ghn_init, torch
        >>> pixels = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
        >>> images = ghn_init.Images.from_tensors(pixels, torch.arange(20) % 10)
        >>> found = ghn_init.evaluate(images, networks="test", count=1, task="cifar10")
        >>> [(row.split, row.index, row.nodes) for row in found.results]
        [('test', 0, 114)]
    """
    wanted = (("count", count, 1), ("images", images, 2), ("workers", workers, 1), ("sgd", sgd, 0))
    for what, number, least in (*wanted, *(("sgd_steps", number, 1) for number in sgd_steps)):
        if number is not None and number < least:
            raise EvaluationError(f"{what} is {number}; expected {least} at least.")
    splits, modules = _sorted_out(networks)
    for split in splits:
        _check(split, seed)
    name = ghn if isinstance(ghn, str | os.PathLike) else DEFAULT if ghn is None else "own"
    hypernetwork = given(ghn)
    train = None if isinstance(data, Images) else load_images(data, "train", thin=not sgd, image_size=image_size)
    test = data.mixed() if isinstance(data, Images) else load_images(data, "test", train, first=images)
    if images is not None:
        test = replace(test, pixels=test.pixels[:images], labels=test.labels[:images])
    head = _task(hypernetwork, test.num_classes, task, None if isinstance(data, Images) else task_name(data))
    test = _numbered(test, hypernetwork, head)
    train = None if train is None else _numbered(train, hypernetwork, head)
    if sgd and (train is None or modules):
        raise EvaluationError("SGD needs a data set with training images and a split of DeepNets-1M; leave sgd out.")
    found = Evaluation.resume(
        None if out is None else Path(out),
        {
            "ghn": os.fspath(name),
            "weights": hypernetwork.fingerprint,
            "task": head,
            "classes": test.num_classes,
            "data": test.fingerprint if isinstance(data, Images) else f"{Path(data).name} {test.fingerprint}",
            "images": len(test.labels),
            "bf16": bf16,
            **({"seed": seed} if seed else {}),
            **({"networks": told_apart(modules)} if modules else {}),
        },
    )
    found.save()  # before anything is measured that could not be written
    found.class_names = test.classes
    if modules:
        todo: list[tuple[str, Sequence[int]]] = [(OWN, range(len(modules)))]
    else:
        todo = [(split, range(_size(split, count))) for split in splits]
    setting = (hypernetwork, head, test, bf16, seed, modules)
    for split, indices in todo:
        missing = [index for index in indices if index not in found.done(split)]
        with counting(len(missing), "networks", on_result is None) as tell:
            for done, row in enumerate(_results(setting, split, missing, 1 if modules else workers), 1):
                found.add(row)
                tell(f"{row.accuracy:.1f} %")
                if on_result is not None:
                    on_result(row, done, len(missing))
    if sgd and train is not None:
        found.trained_on(train.fingerprint)
        split, indices = todo[0]
        _train(found, train, test, split, _cheapest(split, indices, test, seed)[:sgd], sgd_steps, seed, on_result)
    return found


def _sorted_out(networks: str | Sequence[str] | Iterable[nn.Module]) -> tuple[list[str], list[nn.Module]]:
    """The splits or the modules; the other list is empty."""
    if isinstance(networks, nn.Module):
        raise EvaluationError(f"networks is one {type(networks).__name__} alone; pass a list, networks=[model].")
    given = [networks] if isinstance(networks, str) else list(networks)
    modules = [one for one in given if isinstance(one, nn.Module)]
    splits = [str(one) for one in given if not isinstance(one, nn.Module)]
    if not given:
        raise EvaluationError("networks is empty; pass splits or modules, one at least.")
    if modules and splits:
        raise EvaluationError("networks are splits and modules; pass either.")
    return splits, modules


def _task(ghn: GraphHyperNetwork, classes: int, name: str | None, data: str | None) -> str:
    """The task whose head is predicted: the one asked for, that of the data's name, or the only one that fits."""
    config = ghn.config
    if name is None and data is not None and config.tasks.get(data) == classes:
        return data
    if name is not None and config.tasks.get(name) != classes:
        raise EvaluationError(
            f"task is {name!r} and the data have {classes} classes; the hypernetwork knows {config.described_tasks}."
        )
    fitting = [name] if name is not None else config.tasks_with(classes)
    if len(fitting) != 1:
        what = f"{' and '.join(fitting)} have as many: pass task=" if fitting else f"it knows {config.described_tasks}"
        raise EvaluationError(f"the data have {classes} classes, for which the hypernetwork has not one task; {what}.")
    return fitting[0]


def _numbered(images: Images, ghn: GraphHyperNetwork, task: str) -> Images:
    """The images with their classes numbered as the head's outputs are, where names are known of both."""
    known, own = ghn.config.classes.get(task, ()), class_names(ImageTask(images))
    difference = unlike(known, own)
    if not difference:
        return images
    if sorted(own) != sorted(set(known)):
        raise EvaluationError(
            f"the head {task!r} is of other classes than the data have: {difference}. Where they are the same under other "
            f"names, name them as config.classes of the hypernetwork does; else pass the task= that fits, or train one."
        )
    return images.numbered_as(known)


def _check(split: str, seed: int) -> None:
    """Refuses a split that there is not, before anything is read."""
    if split != "predefined":
        deepnets.arguments(split, 0, seed)


def _size(split: str, count: int) -> int:
    return min(count, len(deepnets.PREDEFINED)) if split == "predefined" else count


Setting = tuple[GraphHyperNetwork, str, Images, bool, int, Sequence[nn.Module]]


def _results(setting: Setting, split: str, indices: Sequence[int], workers: int) -> Iterator[Result]:
    """Results of networks, in order."""
    if workers <= 1:
        for index in indices:
            yield _result(setting, split, index)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_share, initargs=(setting,)) as pool:
        try:
            yield from pool.map(_shared_result, [split] * len(indices), indices)
        except BrokenProcessPool as error:
            raise EvaluationError(ended(error, "it had evaluated its networks", "images and a network")) from error


@torch.inference_mode()
def _result(setting: Setting, split: str, index: int) -> Result:
    ghn, task, images, bf16, seed, modules = setting
    if modules:
        module = modules[index]
    else:
        with torch.device("meta"):
            module = deepnets.network(split, index, images.num_classes, images.pixels.shape[2], seed)
    form = form_of(module, images)
    found = predicted_top1(ghn, form, images, task, bf16=bf16)
    return Result(split, index, found, sum(p.numel() for p in module.parameters()), form.graph.num_nodes)


_shared: Setting


def _share(setting: Setting) -> None:
    """Keeps in a worker process what all its networks need."""
    global _shared
    torch.set_num_threads(1)
    _shared = setting


def _shared_result(split: str, index: int) -> Result:
    return _result(_shared, split, index)


def _cheapest(split: str, indices: Iterable[int], images: Images, seed: int) -> list[int]:
    """Indices of a split's networks, those first whose training costs least by estimate."""
    costs = {}
    for index in indices:
        with torch.device("meta"):
            module = deepnets.network(split, index, images.num_classes, images.pixels.shape[2], seed)
        costs[index] = cost.seconds(read(module, image_inputs(images)).record)
    return sorted(costs, key=costs.__getitem__)


def _train(
    found: Evaluation,
    train: Images,
    test: Images,
    split: str,
    indices: Sequence[int],
    steps: Sequence[int],
    seed: int,
    on_result: OnResult | None,
) -> None:
    """Adds networks trained by SGD that have no result yet."""
    known = {(r.split, r.index, r.steps) for r in found.sgd}
    jobs = [(index, n) for index in indices for n in steps if (split, index, n) not in known]
    for done, (index, n) in enumerate(jobs, 1):
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            seed_torch(index)
            module = deepnets.network(split, index, test.num_classes, test.pixels.shape[2], seed)
            top1 = sgd_accuracy(module, train, test, n, bf16=bool(found.setting["bf16"]), seed=index)
        row = SGDResult(split, index, n, top1)
        found.add(row)
        if on_result is not None:
            on_result(row, done, len(jobs))
