"""The examples run, and so does the code in the README and in docstrings."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

import ghn_init

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPES = [
    block
    for page in ("recipes.md", "clients.md", "your_data.md", "ranking.md", "confidence.md")
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """An example's module, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def load(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Runs an example's `main` with a command line, and gives the lines that it printed."""

    def run(module: Any, *args: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [module.__file__, *args])
        module.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_quick_prediction() -> None:
    """In a process of its own, as people run examples."""
    command = [sys.executable, "examples/quick_prediction.py", "resnet18", "vit_tiny_patch16_224"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("resnet18: 60 of 62 parameters predicted")
    assert "first kernel (192, 3, 16, 16)" in lines[1]


def test_own_module(example: Any, output: Any) -> None:
    text = "\n".join(output(example("own_module")))
    assert "kept: gate: it scales a stream" in text
    assert "3 kept" in text  # and the head
    assert float(text.split()[-1]) > 0


def test_before_finetuning(example: Any, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that each run begins with, and the accuracies that are told."""
    module = example("before_finetuning")
    kernels, accuracies, finetune = [], [], module.finetune

    def watched(model: nn.Module, train: Any, test: Any, *settings: Any) -> float:
        kernels.append(next(p for p in model.parameters() if p.dim() == 4).detach().clone())
        result = finetune(model, train, test, *settings)
        with torch.no_grad():
            right = model.eval()(test[0]).argmax(1) == test[1]
        accuracies.append(f"{100 * right.double().mean().item():.1f}")
        return result

    monkeypatch.setattr(module, "finetune", watched)
    few = ("--models", "test_resnet", "--images", "80", "--test-images", "64", "--steps", "2", "--rates", "0.05")
    inits = ["default", "predicted", "orthogonal+noise"]
    lines = output(module, *few, "--inits", *inits)
    told = [line.split()[:3] for line in lines]
    assert told == [["test_resnet", init, accuracies[2 * k + 1]] for k, init in enumerate(inits)]
    torch.manual_seed(0)
    model = module.build("test_resnet", 10)
    own = next(p for p in model.parameters() if p.dim() == 4)
    assert torch.equal(kernels[1], own)
    ghn_init.initialize(model, example_inputs=torch.zeros(2, 3, 32, 32))
    assert torch.equal(kernels[3], own)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(kernels[1::2], 2))


