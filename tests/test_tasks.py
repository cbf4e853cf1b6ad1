"""Several tasks: who takes part when, whose head learns, new tasks for old weights, tasks of one's own."""

from __future__ import annotations

import copy
import csv
import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from ghn_init import GHN, GHNConfig, Images, ImageTask, Task, ZeroShot
from ghn_init.errors import TrainingError
from ghn_init.tasks import Batch, DistilledImageTask
from ghn_init.tasks.images import task_name, tasks_of
from ghn_init.training.curve import Progress
from ghn_init.training.loop import Job, meta_step
from ghn_init.training.networks import Network
from ghn_init.training.pool import Part, Pools
from helpers import RECIPE, SMALL, Tiny, colours, tiny_networks
from zoo import Fn, conv, images

CPU = torch.device("cpu")


def shades() -> Images:
    """Colours in two classes, those of the second and the third made one."""
    whole = colours()
    return Images.from_tensors(whole.pixels, whole.labels.clamp_max(1))


class TwoWay(Tiny):
    """A network for shades."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__(depth, width)
        self.head = nn.Linear(width, 2)


def both() -> dict[str, Any]:
    """Data and architectures of two tasks."""
    architectures = {"colours": tiny_networks(), "shades": [TwoWay(1 + k % 2, 8 + 4 * k) for k in range(4)]}
    return {"data": {"colours": colours(), "shades": shades()}, "architectures": architectures}


BOTH = GHNConfig({"colours": 3, "shades": 2}, max_shape=(8, 8, 3, 3), hid=8)


@dataclass(frozen=True)
class Larger:
    """Which of two vectors has the larger sum; derives from nothing."""

    name: str = "larger"
    outputs: int = 2
    fingerprint: str = "drawn"

    def example_inputs(self) -> tuple[Tensor, ...]:
        return torch.empty(2, 6, device="meta"), torch.empty(2, 6, device="meta")

    def batch(self, number: int, size: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(1000 * seed + number)
        left, right = torch.randn(2, size, 6, generator=generator)
        return (left, right), (right.sum(1) > left.sum(1)).long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def accuracy(self, outputs: Tensor, targets: Tensor) -> float:
        return (outputs.argmax(1) == targets).float().mean().item()


class Pairwise(nn.Module):
    """A network for Larger."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, width)  # alike, both would get the same weights
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(self.norm(F.relu(self.right(right - self.left(left)))))


