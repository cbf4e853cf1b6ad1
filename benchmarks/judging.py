"""Accuracy of predicted parameters on networks that a meta-training never saw, for the tables of docs/training.md.

    python benchmarks/judging.py FOLDER CIFAR10 [--splits val families]

FOLDER is a checkpoint's, or a run's of `ghn_init.train`, of which the average is judged. The first 32 networks of DeepNets-1M's
split `val`, and the first 38 members of the families' `val`, two of each family; 512 test images, one thread, bfloat16
where it is faster.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file

import ghn_init
from ghn_init import families
from ghn_init.tasks import load_images

IMAGES, DEEPNETS, MEMBERS = 512, 32, 38
AVERAGE = "average."


def judged(folder: Path) -> ghn_init.GHN:
    """The checkpoint, or the average in a run's state."""
    if (folder / "model.safetensors").exists():
        return ghn_init.load(str(folder))
    recipe = json.loads((folder / "recipe.json").read_text())
    ghn = ghn_init.GHN(ghn_init.GHNConfig.from_dict(recipe["ghn"]))
    state = load_file(folder / "state.safetensors")
    ghn.load_state_dict({k.removeprefix(AVERAGE): v for k, v in state.items() if k.startswith(AVERAGE)})
    return ghn.eval()


def main() -> None:
    """Prints means, and those of each family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", help="CIFAR-10: a folder with test.parquet, or a hub name")
    parser.add_argument("--splits", nargs="+", choices=["val", "families"], default=["val", "families"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    ghn, images = judged(options.folder), load_images(options.data, "test", limit=IMAGES)
    settings = {"images": IMAGES, "task": "cifar10", "bf16": True}
    if "val" in options.splits:
        found = ghn_init.evaluate(images, ghn, networks="val", count=DEEPNETS, **settings)
        print(f"DeepNets-1M val: {fmean(row.accuracy for row in found.results):.2f} %")
    if "families" in options.splits:
        networks = [families.network("val", k) for k in range(MEMBERS)]
        found = ghn_init.evaluate(images, ghn, networks=networks, count=MEMBERS, **settings)
        accuracies = defaultdict(list)
        for k, row in enumerate(found.results):
            accuracies[families.member("val", k).family].append(row.accuracy)
        print(f"families val: {fmean(row.accuracy for row in found.results):.2f} %")
        print(", ".join(f"{name} {fmean(own):.1f}" for name, own in accuracies.items()))


if __name__ == "__main__":
    main()
