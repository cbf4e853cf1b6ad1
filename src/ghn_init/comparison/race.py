"""A short, fair race between initialisations on a user's own data.

Every init gets the same steps, the same batches, and the same learning rates and weight decays to choose from; the choice is
made with a seed that then doesn't count, and if you like on data of its own.
"""

# Axes: B images

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, product
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init.comparison.inits import OF_IMAGES, ZERO_GAMMA, Init, applicable, named, zero_gammas
from ghn_init.comparison.loaders import EMPTY, Loader, check_again, look, taken
from ghn_init.comparison.result import Comparison, Run
from ghn_init.devices import found as device_found
from ghn_init.errors import ComparisonError, GHNInitError
from ghn_init.models.batches import Inputs, traced_on
from ghn_init.models.generators import generators_kept
from ghn_init.progress import counting
from ghn_init.trials.anew import Made
from ghn_init.trials.contestant import (
    MakeOptimizer,
    check_classifier,
    check_labels,
    descend_,
    logits_of,
    one_cycle,
    optimizer_of,
    rates_of,
    sgd,
)
from ghn_init.trials.pool import seeded
from ghn_init.trials.predicting import copied
from ghn_init.whole import whole

RATES = (0.01, 0.03, 0.1)
WEIGHT_DECAYS = (5e-4,)
TUNING_SEED = 10_000
LOOKED_AT = 512
"""Training images, at most, for inits that look at them."""


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

    Random states, and generators that loaders have for themselves, stay as they were.

    Args:
        make_model: Builds the model, with its own random init; a new one each time. Or a model, of which copies are trained:
            all seeds then share its own init.
        train_loader: Yields (images, labels), or mappings, as `fit_head_` takes them; shuffled and
            augmented by generators of PyTorch, NumPy, Python or its own, which are seeded alike for all inits.
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
        ComparisonError: Fewer than two inits, one of no such name, or one that doesn't suit the model; settings that no race
            can have; something else in the place of a loader, no batches, images of one class or with values that are not
            finite, no labels, labels that are no class numbers or beyond the model's; a model that is not made anew or gives no
            logits for the images. All but later batches and what a forward does is looked at before the first run.
        DeviceError: There is no such device.

    Example:
        >>> import ghn_init, torch
        >>> make = lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 2))
        >>> data = [(torch.randn(8, 3, 8, 8), torch.randint(0, 2, (8,)))]
        >>> len(ghn_init.compare(make, data, data, ["default", "orthogonal"], steps=2, seeds=1).runs)
        2
    """
    steps, seeds = whole("steps", steps, 1, ComparisonError), whole("seeds", seeds, 1, ComparisonError)
    checks = whole("checks", checks, 1, ComparisonError)
    training, validation = {"train_loader": train_loader}, {"val_loader": val_loader}
    settings = _settings(rates, weight_decays)
    if tuning is not None and len(settings) > 1:
        training["tuning[0]"], validation["tuning[1]"] = tuning
    for name, loader in (training | validation).items():
        check_again(name, loader)
    if isinstance(inits, str):
        raise ComparisonError(f"inits is {inits!r}; expected several to compare: pass [{inits!r}, …].")
    device_found(device, computes=True)
    if isinstance(make_model, nn.Module):
        make_model = partial(copied, make_model, way="each run needs a model of its own; pass a function that makes it")
    made = Made()
    with torch.random.fork_rng(range(torch.cuda.device_count())), generators_kept():
        looked_at = make_model()
    if any(value.is_meta for value in (*looked_at.parameters(), *looked_at.buffers())):
        raise ComparisonError(
            f"{type(looked_at).__name__} is on the meta device, where it has no values to train; make it on another."
        )
    made.check("the function", looked_at)  # the same one again is then an error, before it is trained
    check_classifier(looked_at)
    for name, loader in training.items():
        look(name, loader, looked_at, steps)
    for name, loader in validation.items():
        look(name, loader, looked_at, None)
    left_out: dict[str, str] = {}
    chosen = dict(inits) if isinstance(inits, Mapping) else _named(looked_at, inits, train_loader, left_out)
    del looked_at  # a model's memory; the same one again is still there
    if len(chosen) < 2:
        others = "".join(f"; {name}: {why}" for name, why in left_out.items())
        raise ComparisonError(f"there is {', '.join(chosen) or 'no init'} alone to race; a race needs two inits{others}.")

    def fresh() -> nn.Module:
        model = make_model()
        made.check("the function", model)
        return model

    if not isinstance(inits, Mapping):
        with torch.random.fork_rng(range(torch.cuda.device_count())), generators_kept():
            for name, init in chosen.items():
                _try(name, init, fresh())

    def run(name: str, setting: tuple[float, float], seed: int, loaders: tuple[Loader, Loader]) -> Run:
        seeded(seed)
        model = fresh()
        chosen[name](model, seed)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ComparisonError(f"all parameters of {type(model).__name__} are frozen; there is nothing to train.")
        model = model.to(device)
        seeded(seed, *loaders)  # the same batches, whatever the init drew
        own = optimizer_of(optimizer or sgd, model.parameters(), *setting)
        marks, accuracies, losses, images = _train(model, *loaders, own, steps, checks)
        found = Run(name, *setting, seed, marks, accuracies, losses, images)
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


def _settings(rates: Sequence[float], weight_decays: Sequence[float]) -> list[tuple[float, float]]:
    """All pairs of a learning rate and a weight decay."""
    rates, weight_decays = rates_of("rates", rates), rates_of("weight_decays", weight_decays)
    for name, numbers in (("rates", rates), ("weight_decays", weight_decays)):
        if not numbers:
            raise ComparisonError(f"{name} is empty; a race needs one at least.")
    settings = list(product(rates, weight_decays))
    if not all(_is_rate(lr) and (_is_rate(decay) or decay == 0) for lr, decay in settings):
        raise ComparisonError(
            f"learning rates {list(rates)}, weight decays {list(weight_decays)}: expected finite numbers, rates above 0 and "
            f"decays of at least 0."
        )
    return [(float(lr), float(decay)) for lr, decay in settings]


def _is_rate(number: object) -> bool:
    return isinstance(number, Real) and 0 < float(number) < math.inf


def _try(name: str, init: Init, model: nn.Module) -> None:
    """Refuses an init that doesn't suit a model, on one that is not trained."""
    try:
        init(model, 0)
    except GHNInitError as error:
        raise ComparisonError(f"the init {name!r} can't race: {error}") from error


