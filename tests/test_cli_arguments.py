"""Arguments of the model's constructor that a command can't follow, and what it takes in their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

import ghn_init
from ghn_init import cli
from ghn_init.confidence.regression import Expectation

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
    told = f"{argument} loads trained weights, which predicted ones would overwrite; leave it out"
    assert told.replace("=true", "=True") in message


@pytest.mark.parametrize("command", [INIT, ["inspect"], ["compare"]])
def test_the_number_of_classes_has_an_option_of_its_own(command: list[str]) -> None:
    data = ["data"] if command == ["compare"] else []
    message = refused(*command, "timm:test_resnet", *data, "--model-arg", "num_classes=3")
    assert "'num_classes=3' is no argument like the others" in message
    assert "--num-classes" in message


@pytest.mark.parametrize("value", ["{1,2}", "b'x'"])
def test_arguments_that_a_file_cannot_note_are_refused(value: str) -> None:
    assert f"opts={value}" in (message := refused(*INIT, "timm:test_resnet", "--model-arg", f"opts={value}"))
    assert "can't be noted in a file" in message


def test_what_is_no_literal_is_a_text() -> None:
    from ghn_init.cli.predicting import constructed

    assert constructed(["a={[]:1}", "b=[1]", "c=none"]) == {"a": "{[]:1}", "b": [1], "c": None}


def test_seeds_that_torch_cannot_take_are_refused() -> None:
    assert "--seed" in refused("rank", "timm:test_resnet", "timm:test_vit", "data", "--seed", str(2**64))


def test_channels_and_size_reach_the_models_constructor() -> None:
    options = ["--in-chans", "1", "--img-size", "32"]
    result = CliRunner().invoke(cli.app, [*INIT, "timm:test_vit", *options])
    assert result.exit_code == 0, result.output
    with safe_open("x.safetensors", "pt") as file:
        assert file.get_slice("patch_embed.proj.weight").get_shape()[1] == 1
        assert json.loads(file.metadata()["model_args"]) == {"in_chans": 1, "img_size": 32}


def test_an_argument_has_one_value() -> None:
    message = refused(*INIT, "timm:test_resnet", "--in-chans", "1", "--model-arg", "in_chans=3")
    assert "in_chans is given twice, see --in-chans" in message


def test_options_that_another_one_leaves_without_effect_are_refused() -> None:
    message = refused("train", "data", "-o", "run", "--start", "ghn2-small", "--variant", "ghn-1")
    assert "--start goes on from 'ghn2-small', whose kind stays; leave one of the two out" in message
    message = refused("evaluate", "data", "--sgd-steps", "500")
    assert "no network is trained for so many steps without --sgd; pass how many of them are, --sgd 10" in message
    assert "--sgd-steps" in message


@pytest.mark.parametrize("option", [["--model-arg", "in_chans=1"], ["--in-chans", "1"]])
def test_images_have_three_channels(option: list[str]) -> None:
    message = refused(*INIT, "timm:test_resnet", "data", *option)
    assert "the images of DATA have 3 channels, and the model takes 1" in message


@pytest.mark.parametrize("command", [INIT, ["export", "-o", "x"]])
def test_what_is_expected_is_told(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    predict = ghn_init.predict
    expected = {"fitted": Expectation(40.0, 30.0, 50.0, 0.9, "% right with a fitted head")}

    def knowing(*args: object, **options: object) -> object:
        prediction = predict(*args, **options)  # type: ignore[arg-type]
        object.__setattr__(prediction, "report", prediction.report.with_expected(expected))
        return prediction

    monkeypatch.setattr(ghn_init, "predict", knowing)
    result = CliRunner().invoke(cli.app, [*command, "timm:test_resnet"])
    assert f"expected: {expected['fitted']}" in result.output.splitlines()


def test_false_is_no_text() -> None:
    done = CliRunner().invoke(cli.app, ["init", "timm:test_resnet", "--model-arg", "pretrained=false", "-o", "x.safetensors"])
    assert done.exit_code == 0, done.output
