"""One network: started, trained for few steps or none, judged; and what it costs."""

# Axes: N validation images, D features of a graph's node

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ghn_init.api import Hypernetwork, predict
from ghn_init.checkpoints.pretrained import given
from ghn_init.devices import found
from ghn_init.errors import ComparisonError, HeadError
from ghn_init.heads.fit import fit_on
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models.batch_norm import tracking_norms
from ghn_init.models.batches import Batches, traced_on
from ghn_init.prediction import cost
from ghn_init.ranking.candidates import Make
from ghn_init.ranking.defaults import FITTED, FITTED_IMAGES, RATES, From
from ghn_init.tracing.trace import read
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import taken_off
from ghn_init.trials.contestant import Contestant, MakeOptimizer, check_classifier, check_labels, logits_of, sgd
from ghn_init.trials.halving import steps_of_rungs
from ghn_init.trials.pool import Pool, check_outputs, seeded
from ghn_init.whole import whole, whole_seed


@dataclass(frozen=True)
class Settings:
    """Of all measurements of a ranking; as `ghn_init.rank` takes them."""

    ghn: GraphHyperNetwork
    start: From
    rate: float
    batch_size: int
    optimizer: MakeOptimizer = sgd
    device: torch.device | str = "cpu"
    seed: int = 0

    @classmethod
    def of(cls, ghn: Hypernetwork, start: From, rate: float | None, *others: Any) -> Settings:
        """With a hypernetwork that is loaded where it isn't, and the start's own rate where none is given.

        Raises:
            ComparisonError: No network can be measured with them.
            CheckpointError: As `ghn_init.load`.
        """
        if start not in get_args(From):
            raise ComparisonError(f"start is {start!r}; expected {', '.join(map(repr, get_args(From)))}.")
        settings = cls(given(ghn), start, RATES[start] if rate is None else rate, *others)
        settings.check()
        return replace(settings, batch_size=int(settings.batch_size), seed=int(settings.seed))

    def steps_of_rungs(self, steps: int, rungs: int) -> tuple[int, ...]:
        """Steps after each rung.

        A network with a fitted head can be judged before it is trained: that is the first one, and with 0 steps the only one.

        Raises:
            ComparisonError: They can't be halved for so many, or are no whole numbers.
        """
        rungs = whole("rungs", rungs, 1, ComparisonError)
        if self.start == FITTED and whole("steps", steps, 0, ComparisonError) == 0:
            return (0,)
        if self.start == FITTED and rungs > 1:
            return (0, *steps_of_rungs(steps, rungs - 1))
        return steps_of_rungs(steps, rungs)

    def check(self) -> None:
        """Refuses those that no ranking can have.

        Raises:
            ComparisonError: They are.
            DeviceError: There is no such device.
        """
        found(self.device, computes=True)
        if not isinstance(self.rate, Real) or not 0 < self.rate < float("inf"):
            raise ComparisonError(f"rate is {self.rate!r}; expected a finite number above 0.")
        whole("batch_size", self.batch_size, 2, ComparisonError)
        whole_seed(self.seed, ComparisonError)


@dataclass(frozen=True)
class Look:
    """What a network is before any training.

    Attributes:
        parameters: Number of elements.
        macs: Multiply-accumulates of convolutions and linear layers, for one image.
        embedding: (D,) mean of the graph's node embeddings.
        predicted: What is predicted of it, in words; empty where nothing is.
        share: Elements that are predicted, in percent of all.
    """

    parameters: int
    macs: int
    embedding: Tensor
    predicted: str
    share: float = 0.0


@dataclass(frozen=True)
class Judgement:
    """After so many steps: (N,) which images are told rightly, seconds in all, milliseconds of an image's forward pass."""

    right: Tensor
    seconds: float
    milliseconds: float


def shares(judgements: Iterable[Judgement]) -> Tensor:
    """(N,) float64: in how many of several judgements each image was told rightly, as a share of them."""
    return torch.stack([found.right.double() for found in judgements]).mean(0)