def _named(model: nn.Module, names: Sequence[str] | None, loader: Loader, left_out: dict[str, str]) -> dict[str, Init]:
    """Inits by name, or all that suit, which see the model's graph on images as it will be trained on; who was left out."""
    if twice := [name for name in names or () if list(names or ()).count(name) > 1]:
        raise ComparisonError(f"the init {twice[0]!r} stands in inits twice; name each once.")
    with torch.random.fork_rng(range(torch.cuda.device_count())), generators_kept(loader):  # loaders draw their order
        inputs = (taken(model, content, torch.device("cpu"))[0] for content in loader)
        some = 8 if OF_IMAGES.keys() & set(names or ()) else 1
        batches = list(islice((batch for batch in inputs if not batch.empty), some))
    few = batches[0].few()
    single = [value for batch in batches for value in (*batch.args, *batch.kwargs.values()) if isinstance(value, Tensor)]
    images = torch.cat(single)[:LOOKED_AT] if len(single) == len(batches) else None
    try:
        with traced_on(model, few):
            wanted = applicable(model, few) if names is None else names
            if (names is None or ZERO_GAMMA in names) and zero_gammas(model, few):
                left_out[ZERO_GAMMA] = "the model's default already"
    except GHNInitError as error:
        raise ComparisonError(str(error)) from error
    return {name: named(name, few, images) for name in wanted if name not in left_out}


@torch.enable_grad()
def _train(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    optimizer: torch.optim.Optimizer,
    steps: int,
    checks: int,
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...], int]:
    """Steps, accuracies and losses of one run, and validation images; a run that diverges stays at what it was then worth."""
    schedule = one_cycle(optimizer, steps)
    device = next(model.parameters()).device
    marks = sorted({max(round(steps * (k + 1) / checks), 1) for k in range(checks)})
    images, accuracies, losses, since = 0, [], [], []
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
            right, images = _judged(model, val_loader, device)
            accuracies.append(100 * right / images)
            losses.append(statistics.fmean(since))
            since = []
    return tuple(marks), tuple(accuracies), tuple(losses), images


def _endless(loader: Loader, model: nn.Module, device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
    """Batches, again and again, but for a last one of a single image, of which norms have no variance."""
    while True:
        most = 0
        for content in loader:
            inputs, labels = taken(model, content, device)
            most = max(most, len(inputs))
            if len(inputs) > 1 or (most < 2 and not inputs.empty):
                yield inputs, labels
        if not most:
            raise ComparisonError(f"the training loader {EMPTY}")


@torch.no_grad()
def _judged(model: nn.Module, loader: Loader, device: torch.device) -> tuple[int, int]:
    """Images that are told rightly, of how many."""
    model.eval()
    right = total = 0
    for content in loader:
        inputs, labels = taken(model, content, device)
        if inputs.empty:
            continue
        logits = logits_of(model, inputs)
        check_labels(model, logits, labels)
        known = ~logits.isnan().any(1)  # argmax would take NaN for the first class
        right += int((known & (logits.argmax(1) == labels)).sum())
        total += len(labels)
    if not total:
        raise ComparisonError(f"the validation loader {EMPTY}")
    return right, total
