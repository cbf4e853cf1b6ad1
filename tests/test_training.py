"""The meta-trainer: a few steps, resumed and killed runs, several processes, recipes."""

from __future__ import annotations

import copy
import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, GHNConfig, ImageTask
from ghn_init.errors import TrainingError
from ghn_init.training import loop
from ghn_init.training.curve import Progress
from ghn_init.training.loop import Job, Sums, equalise, meta_step, tempered
from ghn_init.training.networks import Network
from ghn_init.training.objectives import ZeroShot
from ghn_init.training.optimizer import Optimizers, update
from ghn_init.training.recipe import TrainConfig
from ghn_init.training.schedule import warmup_cosine
from helpers import RECIPE, SMALL, colours, tiny_networks
from zoo import Fn, conv, param

TASK = ImageTask(colours())


def train(out: Path, **changes: object) -> dict[str, Tensor]:
    options = {"data": TASK, "architectures": tiny_networks(), "ghn": SMALL, "config": RECIPE} | changes
    return ghn_init.train(out=out, **options).state_dict()  # type: ignore[arg-type]


def job(index: int = 1, size: int = 16) -> Job:
    return Job(Network.of(tiny_networks()[index], TASK), [TASK.batch(0, size, 0)], "key")


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


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, minutes: float) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    seen: list[int] = []
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", on_step=stop, save_minutes=minutes)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    parts = train(tmp_path / "parts", save_minutes=minutes, on_step=lambda progress: seen.append(progress.step))
    assert seen == [4]  # interrupted, it wrote its state
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    curves = [
        [row.rsplit(",", 2)[0] for row in (tmp_path / run / "log.csv").read_text().splitlines()] for run in ("whole", "parts")
    ]
    assert curves[0] == curves[1]


def test_what_filling_draws_is_drawn_again_by_a_resumed_run(tmp_path: Path) -> None:
    """Rows of class tokens in positional embeddings are random; they depend on step and place alone."""

    def vits() -> list[nn.Module]:
        torch.manual_seed(0)
        sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 3}
        return [VisionTransformer(**sizes) for _ in range(2)]

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole", architectures=vits())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", architectures=vits(), on_step=stop)
    parts = train(tmp_path / "parts", architectures=vits())
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_interrupted_within_a_step_has_the_steps_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(at: str, in_step: int) -> list[int]:
        calls, original, seen = itertools.count(1), getattr(loop, at), []

        def call(*arguments: object) -> object:
            if next(calls) == in_step:
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setattr(loop, at, call)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / at, save_minutes=60.0)
        monkeypatch.setattr(loop, at, original)
        train(tmp_path / at, save_minutes=60.0, on_step=lambda progress: seen.append(progress.step))
        return seen

    assert interrupted("meta_step", 3) == [3, 4]
    assert interrupted("update", 3) == [1, 2, 3, 4]  # weights between two steps are not written


def test_a_run_that_fails_keeps_the_steps_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, seen = itertools.count(1), []

    def failing(*arguments: Any) -> dict[str, Sums]:
        if next(calls) == 3:
            raise RuntimeError("out of memory")
        return meta_step(*arguments)

    monkeypatch.setattr(loop, "meta_step", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tmp_path / "parts", save_minutes=60.0)
    monkeypatch.setattr(loop, "meta_step", meta_step)
    parts = train(tmp_path / "parts", save_minutes=60.0, on_step=lambda progress: seen.append(progress.step))
    assert seen == [3, 4]
    whole = train(tmp_path / "whole", save_minutes=60.0)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_state_that_cannot_be_written_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    def stop(progress: Progress) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(loop, "save_state", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tmp_path, save_minutes=60.0, on_step=stop)
    assert "the state after step 1 could not be written: No space left on device" in caplog.text


def test_a_run_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    train(Path("~/run"), steps=1)
    assert (tmp_path / "home" / "run" / "model.safetensors").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["home"]
    with pytest.raises(TrainingError, match="'~nobody-of-that-name/run' begins with a home folder that is not known"):
        train(Path("~nobody-of-that-name/run"), steps=1)


