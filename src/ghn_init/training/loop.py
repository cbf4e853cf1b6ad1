"""Meta-training: tasks × architectures → a hypernetwork."""

# Axes: B examples

from __future__ import annotations

import copy
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ghn_init.checkpoints.folder import expanded
from ghn_init.checkpoints.pretrained import GHN, given
from ghn_init.errors import CheckpointError, TrainingError
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction.precision import bfloat16_pays, mixed_precision
from ghn_init.progress import counting
from ghn_init.saving import save_json
from ghn_init.tasks.images import Data, tasks_of
from ghn_init.tasks.task import Batch, Task, class_names, described
from ghn_init.tracing.untouched import seed_torch
from ghn_init.training import process
from ghn_init.training.curve import CurveLog, Progress
from ghn_init.training.networks import Network
from ghn_init.training.objectives import Objective, ZeroShot
from ghn_init.training.optimizer import Optimizers, update
from ghn_init.training.pool import Architectures, Pools
from ghn_init.training.recipe import FILE, TrainConfig, TrainOptions, as_begun, changed, check
from ghn_init.training.schedule import warmup_cosine
from ghn_init.training.state import load_state, save_state, steps_taken
from ghn_init.training.workers import Workers
from ghn_init.viz.curve import draw

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing's own from Python 3.11 on

log = logging.getLogger(__name__)


def train(
    data: Data | Mapping[str, Data] | Sequence[Data],
    out: str | Path,
    *,
    shares: Mapping[str, float] | None = None,
    architectures: Architectures | Mapping[str, Architectures] = None,
    ghn: GHNConfig | GraphHyperNetwork | str | os.PathLike[str] | None = None,
    objective: Objective | None = None,
    config: TrainConfig | None = None,
    image_size: int | None = None,
    trackers: Sequence[str] = (),
    on_step: Callable[[Progress], None] | None = None,
    **changes: Unpack[TrainOptions],
) -> GHN:
    """Trains a hypernetwork on one task or several, or goes on with the run in `out`.

    Called in each process that `accelerate launch` or `torchrun` starts, it shares the networks of a step among them. On a CPU
    the process keeps compiled kernels and freed memory from then on (`ghn_init.training.process`).

    Args:
        data: A hub data set, a folder with `train.parquet` or with a folder per class in `train`, `Images`, or a `Task`; or
            several of them, each with a head of its own: a mapping of names, or a sequence, where folders name the tasks.
        out: Folder of the run: `state.safetensors` to resume from, `recipe.json`, `log.csv`, at the end the checkpoint
            (`config.json`, `model.safetensors`) and, with the extra `viz`, `curve.png`.
        shares: Task → its part of the networks, in any unit; by default all have equal parts.
        architectures: Modules from a task's example inputs to its outputs; or a file of `ghn-init deepnets write`; by default
            the training split of DeepNets-1M. The first `pool` of them are taken; those of `ghn_init.families.networks` are
            built when they take part. Parameters that are not predicted hold the modules' own values. For several tasks one
            for all, or a mapping of names.
        ghn: The hypernetwork: a configuration (GHN-1, GHN-2, the MLP ablation, GHN-3), or one to go on from, also as `load`
            takes it; by default a GHN-2 of width 32, untrained. Tasks that it doesn't know yet get new heads; those that it
            knows already keep theirs.
        objective: What is minimised; by default `ZeroShot`, the loss of the predicted parameters.
        config: The recipe.
        image_size: Side in pixels to which images that are read here are resized and cropped; by default they have one size.
        trackers: Accelerate's names of those that are told what each step gave, `("tensorboard",)`, `("wandb", "mlflow")`; the
            first writes to `out`.
        on_step: Called after every step in the leading process; without it there is a progress bar.
        **changes: Fields of the recipe, `steps=100`.

    Returns:
        The averaged hypernetwork.

    Raises:
        TrainingError: The data can't be read, the recipe can't be followed, a network doesn't suit its task, or the folder
            holds another run.
        TypeError: The recipe has no such field, or `ghn` is none of these.
        GHNInitError: As in `ghn_init.load`.
    """
    recipe = changed(config, changes)
    if ghn is not None and not isinstance(ghn, GHNConfig):
        ghn = given(ghn)
    process.tune()
    folder = _folder(out)
    with Workers(trackers, folder) as workers, torch.random.fork_rng(range(torch.cuda.device_count())):
        if recipe.meta_batch % workers.size:
            raise TrainingError(f"meta_batch is {recipe.meta_batch}; expected a multiple of the {workers.size} processes.")
        _make(folder)
        state = folder / "state.safetensors"
        resumes = state.exists()
        tasks: Mapping[str, Task] = {task.name: task for task in tasks_of(data, image_size=image_size)}
        if resumes:
            tasks = as_begun(tasks, folder / FILE, "tasks")
        seed_torch(recipe.seed)
        start = ghn.fingerprint if isinstance(ghn, GraphHyperNetwork) else None
        model = _hypernetwork(ghn, tasks, folder / FILE if resumes else None)
        model.to(workers.device).train()
        for name, head in model.heads.items():
            head.requires_grad_(name in tasks)  # else weight decay would shrink the heads of tasks that take no part
        average = copy.deepcopy(model).requires_grad_(False).eval()
        optimizers = Optimizers(model, recipe.optimizer, recipe.lr, recipe.weight_decay)
        pools = Pools(tasks, architectures, shares or {}, recipe.pool, workers.device)
        judge: Objective = ZeroShot() if objective is None else objective
        contents = {
            "ghn": replace(model.config, classes={}).to_dict(),  # the data's fingerprints tell numbers of classes apart
            "start": start,
            "tasks": {name: {"data": task.fingerprint, "share": pools.shares[name]} for name, task in tasks.items()},
            "architectures": pools.described,
            "objective": described(judge),
        }
        formerly = {"architectures": pools.formerly}
        step = steps_taken(state) if resumes else 0
        made_of = check(folder / FILE, contents, recipe, step, resumes, formerly)  # raises before anything is written
        if resumes:
            load_state(state, model, average, optimizers)
            log.info("resuming %s at step %d", folder, step)
        if workers.leads:
            save_json(folder / FILE, made_of, 2)
        if recipe.bf16 and workers.device.type == "cpu" and not bfloat16_pays():
            log.info("bfloat16 is slower than float32 on this processor: the networks run in float32")
            recipe = replace(recipe, bf16=False)
        _run(folder, step, model, average, optimizers, pools, judge, recipe, workers, on_step)
        if workers.leads:
            save_state(state, max(step, recipe.steps), model, average, optimizers)
            average.save_pretrained(folder)
            _draw(folder)
        workers.wait()  # the files are there when train() returns, in every process
        return average


