"""What a hypernetwork's graph embeddings know of networks: properties told from them alone, as GHN-2's authors tried it.

    python benchmarks/properties.py [--evaluation docs/results/ghn2-small-500.json] [--nasbench201 CSV] [--macro CSV]
        [--networks 500] [--ghn ghn2-small]

Source: Knyazev et al., NeurIPS 2021 (arXiv 2110.13100), section 5.2: a support vector regression on the mean of a graph's node
embeddings. Their networks' accuracies after training were not published; here the truths are
- of networks of DeepNets-1M `test`: accuracy with predicted parameters (an evaluation's file), and milliseconds of an image's
  forward pass on this machine, measured here;
- of NAS-Bench-201 and NAS-Bench-Macro: published accuracies after full training (files with a column `arch`).

Beside it the same regression on embeddings of a hypernetwork that was never trained, and on two numbers: log parameters and log
multiply-accumulates. Kendall's τ of truths with predictions for networks that the regression did not see: 5 folds, 5 times
shuffled, mean and standard deviation of the 25. `C` and the kernel's width are chosen by cross-validation inside of each fold.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import nn

import ghn_init
from ghn_init import deepnets
from ghn_init.prediction import cost
from ghn_init.tracing.trace import read_in_eval_mode
from nasbench import SPACES

FOLDS, SHUFFLES = 5, 5
GRID = {"svr__C": [0.1, 1.0, 10.0, 100.0], "svr__gamma": ["scale", 0.01, 0.1]}
SIDE, BATCH = 32, 32
TRAINED, UNTRAINED, SIZES = "embeddings", "embeddings, never trained", "log parameters, log multiply-accumulates"
KINDS = (TRAINED, SIZES, UNTRAINED)


def seen(build: Callable[[], nn.Module], ghns: dict[str, ghn_init.GHN]) -> dict[str, list[float]]:
    """Kind → (F,) features of a network that needs no storage."""
    with torch.device("meta"):
        network = build()
    found = read_in_eval_mode(network, torch.empty(2, 3, SIDE, SIDE))
    macs = cost.features(found.record)
    numel = sum(parameter.numel() for parameter in network.parameters())
    features = {SIZES: [math.log(numel), math.log(1 + macs["dense"] + macs["depthwise"])]}
    for kind, ghn in ghns.items():
        (embeddings,) = ghn.embed_nodes([found.graph])
        features[kind] = embeddings.mean(0).tolist()
    return features


def milliseconds(network: nn.Module) -> float:
    """An image's forward pass in eval mode, in a batch of 32: the best of five."""
    x, times = torch.zeros(BATCH, 3, SIDE, SIDE), []
    for _ in range(5):
        started = time.perf_counter()
        network(x)
        times.append(time.perf_counter() - started)
    return 1000 * min(times) / BATCH


def taus(features: NDArray[numpy.float64], truths: NDArray[numpy.float64]) -> list[float]:
    """Kendall's τ on the networks of each fold."""
    found = []
    for shuffle in range(SHUFFLES):
        for train, test in KFold(FOLDS, shuffle=True, random_state=shuffle).split(features):
            spread = truths[train].std()
            machine = make_pipeline(StandardScaler(), SVR(epsilon=0.1))
            search = GridSearchCV(machine, GRID, cv=FOLDS, scoring="neg_mean_squared_error")
            search.fit(features[train], (truths[train] - truths[train].mean()) / spread)
            found.append(float(kendalltau(search.predict(features[test]), truths[test]).statistic))
    return found


def row(title: str, table: list[dict[str, list[float]]], truths: list[float]) -> str:
    """A property's line."""
    cells = []
    for kind in KINDS:
        found = taus(numpy.array([each[kind] for each in table]), numpy.array(truths))
        cells.append(f"{statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f}")
    return f"| {title} | {len(truths)} | " + " | ".join(cells) + " |"


def drawn(path: Path, count: int) -> list[str]:
    """Architectures at random."""
    with path.open() as file:
        names = sorted(each["arch"] for each in csv.DictReader(file))
    return random.Random(0).sample(names, min(count, len(names)))


def published(path: Path, column: str, names: list[str]) -> list[float]:
    """Their accuracies after full training."""
    with path.open() as file:
        truths = {each["arch"]: float(each[column]) for each in csv.DictReader(file)}
    return [truths[name] for name in names]


@torch.inference_mode()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=Path, help="what `ghn-init evaluate --split test` wrote")
    parser.add_argument("--nasbench201", type=Path)
    parser.add_argument("--macro", type=Path)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trained = ghn_init.load(options.ghn)
    torch.manual_seed(0)
    ghns = {TRAINED: trained, UNTRAINED: ghn_init.GHN(trained.config)}
    rows = []
    if options.evaluation is not None:
        evaluation = json.loads(options.evaluation.read_text())
        if evaluation["setting"]["weights"] != trained.fingerprint:
            raise SystemExit(f"{options.evaluation} is of other weights than {options.ghn}.")
        results = [each for each in evaluation["results"] if each["split"] == "test"]
        results = results[: options.networks]
        indices = [each["index"] for each in results]
        table = [seen(partial(deepnets.network, "test", k, 10, SIDE), ghns) for k in indices]
        rows.append(row("DeepNets-1M: accuracy with predicted parameters", table, [each["accuracy"] for each in results]))
        times = [milliseconds(deepnets.network("test", k, 10, SIDE).eval()) for k in indices]
        rows.append(row("DeepNets-1M: milliseconds of an image", table, times))
    spaces = (
        ("NAS-Bench-201", "nasbench201", options.nasbench201, ("cifar10_test", "cifar100_test", "imagenet16_120_test")),
        ("NAS-Bench-Macro", "macro", options.macro, ("cifar10_test_mean",)),
    )
    for title, space, path, columns in spaces:
        if path is None:
            continue
        names = drawn(path, options.networks)
        table = [seen(partial(SPACES[space], name, 10), ghns) for name in names]
        for column in columns:
            rows.append(row(f"{title}: {column}", table, published(path, column, names)))
    print(f"One thread of {platform.machine()}, torch {torch.__version__}, {options.ghn}, weights {trained.fingerprint}.")
    print("| property | networks | " + " | ".join(KINDS) + " |\n" + "| --- " * (len(KINDS) + 2) + "|", *rows, sep="\n")


if __name__ == "__main__":
    main()
