"""A short, fair race between initialisations on a user's own data.

Every init gets the same steps, the same batches, and the same learning rates and weight decays to choose from; the choice is
made with a seed that then doesn't count, and if you like on data of its own.
"""

# Axes: B images

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init.comparison.inits import OF_IMAGES, ZERO_GAMMA, Init, applicable, named, zero_gammas
from ghn_init.comparison.interval import half_width
from ghn_init.devices import found as device_found
from ghn_init.errors import ComparisonError
from ghn_init.heads.features import class_numbers
from ghn_init.models.batches import Inputs, check_loader, inputs_of, labels_of
from ghn_init.models.generators import generators_kept, seed_loaders
from ghn_init.progress import counting
from ghn_init.tracing.untouched import seed_torch
from ghn_init.trials.anew import Made
from ghn_init.trials.contestant import MakeOptimizer, check_labels, check_rates, descend_, logits_of, one_cycle, sgd
from ghn_init.trials.predicting import copied

Loader = Iterable[Any]

RATES = (0.01, 0.03, 0.1)
WEIGHT_DECAYS = (5e-4,)
TUNING_SEED = 10_000
USED_UP = ("builtins", "itertools", "torch.utils.data")
"""Modules whose iterators can be read once."""
LOOKED_AT = 512
"""Training images, at most, for inits that look at them."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        init: It began with.
        lr: Peak learning rate.
        weight_decay: Of the optimiser.
        seed: Of model, images and init.
        steps: After which it was measured,
        accuracies: in percent of the validation data, and
        losses: mean of the training batches since the last measurement.
    """

    init: str
    lr: float
    weight_decay: float
    seed: int
    steps: tuple[int, ...]
    accuracies: tuple[float, ...]
    losses: tuple[float, ...] = ()

    @property
    def final(self) -> float:
        """At the end."""
        return self.accuracies[-1]


@dataclass(frozen=True)
class Comparison:
    """The outcome of a race.

    Attributes:
        runs: Those that count: each init at its best learning rate and weight decay, one per seed.
        tuning: Those that chose them.
        left_out: Name → why an init was not raced.
    """

    runs: tuple[Run, ...]
    tuning: tuple[Run, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, init: str) -> list[Run]:
        """An init's runs, by seed."""
        return [run for run in self.runs if run.init == init]

    @property
    def inits(self) -> list[str]:
        """Best mean first."""
        names = list(dict.fromkeys(run.init for run in self.runs))
        return sorted(names, key=lambda name: -self.mean(name))

    def mean(self, init: str) -> float:
        """Mean final accuracy, in percent."""
        return statistics.fmean(run.final for run in self.of(init))

    def deviation(self, init: str) -> float:
        """Standard deviation over the seeds; 0 for one seed."""
        finals = [run.final for run in self.of(init)]
        return statistics.stdev(finals) if len(finals) > 1 else 0.0

    def behind(self, init: str) -> tuple[float, float]:
        """Points by which an init is behind the first, and half the 95 % interval of these paired differences.

        The half is infinite for one seed, which tells nothing of chance, and so do seeds that change nothing in both runs.
        """
        pairs = list(zip(self.of(self.inits[0]), self.of(init), strict=True))
        gaps = [a.final - b.final for a, b in pairs]
        apart = {(a.losses, b.losses) if a.losses else a.seed: gap for (a, b), gap in zip(pairs, gaps, strict=True)}
        return statistics.fmean(gaps), half_width(list(apart.values()))

    @property
    def alike(self) -> list[str]:
        """Inits of which several seeds gave one and the same run: of one model, on batches in one order."""
        different = {name: {run.losses or run.seed for run in self.of(name)} for name in self.inits}
        return [name for name, runs in different.items() if len(runs) == 1 < len(self.of(name))]

    @property
    def winner(self) -> str | None:
        """The best init where the 95 % interval of its paired differences to each other one lies above zero; else None."""
        best, *others = self.inits
        surely = all(gap > half for gap, half in map(self.behind, others))
        return best if surely else None

    @property
    def verdict(self) -> str:
        """The winner, or that there is none, in words, and of how many seeds; which init was left out."""
        winner, seeds = self.winner, len(self.of(self.inits[0]))
        told = f"winner: {winner}" if winner else "no winner: the first is not surely ahead of all others (95 %)"
        told = f"{told}; {seeds} seed{'s' if seeds > 1 else ', which tells nothing of chance'}"
        if self.alike:
            told += (
                f"; {' and '.join(self.alike)}: the same run with each seed, whose chance is in no interval; pass a function "
                f"that makes the model, and a loader that shuffles"
            )
        return "; ".join([told, *(f"{name}: {why}" for name, why in self.left_out.items())])

    def table(self) -> list[tuple[str, ...]]:
        """Rows of words, the heading first: accuracies ± their deviations, what is behind and whether that may be chance."""
        rows: list[tuple[str, ...]] = [("init", "accuracy, %", "behind the first", "learning rate", "weight decay")]
        for name in self.inits:
            first, (gap, half) = self.of(name)[0], self.behind(name)
            spread = f" ± {self.deviation(name):.1f}" if len(self.of(name)) > 1 else ""
            behind = "" if name == self.inits[0] else f"{gap:.1f}{f' ± {half:.1f}' if half < math.inf else ''}"
            chance = " (noise)" if behind and half < math.inf and gap <= half else ""
            figures = (f"{self.mean(name):.1f}{spread}", behind + chance, f"{first.lr:g}", f"{first.weight_decay:g}")
            rows.append((name, *figures))
        return rows

    def __str__(self) -> str:
        rows = [f"{name:32}{''.join(f'{figure:>20}' for figure in figures)}" for name, *figures in self.table()]
        return "\n".join([*rows, self.verdict])