def test_your_own_images(example: Any, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("your_own_images")
    few = tuple(torch.cat([part[:40], part[-30:]]) for part in module.digits())  # 400 and no fewer are for training
    darker = [part // 2 + k if part.dim() == 4 else part for k in range(6) for part in few]  # copies count once
    monkeypatch.setattr(module, "digits", lambda: tuple(torch.cat(darker[k :: len(few)]) for k in range(len(few))))
    seen: list[float] = []
    measure = module.accuracy
    monkeypatch.setattr(module, "accuracy", lambda *args: seen.append(measure(*args)) or seen[-1])
    fit, before, after = output(module, "--model", "mobilenetv3_small_050", "--steps", "1")
    assert re.match(r"a classifier of 10 classes in [\d.]+ s: leave-one-out accuracy [\d.]+ ± [\d.]+ % on 400 images ", fit)
    assert before == f"test accuracy before training: {seen[0]:.1f} %"
    assert re.fullmatch(rf"after 1 steps, \d+ s: {seen[1]:.1f} %", after)
    assert seen[0] > 20  # ten digits, by a head that never was trained


def test_choose_a_network(example: Any, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("choose_a_network")
    models = ["test_efficientnet", "test_resnet"]
    made: list[Any] = []
    create = module.timm.create_model
    monkeypatch.setattr(module.timm, "create_model", lambda *args, **kwargs: made.append(create(*args, **kwargs)) or made[-1])
    shown: list[str] = []
    measure = module.accuracy
    monkeypatch.setattr(module, "accuracy", lambda *args: (shown.append(f"{(right := measure(*args)):.1f}"), right)[1])
    lines = output(module, "--models", *models, "--steps", "4", "--drawn", "20")
    header, *table, summary = lines[: len(models) + 2]
    assert header.startswith("network ")
    assert {line.split()[0] for line in table} == set(models)
    best = table[0].split()[0]
    assert summary.startswith(f"first: {best}, ")
    chosen = re.search(r"^chosen: (\S+), .* held-out images after 2 steps at 0.02: ", "\n".join(lines), re.MULTILINE)
    assert chosen is not None
    last = re.fullmatch(rf"{best} from {re.escape(chosen[1])} after 4 steps: ([\d.]+) % of the test images", lines[-1])
    assert last is not None
    assert made[-1].num_classes == 3
    assert last[1] == shown[-1]


def test_train_a_hypernetwork(tmp_path: Path, example: Any, output: Any) -> None:
    """Once to the first step, and then on to the second."""
    module, options = example("train_a_hypernetwork"), ["--out", str(tmp_path), "--pool", "16", "--networks", "1"]
    output(module, "--steps", "1", *options)
    (line,) = output(module, "--steps", "2", *options)
    assert [row.split(",")[0] for row in (tmp_path / "log.csv").read_text().splitlines()] == ["step", "1", "2"]
    _, images = module.split()
    with torch.device("meta"):
        network = ghn_init.deepnets.network("test", 0)
    prediction = ghn_init.predict(network, ghn_init.load(tmp_path), torch.empty(2, 3, 32, 32, device="meta"), head="digits")
    model = prediction.model.to_empty(device="cpu").eval()
    prediction.apply_()
    with torch.no_grad():
        answers = torch.cat([model(images.normalise(pixels)).argmax(1) for pixels in images.pixels.split(64)])
    assert line == f"unseen network 0: {100 * (answers == images.labels).double().mean():.1f} % without training"


def test_next_byte(tmp_path: Path, example: Any, output: Any) -> None:
    """A task without images: once to the first step, then on to the second; what is printed is what the weights give."""
    module, text = example("next_byte"), tmp_path / "text"
    text.write_bytes(b"abac" * 500)
    options = ["--text", str(text), "--out", str(tmp_path / "run"), "--networks", "1"]
    output(module, "--steps", "1", *options)
    shares, unseen = output(module, "--steps", "2", *options)
    counts = {b: 1800 // 4 * k + 1 for b, k in ((97, 2), (98, 1), (99, 1))}  # of the first nine tenths, and one of each byte
    bits = [math.log2((1800 + 256) / counts[b]) for b in b"abac"]
    assert shares == f"shares of the bytes alone: {sum(bits) / 4:.2f} bits per byte"
    ghn = ghn_init.load(tmp_path / "run")
    assert ghn.config.tasks == {"next-byte": 256}
    torch.manual_seed(1)
    transformer = module.Transformer(*module.UNSEEN[0])
    assert unseen.startswith(f"unseen {module.UNSEEN[0]}: default {cross_entropy(transformer, text):.2f}, ")
    prediction = ghn_init.predict(transformer, ghn, torch.zeros(2, 64, dtype=torch.long), head=True)
    assert (prediction.task, list(prediction.kept)) == ("next-byte", [])
    assert f" predicted {cross_entropy(prediction.apply_(), text):.2f}, trained for 1 steps " in unseen


def cross_entropy(model: nn.Module, text: Path) -> float:
    """Bits per byte on windows of the last tenth, which repeats itself every four bytes: each start is drawn equally often."""
    held_out = torch.tensor(list(text.read_bytes()[1800:]))
    windows = torch.stack([held_out[k : k + 65] for k in range(4)])
    with torch.no_grad():
        logits = model.eval()(windows[:, :-1]).double()
    each = (
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none").view(4, 64).mean(1)
    )
    starts = torch.cat(
        [torch.randint(136, (32,), generator=torch.Generator().manual_seed(7 * 1_000_003 + k)) for k in range(8)]
    )
    return each[starts % 4].mean().item() / math.log(2)


def test_the_notebook_shows_tables_and_a_picture() -> None:
    notebook = nbformat.read(ROOT / "examples" / "first_look.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # they would age
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    report, graph, statistics, explanation = shown
    assert report["text/html"].count('<div class="ghn-table">') == 2
    assert "<td>blocks.4.1</td>" in report["text/html"]
    assert report["text/html"].startswith(f"<p>{report['text/plain'].splitlines()[0]}</p>")
    assert graph["image/svg+xml"].startswith("<svg")
    assert ">blocks.4.1.conv_pw.weight</td>" in statistics["text/html"]
    assert explanation["text/plain"].startswith("blocks.4.1.conv_pw.weight: node ")


def test_the_page_on_tasks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add_a_task.md").read_text(), re.DOTALL)
    exec(compile(block, "docs/add_a_task.md", "exec"), {})
    assert capsys.readouterr().out.startswith("next-symbol 7 of 7 parameters predicted")


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_code_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {})


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_recipes_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "import optuna" in RECIPES[number]:
        pytest.importorskip("optuna")
    exec(compile(RECIPES[number], f"docs, block {number}", "exec"), {})


def test_readme_has_its_two_commands_and_a_quick_start() -> None:
    assert len(BLOCKS) >= 3
    first, second = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    assert "ghn-init init" in first
    command = second.strip().splitlines()[-1].split(" #")[0]
    *_, tests = (part.strip() for part in command.split("&&"))
    printed = subprocess.run(["make", "--dry-run", "check"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert tests in printed.splitlines()
    assert "make check" in (ROOT / ".ci" / "run").read_text().splitlines()


MODULES = sorted(m.name for m in pkgutil.walk_packages(ghn_init.__path__, "ghn_init.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_verb_has_an_example() -> None:
    own = (ghn_init.initialize, ghn_init.predict, ghn_init.trace, ghn_init.load, ghn_init.fit_head_)
    for verb in (
        *own,
        ghn_init.choose,
        ghn_init.rank,
        ghn_init.score,
        ghn_init.recalibrate_batchnorm,
        ghn_init.adapt_stem_,
        ghn_init.timm.create_model,
        ghn_init.timm.register,
        ghn_init.timm.export,
    ):
        assert ">>> " in (verb.__doc__ or "")