def _folder(out: str | Path) -> Path:
    """Where the run is."""
    try:
        return expanded(out)
    except CheckpointError as error:
        raise TrainingError(f"out can't be the run's folder: {error}") from error


def _make(folder: Path) -> None:
    """The run's folder, where it is not there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"out is {str(folder)!r}, which can't be the run's folder ({error}); pass another one.") from error


def _hypernetwork(ghn: GHNConfig | GraphHyperNetwork | None, tasks: Mapping[str, Task], begun: Path | None) -> GHN:
    """One that knows all tasks, in the order of the recipe `begun`: untrained, or a copy of the one to go on from."""
    try:
        own = ghn.config if isinstance(ghn, GraphHyperNetwork) else ghn
        outputs = {name: task.outputs for name, task in tasks.items()}
        config = GHNConfig.ghn2(outputs) if own is None else own.with_tasks(outputs)
        config = config.with_classes({name: names for name, task in tasks.items() if (names := class_names(task))})
        if begun is not None:
            config = replace(config, tasks=as_begun(config.tasks, begun, "ghn", "tasks"))
        model = GHN(config)
        if isinstance(ghn, GraphHyperNetwork):
            model.load_state_dict({**model.state_dict(), **ghn.state_dict()})
        return model
    except CheckpointError as error:
        raise TrainingError(f"the hypernetwork can't be trained on these tasks: {error}") from error


def _run(
    folder: Path,
    first: int,
    model: GHN,
    average: GHN,
    optimizers: Optimizers,
    pools: Pools,
    objective: Objective,
    recipe: TrainConfig,
    workers: Workers,
    on_step: Callable[[Progress], None] | None,
) -> None:
    """The steps that are left, with the state written every few minutes, and where something ends the run."""
    started = saved = time.monotonic()
    state = folder / "state.safetensors"
    taken: int | None = None  # steps that weights and curve have, in the leading process; None while they are changed
    settings = {name: str(value) if value is None else value for name, value in asdict(recipe).items()}
    log_file = CurveLog(folder / "log.csv", first, workers.leads, list(pools.shares))
    bar = counting(recipe.steps, "steps", workers.leads and on_step is None, first)
    with log_file as curve, workers.tracking(settings) as track, bar as done:
        try:
            for step in range(first, recipe.steps):
                by_task = _gradient(step, model, pools, objective, recipe, workers)
                lr = recipe.lr * warmup_cosine(step, recipe.steps, recipe.warmup, recipe.cooldown)
                taken = None
                updated = update(model, average, optimizers, lr, recipe.clip, min(recipe.average, (1 + step) / (10 + step)))
                if not workers.leads:
                    continue
                if not updated:
                    log.warning("step %d changed nothing: the gradient of all networks together is not finite", step + 1)
                now = time.monotonic()
                rate = recipe.meta_batch * (step + 1 - first) / (now - started)
                progress = _progress(step + 1, recipe.steps, by_task, lr, rate)
                curve.write(progress, now - started)
                taken = step + 1
                track(progress.scalars, progress.step)
                done(f"loss {progress.loss:.3f}, accuracy of predicted networks {100 * progress.accuracy:.1f} %")
                if on_step is not None:
                    on_step(progress)
                if now - saved > 60 * recipe.save_minutes:
                    curve.flush()
                    save_state(state, taken, model, average, optimizers)
                    saved = now
        except BaseException:
            if taken is not None:
                try:
                    curve.flush()
                    save_state(state, taken, model, average, optimizers)
                except Exception as error:  # what ended the run says more
                    log.warning("the state after step %d could not be written: %s", taken, error)
            raise


def _gradient(
    step: int, model: GHN, pools: Pools, objective: Objective, recipe: TrainConfig, workers: Workers
) -> dict[str, Sums]:
    """Leaves a step's gradient in `model`, that of all processes' networks; their sums by task."""
    jobs = []
    for position in workers.share(range(recipe.meta_batch)):
        limits = (recipe.batch_size, recipe.least_examples, recipe.budget)
        task, part = pools.draw(recipe.seed, step, position, recipe.meta_batch, *limits)
        network = pools.network(task, part)
        batches = _batches(network, part.examples, step, position, objective, recipe, workers.device)
        jobs.append(Job(network, batches, f"{step}/{position}"))
    sums, names = meta_step(model, jobs, objective, recipe), list(pools.shares)
    numbers = [number for name in names for number in sums.get(name, Sums())]
    totals = _summed(model, numbers, workers)
    by_task = {name: Sums(*totals[3 * k : 3 * k + 3]) for k, name in enumerate(names)}
    if not any(own.networks for own in by_task.values()):
        raise TrainingError(
            f"no network of step {step + 1} has a finite loss and gradient; lower the learning rate {recipe.lr}."
        )
    return by_task


def _summed(model: GHN, numbers: Sequence[float], workers: Workers) -> list[float]:
    """Adds gradients up over all processes, in place, and numbers; what no network reaches has none, and is not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    reached = [float(p.grad is not None) for p in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]  # the same tensors in every process
    totals = workers.sum(gradients, *numbers, *reached)
    for p, gradient, times in zip(parameters, gradients, totals[len(numbers) :], strict=True):
        p.grad = gradient if times else None
    return totals[: len(numbers)]