def turns(shares: dict[str, float], count: int, meta_batch: int = 4) -> list[str]:
    """The tasks of the first networks of a run."""
    tasks = {name: ImageTask(colours(), name) for name in ("a", "b", "c")[: max(len(shares), 2)]}
    pools = Pools(tasks, tiny_networks(), shares, 6, CPU)
    return [name for step in range(count // meta_batch) for name, _ in step_of(pools, 0, step, meta_batch)]


def step_of(pools: Pools, seed: int, step: int, places: int) -> list[tuple[str, Part]]:
    """A step's networks."""
    return [pools.draw(seed, step, place, places, 8, 1, None) for place in range(places)]


@pytest.mark.parametrize(
    "shares", [{}, {"a": 3, "b": 1}, {"a": 0.1, "b": 0.9}, {"a": 5, "b": 2, "c": 1}], ids=["equal", "3:1", "1:9", "5:2:1"]
)
@pytest.mark.parametrize("meta_batch", [1, 4])
def test_of_any_networks_in_a_row_each_task_has_its_share(shares: dict[str, float], meta_batch: int) -> None:
    names = turns(shares, 400, meta_batch)
    parts = shares or {"a": 1, "b": 1}
    for task, part in parts.items():
        share = part / sum(parts.values())
        so_far = [0]
        for name in names:
            so_far.append(so_far[-1] + (name == task))
        for length in (10, 33, 100):
            stretches = [so_far[first + length] - so_far[first] for first in range(len(names) - length + 1)]
            assert max(abs(own - share * length) for own in stretches) <= 2


def test_a_step_has_different_networks_of_each_task_and_depends_on_seed_and_step() -> None:
    tasks = {name: ImageTask(colours(), name) for name in ("a", "b")}
    pools = Pools(tasks, tiny_networks(), {}, 6, CPU)
    drawn = step_of(pools, 0, 3, 6)
    assert drawn == step_of(Pools(tasks, tiny_networks(), {}, 6, CPU), 0, 3, 6)
    tripled = Pools(tasks, tiny_networks() * 3, {}, 18, CPU)
    assert step_of(tripled, 0, 3, 6) != step_of(tripled, 1, 3, 6)
    assert [name for name, _ in step_of(tripled, 0, 3, 6)] == [name for name, _ in step_of(tripled, 1, 3, 6)]
    for task in tasks:
        indices = [part.index for name, part in drawn if name == task]
        assert len(indices) == 3
        assert len(set(indices)) == len(indices)
    assert {pools.network(name, part).task.name for name, part in drawn} == {"a", "b"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shares": {"colours": 1, "shade": 1}}, "'shade' is no task of this run; it has colours, shades"),
        (
            {"shares": {"colours": 1}},
            r"shares are \{'colours': 1.0, 'shades': 0.0\}; expected a positive one for each task, or",
        ),
        ({"shares": {"colours": 1, "shades": -1}}, r"shares are \{'colours': 1.0, 'shades': -1.0\}; expected a positive one"),
        ({"shares": {"colours": 1, "shades": float("nan")}}, r"shares are \{'colours': 1.0, 'shades': nan\}; expected"),
        ({"architectures": {"colour": tiny_networks()}}, "'colour' is no task of this run; it has colours, shades"),
        ({"architectures": tiny_networks()}, r"Tiny returns a tensor of shape \(2, 3\); the task 'shades' needs 2 outputs in"),
    ],
)
def test_shares_and_architectures_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        ghn_init.train(out=tmp_path, **{**both(), "ghn": BOTH, "config": RECIPE, **changes})


def test_two_tasks_train_together(tmp_path: Path) -> None:
    seen: list[Progress] = []
    options = {**both(), "shares": {"colours": 3, "shades": 1}, "config": RECIPE, "steps": 8}
    torch.manual_seed(0)
    ghn = GHN(BOTH)
    before = copy.deepcopy(ghn.state_dict())
    trained = ghn_init.train(out=tmp_path, ghn=ghn, on_step=seen.append, **options)
    assert trained.config == ghn_init.load(tmp_path).config == BOTH
    assert all(not torch.equal(trained.state_dict()[name], value) for name, value in before.items())
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = turns({"a": 3, "b": 1}, 16)
    for step, (row, progress) in enumerate(zip(rows, seen, strict=True)):
        own = Counter({"a": "colours", "b": "shades"}[name] for name in names[2 * step : 2 * step + 2])
        assert progress.accuracies.keys() == own.keys()
        columns = {task: row[f"accuracy_{task}"] for task in ("colours", "shades")}
        assert columns == {task: f"{progress.accuracies[task]:.5g}" if task in own else "" for task in columns}
        mean = sum(count * progress.accuracies[task] for task, count in own.items()) / 2
        assert progress.accuracy == pytest.approx(mean)
        assert float(row["accuracy"]) == pytest.approx(mean, abs=1e-4)
    assert {len(progress.accuracies) for progress in seen} == {1, 2}


def test_two_tasks_are_both_learnt(tmp_path: Path) -> None:
    """The loss of each falls, by the same body."""
    sums: dict[str, list[float]] = {"colours": [], "shades": []}

    def note(progress: Progress) -> None:
        for task, accuracy in progress.accuracies.items():
            sums[task].append(accuracy)

    ghn_init.train(out=tmp_path, **both(), ghn=BOTH, config=RECIPE, steps=40, lr=1e-2, warmup=5, meta_batch=4, on_step=note)
    for task, chance in (("colours", 1 / 3), ("shades", 0.6)):
        assert sum(sums[task][-8:]) / 8 > chance + 0.1


def test_a_resumed_run_of_two_tasks_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    options = {**both(), "ghn": BOTH, "config": RECIPE}
    whole = ghn_init.train(out=tmp_path / "whole", **options).state_dict()
    with pytest.raises(KeyboardInterrupt):
        ghn_init.train(out=tmp_path / "parts", on_step=stop, save_minutes=0.0, **options)
    parts = ghn_init.train(out=tmp_path / "parts", **options).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    curves = [[row.rsplit(",", 1)[0].split(",") for row in (tmp_path / run / "log.csv").read_text().splitlines()]
        for run in ("whole", "parts")]  # fmt: skip
    speed = curves[0][0].index("networks_per_second")
    assert [[*row[:speed], *row[speed + 1 :]] for row in curves[0]] == [[*row[:speed], *row[speed + 1 :]] for row in curves[1]]


@pytest.mark.parametrize("config", [BOTH, None], ids=["configuration", "default"])
def test_a_run_goes_on_the_same_whatever_the_order_of_its_tasks(tmp_path: Path, config: GHNConfig | None) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    def turned(named: dict[str, Any]) -> dict[str, Any]:
        return dict(reversed(named.items()))

    settings: dict[str, Any] = {"config": RECIPE, "meta_batch": 1, "pool": 4}
    own = both()
    whole = ghn_init.train(out=tmp_path / "whole", ghn=config, **own, **settings)
    with pytest.raises(KeyboardInterrupt):
        ghn_init.train(out=tmp_path / "parts", ghn=config, on_step=stop, **own, **settings)
    other = config and GHNConfig(turned(dict(config.tasks)), config.max_shape, config.hid)
    parts = ghn_init.train(
        out=tmp_path / "parts", ghn=other, **{name: turned(value) for name, value in own.items()}, **settings
    )
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())
    assert list(parts.config.tasks) == ["colours", "shades"]

    def curve(run: str) -> list[dict[str, str]]:
        with (tmp_path / run / "log.csv").open() as file:
            return [{name: row[name] for name in row if "second" not in name} for row in csv.DictReader(file)]

    assert curve("parts") == curve("whole")


