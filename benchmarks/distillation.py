"""A trial of meta-training: the bundled hypernetwork goes on, with or without a teacher's soft targets.

    python benchmarks/distillation.py DATA OUT --steps 600
    python benchmarks/distillation.py DATA OUT --steps 600 --teacher resnet56.safetensors [--share 0.5] [--temperature 4]

DATA holds CIFAR-10's train.parquet, or is its hub name. The teacher is the CIFAR ResNet-56 (He et al., CVPR 2016, arXiv
1512.03385, section 4.2; shortcuts without parameters), whose softened answers to the very images of a step make `--share` of
the targets. Runs of one seed see the same networks and images, so that their curves (`OUT/log.csv`, accuracies by the true
labels) compare step by step. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from ghn_init import Images, ImageTask
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks import load_images

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


class Distill:
    """Cross-entropy with targets that are in part the teacher's softened answers."""

    batches = 1

    def __init__(self, images: Images, path: Path, share: float, temperature: float) -> None:
        self.teacher, self.share, self.temperature = ResNet56(), share, temperature
        self.teacher.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()}, strict=False)
        self.teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.scale = (images.std / STD).view(1, 3, 1, 1)
        self.shift = ((images.mean - MEAN) / STD).view(1, 3, 1, 1)

    def __repr__(self) -> str:
        return f"Distill({self.share}, {self.temperature})"

    def __call__(self, network: object, run: object, parameters: object, batches: list, seed: int) -> tuple[Tensor, float]:
        """Loss and accuracy on the one batch."""
        (((pixels,), labels),) = batches
        with torch.no_grad(), mixed_precision(pixels.device, True):
            answers = self.teacher((pixels * self.scale + self.shift).contiguous(memory_format=torch.channels_last)).float()
        soft = (answers / self.temperature).softmax(1)
        targets = (1 - self.share) * F.one_hot(labels, 10) + self.share * soft
        logits = run(parameters, (pixels,))
        return F.cross_entropy(logits, targets), (logits.argmax(1) == labels).float().mean().item()


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--pool", type=int, default=1600)
    parser.add_argument("--budget", type=float, default=0.2)
    options = parser.parse_args()
    images = load_images(options.data, "train")
    teacher = options.teacher
    ghn_init.train(
        ImageTask(images, "cifar10"),
        options.out,
        ghn=ghn_init.load(),
        objective=None if teacher is None else Distill(images, teacher, options.share, options.temperature),
        steps=options.steps,
        meta_batch=8,
        pool=options.pool,
        budget=options.budget,
        lr=8e-4,
        warmup=50,
        cooldown=0.9,
        average=0.995,
        seed=11,
    )


if __name__ == "__main__":
    main()
