"""Accuracies of predicted parameters, files of results, the yardstick."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN, deepnets
from ghn_init.errors import ArchitectureError, TrainingError
from ghn_init.evaluation.accuracy import Accuracies, Result, accuracy, evaluate, top1
from ghn_init.evaluation.results import Evaluation, SGDResult, picture
from ghn_init.evaluation.sgd import sgd_accuracy
from ghn_init.training.networks import Network
from helpers import SMALL, Tiny, colours


@pytest.fixture(scope="module")
def small() -> GHN:
    torch.manual_seed(0)
    return GHN(SMALL).eval()


def test_accuracy_counts_right_answers_batch_by_batch(small: GHN) -> None:
    images = colours()
    with torch.device("meta"):
        module = deepnets.network("test", 0, 3, 16)
    prediction = ghn_init.predict(module, small, torch.empty(2, 3, 16, 16, device="meta"), head=True)
    prediction.model.to_empty(device="cpu")
    model = prediction.apply_().eval()
    right = 0
    for start in range(0, 60, 16):
        with torch.no_grad():
            logits = model(images.normalise(images.pixels[start : start + 16]))
        right += int((logits.argmax(1) == images.labels[start : start + 16]).sum())
    assert accuracy(small, module, images, batch_size=16) == pytest.approx(100 * right / 60)


def test_evaluation_is_the_same_in_several_processes(small: GHN) -> None:
    images = colours(20)
    alone = list(evaluate(small, images, "test", range(3)))
    assert alone == list(evaluate(small, images, "test", range(3), workers=2))
    assert [(r.split, r.index) for r in alone] == [("test", 0), ("test", 1), ("test", 2)]
    with torch.device("meta"):
        module = deepnets.network("test", 2, 3, 16)
    assert alone[2].params == sum(p.numel() for p in module.parameters())
    assert alone[2].accuracy == pytest.approx(accuracy(small, module, images))


def test_predefined_networks_are_evaluated(small: GHN) -> None:
    resnet, vit = evaluate(small, colours(8), "predefined", range(2))
    assert resnet.params > 20e6
    assert (resnet.nodes, vit.nodes) == (126, 129)  # as published


def test_unknown_splits_are_named(small: GHN) -> None:
    with pytest.raises(ArchitectureError, match="'tset'"):
        list(evaluate(small, colours(8), "tset", range(1)))


def test_accuracies_by_hand() -> None:
    values = Accuracies((10.0, 20.0, 60.0))
    assert (values.mean, values.best) == (30.0, 60.0)
    assert values.standard_error == pytest.approx((700 / 3) ** 0.5)
    assert str(Accuracies((10.0,))) == "10.0 ± 0.0 (best 10.0, 1 networks)"


def test_sgd_learns_the_colours() -> None:
    torch.manual_seed(0)
    images = colours()
    untrained = sgd_accuracy(Tiny(2, 8), images, images, steps=1, batch_size=16, lr=1e-9)
    torch.manual_seed(0)
    assert sgd_accuracy(Tiny(2, 8), images, images, steps=60, batch_size=16) > max(untrained, 80)


def test_answers_that_are_no_numbers_are_wrong() -> None:
    images = colours()
    with torch.device("meta"):
        network = Network.of(Tiny(2, 8), 3, 16)
    nothing = {slot.name: torch.full(slot.shape, torch.nan) for slot in network.slots}
    assert top1(network, nothing, images) == 0


def rows() -> Evaluation:
    own = [Result("test", 0, 50.0, 10**6, 90), Result("test", 1, 60.0, 10**5, 50), Result("deep", 0, 30.0, 10**6, 200)]
    return Evaluation({"ghn": "x"}, own, [SGDResult("test", 1, 500, 55.0)])


def test_an_evaluation_is_resumed_from_its_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert Evaluation.resume(path, {"ghn": "x"}) == Evaluation({"ghn": "x"})
    rows().save(path)
    again = Evaluation.resume(path, {"ghn": "x"})
    assert again == rows()
    assert again.splits == ["test", "deep"]
    assert again.done("test") == {0, 1}
    assert again.accuracies("test").values == (50.0, 60.0)
    assert again.accuracies("test", [1]).values == (60.0,)
    with pytest.raises(TrainingError, match="evaluation of {'ghn': 'x'}, not of {'ghn': 'y'}"):
        Evaluation.resume(path, {"ghn": "y"})
    path.write_text(json.dumps({"results": []}))
    with pytest.raises(TrainingError, match=r"results.json holds no evaluation"):
        Evaluation.resume(path, {"ghn": "x"})


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture(rows(), tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_evaluation_leaves_the_module_alone(small: GHN) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    accuracy(small, module, colours(8))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