def test_trackers_are_told_every_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen: list[Progress] = []
    train(tmp_path, trackers=("tensorboard",), on_step=seen.append)
    folders = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    boards = [EventAccumulator(str(folder)) for folder in folders]
    for board in boards:
        board.Reload()
    (board,) = (board for board in boards if "loss" in board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx([progress.loss for progress in seen])
    assert [event.value for event in board.Scalars("accuracy/images")] == pytest.approx([p.accuracy for p in seen])
    with pytest.raises(TrainingError, match=r"there is no tracker 'tensorbored' here; installed are .*tensorboard"):
        train(tmp_path / "other", trackers=("tensorbored",))
    assert not (tmp_path / "other").exists()


def test_fewer_steps_than_a_run_has_taken_do_not_take_it_back(tmp_path: Path) -> None:
    before = train(tmp_path)
    after = train(tmp_path, steps=2)
    assert all(torch.equal(before[name], after[name]) for name in before)
    seen: list[int] = []
    train(tmp_path, steps=5, on_step=lambda progress: seen.append(progress.step))
    assert seen == [5]


def test_loss_falls_on_an_easy_task(tmp_path: Path) -> None:
    losses = []
    train(tmp_path, steps=40, lr=1e-2, warmup=5, meta_batch=4, on_step=lambda p: losses.append(p.loss))
    assert sum(losses[-8:]) / 8 < 0.8 * sum(losses[:3]) / 3


KILLED = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from helpers import colours, tiny_networks, SMALL, RECIPE
import ghn_init
torch.set_num_threads(1)
options = {"architectures": tiny_networks(), "ghn": SMALL, "config": RECIPE, "steps": 400}
ghn_init.train(colours(), sys.argv[1], save_minutes=0.0, **options)
"""


def test_a_killed_run_goes_on_where_its_state_was(tmp_path: Path) -> None:
    """SIGKILL at whatever moment: the state is whole, the curve has no gap, and the end is an uninterrupted run's."""
    script, folder = tmp_path / "killed.py", tmp_path / "parts"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, str(script), str(folder), str(Path(__file__).parent)])
    deadline = time.monotonic() + 120
    while not (folder / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    seen: list[Progress] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = train(folder, steps=400, on_step=seen.append)
    whole = train(tmp_path / "whole", steps=400)
    torch.set_num_threads(threads)
    assert 1 < seen[0].step < 400
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with (folder / "log.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 401))


WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from helpers import colours, tiny_networks, SMALL, RECIPE
import ghn_init
torch.set_num_threads(1)
options = {"architectures": tiny_networks(), "ghn": SMALL, "config": RECIPE, "meta_batch": 4, "steps": 2}
ghn_init.train(colours(), sys.argv[1], **options)
torch.distributed.destroy_process_group()
"""


def test_what_is_global_is_left_as_it_was(tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, PartialState, GradientState):
        state._shared_state.clear()  # what other tests left
    seen: list[int] = []
    settings: dict[str, Any] = {"data": TASK, "architectures": tiny_networks(), "ghn": SMALL, "config": RECIPE}
    before = torch.get_rng_state()
    ghn_init.train(out=tmp_path / "run", **settings)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TrainingError, match="clip"):
        ghn_init.train(out=tmp_path / "run", **settings, clip=1.0)
    assert torch.equal(torch.get_rng_state(), before)
    own = Accelerator(cpu=True, gradient_accumulation_steps=3, mixed_precision="bf16")
    ghn_init.train(out=tmp_path / "again", **settings, on_step=lambda progress: seen.append(progress.step))
    assert seen == [1, 2, 3, 4]
    assert (own.mixed_precision, own.gradient_accumulation_steps, own.device.type) == ("bf16", 3, "cpu")
    for state in (AcceleratorState, PartialState, GradientState):
        state._shared_state.clear()


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
    for name in one:  # AdamW makes much of the difference between two gradients that are nearly 0
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-4)
    losses = [np.loadtxt(tmp_path / run / "log.csv", delimiter=",", skiprows=1)[:, 1] for run in ("one", "two")]
    np.testing.assert_allclose(losses[0], losses[1], atol=2e-4)


def test_the_average_follows_the_weights() -> None:
    ghn = GHN(SMALL)
    average = copy.deepcopy(ghn)
    before = average.embed.weight.detach().clone()
    for p in ghn.parameters():
        p.grad = torch.randn_like(p)
    update(ghn, average, Optimizers(ghn, "adamw", 1.0, 0.0), lr=0.5, clip=5.0, decay=0.7)
    torch.testing.assert_close(average.embed.weight, 0.7 * before + 0.3 * ghn.embed.weight)
    assert not torch.equal(before, ghn.embed.weight)
    assert torch.stack([p.grad.norm() for p in ghn.parameters()]).norm() == pytest.approx(5.0, rel=1e-3)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weights_of_the_hypernetwork_are_decayed(name: str) -> None:
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("PyTorch below 2.9")
    ghn = GHN(SMALL)
    before = copy.deepcopy(ghn.state_dict())
    for p in ghn.parameters():
        p.grad = torch.zeros_like(p)
    Optimizers(ghn, name, 1.0, 0.5).step(0.1)
    for key, p in ghn.state_dict().items():
        torch.testing.assert_close(p, 0.95 * before[key])


def test_what_no_gradient_reaches_is_not_decayed(tmp_path: Path) -> None:
    """FineTune draws heads anew: those of the hypernetwork learn nothing, and stay what they are."""
    start = GHN(SMALL)
    settings = {"ghn": start, "weight_decay": 1.0, "average": 0.0, "lr": 0.1}
    trained = train(tmp_path / "tuned", objective=ghn_init.FineTune(steps=1, classes=2), **settings)
    before = start.state_dict()
    for name in before:
        assert torch.equal(trained[name], before[name]) == name.startswith("heads."), name
    trained = train(tmp_path / "zero shot", **settings)
    assert not any(torch.equal(trained[name], before[name]) for name in before)


def test_every_step_gets_what_the_recipe_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, updates, steps = [], [], []

    def judged(model: GHN, jobs: list[Job], *settings: object) -> dict[str, Sums]:
        steps.append((jobs, settings[0]))
        return meta_step(model, jobs, *settings)  # type: ignore[arg-type]

    def optimizers(model: GHN, *settings: object) -> Optimizers:
        built.append(settings)
        return Optimizers(model, *settings)  # type: ignore[arg-type]

    def darker(pixels: Tensor) -> Tensor:
        return pixels // 16  # all below 16

    monkeypatch.setattr(loop, "meta_step", judged)
    monkeypatch.setattr(loop, "Optimizers", optimizers)
    monkeypatch.setattr(loop, "update", lambda model, average, optimizers, *settings: updates.append(settings))
    costs = [Network.of(module, TASK).seconds for module in tiny_networks()]
    budget = max(costs) / 4  # sixteen images of the costliest one
    changes = {"lr": 0.5, "warmup": 2, "cooldown": 0.5, "clip": 3.0, "average": 0.3, "weight_decay": 0.25, "batch_size": 32}
    task = ImageTask(colours(), transform=darker, label_smoothing=0.2)
    train(tmp_path, data=task, steps=6, budget=budget, **changes)
    assert built == [("adamw", 0.5, 0.25)]
    assert updates == [(0.5 * warmup_cosine(k, 6, 2, 0.5), 3.0, min(0.3, (1 + k) / (10 + k))) for k in range(6)]
    assert {objective for _, objective in steps} == {ZeroShot()}
    jobs = [job for own, _ in steps for job in own]
    assert all(one.network.task is task for one in jobs)
    sizes = [len(one.batches[0][1]) for one in jobs]
    assert sizes == [min(int(64 * budget / one.network.seconds) // 8 * 8, 32) for one in jobs]
    assert len(set(sizes)) > 1
    assert max(one.batches[0][0][0].max() for one in jobs) < colours().normalise(torch.full((1, 3, 1, 1), 16).byte()).max()
    assert all(not torch.equal(own[0].batches[0][0][0][:16], own[1].batches[0][0][0][:16]) for own, _ in steps)


@pytest.mark.parametrize(("pays", "asked"), [(True, True), (False, True), (True, False)])
def test_networks_run_in_bfloat16_where_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pays: bool, asked: bool
) -> None:
    recipes = []

    def judged(model: GHN, jobs: list[Job], objective: Any, recipe: TrainConfig) -> dict[str, Sums]:
        recipes.append(recipe)
        return meta_step(model, jobs, objective, recipe)

    monkeypatch.setattr(loop, "meta_step", judged)
    monkeypatch.setattr(loop, "bfloat16_pays", lambda: pays)
    with caplog.at_level("INFO"):
        train(tmp_path, bf16=asked, steps=1)
    assert [recipe.bf16 for recipe in recipes] == [pays and asked]
    assert ("bfloat16 is slower than float32 on this processor" in caplog.text) == (asked and not pays)
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["bf16"] == asked  # another machine may go on in it


def test_an_update_with_a_gradient_that_is_not_finite_is_left_out() -> None:
    ghn = GHN(SMALL)
    before = copy.deepcopy(ghn.state_dict())
    for p in ghn.parameters():
        p.grad = torch.full_like(p, math.nan)
    assert not update(ghn, copy.deepcopy(ghn), Optimizers(ghn, "adamw", 1.0, 0.0), lr=0.5, clip=5.0, decay=0.7)
    assert all(torch.equal(before[name], p) for name, p in ghn.state_dict().items())


def test_a_step_that_changes_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judged = loop.meta_step

    def overflowing(model: GHN, *args: Any) -> dict[str, Sums]:
        sums = judged(model, *args)
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(math.inf)
        return sums

    monkeypatch.setattr(loop, "meta_step", overflowing)
    train(tmp_path, steps=1)
    assert "step 1 changed nothing: the gradient of all networks together is not finite" in caplog.text


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch below 2.9")
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mapped files are listed by Linux")
def test_a_resumed_run_holds_no_view_of_its_state(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    seen: list[str] = []
    train(tmp_path, steps=3, on_step=lambda progress: seen.append(Path("/proc/self/maps").read_text()))
    assert len(seen) == 1
    assert str(tmp_path) not in seen[0]


def test_muon_updates_matrices_and_resumes(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    ghn = GHN(SMALL)
    kept = Optimizers(ghn, "muon", 1e-3, 0.0)
    for p in ghn.parameters():
        p.grad = torch.randn_like(p)
    kept.step(1e-3)
    assert set(kept.state()["decoder.fc.0.weight"]) == {"momentum_buffer"}
    assert "exp_avg" in kept.state()["embed.weight"]
    assert "exp_avg" in kept.state()["heads.images.to_weight.weight"]
    whole = train(tmp_path / "whole", optimizer="muon")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", optimizer="muon", on_step=stop, save_minutes=0.0)
    parts = train(tmp_path / "parts", optimizer="muon")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], value) for name, value in train(tmp_path / "adamw").items())
    for folder, own, other in (("whole", "muon", "adamw"), ("adamw", "adamw", "muon")):
        with pytest.raises(TrainingError, match=rf"another recipe: recipe.optimizer is '{other}', was '{own}'\. Go on with"):
            train(tmp_path / folder, optimizer=other, steps=20)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch below 2.9")
@pytest.mark.parametrize(("own", "other"), [("muon", "adamw"), ("adamw", "muon")])
def test_an_optimizer_takes_no_state_of_another_one(own: str, other: str) -> None:
    ghn = GHN(SMALL)
    first, second = Optimizers(ghn, own, 1e-3, 0.0), Optimizers(ghn, other, 1e-3, 0.0)
    for p in ghn.parameters():
        p.grad = torch.ones_like(p)
    first.step(1e-3)
    with pytest.raises(TrainingError, match="begun with another optimizer; go on with that one"):
        second.restore(first.state())


def test_every_parameter_of_the_hypernetwork_learns() -> None:
    torch.manual_seed(0)
    ghn = GHN(SMALL)
    jobs = [Job(Network.of(module, TASK), [TASK.batch(0, 8, 0)], str(k)) for k, module in enumerate(tiny_networks())]
    meta_step(ghn, jobs, ZeroShot(), RECIPE)
    silent = [name for name, p in ghn.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []


def test_the_step_gradient_is_that_of_the_mean_loss() -> None:
    torch.manual_seed(0)
    ghn, jobs = GHN(SMALL), [job(0), job(2)]
    sums = meta_step(ghn, jobs, ZeroShot(), RECIPE)
    found = {name: p.grad.clone() for name, p in ghn.named_parameters() if p.grad is not None}
    ghn.zero_grad()
    losses, accuracies = [], []
    for one in jobs:
        (cores,) = ghn([one.network.graph], [one.network.slots], ["images"])
        (((pixels,), labels),) = one.batches
        logits = one.network(one.network.fill(cores), pixels)
        losses.append(nn.functional.cross_entropy(logits, labels))
        accuracies.append((logits.argmax(1) == labels).double().mean().item())
    sum(tempered(loss, 3) / 2 for loss in losses).backward()  # type: ignore[union-attr]
    assert sums == {"images": pytest.approx((sum(loss.item() for loss in losses), sum(accuracies), 2))}
    for name, p in ghn.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)


class Gentle(ZeroShot):
    """The loss of one network a fifth as large."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def __call__(self, network: Network, *rest: Any) -> tuple[torch.Tensor, float]:
        loss, accuracy = super().__call__(network, *rest)
        return (loss / 5 if network is self.network else loss), accuracy


def test_equal_gradients_let_no_network_lead_by_its_loss() -> None:
    torch.manual_seed(0)
    ghn, jobs = GHN(SMALL), [job(0), job(2)]

    def gradient(objective: ZeroShot, equal: bool, meta_batch: int = 2) -> torch.Tensor:
        meta_step(ghn, jobs, objective, TrainConfig(meta_batch=meta_batch, equal_gradients=equal, bf16=False))
        return torch.cat([p.grad.flatten() for p in ghn.parameters() if p.grad is not None])

    gentle = Gentle(jobs[0].network)
    level, plain = gradient(ZeroShot(), True), gradient(ZeroShot(), False)
    torch.testing.assert_close(gradient(gentle, True), level, rtol=1e-3, atol=1e-6)
    assert (gradient(gentle, False) - plain).norm() > 0.1 * plain.norm()
    torch.testing.assert_close(gradient(ZeroShot(), True, 4), level / 2)


def test_gradients_that_are_zero_are_equalised_to_zero() -> None:
    gradients = [torch.zeros(3), torch.zeros(2)]
    equalise(gradients, 0.5)
    assert not torch.cat(gradients).any()
    gradients = [torch.tensor([3.0]), torch.tensor([0.0, 4.0])]
    equalise(gradients, 0.5)
    torch.testing.assert_close(torch.cat(gradients), torch.tensor([0.3, 0.0, 0.4]))


def test_gradients_through_filling_match_finite_differences() -> None:
    torch.manual_seed(0)
    ghn, one = GHN(SMALL), job()
    recipe = TrainConfig(meta_batch=1, bf16=False)
    meta_step(ghn, [one], ZeroShot(), recipe)
    weight = ghn.decoder.conv[0].weight
    direction = torch.sign(weight.grad)
    slope = (weight.grad * direction).sum().item()

    def loss(at: float) -> float:
        with torch.no_grad():
            weight.add_(at * direction)
            (cores,) = ghn([one.network.graph], [one.network.slots], ["images"])
            (((pixels,), labels),) = one.batches
            raw = nn.functional.cross_entropy(one.network(one.network.fill(cores), pixels), labels)
            weight.sub_(at * direction)
        return tempered(raw, 3).item()

    step = 1e-3
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(slope, rel=0.1)


def test_losses_above_chance_are_tempered_smoothly() -> None:
    losses = torch.tensor([0.5, math.log(3) - 1e-4, math.log(3) + 1e-4, 300.0], requires_grad=True)
    values = tempered(losses, 3)
    assert values[0] == 0.5
    assert values[3].item() == pytest.approx(math.log(3) * (1 + math.log(300 / math.log(3))))
    (slopes,) = torch.autograd.grad(values.sum(), losses)
    assert slopes[1] == pytest.approx(slopes[2].item(), abs=1e-3)
    assert slopes[3] < 0.01


def test_a_network_without_a_finite_loss_counts_for_nothing() -> None:
    torch.manual_seed(0)
    ghn, one = GHN(SMALL), job()
    (((pixels,), labels),) = one.batches
    broken = Job(one.network, [((pixels * math.nan,), labels)], "broken")
    alone = meta_step(ghn, [one], ZeroShot(), RECIPE)
    expected = [p.grad.clone() for p in ghn.parameters() if p.grad is not None]
    assert alone["images"].networks == 1
    assert meta_step(ghn, [one, broken], ZeroShot(), RECIPE) == {"images": pytest.approx(alone["images"])}
    for p, g in zip(ghn.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-7)
    assert meta_step(ghn, [broken], ZeroShot(), RECIPE) == {}


class Steep(ZeroShot):
    """A finite loss whose gradient is not finite, of one network or of all."""

    def __init__(self, network: Network | None = None) -> None:
        super().__init__()
        self.network = network

    def __call__(self, network: Network, *rest: Any) -> tuple[torch.Tensor, float]:
        loss, accuracy = super().__call__(network, *rest)
        steep = self.network in (None, network)
        return (loss + (loss - loss.detach()).sqrt() if steep else loss), accuracy


@pytest.mark.parametrize("equal", [True, False])
def test_a_network_without_a_finite_gradient_counts_for_nothing(equal: bool) -> None:
    torch.manual_seed(0)
    ghn, one, steep = GHN(SMALL), job(), job(2)
    recipe = TrainConfig(meta_batch=2, bf16=False, equal_gradients=equal)
    alone = meta_step(ghn, [one], ZeroShot(), recipe)
    expected = [p.grad.clone() for p in ghn.parameters() if p.grad is not None]
    assert meta_step(ghn, [one, steep], Steep(steep.network), recipe) == {"images": pytest.approx(alone["images"])}
    for p, g in zip(ghn.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-7)
    assert meta_step(ghn, [steep], Steep(), recipe) == {}


def test_a_run_whose_gradients_are_all_infinite_ends(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no network of step 1 has a finite loss and gradient; lower the learning rate"):
        train(tmp_path, objective=Steep())


def test_a_run_whose_losses_are_all_infinite_ends(tmp_path: Path) -> None:
    images = colours()
    object.__setattr__(images, "std", images.std * 0)
    with pytest.raises(TrainingError, match=r"no network of step 1 has a finite loss and gradient; lower the"):
        ghn_init.train(images, tmp_path, architectures=tiny_networks(), ghn=SMALL, config=RECIPE)


def test_predicted_parameters_are_decayed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ghn, one = GHN(SMALL), job()
    plain = meta_step(ghn, [one], ZeroShot(), RECIPE)["images"].loss
    decayed = meta_step(ghn, [one], ZeroShot(), TrainConfig(meta_batch=2, bf16=False, parameter_decay=0.01))["images"].loss
    (cores,) = ghn([one.network.graph], [one.network.slots], ["images"])
    squares = sum(p.square().sum().item() for p in one.network.fill(cores).values())
    assert decayed - plain == pytest.approx(0.01 * squares, rel=1e-3)


def test_a_run_goes_on_from_a_given_hypernetwork_and_leaves_it_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    given = GHN(SMALL).eval()
    before = copy.deepcopy(given.state_dict())
    found = train(tmp_path, ghn=given, steps=1, warmup=1, lr=1e-9)
    for name, value in given.state_dict().items():
        assert torch.equal(value, before[name])
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
    assert not given.training


def test_the_hypernetwork_to_go_on_from_may_be_a_name(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 1, "meta_batch": 1, "pool": 1, "average": 0.0, "warmup": 0}
    train(tmp_path / "a", **settings)
    for run, ghn in (("b", tmp_path / "a"), ("c", ghn_init.load(tmp_path / "a"))):
        train(tmp_path / run, ghn=ghn, **settings)
    recipes = [json.loads((tmp_path / run / "recipe.json").read_text()) for run in "bc"]
    assert recipes[0] == recipes[1]
    assert recipes[0]["start"] == ghn_init.load(tmp_path / "a").fingerprint
    with pytest.raises(TypeError, match="ghn is of type int; expected a hypernetwork, a checkpoint's name or its folder"):
        train(tmp_path / "d", ghn=3)


@pytest.mark.parametrize(
    "config",
    [
        GHNConfig.ghn1({"images": 3}, max_shape=(8, 8, 3, 3), hid=8),
        GHNConfig.mlp({"images": 3}, max_shape=(8, 8, 3, 3), hid=8),
        GHNConfig.ghn3({"images": 3}, hid=8, layers=2, heads=2, max_shape=(8, 8, 3, 3)),
    ],
    ids=["ghn-1", "mlp", "ghn-3"],
)
def test_other_hypernetworks_train(tmp_path: Path, config: GHNConfig) -> None:
    train(tmp_path, ghn=config, steps=2)
    assert ghn_init.load(tmp_path).config == config


def test_schedule() -> None:
    values = [warmup_cosine(step, 100, 10) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[9] == pytest.approx(1.0)
    assert values[100] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))


def test_a_short_cooldown_keeps_the_peak_before() -> None:
    values = [warmup_cosine(step, 110, 10, 0.2) for step in range(111)]
    assert set(values[10:91]) == {1.0}
    assert values[100] == pytest.approx(0.01 + 0.99 / 2)
    assert values[110] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of adamw, muon"),
        (
            {"ghn": GHNConfig({"images": 4})},
            "on these tasks: the task 'images' has 3 outputs, the hypernetwork knows it with 4; give it another name",
        ),
        ({"architectures": []}, "there are no architectures"),
        (
            {"budget": 1e-9},
            r"none of 3 networks .* budget of 1e-09 s: the pool's 6 are shared out among the 2 places of a step",
        ),
    ],
)
def test_recipes_that_cannot_be_followed(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        train(tmp_path, **changes)


def test_networks_that_do_not_suit_their_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"Conv2d returns a tensor of shape \(2, 8, 16, 16\); the task 'images' needs 3 out"
    ):
        Network.of(conv(), TASK)
    with pytest.raises(TrainingError, match=r"a network of the task 'images' can't be trained on: the forward pass of Conv2d"):
        train(tmp_path, architectures=[conv(5, 3)] * 6)
    pool = Fn(lambda m, x: x.mean((2, 3)) * m.scale, scale=param(3))
    with pytest.raises(TrainingError, match=r"nothing of Fn is predicted: \{'scale': .*scales a stream.*\}; leave it out"):
        Network.of(pool, TASK)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    other = GHNConfig({"images": 3}, max_shape=(8, 8, 3, 3), hid=16)
    with pytest.raises(TrainingError, match=r"was begun with another recipe: ghn.hid is 16, was 8\. Go on with"):
        train(tmp_path, ghn=other, steps=8)
    state = load_file(tmp_path / "state.safetensors")
    for damaged in (
        {name: tensor for name, tensor in state.items() if name != "model.ln.weight"},
        {**state, "average.ln.weight": torch.zeros(5)},
    ):
        save_file(damaged, tmp_path / "state.safetensors", {"step": "4"})
        with pytest.raises(TrainingError, match=r"state.safetensors does not fit this run \(.*ln.weight"):
            train(tmp_path, steps=8)
    (tmp_path / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(TrainingError, match=r"state.safetensors does not fit this run"):
        train(tmp_path, steps=8)
