"""Messages of the package, in words that the command line knows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import ghn_init
from ghn_init import cli
from ghn_init.cli import predicting, words
from ghn_init.cli.user_data import numbered
from ghn_init.cli.words import in_options
from ghn_init.errors import ComparisonError, HeadError, ModelSpecError, TraceError, TrainingError
from ghn_init.models import spec
from ghn_init.tasks import image_data, image_reading, images


class Two(nn.Module):
    """A forward of two inputs, built without a number of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + y


def traced(model: nn.Module, *size: int) -> None:
    ghn_init.trace(model, torch.empty(2, *size, device="meta"))


def started(model: nn.Module, *size: int) -> None:
    ghn_init.initialize(model, data=[(torch.empty(2, *size), torch.arange(2))])


@pytest.mark.parametrize("verb", [traced, started])
def test_a_forward_that_fails_on_data_is_not_helped_by_an_input(verb: Callable[..., None]) -> None:
    with pytest.raises(TraceError) as caught, words.on_data():
        verb(nn.Sequential(nn.Conv2d(1, 8, 3)), 3, 32, 32)
    message = in_options(str(caught.value))
    assert "(float32[2, 3, 32, 32]) from DATA: " in message
    assert message.endswith("The images of DATA have 3 channels, and their size is --image-size; pass a model that takes them.")
    assert "--input" not in message


@pytest.mark.parametrize(("verb", "data"), [(traced, True), (started, True), (traced, False)])
def test_several_inputs_are_for_python(verb: Callable[..., None], data: bool) -> None:
    with pytest.raises(TraceError) as caught, words.on_data() if data else nullcontext():
        verb(Two(), 8)
    message = in_options(str(caught.value))
    assert message.endswith("A forward of several inputs is for Python: ghn_init.initialize(model, example_inputs=…).")
    assert f"from {'DATA' if data else '--input'}: " in message


def test_a_head_of_other_classes_than_the_data() -> None:
    advice = "DATA has 3 classes: pass --num-classes 3, or leave it out."
    with pytest.raises(HeadError, match=rf"is of class 3, 4\. {advice}$"), words.on_data(advice):
        raise HeadError("the head 'fc' has 5 outputs, but none is of class 3, 4; make the model with an output for each class.")
    with pytest.raises(ComparisonError, match=rf"is of class 3\. {advice}$"), words.on_data(advice):
        raise ComparisonError("the model has 4 outputs, but none is of class 3; make the model with an output for each class.")
    with pytest.raises(ComparisonError, match="^there are 12 images$"), words.on_data(advice):
        raise ComparisonError("there are 12 images")
    assert in_user_data(5) == advice
    assert in_user_data(3) == in_user_data(None) == ""


def in_user_data(classes: int | None) -> str:
    return numbered(classes, image_data.Images.from_tensors(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3)))


def test_a_callable_is_told_what_it_is_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "two", type(sys)("two"))
    monkeypatch.setattr(sys.modules["two"], "Two", Two, raising=False)
    with pytest.raises(ModelSpecError) as caught:
        spec.build("two:Two", 3)
    message = in_options(str(caught.value))
    assert message.startswith("'two:Two' takes no num_classes (")
    assert message.endswith(", and was called with num_classes=3: let it take num_classes.")


@pytest.mark.parametrize("name", ["./two.py:Two", "models/two.py:Two", "two.py:Two"])
def test_a_file_is_no_module(name: str) -> None:
    with pytest.raises(ModelSpecError) as caught:
        spec.build(name)
    message = in_options(f"candidate {name!r}: {caught.value}")
    assert message.startswith(f"candidate {name!r}: {name!r} can't be imported; a module is named as for import: 'two:Two', in")


def test_equal_names_are_told_apart_with_options() -> None:
    data = image_data.Images.from_tensors(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3))
    with pytest.raises(TrainingError) as caught:
        images.tasks_of([data, data])
    assert in_options(str(caught.value)).endswith("each with a name of its own: pass NAME=DATA.")


def test_folders_that_are_laid_out_otherwise_are_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for name in ("cats", "dogs"):
        (tmp_path / "flat" / name).mkdir(parents=True)
    (tmp_path / "train.parquet").touch()
    with pytest.raises(TrainingError, match=r"if these are classes, put their folders into .*flat.train\.$"):
        image_reading.load_images(tmp_path / "flat", "train")
    with pytest.raises(
        TrainingError, match=r"parquet is a file; pass its folder, with train\.parquet or with train/CLASS/…\.$"
    ):
        image_reading.load_images(tmp_path / "train.parquet", "train")


@pytest.mark.parametrize("last", ["own:Net", "timm:resnet18", "resnet18"])
def test_models_are_not_taken_for_data(last: str) -> None:
    result = CliRunner().invoke(cli.app, ["rank", "timm:resnet50", last])
    assert result.exit_code == 2, result.exception
    assert f"the last argument is DATA, and '{last}' is a model" in " ".join(result.output.replace("│", "").split())


def test_an_unknown_split_is_told_all_that_there_are() -> None:
    result = CliRunner().invoke(cli.app, ["evaluate", "data", "--split", "tset"])
    assert result.exit_code == 2, result.exception
    assert "there is no split 'tset'; there are train, val" in " ".join(result.output.replace("│", "").split())
    assert "search, predefined" in " ".join(result.output.replace("│", "").split())
    assert "train/CLASS/… and test/CLASS/…" in " ".join(CliRunner().invoke(cli.app, ["evaluate", "--help"]).output.split())


def test_an_error_of_the_model_is_no_options_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError(text)

    monkeypatch.setattr(ghn_init, "initialize", fails)
    text = "headless images"
    with pytest.raises(ValueError, match="^headless images$"):
        predicting.started(nn.Linear(1, 1), ghn_init.load(), [], head="auto")
    text = "head=True is ambiguous: a and b have 10 outputs; pass head='a'."
    with pytest.raises(typer.BadParameter, match=r"^--head yes is ambiguous: .* pass --head a\.$") as caught:
        predicting.started(nn.Linear(1, 1), ghn_init.load(), [], head="auto")
    assert caught.value.param_hint == "--head"
