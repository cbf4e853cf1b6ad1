"""Meta-training: images × architectures → a hypernetwork."""

# Axes: B images, H/W space

from __future__ import annotations

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ghn_init.errors import TrainingError
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks.images import Images, Transform, load_images
from ghn_init.training.curve import CurveLog, Progress, draw
from ghn_init.training.networks import Network
from ghn_init.training.objectives import Objective, ZeroShot
from ghn_init.training.optimizer import Optimizers, update
from ghn_init.training.pool import Architectures, Pool, Task
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
        batch_size: Images per network; each network of a step sees images of its own.
        budget: Core-seconds that a network may take, as `ghn_init.training.cost` estimates them: costlier networks get fewer
            images. None: all get `batch_size`.
        least_images: Networks whose budget allows fewer images are left out.
        pool: How many different training networks there are.
        optimizer: `adamw` or `muon`.
        lr: Peak learning rate.
        warmup: Steps of linear warm-up.
        cooldown: Share of the other steps in which the rate falls, as half a cosine; before, it stays at its peak.
        weight_decay: The optimiser's.
        parameter_decay: Weight of the squared norm of the predicted parameters in the loss (GHN-3 decays them with 3e-5).
        label_smoothing: Share of the target that is spread over all classes; an `objective` of your own has its own.
        clip: Largest gradient norm.
        average: Decay of the weight average.
        bf16: Run the networks in bfloat16 where it is faster.
        save_minutes: Minutes between two writes of the state.
        seed: Of initialisation, networks, images.
    """

    steps: int = 10_000
    meta_batch: int = 4
    batch_size: int = 64
    budget: float | None = None
    least_images: int = 16
    pool: int = 1_000
    optimizer: str = "adamw"
    lr: float = 1e-3
    warmup: int = 200
    cooldown: float = 1.0
    weight_decay: float = 1e-2
    parameter_decay: float = 0.0
    label_smoothing: float = 0.0
    clip: float = 5.0
    average: float = 0.999
    bf16: bool = True
    save_minutes: float = 3.0
    seed: int = 0


def train(
    data: str | Path | Images,
    out: str | Path,
    *,
    architectures: Architectures = None,
    ghn: GHNConfig | GHN | None = None,
    objective: Objective | None = None,
    config: TrainConfig | None = None,
    transform: Transform | None = None,
    tensorboard: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    **changes: object,
) -> GHN:
    """Trains a hypernetwork, or goes on with the run in `out`.

    Called in each process that `accelerate launch` or `torchrun` starts, it shares the networks of a step among them.

    Args:
        data: A hub data set, a folder with `train.parquet` or with a folder per class in `train`, or `Images`.
        out: Folder of the run: `state.safetensors` to resume from, `log.csv`, at the end the checkpoint (`config.json`,
            `model.safetensors`) and, with the extra `viz`, `curve.png`.
        architectures: Modules, (B, 3, H, W) → (B, classes); or a file of `ghn-init deepnets write`; by default the training
            split of DeepNets-1M. The first `pool` of them are taken.
        ghn: The hypernetwork: a configuration (GHN-1, GHN-2, the MLP ablation, GHN-3), or one to go on from; by default a GHN-2
            of width 32 with the data's number of classes.
        objective: What is minimised; by default `ZeroShot`, the loss of the predicted parameters.
        config: The recipe.
        transform: Augments (B, 3, H, W) uint8 pixels in the place of flips and shifts; torchvision's v2 transforms do.
        tensorboard: Write event files as well.
        on_step: Called after every step in the leading process.
        **changes: Fields of the recipe, `steps=100`.

    Returns:
        The averaged hypernetwork.

    Raises:
        TrainingError: The data can't be read, the recipe can't be followed, or the folder holds another run.
    """
    recipe = replace(config or TrainConfig(), **changes)  # type: ignore[arg-type]
    workers = Workers()
    if recipe.meta_batch % workers.size:
        raise TrainingError(f"meta_batch is {recipe.meta_batch}; expected a multiple of the {workers.size} processes.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    images = data if isinstance(data, Images) else load_images(data, "train")
    torch.manual_seed(recipe.seed)
    model = copy.deepcopy(ghn) if isinstance(ghn, GHN) else GHN(ghn or GHNConfig(num_classes=images.num_classes))
    if model.config.num_classes != images.num_classes:
        raise TrainingError(f"the hypernetwork has {model.config.num_classes} classes, the data {images.num_classes}.")
    model.to(workers.device).train()
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizers = Optimizers(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
    state = folder / "state.safetensors"
    first = load_state(state, model, average, optimizers) if state.exists() else 0
    if first:
        log.info("resuming %s at step %d", folder, first)
    pool = Pool(architectures, recipe.pool, model.config.num_classes, images.pixels.shape[2], workers.device)
    judge: Objective = ZeroShot(recipe.label_smoothing) if objective is None else objective
    batches = Batches(images, recipe, judge.batches, transform, workers.device)
    description: dict[str, object] = {"recipe": asdict(recipe), "ghn": model.config.to_dict(), "objective": repr(judge)}

    started = saved = time.monotonic()
    board = folder / "tensorboard" if tensorboard else None
    with CurveLog(folder / "log.csv", first, workers.leads, board) as curve:
        for step in range(first, recipe.steps):
            tasks = pool.draw(f"{recipe.seed}/{step}", recipe.meta_batch, recipe.batch_size, recipe.least_images, recipe.budget)
            own = workers.share(list(enumerate(tasks)))
            jobs = [Job(pool[task.index], batches(step, position, task), f"{step}/{position}") for position, task in own]
            sums = meta_step(model, jobs, judge, recipe)
            loss, accuracy, count = workers.sum([p.grad for p in model.parameters() if p.grad is not None], *sums)
            if not count:
                raise TrainingError(f"no network of step {step + 1} has a finite loss; lower the learning rate {recipe.lr}.")
            lr = recipe.lr * warmup_cosine(step, recipe.steps, recipe.warmup, recipe.cooldown)
            update(model, average, optimizers, lr, recipe.clip, min(recipe.average, (1 + step) / (10 + step)))
            if not workers.leads:
                continue
            now = time.monotonic()
            rate = recipe.meta_batch * (step + 1 - first) / (now - started)
            progress = Progress(step + 1, recipe.steps, loss / count, accuracy / count, lr, rate)
            curve.write(progress, now - started)
            if on_step is not None:
                on_step(progress)
            if now - saved > 60 * recipe.save_minutes:
                curve.flush()
                save_state(state, step + 1, description, model, average, optimizers)
                saved = now
    if workers.leads:
        save_state(state, max(first, recipe.steps), description, model, average, optimizers)
        average.save_pretrained(folder)
        _draw(folder)
    workers.wait()  # the files are there when train() returns, in every process
    return average


@dataclass(frozen=True)
class Job:
    """A network with the batches that it is judged by."""

    network: Network
    batches: list[tuple[Tensor, Tensor]]
    key: str


class Batches:
    """The images of each network in each step; they depend on the step and the network's position in it alone."""

    def __init__(
        self, images: Images, recipe: TrainConfig, count: int, transform: Transform | None, device: torch.device
    ) -> None:
        self._images, self._recipe, self._count = images, recipe, count
        self._transform, self._device = transform, device

    def __call__(self, step: int, position: int, task: Task) -> list[tuple[Tensor, Tensor]]:
        """(B, 3, H, W) pixels and (B,) labels, as often as the objective needs them."""
        first = (step * self._recipe.meta_batch + position) * self._count
        return [self._one(first + k, task.images) for k in range(self._count)]

    def _one(self, number: int, size: int) -> tuple[Tensor, Tensor]:
        pixels, labels = self._images.batch(number, self._recipe.batch_size, self._recipe.seed, self._transform, size)
        return pixels.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