def test_a_step_moves_the_heads_of_its_own_tasks_and_the_body() -> None:
    torch.manual_seed(0)
    ghn = GHN(BOTH)
    one, two = ImageTask(colours(), "colours"), ImageTask(shades(), "shades")
    job_one = Job(Network.of(Tiny(2, 8), one), [one.batch(0, 8, 0)], "one")
    job_two = Job(Network.of(TwoWay(2, 8), two), [two.batch(0, 8, 0)], "two")

    def moved(*jobs: Job) -> dict[str, float]:
        meta_step(ghn, list(jobs), ZeroShot(), RECIPE)
        parts: dict[str, float] = {}
        for name, p in ghn.named_parameters():
            part = name.split(".")[1] if name.startswith("heads.") else "body"
            parts[part] = max(parts.get(part, 0.0), 0.0 if p.grad is None else float(p.grad.abs().max()))
        return parts

    only_one, only_two, together = moved(job_one), moved(job_two), moved(job_one, job_two)
    assert only_one["shades"] == only_two["colours"] == 0
    assert min(only_one["colours"], only_one["body"], only_two["shades"], only_two["body"], *together.values()) > 0


def test_the_gradient_of_two_tasks_is_the_sum_of_both() -> None:
    torch.manual_seed(0)
    ghn = GHN(BOTH)
    one, two = ImageTask(colours(), "colours"), ImageTask(shades(), "shades")
    jobs = [
        Job(Network.of(Tiny(2, 8), one), [one.batch(0, 8, 0)], "one"),
        Job(Network.of(TwoWay(1, 12), two), [two.batch(0, 8, 0)], "two"),
    ]
    alone, sums = [], {}
    for job in jobs:
        sums |= meta_step(ghn, [job], ZeroShot(), RECIPE)
        alone.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in ghn.parameters()])
    found = meta_step(ghn, jobs, ZeroShot(), RECIPE)
    assert found.keys() == {"colours", "shades"}
    assert all(found[task] == pytest.approx(sums[task]) for task in found)
    for p, first, second in zip(ghn.parameters(), *alone, strict=True):
        torch.testing.assert_close(p.grad, first + second, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_smoothing": 3}, "label_smoothing is 3; expected a share of the target, at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1; expected a share"),
        ({"label_smoothing": float("nan")}, "label_smoothing is nan; expected a share"),
        ({"label_smoothing": "0.1"}, "label_smoothing is '0.1'; expected a share"),
        ({"shift": -5}, "shift is -5; expected a whole number of pixels, at least 0, or None"),
        ({"shift": 1.5}, "shift is 1.5; expected a whole number of pixels"),
    ],
)
def test_settings_that_no_image_task_has(changes: dict[str, Any], words: str) -> None:
    answers = torch.zeros(len(colours().labels), 2, 3)
    for make in (ImageTask, functools.partial(DistilledImageTask, answers=answers)):
        with pytest.raises(TrainingError, match=words):
            make(colours(), **changes)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_bundled_weights_learn_a_new_task_and_keep_the_head_of_the_old_one(tmp_path: Path, optimizer: str) -> None:
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("PyTorch below 2.9")
    bundled = ghn_init.load()
    data = {"colours": colours()}
    recipe: dict[str, Any] = {"architectures": tiny_networks(), "config": RECIPE, "steps": 2, "weight_decay": 0.5}
    trained = ghn_init.train(data, tmp_path, ghn=bundled, optimizer=optimizer, **recipe)
    assert trained.config.tasks == {**bundled.config.tasks, "colours": 3}
    assert "colours" not in bundled.config.tasks
    loaded = ghn_init.load(tmp_path)
    old = {name: tensor for name, tensor in bundled.state_dict().items() if name.startswith("heads.cifar10.")}
    assert len(old) == 4
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in old.items())
    assert not torch.equal(loaded.decoder.fc[0].weight, bundled.decoder.fc[0].weight)
    for outputs, task in ((10, "cifar10"), (3, "colours")):
        model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))
        prediction = ghn_init.predict(model, loaded, images(), head=task, strict=True)
        assert prediction.task == task
        assert set(prediction.tensors) == set(dict(model.named_parameters()))
    more = ghn_init.train(data, tmp_path, ghn=bundled, optimizer=optimizer, **{**recipe, "steps": 4})  # it can be resumed
    assert all(torch.equal(more.state_dict()[name], tensor) for name, tensor in old.items())