@torch.inference_mode(False)  # in which nothing learns
def compare(
    make_model: Callable[[], nn.Module] | nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    inits: Sequence[str] | Mapping[str, Init] | None = None,
    *,
    steps: int = 100,
    seeds: int = 3,
    rates: Sequence[float] = RATES,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    tuning: tuple[Loader, Loader] | None = None,
    checks: int = 5,
    optimizer: MakeOptimizer | None = None,
    device: torch.device | str = "cpu",
    on_run: Callable[[Run], None] | None = None,
) -> Comparison:
    """Trains a model briefly from each init and says which one is ahead, if any.

    PyTorch's random state, and generators that loaders have for themselves, stay as they were.

    Args:
        make_model: Builds the model, with its own random init; a new one each time. Or a model, of which copies are trained:
            all seeds then share its own init.
        train_loader: Yields (images, labels), or mappings, as `fit_head_` takes them; shuffled by PyTorch's generator or
            one of its own, which are seeded alike for all inits.
        val_loader: Likewise, in a fixed order.
        inits: Names (`default`, `zero-gamma`, `orthogonal`, `mimetic`, `impulse`, `dirac`, `whitened`, `lsuv`, or a
            hypernetwork and a condition such as `ghn2-small+noise`), or a mapping of names to functions of (model, seed). By
            default all that suit, but for `impulse`, `dirac`, `whitened` and `lsuv`. By name, zero gammas are left out where
            they are the model's default.
        steps: Of training, with one cycle of the learning rate; momentum stays as it is.
        seeds: Races that count, at each init's best learning rate and weight decay.
        rates: Peak learning rates to choose from, for each init with one seed that does not count.
        weight_decays: Likewise; each is tried with each rate.
        tuning: Training and validation data for that choice: parts of the training data where `val_loader` shall be a test
            that nothing was chosen on. By default the two loaders above.
        checks: How often a run is validated, evenly spread, the last time at its end.
        optimizer: (parameters, learning rate, weight decay) → optimiser, whose groups have their peak rates; by default SGD
            with momentum 0.9.
        device: Where it trains.
        on_run: Called after each run; without it there is a progress bar.

    Raises:
        ComparisonError: Fewer than two inits, one of no such name, settings that no race can have, nothing to train on or to
            validate with, an init that doesn't suit the model, labels beyond its classes, or a model that is not made anew or
            gives no logits for the images.
        HeadError: No labels, or labels that are no class numbers.
        RecalibrationError: Images and labels in the place of a loader.
        DeviceError: There is no such device.
        GHNInitError: As in `ghn_init.initialize`.

    Example:
        >>> import ghn_init, torch
        >>> make = lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 2))
        >>> data = [(torch.randn(8, 3, 8, 8), torch.randint(0, 2, (8,)))]
        >>> len(ghn_init.compare(make, data, data, ["default", "orthogonal"], steps=2, seeds=1).runs)
        2
    """
    for loader in (train_loader, val_loader, *(tuning or ())):
        check_loader(loader)
        if isinstance(loader, Iterator) and type(loader).__module__.startswith(USED_UP):  # others may begin anew
            raise ComparisonError(
                f"the loader is a {type(loader).__name__}, which is used up once it is read, and each init is to see the same "
                f"images; pass a list of its batches, or a DataLoader."
            )
    if isinstance(inits, str):
        raise ComparisonError(f"inits is {inits!r}; expected several to compare: pass [{inits!r}, …].")
    device_found(device, computes=True)
    check_rates("rates", rates)
    check_rates("weight_decays", weight_decays)
    if isinstance(make_model, nn.Module):
        make_model = partial(copied, make_model, way="each run needs a model of its own; pass a function that makes it")
    made = Made()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        looked_at = make_model()
    if any(value.is_meta for value in (*looked_at.parameters(), *looked_at.buffers())):
        raise ComparisonError(
            f"{type(looked_at).__name__} is on the meta device, where it has no values to train; make it on another."
        )
    made.check("the function", looked_at)  # the same one again is then an error, before it is trained
    left_out: dict[str, str] = {}
    chosen = dict(inits) if isinstance(inits, Mapping) else _named(looked_at, inits, train_loader, left_out)
    del looked_at  # a model's memory; the same one again is still there
    settings = list(product(rates, weight_decays))
    if len(chosen) < 2 or min(steps, seeds, checks) < 1 or not settings:
        raise ComparisonError(
            f"inits: {len(chosen)}, steps: {steps}, seeds: {seeds}, checks: {checks}, learning rates: {len(rates)}, "
            f"weight decays: {len(weight_decays)}; a race needs two inits and at least one of each of the others"
            f"{''.join(f'; {name}: {why}' for name, why in left_out.items())}."
        )
    if not all(0 < lr < math.inf and 0 <= decay < math.inf for lr, decay in settings):
        raise ComparisonError(
            f"learning rates {list(rates)}, weight decays {list(weight_decays)}: expected finite numbers, rates above 0 and "
            f"decays of at least 0."
        )
    make_optimizer = optimizer or sgd

    def run(name: str, setting: tuple[float, float], seed: int, loaders: tuple[Loader, Loader]) -> Run:
        seed_torch(seed)
        model = make_model()
        made.check("the function", model)
        chosen[name](model, seed)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ComparisonError(f"all parameters of {type(model).__name__} are frozen; there is nothing to train.")
        model = model.to(device)
        seed_torch(seed)  # the same batches, whatever the init drew
        seed_loaders(seed, *loaders)
        own = make_optimizer(model.parameters(), *setting)
        marks, accuracies, losses = _train(model, *loaders, own, steps, checks)
        found = Run(name, *setting, seed, marks, accuracies, losses)
        tell(f"{name}: {found.final:.1f} %")
        if on_run is not None:
            on_run(found)
        return found

    data = (train_loader, val_loader)
    best = dict.fromkeys(chosen, settings[0])
    tried: list[Run] = []
    total = len(chosen) * (seeds + (len(settings) if len(settings) > 1 else 0))
    bar = counting(total, "runs", on_run is None)
    forked = torch.random.fork_rng(range(torch.cuda.device_count()))
    with bar as tell, forked, generators_kept(*data, *(tuning or ())):
        if len(settings) > 1:
            tried = [run(name, setting, TUNING_SEED, tuning or data) for name in chosen for setting in settings]
            for name in chosen:
                first = max((r for r in tried if r.init == name), key=lambda r: r.final)
                best[name] = (first.lr, first.weight_decay)
        counted = [run(name, best[name], seed, data) for name in chosen for seed in range(seeds)]
    return Comparison(tuple(counted), tuple(tried), left_out)


