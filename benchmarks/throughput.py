"""Networks per second of meta-training, where the time goes, and what each measure against it gives.

    python benchmarks/throughput.py [-o docs/throughput.md] [--networks 24] [--threads 1]
    python benchmarks/throughput.py --fit          # the coefficients of ghn_init.prediction.cost for this machine

The first networks of `ghn_init.families.mixed` that fit the budget, half of them DeepNets-1M's, in meta-batches of 4, random
pixels. Compiled kernels are kept, as `ghn_init.train` keeps them. The variants take
turns within one process, so that ratios hold while a machine's speed drifts; times are medians over the meta-batches.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ghn_init import GHN, GHNConfig, deepnets, families
from ghn_init.prediction import cost
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks import Images, ImageTask
from ghn_init.tracing.trace import read
from ghn_init.training import process
from ghn_init.training.networks import Network

META_BATCH = 4
CPU = torch.device("cpu")
TASK = ImageTask(Images.from_tensors(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10)))
Timer = Callable[[str], AbstractContextManager[None]]


def networks(count: int, budget: float) -> list[Network]:
    """The first networks of the training splits whose estimated cost is within the budget."""
    modules = families.mixed(100 * count)
    found: list[Network] = []
    index = 0
    while len(found) < count:
        network = Network.of(modules[index], TASK)
        if network.seconds <= budget:
            found.append(network)
        index += 1
    return found


@contextmanager
def bf16_everywhere() -> Iterator[None]:
    """Plain autocast."""
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        yield


VARIANTS: dict[str, tuple[bool, Callable[[], AbstractContextManager[None]]]] = {
    "float32, channels first": (False, nullcontext),
    "float32, channels last": (True, nullcontext),
    "bfloat16 everywhere, channels last": (True, bf16_everywhere),
    "bfloat16 where faster, channels last": (True, lambda: mixed_precision(CPU, True)),
}


def step(
    ghn: GHN,
    batch: list[Network],
    pixels: Tensor,
    labels: Tensor,
    precision: Callable[[], AbstractContextManager[None]],
    at: Timer,
) -> None:
    """A meta-step in its parts."""
    with at("graph network"):
        embeddings = ghn.embed_nodes([network.graph for network in batch])
        leaves = [h.detach().requires_grad_() for h in embeddings]
    with at("decoder"):
        decoded = ghn.decode([network.slots for network in batch], leaves, [TASK.name] * len(batch))
        cores = [{name: core.detach().requires_grad_() for name, core in own.items()} for own in decoded]
    for network, own in zip(batch, cores, strict=True):
        with at("networks, forward"), precision():
            logits = network(network.fill(own), pixels).float()
        with at("networks, backward"):
            F.cross_entropy(logits, labels).backward()
    with at("decoder"):
        pairs = [(a[n], b[n].grad) for a, b in zip(decoded, cores, strict=True) for n in a if b[n].grad is not None]
        torch.autograd.backward([a for a, _ in pairs], [g for _, g in pairs])
    with at("graph network"):
        torch.autograd.backward(embeddings, [h.grad for h in leaves])


def measure(options: argparse.Namespace) -> str:
    """The table."""
    torch.manual_seed(0)
    ghn = GHN(GHNConfig.ghn2({TASK.name: TASK.outputs}))
    started = time.perf_counter()
    pool = networks(options.networks, options.budget)
    tracing = (time.perf_counter() - started) / len(pool)
    batches = [pool[k : k + META_BATCH] for k in range(0, len(pool) - META_BATCH + 1, META_BATCH)]
    labels = torch.randint(0, 10, (64,))
    parts: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in VARIANTS}
    for repeat in range(2):  # the first round warms up
        for batch in batches:
            for name, (last, precision) in VARIANTS.items():
                pixels = torch.randn(64, 3, 32, 32)
                pixels = pixels.contiguous(memory_format=torch.channels_last) if last else pixels
                times: dict[str, float] = defaultdict(float)

                @contextmanager
                def at(part: str, times: dict[str, float] = times) -> Iterator[None]:
                    begun = time.perf_counter()
                    yield
                    times[part] += time.perf_counter() - begun

                step(ghn, batch, pixels, labels, precision, at)
                if repeat:
                    for part, seconds in times.items():
                        parts[name][part].append(seconds)
    columns = ("graph network", "decoder", "networks, forward", "networks, backward")
    lines = [f"| variant | {' | '.join(f'{c}, ms' for c in columns)} | step, ms | networks/s | speed |", "| --- " * 8 + "|"]
    base = 0.0
    for name, own in parts.items():
        whole = statistics.median(map(sum, zip(*own.values(), strict=True)))
        base = base or whole
        figures = " | ".join(f"{1e3 * statistics.median(own[column]):.0f}" for column in columns)
        lines.append(f"| {name} | {figures} | {1e3 * whole:.0f} | {META_BATCH / whole:.1f} | {base / whole:.2f} |")
    nodes = statistics.fmean(network.graph.num_nodes for network in pool)
    each = f"drawing and tracing take {1e3 * tracing:.0f} ms for each, once, with the costlier ones that are left out"
    note = f"{len(pool)} networks of {nodes:.0f} nodes on average; {each}."
    return "\n".join(lines) + f"\n\n{note}\n"


def fit(count: int) -> str:
    """Coefficients of `ghn_init.prediction.cost` by non-negative least squares on relative errors."""
    from scipy.optimize import nnls

    features, seconds = [], []
    torch.manual_seed(0)
    ghn = GHN(GHNConfig.ghn2({TASK.name: TASK.outputs}))
    pixels, labels = torch.randn(64, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.randint(0, 10, (64,))
    for index in range(count):
        with torch.device("meta"):
            module = deepnets.network("train", index)
        found = read(module, TASK.example_inputs())
        row = cost.features(found.record)
        network = Network.of(module, TASK)
        (cores,) = ghn([network.graph], [network.slots])
        leaves = {name: core.detach().requires_grad_() for name, core in cores.items()}
        best = float("inf")
        for _ in range(2):
            started = time.perf_counter()
            with mixed_precision(CPU, True):
                logits = network(network.fill(leaves), pixels).float()
            F.cross_entropy(logits, labels).backward()
            best = min(best, time.perf_counter() - started)
        features.append(list(row.values()))
        seconds.append(best)
    table, times = np.array(features), np.array(seconds)
    weights, _ = nnls(table / times[:, None], np.ones(len(times)))
    ratios = np.quantile(table @ weights / times, [0.1, 0.5, 0.9])
    names = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(row, weights, strict=True))
    return f"seconds per unit: {names}\nestimated / measured, 10 %, 50 %, 90 %: {ratios.round(2).tolist()}\n"


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--budget", type=float, default=0.3, help="largest estimated core-seconds of a network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    process.tune()
    if options.fit:
        print(fit(options.networks))
        return
    command = f"`python benchmarks/throughput.py --networks {options.networks} --budget {options.budget}`"
    machine = f"{options.threads} thread(s) on an {platform.machine()} CPU, torch {torch.__version__}"
    text = f"{command}, {machine}, meta-batches of {META_BATCH}, 64 images of 32 px.\n\n{measure(options)}"
    print(text)
    if options.output:
        before = options.output.read_text() if options.output.exists() else ""
        _, heading, rest = before.partition("\n## ")  # written by hand
        options.output.write_text("# Throughput of meta-training\n\n" + text + heading + rest)


if __name__ == "__main__":
    main()
