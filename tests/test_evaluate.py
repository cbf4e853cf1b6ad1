"""Accuracies of predicted parameters, files of results, the yardstick."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import ghn_init
from ghn_init import GHN, GHNConfig, Images, ImageTask, cli, deepnets
from ghn_init.errors import ArchitectureError, EvaluationError, UnsupportedModelError
from ghn_init.evaluation import evaluate as room
from ghn_init.evaluation.accuracy import accuracy, top1
from ghn_init.evaluation.results import Accuracies, Evaluation, Result, SGDResult
from ghn_init.evaluation.sgd import sgd_accuracy
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks import image_data, image_reading
from ghn_init.training.networks import Network
from ghn_init.viz.results import draw
from helpers import SMALL, Tiny, colours
from zoo import Fn, conv, param


@pytest.fixture(scope="module")
def small() -> GHN:
    torch.manual_seed(0)
    return GHN(SMALL).eval()


def test_accuracy_counts_right_answers_batch_by_batch(small: GHN) -> None:
    images = colours()
    with torch.device("meta"):
        module = deepnets.network("test", 0, 3, 16)
    prediction = ghn_init.predict(module, small, torch.empty(2, 3, 16, 16, device="meta"), head="images")
    prediction.model.to_empty(device="cpu")
    model = prediction.apply_().eval()
    right = 0
    for start in range(0, 60, 16):
        with torch.no_grad():
            logits = model(images.normalise(images.pixels[start : start + 16]))
        right += int((logits.argmax(1) == images.labels[start : start + 16]).sum())
    assert accuracy(small, module, images, "images", batch_size=16) == pytest.approx(100 * right / 60)


def test_images_in_the_order_of_their_classes_are_shuffled(small: GHN) -> None:
    images = colours(60)
    order = images.labels.argsort(stable=True)
    runs = replace(images, pixels=images.pixels[order], labels=images.labels[order])
    judged: list[torch.Tensor] = []

    class Judged(Tiny):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            judged.append(x)
            return super().forward(x)

    for measure in (
        lambda: accuracy(small, Judged(2, 8), runs, "images", 16),
        lambda: ghn_init.evaluate(runs, small, networks=[Judged(2, 8)]),
    ):
        judged.clear()
        measure()
        first = next(x for x in judged if not x.is_meta)[:16]
        own = [(images.normalise(images.pixels) == one).all((1, 2, 3)).nonzero()[0, 0] for one in first]
        assert len(images.labels[torch.stack(own)].unique()) == 3
    assert images.mixed() is images


def test_evaluation_is_the_same_in_several_processes(small: GHN) -> None:
    images = colours(20)
    alone = ghn_init.evaluate(images, small, networks="test", count=3).results
    assert alone == ghn_init.evaluate(images, small, networks="test", count=3, workers=2).results
    assert [(r.split, r.index) for r in alone] == [("test", 0), ("test", 1), ("test", 2)]
    with torch.device("meta"):
        module = deepnets.network("test", 2, 3, 16)
    assert alone[2].params == sum(p.numel() for p in module.parameters())
    assert alone[2].accuracy == pytest.approx(accuracy(small, module, images, "images"))


def test_predefined_networks_are_evaluated(small: GHN) -> None:
    resnet, vit = ghn_init.evaluate(colours(8), small, networks="predefined", count=2).results
    assert resnet.params > 20e6
    assert (resnet.nodes, vit.nodes) == (126, 129)  # as published


def test_unknown_splits_are_named_first(small: GHN) -> None:
    with pytest.raises(ArchitectureError, match="'tset'"):
        ghn_init.evaluate(colours(8), small, networks="tset", count=1)
    with pytest.raises(ArchitectureError, match="'tset'"):
        ghn_init.evaluate("no/such/data", small, networks=["test", "tset"], count=1)


def test_images_that_are_not_needed_are_not_decoded(small: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those of all images, read and cut afterwards."""
    datasets = pytest.importorskip("datasets")
    images = colours(12)
    columns = {"img": [p.permute(1, 2, 0).numpy() for p in images.pixels], "label": images.labels.tolist()}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    for split in ("train", "test"):
        datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / f"{split}.parquet")
    read: list[object] = []
    pixels = image_reading._pixels
    monkeypatch.setattr(image_reading, "_pixels", lambda image, side: read.append(image) or pixels(image, side))
    monkeypatch.setattr(image_data, "NORMALISED_BY", 4)
    found = ghn_init.evaluate(tmp_path, small, count=1, images=5, task="images")
    assert len(read) == 4 + 5
    whole = image_reading.load_images(tmp_path, "test", image_reading.load_images(tmp_path, "train"))
    some = replace(whole, pixels=whole.pixels[:5], labels=whole.labels[:5])
    assert found.results == ghn_init.evaluate(some, small, count=1, task="images").results


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
        network = Network.of(Tiny(2, 8), ImageTask(images))
    nothing = {slot.name: torch.full(slot.shape, torch.nan) for slot in network.slots}
    assert top1(network, nothing, images) == 0


