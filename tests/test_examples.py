"""The examples run, and so does the code in the README and in docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ghn_init

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)


def run(*args: str) -> str:
    result = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_quick_prediction() -> None:
    lines = run("examples/quick_prediction.py", "resnet18", "vit_tiny_patch16_224").splitlines()
    assert lines[0].startswith("resnet18: 62 of 62 parameters predicted")
    assert "first kernel (192, 3, 16, 16)" in lines[1]


def test_own_module() -> None:
    text = run("examples/own_module.py")
    assert "kept: gate: it scales a stream" in text
    assert "1 kept" in text
    assert float(text.split()[-1]) > 0


def test_before_finetuning() -> None:
    options = ["--steps", "2", "--rates", "0.05", "--seeds", "1", "--test-images", "64"]
    lines = run("examples/before_finetuning.py", *options).splitlines()
    assert [line.split()[0] for line in lines] == ["default", "predicted"]
    assert all(0 <= float(line.split()[1]) <= 100 for line in lines)


def test_timm_finetuning() -> None:
    options = ["--steps", "1", "--rates", "0.05", "--test-images", "16"]
    lines = run("examples/timm_finetuning.py", *options).splitlines()
    ways = ["timm", "predicted", "noise", "orthogonal+noise", "orthogonal+noise, scale kept"]
    assert [line[:28].strip() for line in lines] == ways
    assert all(0 <= float(line[28:].split()[0]) <= 100 for line in lines)


def test_train_a_hypernetwork(tmp_path: Path) -> None:
    """Once to the second step, and then on to the fourth."""
    options = ["--out", str(tmp_path), "--pool", "16", "--networks", "1"]
    run("examples/train_a_hypernetwork.py", "--steps", "2", *options)
    lines = run("examples/train_a_hypernetwork.py", "--steps", "4", *options).splitlines()
    assert (tmp_path / "log.csv").read_text().count("\n") == 5
    assert 0 <= float(lines[-1].split()[3]) <= 100


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_code_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {})


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_recipes_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(RECIPES[number], f"docs/recipes.md, block {number}", "exec"), {})


def test_readme_has_its_two_commands_and_a_quick_start() -> None:
    assert len(BLOCKS) >= 3
    first, second = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    assert "ghn-init init" in first
    assert "pytest" in second
    assert second.strip().splitlines()[-1].split(" #")[0] in (ROOT / ".ci" / "run").read_text() or "pytest" in second


MODULES = sorted(m.name for m in pkgutil.walk_packages(ghn_init.__path__, "ghn_init.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_verb_has_an_example() -> None:
    own = (ghn_init.initialize, ghn_init.predict, ghn_init.trace, ghn_init.load, ghn_init.recalibrate_batchnorm)
    for verb in (
        *own,
        ghn_init.models.stem.adapt_stem_,
        ghn_init.timm.create_model,
        ghn_init.timm.register,
        ghn_init.timm.export,
    ):
        assert ">>> " in (verb.__doc__ or "")
