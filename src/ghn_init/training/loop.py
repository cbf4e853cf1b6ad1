"""The first meta-trainer: predict the parameters of a few random networks, lower their mean loss, repeat.

Source of the objective: GHN-2 (arXiv 2110.13100), equation 3.
"""

from __future__ import annotations

import copy
import csv
import io
import logging
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.errors import TrainingError
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.training.architectures import RandomNet, blueprint
from ghn_init.training.data import Images, load_images
from ghn_init.training.networks import Network
from ghn_init.training.schedule import warmup_cosine
from ghn_init.training.state import load_state, save_state
from ghn_init.training.workers import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """One run's recipe.

    Attributes:
        steps: Optimiser steps in all.
        meta_batch: Networks per step.
        batch_size: Images per step; every network of a step sees the same ones.
        pool: How many different training networks there are.
        lr: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up before the cosine.
        weight_decay: AdamW's.
        clip: Largest gradient norm.
        average: Decay of the weight average.
        bf16: Run the networks in bfloat16.
        save_minutes: Minutes between two writes of the state.
        seed: Of initialisation, networks, images.
    """

    steps: int = 10_000
    meta_batch: int = 4
    batch_size: int = 64
    pool: int = 2_000
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 1e-2
    clip: float = 5.0
    average: float = 0.999
    bf16: bool = True
    save_minutes: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """What a step gave: mean loss in nats and accuracy over its networks, and networks per second since the start."""

    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    networks_per_second: float


def train(
    data: str | Path | Images,
    out: str | Path,
    *,
    ghn: GHNConfig | None = None,
    config: TrainConfig | None = None,
    on_step: Callable[[Progress], None] | None = None,
    **changes: object,
) -> GHN:
    """Trains a GHN-2 on random convolutional architectures, or goes on with the run in `out`.

    Args:
        data: A hub data set, a folder with `train.parquet`, or `Images`.
        out: Folder of the run: `state.safetensors` to resume from, `log.csv`, and at the end the checkpoint
            (`config.json`, `model.safetensors`).
        ghn: The hypernetwork; by default a GHN-2 of width 32 with the data's number of classes.
        config: The recipe.
        on_step: Called after every step.
        **changes: Fields of the recipe, `steps=100`.

    Returns:
        The averaged hypernetwork.

    Raises:
        TrainingError: The data can't be read, or the folder holds another run.
    """
    recipe = replace(config or TrainConfig(), **changes)  # type: ignore[arg-type]
    workers = Workers.join()
    if recipe.meta_batch % workers.size:
        raise TrainingError(f"meta_batch is {recipe.meta_batch}; expected a multiple of the {workers.size} processes.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    images = data if isinstance(data, Images) else load_images(data, "train")
    ghn_config = ghn or GHNConfig(num_classes=images.num_classes)
    torch.manual_seed(recipe.seed)
    model = GHN(ghn_config)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    state = folder / "state.safetensors"
    first = load_state(state, model, average, optimizer) if state.exists() else 0
    if first:
        log.info("resuming %s at step %d", folder, first)

    @lru_cache(maxsize=recipe.pool)
    def network(index: int) -> Network:
        with torch.device("meta"):
            module = RandomNet(blueprint("train", index, recipe.seed), ghn_config.num_classes, images.pixels.shape[2])
        return Network.of(module, ghn_config.num_classes, images.pixels.shape[2])

    def save(step: int) -> None:
        save_state(state, step, {"recipe": asdict(recipe), "ghn": ghn_config.to_dict()}, model, average, optimizer)

    started = saved = time.monotonic()
    with CurveLog(folder / "log.csv", first, workers.leads) as curve:
        for step in range(first, recipe.steps):
            drawn = random.Random(f"{recipe.seed}/{step}").sample(range(recipe.pool), recipe.meta_batch)
            networks = [network(index) for index in workers.share(drawn)]
            pixels, labels = images.batch(step, recipe.batch_size, recipe.seed)
            loss, accuracy = meta_step(model, networks, pixels, labels, recipe.bf16)
            loss, accuracy = workers.average([p.grad for p in model.parameters() if p.grad is not None], loss, accuracy)
            lr = recipe.lr * warmup_cosine(step, recipe.steps, recipe.warmup)
            update(model, average, optimizer, lr, recipe, step)
            now = time.monotonic()
            rate = recipe.meta_batch * (step + 1 - first) / (now - started)
            progress = Progress(step + 1, recipe.steps, loss, accuracy, lr, rate)
            if not workers.leads:
                continue
            curve.write(progress, now - started)
            if on_step is not None:
                on_step(progress)
            if now - saved > 60 * recipe.save_minutes:
                save(step + 1)
                saved = now
    if workers.leads:
        save(recipe.steps)
        average.save_pretrained(folder)
    workers.wait()  # the files are there when train() returns, in every process
    return average


def meta_step(model: GHN, networks: list[Network], pixels: Tensor, labels: Tensor, bf16: bool) -> tuple[float, float]:
    """Leaves the gradient of the networks' mean loss in `model`; returns mean loss in nats and mean accuracy.

    A network whose loss is not finite is left out.
    """
    model.zero_grad(set_to_none=False)
    cores = model([network.graph for network in networks], [network.slots for network in networks])
    losses, correct = [], 0.0
    for network, own in zip(networks, cores, strict=True):
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = network(own, pixels).float()
        loss = F.cross_entropy(logits, labels)
        if torch.isfinite(loss):
            losses.append(loss)
            correct += (logits.argmax(1) == labels).float().mean().item()
    if not losses:
        raise TrainingError("no network of this step has a finite loss; lower the learning rate.")
    mean = torch.stack(losses).mean() + 0 * sum(p.sum() for p in model.parameters())  # every parameter has a gradient
    mean.backward()
    return mean.item(), correct / len(losses)


def update(model: GHN, average: GHN, optimizer: torch.optim.Optimizer, lr: float, recipe: TrainConfig, step: int) -> None:
    """One clipped AdamW step, unless the gradient is not finite; then the weight average."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    if torch.isfinite(norm):
        optimizer.step()
    decay = min(recipe.average, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


class CurveLog:
    """The learning curve as CSV, a row per step; rows past the step that a run resumes from are dropped."""

    def __init__(self, path: Path, first: int, write: bool) -> None:
        rows = path.read_text().splitlines()[1 : first + 1] if path.exists() else []
        self._file = path.open("w", newline="") if write else io.StringIO()
        self._writer = csv.writer(self._file)
        self._writer.writerow(["step", "loss", "accuracy", "lr", "seconds"])
        self._before = float(rows[-1].rsplit(",", 1)[1]) if rows else 0.0
        self._file.writelines(row + "\n" for row in rows)

    def __enter__(self) -> CurveLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, progress: Progress, seconds: float) -> None:
        """Adds a step."""
        row = [
            progress.step,
            f"{progress.loss:.4f}",
            f"{progress.accuracy:.4f}",
            f"{progress.lr:.3g}",
            f"{self._before + seconds:.1f}",
        ]
        self._writer.writerow(row)
        if progress.step % 50 == 0:
            self._file.flush()