def meta_step(model: GHN, jobs: list[Job], objective: Objective, recipe: TrainConfig) -> tuple[float, float, int]:
    """Leaves the gradient of the jobs' share of a step in `model`: of the sum of their losses over `meta_batch`.

    The graphs are embedded and decoded together. Each network is run and differentiated alone, down to its decoded cores, so
    that the memory is that of one network. A network whose loss is not finite counts for nothing.

    Returns:
        Sums of losses in nats and of accuracies, and of how many networks.
    """
    model.zero_grad(set_to_none=True)
    decoded = model([job.network.graph for job in jobs], [job.network.slots for job in jobs])
    total = accuracy = 0.0
    count = 0
    pairs: list[tuple[Tensor, Tensor]] = []
    for job, cores in zip(jobs, decoded, strict=True):
        leaves = {name: core.detach().requires_grad_() for name, core in cores.items()}
        loss, right = _judge(job, leaves, objective, recipe)
        if not torch.isfinite(loss):
            continue
        (tempered(loss, model.config.num_classes) / recipe.meta_batch).backward()
        pairs += [(cores[name], leaf.grad) for name, leaf in leaves.items() if leaf.grad is not None]
        total, accuracy, count = total + loss.item(), accuracy + right, count + 1
    if pairs:
        torch.autograd.backward([core for core, _ in pairs], [gradient for _, gradient in pairs])
    for p in model.parameters():  # every process reduces the same tensors
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    return total, accuracy, count


def tempered(loss: Tensor, num_classes: int) -> Tensor:
    """The loss up to that of a uniform guess, c = ln(classes); above, c·(1 + ln(loss / c)), with the same slope at c.

    A network without norms can have a loss of hundreds; its gradient would drown those of the step's other networks.
    """
    chance = math.log(num_classes)
    return torch.where(loss <= chance, loss, chance * (1 + torch.log(loss.clamp_min(chance) / chance)))


def _judge(job: Job, cores: dict[str, Tensor], objective: Objective, recipe: TrainConfig) -> tuple[Tensor, float]:
    """Loss of a network on its batches, in mixed precision, regularised."""
    network = job.network

    def run(parameters: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        with mixed_precision(pixels.device, recipe.bf16):
            return network(parameters, pixels).float()

    parameters = network.fill(cores)
    loss, accuracy = objective(network, run, parameters, job.batches, random.Random(job.key).getrandbits(31))
    if recipe.parameter_decay:
        loss = loss + recipe.parameter_decay * torch.stack([p.square().sum() for p in parameters.values()]).sum()
    return loss, accuracy


def _draw(folder: Path) -> None:
    """The learning curve's picture, where matplotlib is installed."""
    try:
        draw(folder / "log.csv", folder / "curve.png")
    except ImportError:
        log.info("no picture of the learning curve: pip install 'ghn_init[viz]'")
