"""What is predicted and what is kept: heads of several tasks, whose reason goes first, memory that parameters share."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

import ghn_init
from ghn_init import GHN, GHNConfig
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction.selection import unwritable
from zoo import conv, images

TASKS = {"ten": 10, "seven": 7, "also-seven": 7}
BODY = {"0.weight", "0.bias"}
HEAD = {"3.weight", "3.bias"}


def classifier(classes: int) -> nn.Module:
    return nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


@pytest.fixture(scope="module")
def several() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(TASKS, max_shape=(16, 16, 7, 7), hid=8)).eval()


@pytest.fixture(scope="module")
def cores(several: GHN) -> Any:
    """The cores of a classifier's head as a task decodes it, or as other layers are."""

    def decoded(classes: int, task: str | None) -> dict[str, torch.Tensor]:
        head = next(iter(several.config.tasks_with(classes)), True)  # none of the head's parameters is kept
        prediction = ghn_init.predict(classifier(classes), several, images(), head=head)
        with torch.no_grad():
            (cores,) = several([prediction.graph], [list(prediction.slots.values())], [task])
        return {name: cores[name] for name in HEAD}

    return decoded


@pytest.mark.parametrize(
    ("classes", "head", "task"),
    [
        (10, "ten", "ten"),
        (7, "seven", "seven"),
        (7, "also-seven", "also-seven"),
        (10, True, "ten"),
        (5, True, None),
    ],
)
def test_the_head_is_the_tasks_own(several: GHN, cores: Any, classes: int, head: Any, task: str | None) -> None:
    prediction = ghn_init.predict(classifier(classes), several, images(), head=head)
    assert prediction.task == task
    assert set(prediction.tensors) == BODY | HEAD
    assert all(torch.equal(prediction.cores[name], core) for name, core in cores(classes, task).items())
    row = next(row for row in prediction.report.rows if row.name == "3.weight")
    assert row.core == ((classes, 8) if task else (classes, 8, 1, 1))


def test_tasks_of_as_many_outputs_have_different_heads(cores: Any) -> None:
    one, other, none = (cores(7, task) for task in ("seven", "also-seven", None))
    assert not torch.allclose(one["3.weight"], other["3.weight"])
    assert not torch.allclose(one["3.bias"], other["3.bias"])
    assert not torch.allclose(one["3.weight"], none["3.weight"])


def test_as_many_classes_are_not_the_same_classes(several: GHN) -> None:
    reason = "classification head of 10 classes, as many as ten has (head='ten' predicts it)"
    prediction = ghn_init.predict(classifier(10), several, images())
    assert prediction.kept == dict.fromkeys(("3.weight", "3.bias"), reason)
    assert prediction.task is None


def test_a_head_that_two_tasks_fit_is_kept_and_the_reason_names_both_and_the_way_out(several: GHN) -> None:
    prediction = ghn_init.predict(classifier(7), several, images())
    reason = "classification head of 7 classes, as many as seven and also-seven have (head='seven' predicts it)"
    assert prediction.kept == dict.fromkeys(("3.weight", "3.bias"), reason)
    assert prediction.task is None
    with pytest.raises(ghn_init.errors.StrictError, match=r"'3.weight': .*as many as seven and also-seven have \(head='seven'"):
        ghn_init.initialize(classifier(7), several, images(), strict=True)


def test_a_head_that_no_task_fits_is_kept_and_the_reason_names_the_numbers(several: GHN) -> None:
    reason = "classification head of 5 classes, the hypernetwork has 7 or 10 (head=True predicts it)"
    assert ghn_init.predict(classifier(5), several, images()).kept == dict.fromkeys(("3.weight", "3.bias"), reason)


def test_the_model_keeps_what_is_kept(several: GHN) -> None:
    model = classifier(7)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ghn_init.initialize(model, several, images())
    assert {name for name, p in model.named_parameters() if torch.equal(p, before[name])} == HEAD


KNOWN = r"ten \(10\), seven \(7\), also-seven \(7\)"