def rows() -> Evaluation:
    own = [Result("test", 0, 50.0, 10**6, 90), Result("test", 1, 60.0, 10**5, 50), Result("deep", 0, 30.0, 10**6, 200)]
    return Evaluation({"ghn": "x"}, own, [SGDResult("test", 1, 500, 55.0)])


def test_an_evaluation_is_resumed_from_its_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert Evaluation.resume(path, {"ghn": "x"}) == Evaluation({"ghn": "x"}, path=path)
    assert not path.exists()
    replace(rows(), path=path).save()
    again = Evaluation.resume(path, {"ghn": "x"})
    assert again == replace(rows(), path=path)
    assert again.splits == ["test", "deep"]
    assert again.done("test") == {0, 1}
    assert again.accuracies("test").values == (50.0, 60.0)
    assert again.accuracies("test", [1]).values == (60.0,)
    with pytest.raises(EvaluationError, match=r"an evaluation that differs in images \(None there, 5 here\)"):
        Evaluation.resume(path, {"ghn": "x", "images": 5})
    path.write_text(json.dumps({"results": []}))
    with pytest.raises(EvaluationError, match=r"results.json holds no evaluation"):
        Evaluation.resume(path, {"ghn": "x"})


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(rows(), tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_evaluation_leaves_the_module_alone(small: GHN) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    accuracy(small, module, colours(8), "images")
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_of_several_outputs_the_first_is_judged(small: GHN) -> None:
    class Several(Tiny):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"logits": super().forward(x), "images": x}

    torch.manual_seed(0)
    several = Several(2, 8)
    plain = Tiny(2, 8)
    plain.load_state_dict(several.state_dict())
    assert accuracy(small, several, colours(), "images") == accuracy(small, plain, colours(), "images")


class Seen:
    """Takes the place of `on_result`: split, index, how many are done, of how many; it may interrupt."""

    def __init__(self, interrupted_at: int = -1) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.interrupted_at = interrupted_at

    def __call__(self, row: Result | SGDResult, done: int, total: int) -> None:
        self.rows.append((row.split, row.index, *((row.steps,) if isinstance(row, SGDResult) else ()), done, total))
        if len(self.rows) == self.interrupted_at:
            raise KeyboardInterrupt


def test_an_interrupted_evaluation_goes_on_where_it_was(small: GHN, tmp_path: Path) -> None:
    def run(out: Path, seen: Seen) -> Evaluation:
        return ghn_init.evaluate(colours(20), small, networks=("test", "bn-free"), count=2, out=out, on_result=seen)

    whole = run(tmp_path / "whole.json", Seen())
    first, second, third = Seen(interrupted_at=3), Seen(), Seen()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts.json", first)
    parts = run(tmp_path / "parts.json", second)
    assert first.rows == [("test", 0, 1, 2), ("test", 1, 2, 2), ("bn-free", 0, 1, 2)]
    assert second.rows == [("bn-free", 1, 1, 1)]
    assert parts.results == whole.results == Evaluation.read(tmp_path / "parts.json").results
    more = ghn_init.evaluate(colours(20), small, networks="test", count=3, out=tmp_path / "parts.json", on_result=third)
    assert third.rows == [("test", 2, 1, 1)]
    assert more.results[:4] == whole.results


