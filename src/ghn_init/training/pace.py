"""How fast this machine is: seconds of a training step here for each core-second that `ghn_init.prediction.cost` estimates."""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from ghn_init import deepnets
from ghn_init.prediction import cost
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tracing.trace import read_in_eval_mode

NETWORK = 46
"""Of DeepNets-1M `train`: what it costs, and what for, is in the middle of the split."""

EXAMPLES, CLASSES, SIDE = 16, 10, 32


def pace(bf16: bool = True) -> float:
    """Measures a network's forward and backward pass, the faster of two after a first one; in some two seconds.

    Args:
        bf16: In bfloat16 where it is faster, as the training would be.

    Returns:
        The measured time as a multiple of the estimated one: below 1 on machines faster than the estimate's.
    """
    with torch.random.fork_rng(devices=[]):
        network = deepnets.network("train", NETWORK, CLASSES, SIDE)
    network.to(memory_format=torch.channels_last)
    estimated = cost.seconds(read_in_eval_mode(network, torch.empty(2, 3, SIDE, SIDE)).record) * EXAMPLES / cost.EXAMPLES
    x, y = torch.zeros(EXAMPLES, 3, SIDE, SIDE), torch.zeros(EXAMPLES, dtype=torch.long)
    x = x.contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        with mixed_precision(x.device, bf16):
            logits = network(x)
        F.cross_entropy(logits.float(), y).backward()
        times.append(time.perf_counter() - started)
    return min(times[1:]) / estimated
