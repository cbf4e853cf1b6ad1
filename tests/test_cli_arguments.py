"""Arguments of the model's constructor that a command can't follow, and what it takes in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ghn_init import cli

INIT = ["init", "-o", "x.safetensors"]


def refused(*args: str) -> str:
    """The message, on one line, of a command that refuses its arguments before anything is read or written."""
    result = CliRunner().invoke(cli.app, list(args))
    assert result.exit_code == 2, result.exception or result.output
    assert not Path("x.safetensors").exists()
    return " ".join(result.output.replace("│", "").split())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", [INIT, ["compare"]])
@pytest.mark.parametrize(
    ("model", "argument"),
    [
        ("timm:test_resnet", "pretrained=true"),
        ("timm:test_resnet", "pretrained=True"),
        ("timm:test_resnet", "checkpoint_path=x.pt"),
        ("torchvision:resnet18", "weights=DEFAULT"),
    ],
)
def test_trained_weights_are_not_overwritten(command: list[str], model: str, argument: str) -> None:
    message = refused(*command, model, "data", "--model-arg", argument)
    assert f"{argument} loads trained weights, which predicted ones would overwrite; leave it out" in message


@pytest.mark.parametrize("command", [INIT, ["inspect"], ["compare"]])
def test_the_number_of_classes_has_an_option_of_its_own(command: list[str]) -> None:
    data = ["data"] if command == ["compare"] else []
    message = refused(*command, "timm:test_resnet", *data, "--model-arg", "num_classes=3")
    assert "'num_classes=3' is no argument like the others" in message
    assert "--num-classes" in message
