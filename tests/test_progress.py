"""Progress bars: in terminals alone, and for those who don't count by themselves."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import ImageTask
from ghn_init.progress import counting, watched
from helpers import RECIPE, SMALL, colours, tiny_networks


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars show at once."""
    from huggingface_hub.utils.tqdm import tqdm

    original = tqdm.__init__

    def begin(self: object, *args: object, **kwargs: object) -> None:
        original(self, *args, **{**kwargs, "delay": 0, "mininterval": 0})  # type: ignore[arg-type]

    monkeypatch.setattr(tqdm, "__init__", begin)


def test_a_bar_counts_in_a_terminal(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with counting(3, "steps", show=True, first=1) as done:
        done("loss 1.5")
        assert "2/3" in sys.stderr.getvalue()  # type: ignore[attr-defined]
        assert "loss 1.5" in sys.stderr.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("stream", "show"), [(Terminal(), False), (io.StringIO(), True)])
def test_no_bar(stream: io.StringIO, show: bool, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with counting(3, "steps", show) as done:
        done("loss 1.5")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("counts", [True, False])
def test_training_shows_a_bar_unless_the_caller_counts(
    counts: bool, impatient: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    options = {"on_step": lambda _: None} if counts else {}
    ghn_init.train(ImageTask(colours()), tmp_path, architectures=tiny_networks(), ghn=SMALL, config=RECIPE, **options)  # type: ignore[arg-type]
    assert ("4/4" in sys.stderr.getvalue()) is not counts  # type: ignore[attr-defined]


def test_reading_a_users_images_shows_a_bar_each_time(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    images, labels = torch.randn(30, 3, 8, 8), torch.arange(30) % 3
    loader = list(zip(images.split(10), labels.split(10), strict=True))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for read in (
        lambda: ghn_init.recalibrate_batchnorm(model, loader),
        lambda: ghn_init.fit_head_(model, loader),
        lambda: ghn_init.initialize(model, data=loader),
    ):
        sys.stderr.seek(0)
        sys.stderr.truncate()
        read()
        assert "3 batches" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert list(watched(iter(loader))) == loader
