"""How far commands are: a bar in a terminal, plain lines without one, nothing left of either before an error."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import ghn_init
from ghn_init import cli, comparison
from ghn_init.cli import console
from ghn_init.errors import EvaluationError
from ghn_init.evaluation import norms, results
from ghn_init.tasks import image_reading, images
from ghn_init.tasks.image_data import Images
from ghn_init.training.curve import Progress


def call(*args: str) -> Result:
    return CliRunner().invoke(cli.app, list(args))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to an error console of 80 columns."""
    file = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=file, force_terminal=True, width=80, highlight=False, soft_wrap=True))
    return file


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is told of one step."""
    train = import_module("ghn_init.cli.train")
    monkeypatch.setattr(train, "VARIANTS", {"ghn-2": lambda _: None})
    step = Progress(12, 10_000, 2.312, 0.104, 1e-3, 0.6)
    monkeypatch.setattr(ghn_init, "train", lambda *_, on_step, **__: on_step(step))  # first: its own import of tasks_of stays
    monkeypatch.setattr(images, "tasks_of", lambda *_, **__: [])


def test_a_narrow_terminal_shows_count_time_and_figures(training: None, terminal: io.StringIO, tmp_path: Path) -> None:
    call("train", "data", "-o", str(tmp_path), "--budget", "1")
    assert "12/10000" in terminal.getvalue()
    assert "-:--:--" in terminal.getvalue()
    assert "loss 2.312, accuracy 10.4 %, 0.6 networks/s" in terminal.getvalue()


def test_training_tells_of_its_steps_without_a_terminal(training: None, tmp_path: Path) -> None:
    told = call("train", "data", "-o", str(tmp_path), "--budget", "1").stderr
    meaning, step = told.splitlines()
    assert meaning == "loss and accuracy are those of predicted parameters, on training images"
    assert step == "12 of 10000: loss 2.312, accuracy 10.4 %, 0.6 networks/s"


def test_training_says_what_its_figures_mean(training: None, tmp_path: Path) -> None:
    told = call("train", "data", "-o", str(tmp_path), "--budget", "1", "--objective", "fine-tune").stderr.splitlines()
    assert told[0] == (
        "loss and accuracy are those after a few steps of SGD from predicted parameters with a random head, on training images "
        "of classes that are drawn"
    )


@pytest.fixture
def at_step_five(tmp_path: Path) -> Path:
    """The folder of a run."""
    save_file({"x": torch.zeros(1)}, tmp_path / "state.safetensors", {"step": "5"})
    return tmp_path


def test_a_run_that_has_its_steps_says_so(training: None, at_step_five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghn_init, "train", lambda *_, **__: None)
    done = call("train", "data", "-o", str(at_step_five), "--budget", "1", "--steps", "5")
    assert (done.stdout, done.stderr) == ("the run is already at step 5; nothing to do, pass more --steps\n", "")
    assert call("train", "data", "-o", str(at_step_five), "--budget", "1", "--steps", "6").stdout.startswith("written to ")


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_stopped_says_where(training: None, at_step_five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghn_init, "train", stopped)
    result = call("train", "data", "-o", str(at_step_five), "--budget", "1")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "stopped at step 5; the same command goes on"


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        (["rank", "timm:resnet18", "timm:resnet34", "data", "--val-images", "2", "--batch-size", "2"], "rank"),
        (["evaluate", "data"], "evaluate"),
        (["compare", "timm:resnet18", "data", "--images", "2", "--val-images", "2", "--init", "default"], "compare"),
    ],
)
def test_what_is_stopped_says_what_is_left(
    command: list[str], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Images.from_tensors(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    monkeypatch.setattr(image_reading, "load_images", lambda *_, **__: pictures)
    monkeypatch.setattr(comparison if verb == "compare" else ghn_init, verb, stopped)
    assert call(*command).stderr.splitlines()[-1:] == ["stopped; nothing is saved"]
    if verb == "compare":
        return
    output = tmp_path / "r.json"
    assert call(*command, "-o", str(output)).stderr.splitlines()[-1] == "stopped; nothing is saved"
    output.write_text("{}")
    assert call(*command, "-o", str(output)).stderr.splitlines()[-1] == f"stopped; the same command goes on from {output}"


def broken_off(*_: object, on_result: ghn_init.evaluation.evaluate.OnResult, **__: object) -> None:
    for index in range(3):
        on_result(results.Result("test", index, 40.0, 1, 1), index + 1, 3)
    raise EvaluationError("no more")


def test_lines_are_printed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last at least."""
    monkeypatch.setattr(ghn_init, "evaluate", broken_off)
    assert [line.split(", ")[0] for line in call("evaluate", "data").stderr.splitlines()] == [
        "1 of 3: test 0: 40.0 %",
        "3 of 3: test 2: 40.0 %",
    ]


def test_nothing_is_left_of_the_bar_before_an_error(monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EvaluationError("no such data")

    monkeypatch.setattr(ghn_init, "evaluate", fail)
    assert call("evaluate", "data").stderr == ""
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # up, and the line is erased


def test_slices_are_told(tmp_path: Path) -> None:
    told = call("deepnets", "write", "test", "-o", str(tmp_path / "nets.db"), "--stop", "1").stderr
    assert told.startswith("1 of 1: ")
    assert told.endswith(" networks/s\n")


def test_verify_tells_of_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [SimpleNamespace(model=name) for name in ("resnet18", "resnet50")]
    found = SimpleNamespace(model="", published=1.0, exact=1.0, single=1.0, deviation=0.0, strays=(), matches=True)
    monkeypatch.setattr(norms, "read_table", lambda *_: rows)
    monkeypatch.setattr(norms, "verify", lambda *_: [found, found])
    told = call("verify", ghn_init.DEFAULT).stderr.splitlines()
    assert [line.split(", ")[0] for line in told] == ["1 of 2: resnet18", "2 of 2: resnet50"]