@pytest.mark.parametrize(
    ("classes", "head", "words"),
    [
        (10, "eleven", rf"head is 'eleven'; expected True, False, 'auto' or a task: {KNOWN}\.$"),
        (10, None, rf"head is None; expected True, False, 'auto' or a task: {KNOWN}\.$"),
        (10, 1, rf"head is 1; expected True, False, 'auto' or a task: {KNOWN}\.$"),
        (10, "seven", "head is 'seven', a task of 7 outputs, but the model has a classification head of 10 outputs"),
        (7, True, "head=True is ambiguous: seven and also-seven have 7 outputs; pass head='seven'"),
    ],
)
def test_heads_that_cannot_be_had(several: GHN, classes: int, head: Any, words: str) -> None:
    model = classifier(classes)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=words):
        ghn_init.initialize(model, several, images(), head=head)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_task_is_no_answer_for_a_model_without_a_head(several: GHN) -> None:
    model = nn.Sequential(conv(), nn.ReLU(), conv(8, 10))
    assert ghn_init.predict(model, several, images()).task is None
    with pytest.raises(ValueError, match="head is 'ten', a task of 10 outputs, but the model has no classification head"):
        ghn_init.predict(model, several, images(), head="ten")


def test_the_last_layer_of_a_model_that_says_it_has_no_head_is_a_layer_like_others(several: GHN) -> None:
    model = timm.create_model("mobilenetv3_small_050", num_classes=0)
    prediction = ghn_init.predict(model, several, torch.zeros(2, 3, 64, 64), strict=True)
    assert prediction.kept == {}
    assert prediction.task is None
    assert ghn_init.predict(nn.DataParallel(model), several, torch.zeros(2, 3, 64, 64), strict=True).kept == {}


def test_a_head_left_out_is_left_out_by_its_name_too(several: GHN) -> None:
    kept = ghn_init.predict(classifier(7), several, images(), head=False, strict=True).kept
    assert kept == dict.fromkeys(("3.weight", "3.bias"), "classification head, left out by head=False")
    own = ghn_init.predict(classifier(7), several, images(), head="seven", exclude="3.bias", strict=True)
    assert (own.kept, own.task) == ({"3.bias": "left out by exclude"}, "seven")


def test_the_callers_reason_goes_before_the_heads_and_memorys(several: GHN) -> None:
    kept = ghn_init.predict(classifier(5), several, images(), only="0.weight").kept
    assert kept == dict.fromkeys(("0.bias", "3.weight", "3.bias"), "left out by only")


def test_the_body_does_not_depend_on_the_tasks(several: GHN) -> None:
    """Another hypernetwork with the same weights but for the heads predicts the same, bit by bit, but for the head."""
    torch.manual_seed(1)
    other = GHN(GHNConfig({"new": 10, "more": 3}, max_shape=(16, 16, 7, 7), hid=8)).eval()
    body = {name: tensor for name, tensor in several.state_dict().items() if not name.startswith("heads.")}
    assert other.load_state_dict(body, strict=False).unexpected_keys == []
    one, two = (ghn_init.predict(classifier(10), ghn, images(), head=True) for ghn in (several, other))
    assert (one.task, two.task) == ("ten", "new")
    assert {name for name in one.tensors if torch.equal(one.tensors[name], two.tensors[name])} == BODY


@pytest.mark.parametrize("variant", ["ghn1", "ghn2", "mlp"])
def test_random_bodies_do_not_depend_on_the_tasks(variant: str) -> None:
    """Heads are made last: the same seed gives the same body."""

    def body(tasks: dict[str, int]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        ghn = GraphHyperNetwork(getattr(GHNConfig, variant)(tasks, max_shape=(8, 8, 3, 3), hid=8))
        return {name: tensor for name, tensor in ghn.state_dict().items() if not name.startswith("heads.")}

    one, two = body({"a": 3}), body({"b": 5, "c": 7})
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_parameters_that_cannot_be_written() -> None:
    flat = torch.zeros(20)
    parameters = {
        "first": flat[:8], "beside": flat[8:12], "across": flat[6:10], "every second": torch.zeros(9)[::2],
        "empty": torch.zeros(0, 3), "whole numbers": torch.zeros(2, dtype=torch.int64), "meta": torch.empty(3, device="meta"),
        "also meta": torch.empty(3, device="meta"),
    }  # fmt: skip
    assert unwritable(parameters) == {
        "across": "it shares memory with 'first'",
        "empty": "it has no elements",
        "whole numbers": "torch.int64 values are not predicted",
    }