def look(make: Make, images: Pool, labels: Tensor, settings: Settings) -> Look:
    """Reads a network's graph, and sees whether it can be trained and judged: what it fails at later costs all others' time.

    Args:
        make: What makes it.
        images: To train on.
        labels: (N,) int64, of those that judge too.
        settings: Of the ranking.

    Raises:
        ComparisonError: It fails on the images, or has no classes, fewer than they, or with a fitted head more.
        GHNInitError: As `ghn_init.predict`.
    """
    seeded(settings.seed)
    model = make()
    few = images.suited(model).first(2)
    inputs = few.inputs.few()
    with traced_on(model, inputs):
        found = read(model, inputs)
    macs = cost.features(found.record)
    with torch.no_grad():
        (embeddings,) = settings.ghn.embed_nodes([found.graph])
    numel = sum(parameter.numel() for parameter in model.parameters())
    seen = Look(numel, round(macs["dense"] + macs["depthwise"]), embeddings.mean(0).cpu(), "")
    if settings.start != "default":
        report = predict(model, settings.ghn, inputs, head=False).report
        share = 100 * sum(row.numel for row in report.predicted) / numel
        seen = replace(seen, predicted=report.summary, share=share)
    outputs = _outputs(model, few, labels)
    if settings.start == FITTED:
        with _fitted():
            check_outputs(_to_fit(images), outputs, full=False)
    return seen


def _outputs(model: nn.Module, few: Pool, labels: Tensor) -> int:
    """How many classes a network has, which are enough for the labels."""
    model, _ = taken_off(model)
    check_classifier(model)
    with untouched(model), torch.no_grad():
        logits = logits_of(model.eval(), few.to(next(model.parameters()).device).inputs)
    check_labels(model, logits, labels)
    return logits.shape[1]


def judge(make: Make, steps: int, train: Pool, val: Pool, settings: Settings) -> Judgement:
    """Makes a network anew, starts it, trains it for so many steps, judges it: a function of its arguments alone.

    Not from where the rung before has left it: then all networks of a rung would be held at once, with their momenta.

    Raises:
        ComparisonError: It fails on the images, or has fewer classes than they.
        GHNInitError: As `ghn_init.initialize`.
    """
    begun = time.perf_counter()
    found = judge_(started(make, train, settings), steps, train, val, settings)
    return replace(found, seconds=time.perf_counter() - begun)


def judge_(model: nn.Module, steps: int, train: Pool, val: Pool, settings: Settings) -> Judgement:
    """As `judge`, of a network that is `started` and changed here."""
    begun = time.perf_counter()
    contestant = Contestant(model.to(settings.device), settings.rate, settings.optimizer)
    contestant.train(train.suited(model), steps, settings.batch_size, settings.seed)
    right = contestant.judge(val.suited(model))
    return Judgement(right, time.perf_counter() - begun, contestant.milliseconds)


def started(make: Make, train: Pool, settings: Settings) -> nn.Module:
    """A network as it is before any step.

    Raises:
        ComparisonError: It says that it has no classes, or its head can't be fitted.
        GHNInitError: As `ghn_init.initialize`.
    """
    seeded(settings.seed)
    model, _ = taken_off(make())
    check_classifier(model)
    start_(model, train.suited(model), settings)
    return model


def start_(model: nn.Module, train: Pool, settings: Settings) -> None:
    """Writes a network's start; running statistics are left alone, as batches' own are used."""
    if settings.start == "default":
        return
    inputs = train.inputs.few()
    with traced_on(model, inputs):
        prediction = predict(model, settings.ghn, inputs, head=False, seed=settings.seed)
    prediction.apply_(statistics=False)
    if settings.start == FITTED:
        few = _to_fit(train)
        with _fitted():
            fit_on(Batches(few.contents(), model, len(few) + 1), "", tracking_norms(model))  # no more of them could count


def _to_fit(train: Pool) -> Pool:
    """Images that heads are fitted to: all, where the first lack classes, as they do where there are hundreds."""
    few = train.first(FITTED_IMAGES)
    return few if len(few.labels.unique()) == len(train.labels.unique()) else train


@contextmanager
def _fitted() -> Iterator[None]:
    """Errors of heads that can't be fitted, with a way out."""
    try:
        yield
    except (ComparisonError, HeadError) as error:
        what = str(error).removesuffix(".")
        raise ComparisonError(f"{what}; start='predicted' ranks networks with random heads.") from error