def test_a_task_of_as_many_outputs_gets_a_head_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = GHN(SMALL)
    trained = ghn_init.train({"other": colours()}, tmp_path, architectures=tiny_networks(), ghn=given, config=RECIPE, steps=2)
    assert trained.config.tasks == {"images": 3, "other": 3}
    assert torch.equal(trained.heads["images"].to_weight.weight, given.heads["images"].to_weight.weight)
    assert not torch.allclose(trained.heads["other"].to_weight.weight, trained.heads["images"].to_weight.weight)


def test_a_task_that_is_known_with_another_number_of_outputs_is_refused(tmp_path: Path) -> None:
    words = "can't be trained on these tasks: the task 'images' has 2 outputs, the hypernetwork knows it with 3"
    for ghn in (SMALL, GHN(SMALL)):
        with pytest.raises(TrainingError, match=words):
            ghn_init.train({"images": shades()}, tmp_path, architectures=[TwoWay(1, 8)] * 6, ghn=ghn, config=RECIPE)
    with pytest.raises(TrainingError, match="can't be trained on these tasks: 'Images' names no task; expected at most"):
        ghn_init.train({"Images": shades()}, tmp_path, architectures=[TwoWay(1, 8)] * 6, config=RECIPE)


def test_a_task_of_ones_own_needs_no_base_class(tmp_path: Path) -> None:
    task = Larger()
    assert isinstance(task, Task)
    losses: list[float] = []
    options: dict[str, Any] = {"config": RECIPE, "steps": 60, "batch_size": 32, "meta_batch": 4, "lr": 1e-2, "warmup": 5}
    config = GHNConfig({"larger": 2}, max_shape=(16, 16, 1, 1), hid=16)
    trained = ghn_init.train(
        task, tmp_path, architectures=[Pairwise(8 + 4 * k) for k in range(6)], ghn=config,
        on_step=lambda progress: losses.append(progress.loss), **options,
    )  # fmt: skip
    assert sum(losses[-10:]) / 10 < 0.8 * sum(losses[:5]) / 5
    unseen = ghn_init.initialize(Pairwise(14), trained, task.example_inputs(), head=task.name, strict=True)
    inputs, targets = task.batch(999, 200, 5)
    with torch.no_grad():
        assert task.accuracy(unseen(*inputs), targets) > 0.6


