"""The mean of several checkpoints' weights, in float16: a longer weight average than one run keeps.

    python benchmarks/mean_of_checkpoints.py OUT FOLDER FOLDER …

FOLDERs are checkpoints', or runs' of `ghn_init.train`, of which the average is taken; all of one hypernetwork's stages, so that
the same unit means the same in all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from judging import judged


def main() -> None:
    """Writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    models = [judged(folder) for folder in options.folders]
    ghn = models[0]
    with torch.no_grad():
        for name, tensor in ghn.state_dict().items():
            tensor.copy_(torch.stack([model.state_dict()[name].double() for model in models]).mean(0))
    ghn.half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
