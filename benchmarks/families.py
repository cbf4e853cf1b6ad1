"""Statistics of the families that people use, and the page about them.

    python benchmarks/families.py [-o docs/families.md] [--count 200] [--size 32]

The first `--count` members of `train`, and as many of `held-out` for each family, are built and traced; costs are estimates
from their shapes (`ghn_init.prediction.cost`), so the machine matters little.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, quantiles

import timm
import torch
import torchvision
import transformers

from ghn_init.families import FAMILIES, FamilySummary, MemberStatistics

VARIES = {
    "resnet": "BasicBlocks or Bottlenecks, blocks and widths, batch or group norm, activation, stem, squeeze-and-excite or ECA",
    "resnext": "groups and their width, blocks and widths, activation, stem, squeeze-and-excite or ECA",
    "regnet": "depth, slope and start of widths, group width, bottleneck, squeeze-and-excite (Y) or none (X), activation, stem",
    "densenet": "growth, layers of blocks, bottleneck, activation, stem",
    "vgg": "convolutions and widths of stages, batch norm or none, hidden layer of the head",
    "mobilenet-v2": "blocks and widths, expansion, activation, stem",
    "mobilenet-v3": "blocks and widths, kernels, expansions, squeeze-and-excite, activation, width of the head, stem",
    "efficientnet": "V1, or V2 with fused stages; blocks and widths, kernels, expansions, squeeze-and-excite, activation, stem",
    "mnasnet": "number of stages, blocks and widths, kernels, expansions, squeeze-and-excite, stem",
    "shufflenet": "blocks and widths, width of the last convolution, stem",
    "convnext": "V1, or V2 with response norms; blocks and widths, kernels, layer scale or none, patch size, activation",
    "vit": "depth, width, heads, patch size; class token, mean or attention pooling; registers, learned positions or none, "
    "layer norm or RMS norm, normalised queries and keys, layer scale, gated perceptrons, activation",
    "deit": "depth, width, heads, patch size, layer norm or RMS norm, layer scale, biases, activation",
    "swin": "V1 or V2; blocks, width, heads, windows, patch size, perceptron's width",
    "bert": "depth, width, heads, patch size, perceptron's width, activation, BERT's pooler or the mean",
    "mlp-mixer": "blocks, width, patch size, both perceptrons' widths, activation, norm after the stem",
    "resmlp": "blocks, width, patch size, perceptron's width, activation",
    "poolformer": "blocks and widths, pool, stem of stride 1 to 4, layer scale or none, perceptron's width, activation",
    "metaformer": "each stage's mixer (convolution, attention, pool), blocks and widths, norm, activation, head, layer scale",
    "ghostnet": "V1 or V2; blocks and widths, kernels, expansions, squeeze-and-excite, stem",
    "rexnet": "first and last width, depth, squeeze-and-excite, both activations, stem",
    "gmlp": "blocks, width, patch size, perceptron's width, activation",
    "cait": "depth of both parts, width, heads, patch size, start of layer scale",
    "xcit": "depth of both parts, width, heads, start of layer scale, norm of tokens, positions or none",
    "pvt": "blocks and widths, reduction of keys, by convolutions or by pools, perceptrons' widths",
    "mobilevit": "widths, heads, expansion, perceptron's width, activation, stem",
    "edgenext": "blocks and widths, kernels, heads, expansion, layer scale, activation",
}
"""In words, for the page."""

INTRO = """# Families that people use

`ghn_init.families` generates small members of architecture families that people use, by the constructors of timm,
torchvision and transformers themselves, for training a hypernetwork beside [DeepNets-1M](deepnets.md), and for testing it
on families that it has never seen.

```python
from ghn_init import families

net = families.network("train", 7)  # an ordinary module, (B, 3, 32, 32) → (B, 10)
print(families.member("train", 7))  # the constructor and its arguments; .to_dict() is JSON
families.network("held-out", 0, num_classes=100, image_size=64)
[name for name, family in families.FAMILIES.items() if family.held_out]
```

A network and its start values depend on (split, index, seed) alone, for given versions of the libraries; torch's random
state is as before afterwards. Networks run on images of 24, 32, 48 and 64 px: patches are of 2, 4 or 8 px, stems of
convolutions are in part the family's own, in part fitted to small images (`ghn_init.adapt_stem_`: 3×3 of stride 1, no
pool). Dropout and stochastic depth are off. A library is imported when a member of it is built; nothing is downloaded.

