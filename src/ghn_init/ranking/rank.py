"""A head in closed form on predicted weights, few steps from there, and the better half goes on: the verb."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.api import Hypernetwork
from ghn_init.ranking.bench import Bench
from ghn_init.ranking.calibration import calibrate, check_known
from ghn_init.ranking.candidates import Candidates, Make, makers
from ghn_init.ranking.defaults import BATCH_SIZE, FITTED, RUNGS, STEPS, VAL_IMAGES, From
from ghn_init.ranking.fingerprints import of_images, of_network
from ghn_init.ranking.measure import Settings, shares
from ghn_init.ranking.processes import Processes, naming
from ghn_init.ranking.record import CANDIDATES, Record
from ghn_init.ranking.result import Ranked, Ranking
from ghn_init.tasks.task import described
from ghn_init.tracing.untouched import untouched
from ghn_init.trials.contestant import MakeOptimizer, sgd
from ghn_init.trials.halving import Rung, order, successive_halving
from ghn_init.trials.paired import accuracy, accuracy_interval, surely_ahead


def rank(
    candidates: Candidates,
    train: Iterable[Any],
    val: Iterable[Any],
    ghn: Hypernetwork = None,
    *,
    steps: int = STEPS,
    rungs: int = RUNGS,
    start: From = FITTED,
    rate: float | None = None,
    batch_size: int = BATCH_SIZE,
    val_images: int = VAL_IMAGES,
    known: Mapping[str, float] | None = None,
    optimizer: MakeOptimizer = sgd,
    device: torch.device | str = "cpu",
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    on_judged: Callable[[str, int, float], None] | None = None,
) -> Ranking:
    """Ranks networks by what they know of your data with predicted parameters, and how they learn from there in few steps.

    Each network is made, its parameters are predicted, and its head is fitted in closed form; it is judged on validation
    images, with batch statistics. The better half is then trained for few steps of small batches, and judged again. A score
    is the mean of the accuracies that a network had. What this is worth: `docs/ranking.md` of the repository. Random states
    and modules that are passed stay as they were.

    Args:
        candidates: Modules, names (`timm:NAME`, `torchvision:NAME`, `module:callable`, or timm's name alone) or functions that
            make modules: a mapping of names to them, or a list. All take images of one size; those built by name get as many
            classes as there are labels.
        train: Yields (images, labels), or mappings, as `fit_head_` takes them. The first `steps` batches' worth are held in
            memory, or the first 1,000, to which heads are fitted.
        val: Likewise, images that judge.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        steps: Of those that come to the last rung; each rung before it has half as many, and with fitted heads the first
            none. 0 judges all with fitted heads before any training, once.
        rungs: How often the field is judged.
        start: `predicted+fitted` (with a head in closed form), `predicted` (with a random one) or `default`.
        rate: Peak learning rate, of one cycle; by default 0.004 with fitted heads, else 0.02, from `default` 0.05.
        batch_size: Images of a step.
        val_images: The first so many judge, and are held in memory.
        known: Accuracies of some candidates after full training, in percent: the others' are then expected by a ridge
            regression on the first rung's accuracy, log parameters, log cost and the graph's embedding, and make the order.
        optimizer: (parameters, learning rate, weight decay) → optimiser; by default SGD with momentum 0.9.
        device: Where networks are trained.
        seed: Of what is random: constructors, loaders, order of the images.
        workers: Processes that measure at once, with an equal part of the threads each; with 1, this one does it all. Results
            are the same but for rounding, where a sum's order hangs on the number of threads.
        out: A JSON file: what is in it is not measured again, each measurement is saved when it is there. Candidates may come,
            go or be mended; all else has to be as it was.
        on_judged: Called with each measurement, those of the file too: name, steps and accuracy in percent; without it there is
            a progress bar.

    Returns:
        Networks, best first: those that came farther before the others, and by their scores.

    Raises:
        ComparisonError: Fewer than two candidates, two of one name, one that can't be made or measured or has too few classes,
            settings that no ranking can have, one class, fewer images than a step has, one to judge by, values that are not
            finite, known accuracies that can't calibrate, candidates that can't be sent to other processes, or a file that is
            damaged or of other settings or images.
        HeadError: No labels, or labels that are no class numbers.
        DeviceError: There is no such device.

    Example:
        >>> import ghn_init, torch
        >>> data = [(torch.randn(32, 3, 8, 8), torch.arange(32) % 2)]
        >>> def net(width: int) -> torch.nn.Module:
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.Flatten(), torch.nn.Linear(36 * width, 2))
        >>> found = ghn_init.rank({"narrow": lambda: net(2), "wide": lambda: net(8)}, data, data, steps=2)
        >>> found.steps, sorted(found.order)
        (2, ['narrow', 'wide'])
    """
    begun = time.perf_counter()
    settings = Settings.of(ghn, start, rate, batch_size, optimizer, device, seed)
    counts = settings.steps_of_rungs(steps, rungs)
    steps, rungs = counts[-1], len(counts)  # as ints, which the file takes
    with untouched(nn.Module()):  # random states
        bench = Bench.of(train, val, steps, val_images, settings)
        make = makers(candidates, bench.classes)
        if known is not None:
            check_known(known, list(make))
        with Processes(make, bench, workers) as processes:
            record = Record(None if out is None else Path(out), {} if out is None else _setting(make, bench, steps, rungs))
            race = _Race(processes, record, counts, on_judged)
            race.look(list(make))
            found = successive_halving(list(make), counts, race.scores, show=on_judged is None)
    calibration = None if known is None else calibrate(found[0].scores, record.looks, known)
    names = order(found)
    if calibration is not None:
        names = sorted(names, key=lambda name: -calibration.accuracies[name])
    expected = {} if calibration is None else calibration.accuracies
    rows = tuple(_row(name, names[0], found, record, expected.get(name)) for name in names)
    total = sum(rung.steps * len(rung.scores) for rung in found)
    images = total * min(settings.batch_size, len(bench.train))
    ranking = Ranking(rows, total, images, len(bench.val), time.perf_counter() - begun, calibration)
    record.save(ranking.to_dict())
    return ranking


def _setting(make: Mapping[str, Make], bench: Bench, steps: int, rungs: int) -> dict[str, Any]:
    """What tells a ranking from others, but for known accuracies: they change no measurement."""
    settings, candidates = bench.settings, {}
    for name, one in make.items():
        with naming(name):
            candidates[name] = of_network(one, settings.seed)
    return {
        "hypernetwork": settings.ghn.fingerprint,
        "steps": steps,
        "rungs": rungs,
        "start": settings.start,
        "rate": settings.rate,
        "batch_size": settings.batch_size,
        "optimizer": described(settings.optimizer),
        "device": str(settings.device),
        "seed": settings.seed,
        "training images": of_images(bench.train),
        "validation images": of_images(bench.val),
        CANDIDATES: candidates,
    }


class _Race:
    """Measures what is not yet in the record."""

    def __init__(
        self,
        processes: Processes,
        record: Record,
        counts: Sequence[int],
        on_judged: Callable[[str, int, float], None] | None,
    ) -> None:
        self._processes, self._record, self._counts, self._on_judged = processes, record, counts, on_judged

    def look(self, names: Sequence[str]) -> None:
        """What all networks are, before any training."""
        for name, found in self._processes.each(Bench.look, [name for name in names if name not in self._record.looks]):
            self._record.looks[name] = found
            self._record.save()

    def scores(self, names: Sequence[str], steps: int) -> Iterator[tuple[str, float]]:
        """Means in percent of the accuracies up to so many steps, as they come."""
        judgements = self._record.judgements
        missing = [name for name in names if (name, steps) not in judgements]
        for name in names:
            if name not in missing:
                yield self._told(name, steps)
        for name, found in self._processes.each(Bench.judge, missing, steps):
            judgements[name, steps] = found
            self._record.save()
            yield self._told(name, steps)

    def _told(self, name: str, steps: int) -> tuple[str, float]:
        if self._on_judged is not None:
            self._on_judged(name, steps, accuracy(self._record.judgements[name, steps].right))
        return name, accuracy(_right(self._record, name, [count for count in self._counts if count <= steps]))


def _right(record: Record, name: str, counts: Sequence[int]) -> Tensor:
    """(N,) shares of these rungs in which each validation image was told rightly."""
    return shares(record.judgements[name, count] for count in counts)


def _row(name: str, first: str, rungs: Sequence[Rung], record: Record, expected: float | None) -> Ranked:
    steps, seen = [rung.steps for rung in rungs if name in rung.scores], record.looks[name]
    own = [record.judgements[name, count] for count in steps]
    both = [rung.steps for rung in rungs if {name, first} <= rung.scores.keys()]  # after more steps anyone is ahead
    compared = next(len(rung.scores) for rung in rungs if rung.steps == both[-1])
    pairs = compared * (compared - 1) // 2  # any two of them could have been the ones to compare
    sure = surely_ahead(_right(record, first, both), _right(record, name, both), pairs)
    right = _right(record, name, steps)
    return Ranked(
        name=name,
        score=accuracy(right),
        interval=accuracy_interval(right),
        steps=steps[-1],
        accuracies=tuple(accuracy(each.right) for each in own),
        tied=name != first and not sure,
        parameters=seen.parameters,
        macs=seen.macs,
        predicted=seen.predicted,
        share=seen.share,
        expected=expected,
        milliseconds=own[-1].milliseconds,
        seconds=sum(each.seconds for each in own),
    )