def _named(model: nn.Module, names: Sequence[str] | None, loader: Loader, left_out: dict[str, str]) -> dict[str, Init]:
    """Inits by name, or all that suit, which see the model's graph on images as it will be trained on; who was left out."""
    with torch.random.fork_rng(range(torch.cuda.device_count())), generators_kept(loader):  # loaders draw their order
        contents = list(islice(loader, 8 if OF_IMAGES.keys() & set(names or ()) else 1))
    batches = [inputs_of(model, content, torch.device("cpu")) for content in contents]
    few = batches[0].few() if batches else None
    single = [value for batch in batches for value in (*batch.args, *batch.kwargs.values()) if isinstance(value, Tensor)]
    images = torch.cat(single)[:LOOKED_AT] if batches and len(single) == len(batches) else None
    wanted = applicable(model, few) if names is None else names
    if (names is None or ZERO_GAMMA in names) and zero_gammas(model, few):
        left_out[ZERO_GAMMA] = "the model's default already"
    return {name: named(name, few, images) for name in wanted if name not in left_out}


@torch.enable_grad()
def _train(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    optimizer: torch.optim.Optimizer,
    steps: int,
    checks: int,
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Steps, accuracies and losses of one run; a run that diverges stays at what it was then worth."""
    schedule = one_cycle(optimizer, steps)
    device = next(model.parameters()).device
    marks = sorted({max(round(steps * (k + 1) / checks), 1) for k in range(checks)})
    accuracies, losses, since = [], [], []
    batches = _endless(train_loader, model, device)
    for step in range(1, steps + 1):
        model.train()
        inputs, labels = next(batches)
        logits = logits_of(model, inputs)
        check_labels(model, logits, labels)
        loss = F.cross_entropy(logits, labels)
        if descend_(optimizer, loss):
            schedule.step()
        since.append(loss.item())
        if step in marks:
            accuracies.append(_accuracy(model, val_loader, device))
            losses.append(statistics.fmean(since))
            since = []
    return tuple(marks), tuple(accuracies), tuple(losses)


def _taken(model: nn.Module, content: Any, device: torch.device) -> tuple[Inputs, Tensor]:
    """What the forward takes of a batch, and its (B,) labels."""
    inputs = inputs_of(model, content, device)
    return inputs, class_numbers(labels_of(content), len(inputs)).to(device)


def _endless(loader: Loader, model: nn.Module, device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
    """Batches, again and again, but for a last one of a single image, of which norms have no variance."""
    while True:
        most = 0
        for content in loader:
            inputs, labels = _taken(model, content, device)
            most = max(most, len(inputs))
            if len(inputs) > 1 or most < 2:
                yield inputs, labels
        if not most:
            raise ComparisonError("the training loader has no batches; pass one that can be iterated again and again.")


@torch.no_grad()
def _accuracy(model: nn.Module, loader: Loader, device: torch.device) -> float:
    model.eval()
    right = total = 0
    for content in loader:
        inputs, labels = _taken(model, content, device)
        logits = logits_of(model, inputs)
        check_labels(model, logits, labels)
        known = ~logits.isnan().any(1)  # argmax would take NaN for the first class
        right += int((known & (logits.argmax(1) == labels)).sum())
        total += len(labels)
    if not total:
        raise ComparisonError("the validation loader has no batches; pass one that can be iterated again and again.")
    return 100 * right / total
