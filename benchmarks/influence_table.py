"""Whether reports are true, on one architecture of every timm module: each parameter's influence on the output.

    python benchmarks/influence_table.py -o docs/influence.md [--only resnet18 …]

A cheap architecture of each module, as `tests/test_influence.py` has them. Nothing in it is zero or saturated; gradients of
all outputs are taken in train and in eval mode. A fault is a predicted parameter without influence, or one that the report
calls unused and that has some. Rows are kept: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import timm
import torch

import ghn_init

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_every_family import architectures
from test_influence import NO_INFLUENCE, faults, image

INTRO = """# Is what reports say true?

A parameter that is predicted has to matter, and one that is called unused must not: of one cheap architecture of each of timm's
modules, how many are predicted, how many are kept because they are said to be unused, out of reach or a dead end, and how many
of all these are faults, told by gradients of a model in which nothing is zero or saturated. Made by
`python benchmarks/influence_table.py -o docs/influence.md` (timm {timm}, torch {torch}, {machine} CPU).

{summary}

| model | parameters | predicted | kept | of these said to have no influence | faults |
| --- | --- | --- | --- | --- | --- |
"""


def row(name: str) -> list[str | int]:
    """A line of the table."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    inputs = image(model)
    kept = ghn_init.predict(model, example_inputs=inputs, head="cifar10").kept
    silent = sum(reason in NO_INFLUENCE for reason in kept.values())
    parameters = sum(1 for _ in model.parameters())
    return [name, parameters, parameters - len(kept), len(kept), silent, len(list(faults(model, inputs)))]


def main() -> None:
    """Measures what is missing; writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    store = options.output.with_suffix(".json")
    done = json.loads(store.read_text()) if store.exists() else {}
    names = options.only or architectures()
    for name in names:
        if name not in done:
            done[name] = row(name)
            store.write_text(json.dumps(done) + "\n")
            print(*done[name], flush=True)
    rows = [done[name] for name in names]
    parameters, predicted, _, silent, wrong = (sum(each[k] for each in rows) for k in range(1, 6))
    summary = (
        f"{len(rows)} models, {parameters:,} parameters: {predicted:,} predicted, {silent} said to have no influence, "
        f"{wrong} faults."
    )
    versions = {"timm": timm.__version__, "torch": torch.__version__.split("+")[0], "machine": platform.machine()}
    lines = ["| " + " | ".join(map(str, each)) + " |" for each in rows]
    options.output.write_text(INTRO.format(summary=summary, **versions) + "\n".join(lines) + "\n")
    store.unlink()
    print(summary)


if __name__ == "__main__":
    main()
