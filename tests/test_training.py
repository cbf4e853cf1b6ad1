"""The meta-trainer: a few steps, resumed runs, several processes, architectures, evaluation."""

from __future__ import annotations

import copy
import csv
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, GHNConfig, TrainingError
from ghn_init.training.architectures import RandomNet, blueprint
from ghn_init.training.data import Images, load_images
from ghn_init.training.evaluate import accuracy, evaluate, resnet18_for_small_images
from ghn_init.training.loop import TrainConfig, meta_step, update
from ghn_init.training.networks import Network
from ghn_init.training.schedule import warmup_cosine
from zoo import conv

SMALL = GHNConfig(num_classes=3, max_shape=(8, 8, 3, 3), hid=8)
RECIPE = TrainConfig(steps=4, meta_batch=2, batch_size=8, pool=6, warmup=2, bf16=False)


def colours(count: int = 60) -> Images:
    """Three classes told apart by their brightest channel."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, count))
    pixels = torch.from_numpy(rng.integers(0, 90, (count, 3, 16, 16), dtype=np.uint8))
    pixels[torch.arange(count), labels] += 120
    return Images.from_tensors(pixels, labels)


def train(out: Path, **changes: object) -> dict[str, Tensor]:
    return ghn_init.train(colours(), out, ghn=SMALL, config=RECIPE, **changes).state_dict()


def test_a_run_leaves_curve_state_and_checkpoint(tmp_path: Path) -> None:
    seen = []
    averaged = train(tmp_path, on_step=seen.append)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    loaded = ghn_init.load(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], averaged[name]) for name in averaged)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def stop(progress: ghn_init.training.loop.Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", on_step=stop, save_minutes=0.0)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    parts = train(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    curves = [
        [row.rsplit(",", 1)[0] for row in (tmp_path / run / "log.csv").read_text().splitlines()] for run in ("whole", "parts")
    ]
    assert curves[0] == curves[1]


def test_loss_falls_on_an_easy_task(tmp_path: Path) -> None:
    losses = []
    train(tmp_path, steps=40, lr=1e-2, warmup=5, meta_batch=4, on_step=lambda p: losses.append(p.loss))
    assert sum(losses[-8:]) / 8 < 0.8 * sum(losses[:3]) / 3


WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from test_training import colours, SMALL, RECIPE
import ghn_init
torch.set_num_threads(1)
ghn_init.train(colours(), sys.argv[1], ghn=SMALL, config=RECIPE, meta_batch=4, steps=2)
torch.distributed.destroy_process_group()
"""


def test_two_processes_give_the_update_of_one_with_the_doubled_meta_batch(tmp_path: Path) -> None:
    one = train(tmp_path / "one", meta_batch=4, steps=2)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = str(Path(__file__).parent)
    command = [*launch, str(script), str(tmp_path / "two"), here]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    result = subprocess.run(command, timeout=300, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    two = ghn_init.load(tmp_path / "two").state_dict()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    losses = [np.loadtxt(tmp_path / run / "log.csv", delimiter=",", skiprows=1)[:, 1] for run in ("one", "two")]
    np.testing.assert_allclose(losses[0], losses[1], atol=2e-4)


def test_the_average_follows_the_weights() -> None:
    ghn = GHN(SMALL)
    average = copy.deepcopy(ghn)
    before = average.embed.weight.detach().clone()
    ghn.embed.weight.grad = torch.randn_like(before)
    optimizer = torch.optim.SGD(ghn.parameters(), lr=1.0)
    update(ghn, average, optimizer, 0.5, RECIPE, step=90)
    decay = 91 / 100
    torch.testing.assert_close(average.embed.weight, decay * before + (1 - decay) * ghn.embed.weight)
    assert not torch.equal(before, ghn.embed.weight)


def test_every_parameter_of_the_hypernetwork_learns() -> None:
    torch.manual_seed(0)
    ghn = GHN(SMALL)
    with torch.device("meta"):
        networks = [Network.of(RandomNet(blueprint("train", k), 3, 16), 3, 16) for k in range(12)]
    images = colours()
    meta_step(ghn, networks, *images.batch(0, 8, 0), bf16=False)
    assert [name for name, p in ghn.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_gradients_through_filling_match_finite_differences() -> None:
    torch.manual_seed(0)
    ghn = GHN(SMALL)
    with torch.device("meta"):
        network = Network.of(RandomNet(blueprint("train", 1), 3, 16), 3, 16)
    pixels, labels = colours().batch(0, 16, 0)
    meta_step(ghn, [network], pixels, labels, bf16=False)
    weight = ghn.decoder.conv[0].weight
    direction = torch.sign(weight.grad)
    slope = (weight.grad * direction).sum().item()

    def loss(at: float) -> float:
        with torch.no_grad():
            weight.add_(at * direction)
            (cores,) = ghn([network.graph], [network.slots])
            value = nn.functional.cross_entropy(network(cores, pixels), labels).item()
            weight.sub_(at * direction)
        return value

    step = 1e-3
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(slope, rel=0.1)


@pytest.mark.parametrize("split", ["train", "test", "wide", "deep"])
def test_architectures_are_deterministic_varied_and_wholly_predicted(split: str) -> None:
    seen = set()
    for index in range(12):
        with torch.device("meta"):
            module = RandomNet(blueprint(split, index), 10, 32)
        assert blueprint(split, index) == blueprint(split, index)
        network = Network.of(module, 10)
        seen.add((network.graph.num_nodes, sum(p.numel() for p in module.parameters())))
        assert network.graph.kept == {}
    assert len(seen) > 8


def test_splits_share_no_architecture_and_go_wider_and_deeper() -> None:
    plans = {split: [blueprint(split, k) for k in range(40)] for split in ("train", "test", "wide", "deep")}
    assert not set(plans["train"]) & set(plans["test"])

    def mean(measure: Callable[[RandomNet], int], split: str) -> float:
        with torch.device("meta"):
            return sum(measure(RandomNet(plan, 10, 32)) for plan in plans[split]) / len(plans[split])

    def parameters(net: RandomNet) -> int:
        return sum(p.numel() for p in net.parameters())

    def modules(net: RandomNet) -> int:
        return len(list(net.modules()))

    assert mean(parameters, "wide") > 2 * mean(parameters, "test")
    assert mean(modules, "deep") > 1.5 * mean(modules, "test")


def test_batches_depend_on_step_and_seed_alone_and_cover_an_epoch() -> None:
    images = colours(64)
    again, first = images.batch(3, 8, 0), images.batch(3, 8, 0)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], images.batch(3, 8, 1)[0])
    labels = torch.cat([images.batch(step, 8, 0)[1] for step in range(8)])
    assert torch.equal(labels.bincount(), images.labels.bincount())