Splits: `train`, `val` and `test` share families, and families take turns in them. No member is in two of them, at any index
and seed: a member's digest says which split may have it (8 : 1 : 1). `held-out` has the families that the others never
have: convolutions, perceptrons, transformers and hybrids.

`families.networks("train", 10_000)` is a sequence that builds a network when it is asked for, and `families.mixed(10_000,
deepnets_share=0.5)` one in which networks of DeepNets-1M and of families take turns; `ghn_init.train(…, architectures=…)`
takes both without building more than it uses.

Costs are bounded at 32 px (statistics below); at 64 px a network costs about four times as much, those of attention over
patches of 4 px more.

Parameters that hypernetworks don't predict (class tokens, layer scales, tables of relative positions) keep the values that
the constructor gave them; `ghn_init.trace(net).kept` says which and why.
"""

HEADER = ["family", "members", "M parameters", "nodes", "predicted, %", "core-seconds"]


def measure(split: str, count: int, size: int) -> list[MemberStatistics]:
    """The first members of a split, with progress."""
    rows = []
    for index in range(count):
        rows.append(MemberStatistics.of(split, index, size))
        print(f"\r{split} {index + 1}/{count}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def cells(name: str, found: FamilySummary) -> list[str]:
    """A family's row."""
    return [
        name + (" (held out)" if FAMILIES[name].held_out else ""),
        str(found.members),
        " / ".join(f"{millions:.2f}" for millions in found.millions),
        " / ".join(f"{nodes:.0f}" for nodes in found.nodes),
        " / ".join(f"{100 * share:.1f}" for share in found.predicted),
        " / ".join(f"{seconds:.2f}" for seconds in found.seconds),
    ]


def page(by_family: dict[str, list[MemberStatistics]], costs: list[float], size: int, made: str) -> str:
    """The whole page."""
    found = {name: FamilySummary.of(by_family[name]) for name in FAMILIES if name in by_family}
    all_reasons = {reason for summary in found.values() for reason in summary.kept}
    reasons = [
        [
            reason,
            ", ".join(
                f"{name} {found[name].kept[reason]}/{found[name].members}" for name in found if reason in found[name].kept
            ),
        ]
        for reason in sorted(all_reasons)
    ]
    varies = [[name, ", ".join(f"{lib} {n}" for lib, n in found[name].libraries.items()), VARIES[name]] for name in found]
    return "\n".join([
        INTRO,
        "## What varies\n",
        table(["family", "library, members", "what is drawn"], varies),
        "\nEach family is one function of `families/{convolutional,inverted,attention,mixing}.py`, with its paper.\n",
        "## Statistics\n",
        made,
        f"\nFewest / median / most parameters and nodes; least and median share of elements that are predicted; median and "
        f"largest estimated cost of a training step with 64 images of {size} px on one core. Of `train`, the mean cost is "
        f"{fmean(costs):.3f} core-seconds, the 95th percentile {quantiles(costs, n=20)[-1]:.3f}.\n",
        table(HEADER, [cells(name, summary) for name, summary in found.items()]),
        "\n## What is kept\n\nReasons, and how many members of each family keep a parameter for them.\n",
        table(["reason", "families"], reasons) + "\n",
    ])  # fmt: skip


def main() -> None:
    """Measures, prints the page, and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    start = time.perf_counter()
    held_out = sum(family.held_out for family in FAMILIES.values())
    trained = measure("train", options.count, options.size)
    others = measure("held-out", -(-options.count // (len(FAMILIES) - held_out)) * held_out, options.size)
    by_family = defaultdict(list)
    for row in trained + others:
        by_family[row.family].append(row)
    libraries = ", ".join(f"{lib.__name__} {lib.__version__}" for lib in (torch, timm, torchvision, transformers))
    command = " ".join(["python benchmarks/families.py", *sys.argv[1:]])
    made = (
        f"Made by `{command}` in {time.perf_counter() - start:.0f} s ({torch.get_num_threads()} thread of a shared "
        f"{os.cpu_count()}-core {platform.machine()} machine, {libraries}): the first {len(trained)} members of `train`, "
        f"{len(others)} of `held-out`, seed 0."
    )
    text = page(by_family, [row.seconds for row in trained], options.size, made)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
