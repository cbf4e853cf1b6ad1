"""GHN-3's graph network on graphs of thousands of nodes, against the former way of reading the attention bias.

    python benchmarks/ghn3_attention.py [--sizes t s l xl] [--nodes 3000] [--repeats 2] [--threads 1] [-o FILE.md]

Both ways look up a bias for every head and every pair of nodes in every layer: the former by indexing with a matrix of pairs,
in blocks of 2²² biases, the present one by `index_select`, in blocks of 2²⁰. They run in turn in one process on the same random
graph (two predecessors a node, one of them the node before in nine of ten cases). Times are CPU seconds, the smallest of the
repeats. Memory is the peak of live tensors in runs of two layers; that the former way held pairs as 32-bit numbers is left out.
"""

from __future__ import annotations

import argparse
import functools
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.checkpoints.published.registry import CHECKPOINTS
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.transformer import Attention, GraphTransformer
from memory import MIB, LiveTensors

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


def network_of(size: str, forward: Callable[..., Tensor], layers: int | None = None) -> GraphTransformer:
    """A random graph network of a GHN-3 whose attention runs in one of the two ways."""
    config = CHECKPOINTS[f"ghn3-{size}"].config
    torch.manual_seed(0)
    network = GraphTransformer(config.hid, layers or config.layers, config.heads)
    for layer in network:
        layer.attn.forward = functools.partial(forward, layer.attn)
    return network


def timed(size: str, forward: Callable[..., Tensor], graph: Graph) -> tuple[Tensor, float]:
    """Embeddings and CPU seconds of one pass."""
    network, x = network_of(size, forward), torch.randn(1, graph.num_nodes, CHECKPOINTS[f"ghn3-{size}"].config.hid)
    started = time.process_time()
    return network(x, [graph]), time.process_time() - started


def memory(size: str, forward: Callable[..., Tensor], graph: Graph) -> float:
    """MiB of live tensors at the peak."""
    network, x = network_of(size, forward, layers=2), torch.randn(1, graph.num_nodes, CHECKPOINTS[f"ghn3-{size}"].config.hid)
    with LiveTensors() as live:
        network(x, [graph])
    return live.peak / MIB


@torch.inference_mode()
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
    graph, ways = random_graph(args.nodes), (former, Attention.forward)
    for way in ways:
        timed("t", way, graph)  # what is loaded once is nobody's
    seconds = {}
    for size in args.sizes:
        results = [[timed(size, way, graph) for way in ways] for _ in range(args.repeats)]
        torch.testing.assert_close(results[0][0][0], results[0][1][0], rtol=1e-3, atol=1e-4)
        seconds[size] = [min(pair[way][1] for pair in results) for way in range(2)]
        print(size, seconds[size], flush=True)
    lines = [HEADER, ["---"] * len(HEADER)]
    for size, (before, after) in seconds.items():
        extra = [f"{memory(size, way, graph):.0f}" for way in ways]
        whole = 4 * CHECKPOINTS[f"ghn3-{size}"].config.heads * args.nodes**2 / MIB
        ratio = f"{before / after:.1f}"
        lines.append([size.upper(), f"{args.nodes:,}", f"{before:.1f}", f"{after:.1f}", ratio, *extra, f"{whole:.0f}"])
    machine = f"{args.threads} thread{'s' * (args.threads > 1)} of an {platform.machine()} CPU, torch {torch.__version__}"
    made = f"Made by `python benchmarks/ghn3_attention.py` ({machine}, the smallest of {args.repeats} runs)."
    text = "\n".join([made, "", *("| " + " | ".join(cells) + " |" for cells in lines)])
    print(text)
    if args.output:
        args.output.write_text(f"# GHN-3 on large graphs\n\n{text}\n")


if __name__ == "__main__":
    main()