def test_schedule() -> None:
    values = [warmup_cosine(step, 100, 10) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[9] == pytest.approx(1.0)
    assert values[100] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))


def test_accuracy_counts_right_answers_batch_by_batch() -> None:
    torch.manual_seed(0)
    images, ghn = colours(), GHN(SMALL)
    with torch.device("meta"):
        module = RandomNet(blueprint("test", 0), 3, 16)
    prediction = ghn_init.predict(module, ghn, torch.empty(2, 3, 16, 16, device="meta"), head=True)
    prediction.model.to_empty(device="cpu")
    model = prediction.apply_().train()
    right = 0
    for start in range(0, 60, 16):
        with torch.no_grad():
            logits = model(images.normalise(images.pixels[start : start + 16]))
        right += sum(
            int(row.argmax()) == int(label) for row, label in zip(logits, images.labels[start : start + 16], strict=True)
        )
    assert accuracy(ghn, module, images, batch_size=16) == pytest.approx(100 * right / 60)


def test_evaluation_is_deterministic_over_the_networks_of_a_split() -> None:
    torch.manual_seed(0)
    images, ghn = colours(), GHN(SMALL)
    found = evaluate(ghn, images, "test", range(3))
    assert found == evaluate(ghn, images, "test", range(3))
    assert len(found.values) == 3
    assert found.best >= found.mean
    with torch.device("meta"):
        assert 0 <= accuracy(ghn, resnet18_for_small_images(3), images) <= 100


def test_modules_with_parameters_that_no_primitive_covers_are_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = conv(3, 3), nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (self.body(x) * self.scale).mean((2, 3))

    with torch.device("meta"), pytest.raises(TrainingError, match="can't be predicted: {'scale'"):
        Network.of(Scaled(), 3)


def test_data_sets_are_read_from_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = colours(20)
    columns = {"img": [p.permute(1, 2, 0).numpy() for p in images.pixels], "label": images.labels.tolist()}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "train.parquet")
    loaded = load_images(tmp_path, "train")
    assert torch.equal(loaded.pixels, images.pixels)
    assert torch.equal(loaded.labels, images.labels)
    assert loaded.num_classes == 3
    with pytest.raises(TrainingError, match=r"has no test.parquet; it has \['train.parquet'\]"):
        load_images(tmp_path, "test")


def test_data_sets_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(TrainingError, match=r"'someone/images' is no folder here.*no route.*folder with train.parquet"):
        load_images("someone/images", "train")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda out: Images.from_tensors(torch.zeros(2, 3, 4, 4), torch.zeros(2)), r"\(2, 3, 4, 4\) torch.float32; expected"),
        (lambda out: Images.from_tensors(torch.zeros(2, 3, 4, 4).byte(), torch.zeros(3)), r"labels are \(3,\) for 2 images"),
    ],
)
def test_bad_data_is_named(tmp_path: Path, call: Callable[[Path], object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        call(tmp_path)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    other = GHNConfig(num_classes=3, max_shape=(8, 8, 3, 3), hid=16)
    with pytest.raises(TrainingError, match=r"state.safetensors does not fit this run"):
        ghn_init.train(colours(), tmp_path, ghn=other, config=RECIPE, steps=8)
    (tmp_path / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(TrainingError, match=r"state.safetensors does not fit this run"):
        train(tmp_path, steps=8)
