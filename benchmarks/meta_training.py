"""A stage of the bundled hypernetwork's meta-training: it goes on from given weights, on several data sets and many families.

    torchrun --nproc-per-node 2 benchmarks/meta_training.py OUT --data cifar10=DIR tiny-imagenet=DIR … --share cifar10=5
        [--initial FOLDER] [--teacher resnet56.safetensors] [--families 0.5] [--steps 5000] [--lr 5e-4] …

Half of the networks are DeepNets-1M's, half members of `ghn_init.families`; with `--without-norms` some are DeepNets-1M's whose
norms were taken out. With a teacher, half of CIFAR-10's targets are its softened answers: a CIFAR ResNet-56 (He et al., CVPR
2016, arXiv 1512.03385, section 4.2; shortcuts without parameters).
Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from ghn_init import Images, ImageTask, deepnets, families
from ghn_init.families.sequences import Networks
from ghn_init.hypernetwork.widening import widen_
from ghn_init.prediction.precision import bfloat16_pays
from ghn_init.tasks import DistilledImageTask, answers_of, load_images
from ghn_init.training.curve import Progress
from ghn_init.training.workers import Workers

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
"""What the teacher's images were normalised with."""


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut that skips pixels and pads channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) → (B, O, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(x + y)


class ResNet56(nn.Module):
    """Three stages of nine blocks, of 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(9)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), *(Block(32, 32, 1) for _ in range(8)))
        self.layer3 = nn.Sequential(Block(32, 64, 2), *(Block(64, 64, 1) for _ in range(8)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) → (B, 10)."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def distilled(images: Images, path: Path, share: float, cache: Path, shift: int | None) -> DistilledImageTask:
    """CIFAR-10 with the teacher's answers, which are worked out once, by all processes together."""
    workers = Workers()
    if not cache.exists():
        teacher = ResNet56()
        teacher.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()}, strict=False)
        teacher.eval().to(memory_format=torch.channels_last)
        scale, offset = (images.std / STD).view(1, 3, 1, 1), ((images.mean - MEAN) / STD).view(1, 3, 1, 1)

        def answer(pixels: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_pays()):
                return teacher((pixels * scale + offset).contiguous(memory_format=torch.channels_last))

        rows = workers.share(range(len(images.labels)))
        answers = torch.zeros(len(images.labels), 2, images.num_classes, device=workers.device)
        own = replace(images, pixels=images.pixels[rows], labels=images.labels[rows])
        answers[rows] = answers_of(answer, own).to(answers)
        workers.sum([answers])
        if workers.leads:
            save_file({"answers": answers.half().cpu()}, cache)
        workers.wait()
    return DistilledImageTask(images, "cifar10", answers=load_file(cache)["answers"], share=share, shift=shift)


def networks(count: int, members: float, without_norms: float, num_classes: int, size: int, seed: int) -> Networks:
    """Families' members and DeepNets-1M's networks, and among them such of DeepNets-1M as have lost their norms.

    DeepNets-1M leaves norms out of 2 % of its networks, shallow ones alone.
    """
    others = families.mixed(count, 1 - members, "train", num_classes, size, seed)

    def build(k: int) -> nn.Module:
        before, after = math.floor(k * without_norms), math.floor((k + 1) * without_norms)
        if after == before:
            return others[k - before]
        drawn = deepnets.arguments("train", count + before, seed)  # none of those that `others` holds
        with torch.device("meta"):
            return deepnets.DeepNet(replace(drawn, norm=False), num_classes, size)

    described = f"; {without_norms:.6g} of them DeepNets-1M's without norms" if without_norms else ""
    return Networks(build, count, others.described + described)


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", required=True, help="NAME=FOLDER")
    parser.add_argument("--share", nargs="*", default=[], help="NAME=NUMBER; 1 for others")
    parser.add_argument("--initial", default="ghn2-small")
    parser.add_argument("--hid", type=int, help="a multiple of the initial one's, which is widened")
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--teacher-share", type=float, default=0.5)
    parser.add_argument("--answers", type=Path, help="file that keeps the teacher's answers; by default beside OUT")
    parser.add_argument("--families", type=float, default=0.5, help="their share of the networks")
    parser.add_argument("--without-norms", type=float, default=0.0, help="share of networks whose norms were taken out")
    parser.add_argument("--networks-seed", type=int, default=0, help="another gives other networks")
    parser.add_argument(
        "--pool", type=int, default=800, help="networks of the task with the largest share; the others have as many per share"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--meta-batch", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--least", type=int, default=16)
    parser.add_argument("--budget", type=float, default=0.15)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--cooldown", type=float, default=0.0)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--shift", type=int, help="pixels by which images are shifted at most; a sixteenth of their side")
    parser.add_argument("--equal-gradients", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--minutes", type=float, help="of processor time, after which it stops as if it were killed")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    tasks, architectures = {}, {}
    given = {name: float(share) for name, share in (entry.split("=", 1) for entry in options.share)}
    shares = {name: given.get(name, 1.0) for name in (entry.partition("=")[0] for entry in options.data)}
    for name, folder in (entry.split("=", 1) for entry in options.data):
        images = load_images(folder, "train", image_size=options.size)
        tasks[name] = ImageTask(images, name, shift=options.shift)
        if name == "cifar10" and options.teacher is not None:
            cache = options.answers or options.out.with_suffix(".answers")
            tasks[name] = distilled(images, options.teacher, options.teacher_share, cache, options.shift)
        own = max(round(options.pool * shares[name] / max(shares.values())), options.meta_batch)  # equally often seen
        diet = (options.families, options.without_norms, images.num_classes, options.size, options.networks_seed)
        architectures[name] = networks(own, *diet)
    start = ghn_init.load(options.initial)
    if options.hid is not None:
        wide = ghn_init.GHN(replace(start.config, hid=options.hid))
        widen_(wide, start)
        start = wide

    def on_step(progress: Progress) -> None:
        if options.minutes and time.process_time() > 60 * options.minutes:
            raise SystemExit(f"stopped after step {progress.step}")

    ghn_init.train(
        tasks,
        options.out,
        shares=shares,
        architectures=architectures,
        ghn=start,
        on_step=on_step,
        steps=options.steps,
        meta_batch=options.meta_batch,
        batch_size=options.batch_size,
        least_examples=options.least,
        budget=options.budget,
        pool=options.pool,
        lr=options.lr,
        warmup=options.warmup,
        cooldown=options.cooldown,
        average=options.average,
        equal_gradients=options.equal_gradients,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
