"""A task that is not images: the weights of small transformers that predict the next byte of a text.

    python examples/next_byte.py [--text FILE] [--out runs/next-byte] [--steps 300]

Any text will do; by default the sources of Python's own library. Ctrl+C at any time: the same command goes on. At the end
transformers that the hypernetwork has never seen are scored without any training of theirs, in bits per byte of held-out text,
beside PyTorch's own init, the shares of the bytes alone, and the same transformers trained for as many batches as the
hypernetwork saw of each of its own.

What a few minutes give (300 steps, Python's library): 3.6 bits per byte, where the shares of the bytes alone give 4.5 and 26
steps of training 3.7 to 4.1. So predicted transformers look at the byte before, and hardly further; they differ little from
each other. It is the start of a hypernetwork for language models, not one.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import sys
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from ghn_init.tasks import Batch

CONTEXT = 64


# --- the task: all that training has to know of it ---------------------------------------------------------------------


@dataclass(frozen=True)
class NextByte:
    """(B, L) bytes → (B, L, 256) logits of the bytes that follow."""

    text: Tensor  # (n,) uint8
    name: str = "next-byte"
    outputs: int = 256

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.text.numpy().data).hexdigest()[:16]

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.zeros(2, CONTEXT, dtype=torch.long),)

    def batch(self, number: int, size: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        first = torch.randint(len(self.text) - CONTEXT, (size,), generator=generator)
        windows = self.text[first[:, None] + torch.arange(CONTEXT + 1)].long()
        return (windows[:, :-1],), windows[:, 1:]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def accuracy(self, outputs: Tensor, targets: Tensor) -> float:
        return (outputs.argmax(-1) == targets).float().mean().item()


# --- the networks: ordinary modules --------------------------------------------------------------------------------------


class Block(nn.Module):
    """Causal attention and an MLP, norms first."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A small language model over bytes."""

    def __init__(self, depth: int, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, heads, expansion) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.bytes(x) + self.positions)))


SIZES = list(itertools.product((1, 2, 3), (32, 48, 64, 96), (2, 4), (2, 4)))
UNSEEN = [(2, 64, 4, 2), (1, 96, 2, 4), (3, 48, 4, 4)]


def networks() -> list[nn.Module]:
    """All sizes but those that are kept for the test."""
    return [Transformer(*size) for size in SIZES if size not in UNSEEN]


# --- what it is good for -------------------------------------------------------------------------------------------------


def bits(module: nn.Module, task: NextByte, batches: int = 8) -> float:
    """Bits per byte of a module on a task's text."""
    module.eval()
    with torch.inference_mode():
        losses = [task.loss(module(*inputs), targets) for inputs, targets in (task.batch(k, 32, 7) for k in range(batches))]
    return torch.stack(losses).mean().item() / math.log(2)


def frequencies(train: NextByte, test: NextByte) -> float:
    """Bits per byte of the bytes' shares in the training text."""
    counts = torch.bincount(train.text.long(), minlength=256).double() + 1
    return -(counts / counts.sum()).log2()[test.text.long()].mean().item()


def trained(module: nn.Module, task: NextByte, steps: int) -> nn.Module:
    """The module after some steps of AdamW."""
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    for step in range(steps):
        inputs, targets = task.batch(step, 32, 3)
        loss = task.loss(module(*inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def read(path: Path | None) -> Tensor:
    """A text as bytes, at most four megabytes."""
    if path is not None:
        content = path.read_bytes()
    else:
        library = Path(sysconfig.get_paths()["stdlib"])
        content = b"".join(file.read_bytes() for file in sorted(library.glob("*.py")))
    return torch.frombuffer(bytearray(content[: 4 << 20]), dtype=torch.uint8)


def main() -> None:
    """Trains, then scores unseen transformers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/next-byte"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--networks", type=int, default=len(UNSEEN), help="test networks")
    options = parser.parse_args()
    text = read(options.text)
    cut = len(text) * 9 // 10
    task, test = NextByte(text[:cut]), NextByte(text[cut:])
    torch.manual_seed(0)
    pool = networks()

    def show(progress: ghn_init.Progress) -> None:
        if progress.step % 25 == 0:
            print(f"step {progress.step:4}  {progress.loss / math.log(2):.2f} bits per byte", flush=True)

    config = ghn_init.GHNConfig.ghn2({task.name: task.outputs}, max_shape=(64, 64, 3, 3))
    recipe = {"steps": options.steps, "meta_batch": 4, "batch_size": 16, "warmup": 50, "lr": 2e-3, "save_minutes": 0.5}
    try:
        ghn = ghn_init.train(task, options.out, architectures=pool, ghn=config, on_step=show, average=0.98, **recipe)
    except KeyboardInterrupt:
        sys.exit(f"stopped; the same command goes on with the run in {options.out}")
    print(f"shares of the bytes alone: {frequencies(task, test):.2f} bits per byte")
    visits = max(options.steps * 4 // len(pool), 1)
    for size in UNSEEN[: options.networks]:
        torch.manual_seed(1)
        module = Transformer(*size)
        default = bits(module, test)
        predicted = bits(ghn_init.initialize(module, ghn, torch.zeros(2, CONTEXT, dtype=torch.long), head=task.name), test)
        torch.manual_seed(1)
        own = bits(trained(Transformer(*size), task, visits), test)
        figures = f"default {default:.2f}, predicted {predicted:.2f}, trained for {visits} steps {own:.2f}"
        print(f"unseen {size}: {figures} bits per byte")


if __name__ == "__main__":
    main()