def _progress(step: int, steps: int, by_task: Mapping[str, Sums], lr: float, rate: float) -> Progress:
    whole = Sums(*map(sum, zip(*by_task.values(), strict=True)))
    accuracies = {name: own.accuracy / own.networks for name, own in by_task.items() if own.networks}
    return Progress(step, steps, whole.loss / whole.networks, whole.accuracy / whole.networks, lr, rate, accuracies)


class Sums(NamedTuple):
    """Of losses in nats and of accuracies, and of how many networks."""

    loss: float = 0.0
    accuracy: float = 0.0
    networks: float = 0


@dataclass(frozen=True)
class Job:
    """A network with the batches that it is judged by."""

    network: Network
    batches: list[Batch]
    key: str


def _batches(
    network: Network, examples: int, step: int, position: int, objective: Objective, recipe: TrainConfig, device: torch.device
) -> list[Batch]:
    """A network's batches, as many as the objective needs; they depend on step, position and task alone.

    Of a batch a network whose budget is small gets the first examples.
    """
    first = (step * recipe.meta_batch + position) * objective.batches
    batches = []
    for number in range(first, first + objective.batches):
        inputs, targets = network.task.batch(number, recipe.batch_size, recipe.seed)
        inputs = tuple(x[:examples].to(device, non_blocking=True) for x in inputs)
        batches.append((inputs, targets[:examples].to(device, non_blocking=True)))
    return batches


