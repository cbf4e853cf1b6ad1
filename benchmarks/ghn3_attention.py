"""GHN-3's graph network on graphs of thousands of nodes, against the former way of reading the attention bias.

    python benchmarks/ghn3_attention.py [--sizes t s l xl] [--nodes 3000] [--repeats 2] [--threads 1] [-o FILE.md]

Both ways look up a bias for every head and every pair of nodes in every layer: the former by indexing with a matrix of pairs,
in blocks of 2²² biases, the present one by `index_select`, in blocks of 2²⁰. They run in turn in one process on the same random
graph (two predecessors a node, one of them the node before in nine of ten cases). Times are CPU seconds, the smallest of the
repeats; memory is what the resident set grows by at its peak. Both follow a first run that is not counted.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork import transformer
from ghn_init.hypernetwork.transformer import Attention, GraphTransformer
from ghn_init.published.registry import PUBLISHED
from memory import MIB, peak, reset_peak

HEADER = ["GHN-3", "nodes", "former, s", "now, s", "ratio", "former peak, MiB", "now peak, MiB", "all biases at once, MiB"]
FORMER_BLOCK = 2**22


def former(self: Attention, x: Tensor, pairs: Tensor, table: Tensor) -> Tensor:
    """`Attention.forward` as it was."""
    q, k, v = self.to_qkv(x).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
    step = max(FORMER_BLOCK // (self.heads * len(x)), 1)
    blocks = [
        F.scaled_dot_product_attention(q[:, start : start + step], k, v, table[:, pairs[start : start + step].int()])
        for start in range(0, len(x), step)
    ]
    return self.to_out(torch.cat(blocks, dim=1).transpose(0, 1).flatten(1))


def random_graph(num_nodes: int) -> Graph:
    """A long graph with skip connections, its distances found."""
    rng = np.random.default_rng(0)
    edges = {(max(j - 1, 0), j) if rng.random() < 0.9 else (int(rng.integers(0, j)), j) for j in range(1, num_nodes)}
    edges |= {(int(rng.integers(max(0, j - 20), j)), j) for j in range(1, num_nodes)}
    graph = Graph((Node("input"),) * num_nodes, np.array(sorted(edges), dtype=np.int64).T)
    _ = graph.distances
    return graph


def measure(run: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """CPU seconds and MiB."""
    seconds, extra = [], 0.0
    for _ in range(repeats):
        before = reset_peak()
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
        extra = max(extra, (peak() - before) / MIB)
    return min(seconds), extra


@torch.inference_mode()
def row(size: str, num_nodes: int, repeats: int) -> list[str]:
    """One line of the table."""
    config = PUBLISHED[f"ghn3-{size}"].config
    torch.manual_seed(0)
    network = GraphTransformer(config.hid, config.layers, config.heads)
    graph = random_graph(num_nodes)
    x = torch.randn(1, num_nodes, config.hid)
    now = Attention.forward
    results, figures = [], []
    for forward in (former, now):
        transformer.Attention.forward = forward
        network(x, [graph])
        figures.append(measure(lambda: results.append(network(x, [graph])), repeats))  # type: ignore[func-returns-value]
    torch.testing.assert_close(results[0], results[-1], rtol=1e-3, atol=1e-4)
    (before, memory_before), (after, memory_after) = figures
    whole = 4 * config.heads * num_nodes**2 / MIB
    return [
        size.upper(), f"{num_nodes:,}", f"{before:.1f}", f"{after:.1f}", f"{before / after:.1f}",
        f"{memory_before:.0f}", f"{memory_after:.0f}", f"{whole:.0f}",
    ]  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["t", "s", "l", "xl"])
    parser.add_argument("--nodes", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = [HEADER, ["---"] * len(HEADER)]
    for size in args.sizes:
        lines.append(row(size, args.nodes, args.repeats))
        print("  ".join(lines[-1]), flush=True)
    machine = f"{args.threads} thread{'s' * (args.threads > 1)} on an {platform.machine()} CPU, torch {torch.__version__}"
    made = f"Made by `python benchmarks/ghn3_attention.py` ({machine}, the smallest of {args.repeats} runs)."
    text = "\n".join([made, "", *("| " + " | ".join(cells) + " |" for cells in lines)])
    print(text)
    if args.output:
        args.output.write_text(f"# GHN-3 on large graphs\n\n{text}\n")


if __name__ == "__main__":
    main()