def test_an_evaluation_of_another_setting_is_refused(small: GHN, tmp_path: Path) -> None:
    out, images = tmp_path / "results.json", colours(20)
    options: dict[str, Any] = {"networks": "test", "count": 1, "out": out}
    ghn_init.evaluate(images, small, **options)
    other = GHN(SMALL).eval()
    grown = GHN(small.config.with_tasks({"other": 3})).eval()
    changes: list[tuple[GHN, dict[str, Any], str]] = [
        (other, {}, rf"in weights \({small.fingerprint} there, {other.fingerprint} here\):"),
        (small, {"images": 10}, r"; images \(20 there, 10 here\):"),
        (small, {"bf16": True}, r"in bf16 \(False there, True here\):"),
        (small, {"seed": 1}, r"in seed \(None there, 1 here\):"),
        (small, {"networks": [Tiny(1, 8)]}, r"in networks \(None there, 1 modules [0-9a-f]{12} here\):"),
        (grown, {"task": "other"}, r"; task \(images there, other here\):"),
    ]
    before = out.read_text()
    for ghn, change, words in changes:
        with pytest.raises(EvaluationError, match=rf"results.json holds an evaluation that differs .*{words} call as then"):
            ghn_init.evaluate(images, ghn, **{**options, **change})
    with pytest.raises(EvaluationError, match=r"differs in data \(.*\): call as then to go on, or name another file"):
        ghn_init.evaluate(replace(images, labels=images.labels.flip(0)), small, **options)
    assert out.read_text() == before


def test_a_hypernetwork_is_told_by_its_weights_however_its_folder_is_spelled(small: GHN, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "run")
    options: dict[str, Any] = {"count": 1, "out": tmp_path / "results.json"}
    ghn_init.evaluate(colours(8), str(tmp_path / "run"), **options)
    for same in (f"{tmp_path / 'run'}/", tmp_path / "run", small):
        seen = Seen()
        ghn_init.evaluate(colours(8), same, **options, on_result=seen)
        assert seen.rows == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count is 0; expected 1 at least"),
        ({"count": -1}, "count is -1; expected 1 at least"),
        ({"images": 1}, "images is 1; expected 2 at least"),
        ({"sgd_steps": [0]}, "sgd_steps is 0; expected 1 at least"),
        ({"workers": 0}, "workers is 0; expected 1 at least"),
        ({"sgd": -1}, "sgd is -1; expected 0 at least"),
        ({"networks": []}, "networks is empty; pass splits or modules"),
        ({"networks": Tiny(1, 8)}, r"networks is one Tiny alone; pass a list, networks=\[model\]"),
        ({"networks": nn.Sequential(nn.Flatten(), nn.Linear(768, 3))}, "networks is one Sequential alone; pass a list"),
    ],
)
def test_arguments_that_leave_nothing_to_evaluate_are_refused(small: GHN, options: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        ghn_init.evaluate("no data", small, **options)


def test_a_file_that_cannot_be_written_is_told_before_anything_is_evaluated(small: GHN, tmp_path: Path) -> None:
    seen = Seen()
    with pytest.raises(EvaluationError, match=r"none/results.json can't be written .*; name another file"):
        ghn_init.evaluate(colours(8), small, count=1, out=tmp_path / "none" / "results.json", on_result=seen)
    assert seen.rows == []


def test_networks_of_other_classes_than_the_data_are_refused(small: GHN) -> None:
    seven = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7))
    words = r"Sequential returns a tensor of shape \(2, 7\) for 2 images of 3 classes; expected \(2, 3\)"
    with pytest.raises(EvaluationError, match=words):
        ghn_init.evaluate(colours(8), small, networks=[seven])
    with pytest.raises(EvaluationError, match=words):
        accuracy(small, seven, colours(8))