def test_tasks_of_other_kinds_train_together(tmp_path: Path) -> None:
    seen: list[Progress] = []
    ghn_init.train(
        [ImageTask(colours(), "colours"), Larger()], tmp_path,
        architectures={"colours": tiny_networks(), "larger": [Pairwise(8 + 4 * k) for k in range(6)]}, config=RECIPE,
        ghn=GHNConfig({"colours": 3, "larger": 2}, max_shape=(8, 8, 3, 3), hid=8), on_step=seen.append, steps=3,
    )  # fmt: skip
    assert {task for progress in seen for task in progress.accuracies} == {"colours", "larger"}
    assert all(torch.isfinite(torch.tensor(progress.loss)) for progress in seen)


def test_networks_of_deepnets_take_images_alone(tmp_path: Path) -> None:
    words = (
        r"take images \(B, 3, H, W\), those of the task 'larger' take \[\(2, 6\), \(2, 6\)\]; pass architectures of your own"
    )
    with pytest.raises(TrainingError, match=words):
        ghn_init.train(Larger(), tmp_path, config=RECIPE)


def test_an_image_task_is_what_it_says() -> None:
    whole = colours()
    task = ImageTask(whole, "colours", label_smoothing=0.2)
    assert isinstance(task, Task)
    assert (task.name, task.outputs) == ("colours", 3)
    (example,) = task.example_inputs()
    assert (example.shape, example.device.type) == ((2, 3, 16, 16), "meta")
    (pixels,), labels = task.batch(3, 8, 1)
    expected = whole.batch(3, 8, 1)
    assert torch.equal(pixels, expected[0])
    assert torch.equal(labels, expected[1])
    logits = torch.randn(8, 3)
    torch.testing.assert_close(task.loss(logits, labels), F.cross_entropy(logits, labels, label_smoothing=0.2))
    assert task.accuracy(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 0])) == 0.75


def darker(pixels: Tensor) -> Tensor:
    return pixels // 2


@pytest.mark.parametrize("distilled", [False, True])
def test_images_are_shifted_as_far_as_the_task_says(distilled: bool) -> None:
    """A bright pixel in the middle goes nowhere, or as far as it may; mirrored it is beside the middle."""
    pixels = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, 16, 16] = 255
    whole = Images.from_tensors(pixels, torch.arange(200) % 2)
    answers = {"answers": torch.full((200, 2, 2), 0.5)} if distilled else {}
    kind = DistilledImageTask if distilled else ImageTask
    seen = {}
    for shift in (None, 0, 3):
        (images,), _ = kind(whole, shift=shift, **answers).batch(0, 200, 0)
        rows, columns = (images[:, 0] == images.max()).nonzero()[:, 1:].unbind(1)
        seen[shift] = set(rows.tolist()), set(columns.tolist())
    assert seen[0] == ({16}, {15, 16})
    assert seen[3] == (set(range(13, 20)), set(range(12, 20)))
    assert seen[None] == (set(range(14, 19)), set(range(13, 19)))


def test_fingerprints_tell_data_and_their_changes_apart() -> None:
    whole = colours()
    other = Images.from_tensors(whole.pixels.flip(0), whole.labels.flip(0), like=whole)
    relabelled = Images.from_tensors(whole.pixels, whole.labels.flip(0), like=whole)
    tasks = [
        ImageTask(whole), ImageTask(other), ImageTask(relabelled), ImageTask(whole, label_smoothing=0.1),
        ImageTask(whole, shift=2), ImageTask(whole, label_smoothing=0.2), ImageTask(whole, transform=darker),
        ImageTask(whole, transform=nn.Identity()),
    ]  # fmt: skip
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert ImageTask(colours()).fingerprint == ImageTask(whole, "another-name").fingerprint == whole.fingerprint


def named(*classes: str) -> Images:
    return replace(colours(), classes=classes)


