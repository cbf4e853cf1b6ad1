"""Accuracies of a checkpoint's predicted parameters on unseen architectures, as its model card quotes them.

    python benchmarks/evaluate.py DATA [--ghn NAME_OR_FOLDER] [--networks 50] [--images 10000] [-o results.json]

DATA is a folder with train.parquet and test.parquet of CIFAR-10, or a hub data set of the same schema.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import ghn_init
from ghn_init.training.data import Images, load_images
from ghn_init.training.evaluate import Accuracies, accuracy, evaluate, resnet18_for_small_images

SPLITS = {"test": "in distribution", "wide": "twice the channels", "deep": "2.5 times the blocks"}


def main() -> None:
    """Prints a row per split and writes all accuracies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--ghn", default=None)
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    ghn = ghn_init.load(args.ghn) if args.ghn else ghn_init.load(ghn_init.DEFAULT)
    train = load_images(args.data, "train")
    test = load_images(args.data, "test", like=train)
    images = Images.from_tensors(test.pixels[: args.images], test.labels[: args.images], like=train)
    results = {}
    for split, meaning in SPLITS.items():
        started = time.perf_counter()
        found = evaluate(ghn, images, split, range(args.networks))
        results[split] = found.values
        print(f"{split:10} {meaning:22} {found}  [{time.perf_counter() - started:.0f} s]", flush=True)
    with torch.device("meta"):
        resnet = resnet18_for_small_images(ghn.config.num_classes)
    single = Accuracies((accuracy(ghn, resnet, images),))
    results["resnet18"] = single.values
    print(f"{'resnet18':10} {'3×3 stem':22} {single.mean:.1f}")
    if args.output:
        args.output.write_text(json.dumps({"images": len(images.labels), "accuracies": results}, indent=1))


if __name__ == "__main__":
    main()