def meta_step(model: GraphHyperNetwork, jobs: list[Job], objective: Objective, recipe: TrainConfig) -> dict[str, Sums]:
    """Leaves the gradient of the jobs' share of a step in `model`: of the sum of their losses over `meta_batch`.

    The graphs are embedded and decoded together. Each network is run and differentiated alone, down to its decoded cores, so
    that the memory is that of one network. A network whose loss or gradient is not finite counts for nothing.

    Returns:
        Sums by task.
    """
    model.zero_grad(set_to_none=True)
    networks = [job.network for job in jobs]
    decoded = model([n.graph for n in networks], [n.slots for n in networks], [n.task.name for n in networks])
    sums: dict[str, Sums] = {}
    pairs: list[tuple[Tensor, Tensor]] = []
    for job, cores in zip(jobs, decoded, strict=True):
        leaves = {name: core.detach().requires_grad_() for name, core in cores.items()}
        loss, right = _judge(job, leaves, objective, recipe)
        if not torch.isfinite(loss):
            continue
        task = job.network.task
        (tempered(loss, task.outputs) / recipe.meta_batch).backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        if not torch.isfinite(_norm(gradients.values())):
            continue
        if recipe.equal_gradients:
            equalise(gradients.values(), 1 / recipe.meta_batch)
        pairs += [(cores[name], gradient) for name, gradient in gradients.items()]
        before = sums.get(task.name, Sums())
        sums[task.name] = Sums(before.loss + loss.item(), before.accuracy + right, before.networks + 1)
    if pairs:
        torch.autograd.backward([core for core, _ in pairs], [gradient for _, gradient in pairs])
    return sums


def equalise(gradients: Iterable[Tensor], norm: float) -> None:
    """Scales a network's gradients, in place, so that all of them together have the given norm; zeros stay.

    Those of networks with layer norms are several times smaller than those of networks with batch norms: added up as they are,
    a step follows the latter.
    """
    found = list(gradients)
    whole = _norm(found)
    torch._foreach_mul_(found, float(norm / whole) if whole > 0 else 1.0)


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    """Of all of them together, a scalar."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))


def tempered(loss: Tensor, outputs: int) -> Tensor:
    """The loss up to that of a uniform guess, c = ln(outputs); above, c·(1 + ln(loss / c)), with the same slope at c.

    A network without norms can have a loss of hundreds; its gradient would drown those of the step's other networks.
    """
    chance = math.log(max(outputs, 2))
    return torch.where(loss <= chance, loss, chance * (1 + torch.log(loss.clamp_min(chance) / chance)))


def _judge(job: Job, cores: dict[str, Tensor], objective: Objective, recipe: TrainConfig) -> tuple[Tensor, float]:
    """Loss of a network on its batches, in mixed precision, regularised."""
    network = job.network

    def run(parameters: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        with mixed_precision(inputs[0].device, recipe.bf16):
            return network(parameters, *inputs).float()

    seeds = random.Random(job.key)
    of_objective, of_filling = seeds.getrandbits(31), seeds.getrandbits(31)
    parameters = network.fill(cores, torch.Generator().manual_seed(of_filling))
    loss, accuracy = objective(network, run, parameters, job.batches, of_objective)
    if recipe.parameter_decay:
        loss = loss + recipe.parameter_decay * torch.stack([parameters[s.name].square().sum() for s in network.slots]).sum()
    return loss, accuracy


def _draw(folder: Path) -> None:
    """The learning curve's picture, where matplotlib is installed."""
    try:
        draw(folder / "log.csv", folder / "curve.png")
    except ImportError:
        log.info("no picture of the learning curve: pip install 'ghn_init[viz]'")