def test_names_of_classes_go_with_the_hypernetwork(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"architectures": tiny_networks(), "config": RECIPE}
    first = ghn_init.train({"hues": named("red", "green", "blue")}, tmp_path / "a", **settings)
    assert ghn_init.load(tmp_path / "a").config == first.config
    assert first.config.classes == {"hues": ("red", "green", "blue")}
    assert "hues (3: red, green, blue)" in (tmp_path / "a" / "README.md").read_text()
    both = {"hues": named("red", "green", "blue"), "others": colours(), "numbers": named("0", "1", "2")}
    then = ghn_init.train(both, tmp_path / "b", ghn=first, **settings)
    assert then.config.classes == first.config.classes  # of other data no names are known
    with pytest.raises(
        TrainingError, match=r"'hues' has other classes .* class 1 is 'green', in the data 'blue'; give it anot"
    ):
        ghn_init.train({"hues": named("red", "blue", "green")}, tmp_path / "c", ghn=first, **settings)


def test_a_run_that_knew_no_names_goes_on(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"architectures": tiny_networks(), "config": RECIPE}
    ghn_init.train({"hues": colours()}, tmp_path, **settings, steps=2)
    assert ghn_init.train({"hues": named("red", "green", "blue")}, tmp_path, **settings, steps=3).config.classes


def test_data_become_tasks() -> None:
    whole, own = colours(), Larger()
    assert [task.name for task in tasks_of(whole)] == ["images"]
    assert [task.name for task in tasks_of({"a": whole, "b": shades(), "larger": own})] == ["a", "b", "larger"]
    assert tasks_of([own, whole])[0] is own
    (task,) = tasks_of({"a": whole}, transform=darker, label_smoothing=0.1)
    assert task == ImageTask(whole, "a", darker, 0.1)


def test_folders_name_their_tasks(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    for name in ("Some Colours!", "b"):
        whole = colours(9)
        columns = {"img": [p.permute(1, 2, 0).numpy() for p in whole.pixels], "label": whole.labels.tolist()}
        (tmp_path / name).mkdir()
        datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / name / "train.parquet")
    first, second = tasks_of([tmp_path / "Some Colours!", str(tmp_path / "b")], image_size=8)
    assert (first.name, second.name, first.outputs) == ("some-colours", "b", 3)
    assert first.example_inputs()[0].shape == (2, 3, 8, 8)
    (named,) = tasks_of({"mine": tmp_path / "b"})
    assert named.name == "mine"


@pytest.mark.parametrize(
    ("source", "name"),
    [("uoft-cs/cifar10", "cifar10"), ("/data/My Images/", "my-images"), ("a/" + "x" * 80, "x" * 64), ("/data/___", "images")],
)
def test_names_of_folders_and_hub_data_sets(source: str, name: str) -> None:
    assert task_name(source) == name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            lambda: [colours(), colours()],
            r"the tasks are \['images', 'images'\]; expected one at least, each with a name of its",
        ),
        (lambda: [], r"the tasks are \[\]; expected one at least"),
        (lambda: {}, r"the tasks are \[\]; expected one at least"),
        (lambda: {"a": Larger()}, "the task 'larger' is given under the name 'a'; give it one name"),
        (lambda: torch.zeros(2), "Tensor is no data; expected a folder, a hub data set, `Images` or a `Task`"),
        (lambda: {"a": None}, "NoneType is no data; expected a folder"),
    ],
)
def test_data_that_are_no_tasks(data: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        tasks_of(data())


def test_a_forward_pass_that_fails_on_the_tasks_inputs_is_named() -> None:
    broken = Fn(lambda m, left, right: m.fc(left @ right), fc=nn.Linear(6, 2))
    with pytest.raises(
        TrainingError, match=r"a network of the task 'larger' can't be trained on: the forward pass of Fn failed"
    ):
        Network.of(broken, Larger())


@pytest.mark.parametrize("name", ["vector", "kernel"])
def test_tasks_may_be_called_as_decoders_are(name: str) -> None:
    torch.manual_seed(0)
    ghn = GHN(GHNConfig({name: 3}, max_shape=(8, 8, 3, 3), hid=8))
    other = GHN(GHNConfig({"colours": 3}, max_shape=(8, 8, 3, 3), hid=8))
    other.load_state_dict({key.replace(f"heads.{name}.", "heads.colours."): value for key, value in ghn.state_dict().items()})
    model = tiny_networks()[0]
    found, expected = (ghn_init.predict(model, one, torch.zeros(2, 3, 16, 16), head=True).tensors for one in (ghn, other))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
