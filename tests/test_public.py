"""The public page: every name is there, is what it says, and is loaded when it is first used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ghn_init

PAGE = Path(ghn_init.__file__).read_text()
NAMES = (
    "Choice", "Comparison", "Conditioning", "DEFAULT", "Evaluation", "Expectation", "Explanation", "FineTune", "GHN",
    "GHNConfig", "Graph", "HeadFit", "ImageTask", "Images", "Node", "Prediction", "Progress", "Ranking", "Report", "Score",
    "Task", "TrainConfig", "ZeroShot", "adapt_stem_", "choose", "compare", "evaluate", "expect", "explain", "fit_head_",
    "initialize", "load", "predict", "rank", "recalibrate_batchnorm", "register_rule", "score", "trace", "train",
)  # fmt: skip
ROOMS = ("comparison", "deepnets", "errors", "families", "tasks", "timm")


def type_checked() -> dict[str, str]:
    """Name → module that the page imports it from for type checkers; the package itself for rooms."""
    (block,) = [node for node in ast.parse(PAGE).body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.asname == alias.name  # which says that it is exported (PEP 484)
        assert node.module is not None
        found[alias.name] = node.module
    return found


def test_the_three_lists_of_names_agree() -> None:
    homes = {name: f"ghn_init.{home}" for home, names in ghn_init._HOMES.items() for name in names}
    assert type_checked() == {**homes, **dict.fromkeys(ROOMS, "ghn_init")}
    assert ghn_init.__all__ == ["__version__", *NAMES, *ROOMS]
    assert sum(map(len, ghn_init._HOMES.values())) == len(homes)  # none twice


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_what_its_home_defines(name: str) -> None:
    (home,) = [home for home, names in ghn_init._HOMES.items() if name in names]
    value = getattr(ghn_init, name)
    assert value is getattr(sys.modules[f"ghn_init.{home}"], name)
    assert vars(ghn_init)[name] is value  # the next time it is found at once
    if name != "DEFAULT":
        defined = sys.modules[value.__module__]
        assert value.__name__ == name
        assert defined.__name__.startswith(f"ghn_init.{home}")


@pytest.mark.parametrize("name", ROOMS)
def test_every_room_is_a_module(name: str) -> None:
    assert isinstance(getattr(ghn_init, name), ModuleType)
    assert getattr(ghn_init, name).__name__ == f"ghn_init.{name}"


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(ghn_init, "initialise")
    with pytest.raises(AttributeError, match="^module 'ghn_init' has no attribute 'initialise'$"):
        ghn_init.initialise  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'CheckpointError' from 'ghn_init'"):
        exec("from ghn_init import CheckpointError")


def run(code: str) -> Any:
    """What a fresh process prints, which is JSON."""
    command = [sys.executable, "-c", f"import json, sys\n{code}"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)


def test_the_package_itself_loads_nothing_of_the_others() -> None:
    loaded = run("before = set(sys.modules)\nimport ghn_init\nprint(json.dumps(sorted(set(sys.modules) - before)))")
    assert [name for name in loaded if name.startswith("ghn_init")] in (["ghn_init"], ["ghn_init", "ghn_init.version"])
    heavy = {"torch", "numpy", "safetensors", "huggingface_hub", "timm", "torchvision", "matplotlib", "datasets", "accelerate"}
    assert heavy & set(loaded) == set()


@pytest.mark.parametrize(
    ("use", "absent"),
    [
        ("GHNConfig({'a': 3})", {"torch", "huggingface_hub"}),
        ("trace", {"huggingface_hub", "timm", "torchvision", "ghn_init.hypernetwork.ghn", "ghn_init.checkpoints"}),
        ("initialize", {"timm", "torchvision", "matplotlib", "datasets", "accelerate", "h5py", "ghn_init.training"}),
        ("fit_head_", {"timm", "torchvision", "datasets", "huggingface_hub", "ghn_init.hypernetwork.ghn", "ghn_init.api"}),
        ("evaluate", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli"}),
        ("train", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli", "ghn_init.comparison"}),
        ("compare", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli", "ghn_init.training"}),
        ("choose", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli", "ghn_init.training"}),
        ("rank", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli", "ghn_init.training", "ghn_init.comparison"}),
        ("score", {"timm", "matplotlib", "datasets", "accelerate", "ghn_init.cli", "ghn_init.training", "pandas"}),
        ("ImageTask", {"datasets", "PIL", "ghn_init.hypernetwork.ghn", "huggingface_hub"}),
    ],
)
def test_a_name_loads_what_it_needs_alone(use: str, absent: set[str]) -> None:
    loaded = set(run(f"import ghn_init\nghn_init.{use}\nprint(json.dumps(sorted(sys.modules)))"))
    assert absent & loaded == set()
    assert "ghn_init" in loaded


def test_star_and_dir_give_all_names() -> None:
    code = (
        "import ghn_init\nlisted = dir(ghn_init)\nspace = {}\nexec('from ghn_init import *', space)\n"
        "print(json.dumps([listed, sorted(space), ghn_init.__version__]))"
    )
    listed, imported, version = run(code)
    public = {"__version__", *NAMES, *ROOMS}
    assert public <= set(listed)
    assert listed == sorted(set(listed))
    assert set(imported) - {"__builtins__"} == public
    assert version == ghn_init.__version__


def test_every_error_is_one_of_the_package() -> None:
    errors = {name: value for name, value in vars(ghn_init.errors).items() if isinstance(value, type)}
    assert {
        "TraceError", "UnsupportedModelError", "CheckpointError", "ShapeMismatchError", "StrictError", "TrainingError",
        "ArchitectureError", "ComparisonError", "EvaluationError", "VerificationError", "ModelSpecError", "RecalibrationError",
        "HeadError", "DeviceError",
    } <= errors.keys()  # fmt: skip
    assert all(issubclass(value, ghn_init.errors.GHNInitError) and value.__doc__ for value in errors.values())
