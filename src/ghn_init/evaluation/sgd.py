"""The yardstick: the same networks trained by SGD from PyTorch's own initialisation.

Recipe as published for the comparison: momentum 0.9, learning rate 0.025 with a cosine, weight decay 3e-4, gradient norm
clipped at 5 (arXiv 2110.13100, section 5 and appendix). Like networks with predicted parameters, they are tested with the
statistics of batches of 64.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ghn_init.evaluation.accuracy import image_inputs, top1
from ghn_init.prediction.functional import functional
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks.image_data import Images


def sgd_accuracy(
    module: nn.Module,
    train: Images,
    test: Images,
    steps: int,
    *,
    batch_size: int = 64,
    lr: float = 0.025,
    bf16: bool = False,
    seed: int = 0,
) -> float:
    """Top-1 accuracy in percent after `steps` of SGD; the module is trained in place.

    Args:
        module: With parameters that are initialised.
        train: Images to learn from.
        test: Images to test on.
        steps: How many.
        batch_size: Images per step.
        lr: Peak learning rate.
        bf16: Run the network in bfloat16 where it is faster.
        seed: Of order and augmentation.
    """
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        pixels, labels = train.batch(step, batch_size, seed)
        with mixed_precision(pixels.device, bf16):
            logits = module(pixels).float()
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    form, _ = functional(module, image_inputs(test))
    with torch.inference_mode():
        return top1(form, {name: p.detach() for name, p in module.named_parameters()}, test, bf16=bf16)