def test_a_process_that_ends_is_told_with_what_a_script_needs(small: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_share", os._exit)
    with pytest.raises(EvaluationError, match=r"ended before it had evaluated .*begins below `if __name__ == '__main__':`"):
        ghn_init.evaluate(colours(8), small, count=2, workers=2)


def test_modules_are_told_from_other_modules(small: GHN, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    ghn_init.evaluate(colours(8), small, networks=[Tiny(1, 8)], out=out)
    seen = Seen()
    ghn_init.evaluate(colours(8), small, networks=[Tiny(1, 8)], out=out, on_result=seen)
    assert seen.rows == []
    with pytest.raises(EvaluationError, match=r"differs in networks \(1 modules .* there, 1 modules .* here\)"):
        ghn_init.evaluate(colours(8), small, networks=[Tiny(1, 12)], out=out)


def test_modules_are_evaluated_in_order_and_left_alone(small: GHN) -> None:
    images = colours(20)
    modules = [Tiny(2, 8), Fn(lambda m, x: m.fc((m.conv(x) * m.gate).mean((2, 3))), conv=conv(), gate=param(1, 8, 1, 1),
        fc=nn.Linear(8, 3))]  # fmt: skip
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    found = ghn_init.evaluate(images, small, networks=iter(modules))
    assert [(r.split, r.index, r.params) for r in found.results] == [
        ("own", 0, 224 + 16 + 584 + 16 + 27),
        ("own", 1, 224 + 8 + 27),
    ]
    for module, values, result in zip(modules, before, found.results, strict=True):
        assert all(torch.equal(values[name], value) for name, value in module.state_dict().items())
        assert module.training
        ghn_init.initialize(module, small, torch.zeros(2, 3, 16, 16), head="images").eval()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.train()
        with torch.no_grad():
            right = module(images.normalise(images.pixels)).argmax(1) == images.labels
        assert result.accuracy == pytest.approx(100 * right.double().mean().item())


def test_splits_and_modules_do_not_mix(small: GHN) -> None:
    with pytest.raises(EvaluationError, match=r"networks are splits and modules; pass either\."):
        ghn_init.evaluate(colours(8), small, networks=["test", Tiny(1, 8)])  # type: ignore[list-item]


def test_seeds_decide_which_networks_a_split_has(small: GHN) -> None:
    zero, one = (ghn_init.evaluate(colours(8), small, count=1, seed=seed).results[0] for seed in (0, 1))
    with torch.device("meta"):
        expected = [sum(p.numel() for p in deepnets.network("test", 0, 3, 16, seed).parameters()) for seed in (0, 1)]
    assert [zero.params, one.params] == expected
    assert zero.params != one.params


@pytest.mark.parametrize(
    ("tasks", "task", "words"),
    [
        ({"a": 4}, None, r"the data have 3 classes, for which the hypernetwork has not one task; it knows a \(4\)"),
        ({"a": 3, "b": 3}, None, "has not one task; a and b have as many: pass task="),
        ({"a": 3, "b": 4}, "b", r"task is 'b' and the data have 3 classes; the hypernetwork knows a \(3\), b \(4\)"),
        ({"a": 3}, "c", r"task is 'c' and the data have 3 classes; the hypernetwork knows a \(3\)"),
    ],
)
def test_a_task_is_chosen_or_asked_for(tasks: dict[str, int], task: str | None, words: str) -> None:
    ghn = GHN(GHNConfig(tasks, max_shape=(8, 8, 3, 3), hid=8))
    with pytest.raises(EvaluationError, match=words):
        ghn_init.evaluate(colours(8), ghn, task=task)


def test_the_head_of_the_task_that_is_asked_for_is_predicted() -> None:
    torch.manual_seed(0)
    ghn = GHN(GHNConfig({"a": 3, "b": 3, "c": 5}, max_shape=(8, 8, 3, 3), hid=8)).eval()
    images, module = colours(), Tiny(1, 8, norm=False)
    found = {task: ghn_init.evaluate(images, ghn, networks=[module], task=task) for task in ("a", "b")}
    for task, evaluation in found.items():
        assert evaluation.setting["task"] == task
        assert evaluation.results[0].accuracy == pytest.approx(accuracy(ghn, module, images, task))
    assert found["a"].results[0].accuracy != found["b"].results[0].accuracy


def test_the_first_images_are_used(small: GHN) -> None:
    images, module = colours(), Tiny(2, 8)
    first = Images.from_tensors(images.pixels[:9], images.labels[:9], like=images)
    found = ghn_init.evaluate(images, small, networks=[module], images=9)
    assert found.results[0].accuracy == pytest.approx(accuracy(small, module, first, "images"))
    assert found.setting["images"] == 9


def test_bfloat16_is_asked_for(small: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def noted(device: torch.device, bf16: bool) -> Any:
        asked.append(bf16)
        return mixed_precision(device, bf16)

    monkeypatch.setattr("ghn_init.evaluation.accuracy.mixed_precision", noted)
    for bf16 in (False, True):
        ghn_init.evaluate(colours(8), small, networks=[Tiny(1, 8)], bf16=bf16)
    assert asked == [False, True]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of colours."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("colours")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    for split, count in (("train", 60), ("test", 24)):
        images = colours(count)
        columns = {"img": [p.permute(1, 2, 0).numpy() for p in images.pixels], "label": images.labels.tolist()}
        datasets.Dataset.from_dict(columns, features).to_parquet(root / f"{split}.parquet")
    return root


def test_the_head_is_that_of_the_name_of_the_data(folder: Path) -> None:
    ghn = GHN(GHNConfig({"other": 3, folder.name: 3, "wide": 5}, max_shape=(8, 8, 3, 3), hid=8)).eval()
    assert ghn_init.evaluate(folder, ghn, networks=[Tiny(1, 8)]).setting["task"] == folder.name


def test_classes_are_told_by_their_names(small: GHN) -> None:
    known = GHN(small.config.with_classes({"images": ("red", "green", "blue")}))
    known.load_state_dict(small.state_dict())
    known.eval()
    images, networks = colours(), [Tiny(2, 8)]
    plain = ghn_init.evaluate(images, known, networks=networks)
    turned = replace(images, labels=(images.labels + 1) % 3, classes=("blue", "red", "green"))
    found = ghn_init.evaluate(turned, known, networks=networks)
    assert (found.results, found.class_names) == (plain.results, ("red", "green", "blue"))
    assert ghn_init.evaluate(turned, small, networks=networks).results != plain.results  # which knows no names
    with pytest.raises(EvaluationError, match=r"'images' is of other classes .*: class 1 is 'green', in the data 'lime'\."):
        ghn_init.evaluate(replace(images, classes=("red", "lime", "blue")), known, networks=networks)


def test_networks_are_trained_and_judged_on_classes_of_one_order(small: GHN, folder: Path) -> None:
    known = GHN(small.config.with_classes({"images": ("red", "green", "blue")})).eval()
    train, test = ghn_init.tasks.load_images(folder, "train"), ghn_init.tasks.load_images(folder, "test")
    order = ("blue", "red", "green")
    seen: list[tuple[Images, Images]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            room, "load_images", lambda _, split, *args, **kw: replace(train if split == "train" else test, classes=order)
        )
        patch.setattr(room, "sgd_accuracy", lambda module, own, other, *args, **kw: seen.append((own, other)) or 0.0)
        ghn_init.evaluate(folder, known, count=1, sgd=1, sgd_steps=(1,))
    assert [images.classes for images in seen[0]] == [("red", "green", "blue")] * 2
    assert torch.equal(seen[0][0].labels, (train.labels - 1) % 3)


def test_the_command_line_gives_the_same_figures(small: GHN, folder: Path, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "ghn")
    out = tmp_path / "results.json"
    args = ["evaluate", str(folder), "--ghn", str(tmp_path / "ghn"), "--split", "test", "--split", "dense", "--networks", "2",
            "--images", "20", "--sgd", "1", "--sgd-steps", "2", "-o", str(out)]  # fmt: skip
    result = CliRunner().invoke(cli.app, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    seen = Seen()
    found = ghn_init.evaluate(folder, tmp_path / "ghn", networks=["test", "dense"], count=2, images=20, sgd=1, sgd_steps=(2,),
        on_result=seen)  # fmt: skip
    there = Evaluation.read(out)
    assert (there.results, there.sgd, there.setting) == (found.results, found.sgd, found.setting)
    (trained,) = found.sgd
    assert seen.rows == [
        ("test", 0, 1, 2), ("test", 1, 2, 2), ("dense", 0, 1, 2), ("dense", 1, 2, 2), ("test", trained.index, 2, 1, 1),
    ]  # fmt: skip
    for split in ("test", "dense"):
        line = next(line for line in result.output.splitlines() if line.split()[:1] == [split])
        own = found.accuracies(split)
        assert line.split()[1:] == [f"{own.mean:.1f}", f"{own.standard_error:.1f}", f"{own.best:.1f}", "2"]
    assert f"test: {found.accuracies('test')}" in str(found).splitlines()
    again = Seen()
    ghn_init.evaluate(folder, tmp_path / "ghn", networks=["test", "dense"], count=2, images=20, sgd=1, sgd_steps=(2, 3),
        out=out, on_result=again)  # fmt: skip
    assert again.rows == [("test", trained.index, 3, 1, 1)]


def test_networks_trained_by_sgd_are_those_of_the_seed(small: GHN, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def trained(module: nn.Module, *_: object, **__: object) -> float:
        sizes.append(sum(p.numel() for p in module.parameters()))
        return 50.0

    monkeypatch.setattr(room, "sgd_accuracy", trained)
    found = ghn_init.evaluate(folder, small, count=3, images=8, sgd=3, sgd_steps=(1,), seed=2)
    assert sorted(sizes) == sorted(row.params for row in found.results)
    assert [row.index for row in found.sgd] == [2, 0, 1]  # the cheapest one first
    before = torch.get_rng_state()
    cheapest = ghn_init.evaluate(folder, small, count=3, images=8, sgd=1, sgd_steps=(1,), seed=2).sgd
    assert torch.equal(torch.get_rng_state(), before)
    assert [row.index for row in cheapest] == [2]
    assert sizes[-1] == found.results[2].params


@pytest.mark.parametrize(
    "what", [lambda folder: (colours(8), "test"), lambda folder: (folder, [Tiny(1, 8)])], ids=["no training images", "modules"]
)
def test_sgd_without_what_it_needs_is_refused_before_anything_is_measured(
    small: GHN, folder: Path, what: Callable[[Path], tuple[Any, Any]]
) -> None:
    data, networks = what(folder)
    seen = Seen()
    with pytest.raises(
        EvaluationError, match="SGD needs a data set with training images and a split of DeepNets-1M; leave sgd"
    ):
        ghn_init.evaluate(data, small, networks=networks, count=1, sgd=1, on_result=seen)
    assert seen.rows == []


def test_a_module_without_values_for_what_it_keeps_is_one_error(small: GHN) -> None:
    with torch.device("meta"):
        module = Fn(lambda m, x: m.fc((m.conv(x) * m.gate).mean((2, 3))), conv=conv(), gate=param(1, 8, 1, 1),
            fc=nn.Linear(8, 3))  # fmt: skip
    words = r"^'gate' of Fn keeps its value \(.*scales a stream.*\), but the model is on the meta device, without values"
    with pytest.raises(UnsupportedModelError, match=words):
        ghn_init.evaluate(colours(8), small, networks=[module])


def test_published_figures_stand_beside_results_of_their_data_set_alone() -> None:
    found = rows()
    assert found.published == {}
    found.class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert found.published["GHN-2"] == {"test": 66.9, "resnet50": 58.6}
    assert found.trained == {("test", 500): (Accuracies((55.0,)), Accuracies((60.0,)))}
    assert str(found).splitlines() == [
        "test: 55.0 ± 5.0 (best 60.0, 2 networks)",
        "deep: 30.0 ± 0.0 (best 30.0, 1 networks)",
        "test, trained by SGD for 500 steps: 55.0 ± 0.0 (best 55.0, 1 networks); the same networks, predicted: 60.0",
    ]


def test_a_last_image_is_not_left_alone(small: GHN) -> None:
    def module() -> nn.Module:
        return nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3))

    images = colours(33)
    assert accuracy(small, module(), images, batch_size=16) == pytest.approx(
        (16 * accuracy(small, module(), part(images, 0, 16), batch_size=16)
         + 17 * accuracy(small, module(), part(images, 16, 33), batch_size=17)) / 33
    )  # fmt: skip


def part(images: Images, begin: int, end: int) -> Images:
    return replace(images, pixels=images.pixels[begin:end], labels=images.labels[begin:end])


def test_results_of_other_images_in_a_folder_of_the_same_name_are_refused(small: GHN, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    image_module = pytest.importorskip("PIL.Image")
    for who, turned in (("mine", 0), ("yours", 1)):
        for split, size in (("train", (16, 16)), ("test", (20, 16))):
            for label in range(3):
                folder = tmp_path / who / "data" / split / str((label + turned) % 3)
                folder.mkdir(parents=True)
                for k in range(2):
                    image_module.new("RGB", size, (80 * label, 9 * k, 0)).save(folder / f"{k}.png")
    options: dict[str, Any] = {"networks": [Tiny(1, 8)], "out": tmp_path / "results.json", "task": "images", "image_size": 16}
    ghn_init.evaluate(tmp_path / "mine" / "data", small, **options)
    with pytest.raises(EvaluationError, match=r"differs in data \(data [0-9a-f]{16} there, data [0-9a-f]{16} here\)"):
        ghn_init.evaluate(tmp_path / "yours" / "data", small, **options)


def test_results_under_other_normalisation_or_training_images_are_refused(small: GHN, tmp_path: Path) -> None:
    images, options = colours(20), {"networks": [Tiny(1, 8)], "out": tmp_path / "results.json", "task": "images"}
    ghn_init.evaluate(images, small, **options)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match=r"differs in data \("):
        ghn_init.evaluate(replace(images, mean=images.mean + 0.1), small, **options)  # type: ignore[arg-type]


def test_sgd_may_come_later_and_knows_its_training_images(small: GHN, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    image_module = pytest.importorskip("PIL.Image")

    def folder(name: str, shade: int) -> Path:
        for split in ("train", "test"):
            for label in range(3):
                place = tmp_path / name / "data" / split / str(label)
                place.mkdir(parents=True)
                for k in range(12):
                    colour = (80 * label, 9 * k, shade if split == "train" and k == 0 else 0)
                    image_module.new("RGB", (16, 16), colour).save(place / f"{k}.png")
        return tmp_path / name / "data"

    options: dict[str, Any] = {"count": 1, "out": tmp_path / "results.json", "task": "images"}
    mine, yours = folder("mine", 0), folder("yours", 1)
    ghn_init.evaluate(mine, small, **options)
    assert len(ghn_init.evaluate(mine, small, sgd=1, sgd_steps=(1,), **options).sgd) == 1
    assert len(ghn_init.evaluate(mine, small, **{**options, "count": 2}).results) == 2
    with pytest.raises(EvaluationError, match="trained on other images"):
        ghn_init.evaluate(yours, small, sgd=1, sgd_steps=(1,), **options)
