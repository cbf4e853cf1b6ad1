"""What all networks of a ranking share: images to train on and to judge by, in memory, and settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ghn_init.errors import ComparisonError, RecalibrationError
from ghn_init.models.batches import Batches
from ghn_init.models.generators import generators_kept
from ghn_init.ranking.candidates import Make
from ghn_init.ranking.defaults import training_images
from ghn_init.ranking.measure import Judgement, Look, Settings, judge, look
from ghn_init.tasks.image_reading import FEW
from ghn_init.trials.pool import Pool, check_classes, check_finite, seeded
from ghn_init.whole import whole


@dataclass(frozen=True)
class Bench:
    """On which each network is measured in the same way."""

    train: Pool
    val: Pool
    settings: Settings

    @classmethod
    def of(cls, train: Iterable[Any], val: Iterable[Any], steps: int, val_images: int, settings: Settings) -> Bench:
        """Reads both loaders once, seeded: images for so many steps, and so many that judge, at most.

        Raises:
            ComparisonError: No images, of several sizes, of one class, with values that are not finite, fewer than a step has,
                one that judges, or numbers that are no such numbers.
            HeadError: No labels, or labels that are no class numbers.
        """
        val_images = whole("val_images", val_images, 1, ComparisonError)
        with generators_kept(train, val):
            seeded(settings.seed, train, val)
            most = training_images(settings.start, steps, settings.batch_size)
            found = cls(_pool(train, most), _pool(val, val_images), settings)
        sizes = [pool.image_sizes() for pool in (found.train, found.val)]
        if sizes[0] != sizes[1]:
            raise ComparisonError(
                f"images to train on are {sizes[0]} (channels, height, width), those to judge by {sizes[1]}; bring them to one "
                f"size."
            )
        check_classes(found.train, "to train on")
        if len(found.train) < settings.batch_size:
            raise ComparisonError(
                f"there are {len(found.train)} images to train on, and a step takes {settings.batch_size} (batch_size); pass "
                f"more images, or a smaller batch_size."
            )
        if len(found.val) < 2:
            raise ComparisonError(
                "there is 1 image to judge by; networks are judged with batch statistics, which need 2 at least: pass more as "
                "val, or a larger val_images."
            )
        check_classes(found.val, "to judge by")
        check_finite(found.train, "to train on")
        check_finite(found.val, "to judge by")
        found.check_cut()
        return replace(found, val=found.val.mixed(settings.seed))

    def check_cut(self) -> None:
        """Refuses images that were taken from the beginning of a loader in the classes' order, and so lack some of them.

        And classes of which no image is to train on, unless there are so few of each that chance alone left them out.

        Raises:
            ComparisonError: They were.
        """
        for pool, other, what, way in (
            (self.train, self.val, "to train on", "steps"),
            (self.val, self.train, "to judge by", "val_images"),
        ):
            seen = set(pool.labels.tolist())
            missing = sorted(set(other.labels.tolist()) - seen)
            if missing and pool.in_runs and len(pool) > len(seen):
                raise ComparisonError(
                    f"the first {len(pool)} images {what} come class by class, and none is of class {missing[0]}; shuffle "
                    f"them, or take more of them ({way})."
                )
            if missing and pool is self.train and len(pool) >= FEW * self.classes:
                raise ComparisonError(
                    f"there are images to judge by of class {missing[0]}, and none of {len(pool)} to train on is; number the "
                    f"classes alike, or leave it out."
                )

    @property
    def classes(self) -> int:
        """That networks which are built by name get."""
        return int(max(self.train.labels.max(), self.val.labels.max())) + 1

    def look(self, make: Make) -> Look:
        """What a network is before any training."""
        return look(make, self.train, torch.cat([self.train.labels, self.val.labels]), self.settings)

    def judge(self, make: Make, steps: int) -> Judgement:
        """How it does after so many steps."""
        return judge(make, steps, self.train, self.val, self.settings)


class _Any(nn.Module):
    """Stands for whatever model will take what a loader yields."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.empty(0))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Is not run."""


def _pool(data: Iterable[Any], max_images: int) -> Pool:
    try:
        return Pool.of(Batches(data, _Any(), max_images))
    except RecalibrationError as error:
        raise ComparisonError(str(error)) from error
