"""A run's recipe: written down when it begins, compared when it goes on."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, FineTune, GHNConfig, Images, ImageTask, TrainConfig, ZeroShot, deepnets
from ghn_init.errors import TrainingError
from ghn_init.tasks.task import described
from ghn_init.training.recipe import MAY_CHANGE, TrainOptions, changed, flattened
from helpers import RECIPE, SMALL, Tiny, colours, tiny_networks


def options(**changes: Any) -> dict[str, Any]:
    """What a run is begun with."""
    return {"data": colours(), "architectures": tiny_networks(), "ghn": SMALL, "config": RECIPE} | changes


def given() -> GHN:
    torch.manual_seed(5)
    return GHN(SMALL)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps, not to be written to."""
    folder = tmp_path_factory.mktemp("run")
    ghn_init.train(out=folder, **options())
    return folder


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def contents(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "recipe.json").read_text())


def test_a_run_writes_down_what_it_is_made_of(begun: Path) -> None:
    found = contents(begun)
    assert found == {
        "recipe": asdict(RECIPE),
        "ghn": SMALL.to_dict(),
        "start": None,
        "tasks": {"images": {"data": colours().fingerprint, "share": 1.0}},
        "architectures": {"images": found["architectures"]["images"]},
        "objective": "ZeroShot()",
        "versions": {"ghn_init": ghn_init.__version__, "torch": str(torch.__version__)},
        "changes": [],
    }
    assert re.fullmatch("6 modules [0-9a-f]{12}", found["architectures"]["images"])


def other_data() -> Images:
    whole = colours()
    return Images.from_tensors(whole.pixels, whole.labels.flip(0), like=whole)


OTHERS: dict[str, tuple[Callable[[], dict[str, Any]], list[str]]] = {
    "seed": (lambda: {"seed": 1}, ["recipe.seed is 1, was 0"]),
    "batch size": (lambda: {"batch_size": 16}, ["recipe.batch_size is 16, was 8"]),
    "clip": (lambda: {"clip": 1.0}, ["recipe.clip is 1.0, was 5.0"]),
    "precision": (lambda: {"bf16": True}, ["recipe.bf16 is True, was False"]),
    "decay": (lambda: {"parameter_decay": 3e-5}, ["recipe.parameter_decay is 3e-05, was 0.0"]),
    "objective": (lambda: {"objective": FineTune()}, [r"objective is 'FineTune\(steps=5, lr=0.05, .*', was 'ZeroShot\(\)'"]),
    "data": (lambda: {"data": other_data()}, ["tasks.images.data is '[0-9a-f]{16}', was '[0-9a-f]{16}'"]),
    "label smoothing": (
        lambda: {"data": ImageTask(colours(), label_smoothing=0.1)},
        ["tasks.images.data is '[0-9a-f]{16}, label smoothing 0.1', was '[0-9a-f]{16}'"],
    ),
    "architectures": (
        lambda: {"architectures": [Tiny(1, 8)] * 6},
        ["architectures.images is '6 modules [0-9a-f]{12}', was '6 modules [0-9a-f]{12}'"],
    ),
    "a task more": (
        lambda: {"data": {"images": colours(), "more": colours()}},
        [
            "architectures.more is '6 modules [0-9a-f]{12}', was None",
            "ghn.tasks.more is 3, was None",
            "tasks.more.data is '[0-9a-f]{16}', was None",
            "tasks.more.share is 1.0, was None",
        ],
    ),
    "a task of another name": (
        lambda: {"data": {"other": colours()}, "ghn": GHNConfig({"other": 3}, max_shape=(8, 8, 3, 3), hid=8)},
        [
            "architectures.images is None, was '6 .*'",
            "architectures.other is '6 .*', was None",
            "ghn.tasks.images is None, was 3",
        ],
    ),
    "shares": (lambda: {"shares": {"images": 2}}, ["tasks.images.share is 2.0, was 1.0"]),
    "start": (lambda: {"ghn": given()}, ["start is '[0-9a-f]{12}', was None"]),
    "hypernetwork": (
        lambda: {"ghn": GHNConfig.ghn1({"images": 3}, max_shape=(8, 8, 3, 3), hid=8)},
        ["ghn.layernorm is False, was"],
    ),
    "several": (
        lambda: {"seed": 1, "clip": 1.0, "objective": FineTune()},
        [r"objective is .*", "recipe.clip is 1.0, was 5.0", "recipe.seed is 1, was 0"],
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_does_not_go_on_as_another_one(begun: Path, what: str) -> None:
    changes, told = OTHERS[what]
    before = {file.name: file.read_bytes() for file in begun.iterdir()}
    seen: list[object] = []
    words = (
        rf"^the run in {begun} was begun with another recipe: {'; '.join(told)}.*\. Go on with what it was begun with, or pass"
    )
    with pytest.raises(TrainingError, match=words) as caught:
        ghn_init.train(out=begun, on_step=seen.append, **options(**{"steps": 8, **changes()}))
    assert str(caught.value).endswith(
        "another folder; steps, budget, least_examples, warmup, cooldown, lr, save_minutes may change."
    )
    assert "recipe.steps" not in str(caught.value)
    assert seen == []
    assert {file.name: file.read_bytes() for file in begun.iterdir()} == before


def test_networks_of_a_file_are_told_by_what_is_taken_of_it(tmp_path: Path) -> None:
    file, run = tmp_path / "nets.db", tmp_path / "run"
    deepnets.write(file, "train", 0, 2)
    settings = options(architectures=file, config=replace(RECIPE, meta_batch=1, pool=2, batch_size=2))
    ghn_init.train(out=run, **settings, steps=1)
    deepnets.write(file, "train", 2, 3)  # the pool has the same two
    ghn_init.train(out=run, **settings, steps=2)
    own = contents(run)
    (run / "recipe.json").write_text(json.dumps({**own, "architectures": {"images": "3 of nets.db"}}))  # as versions before
    ghn_init.train(out=run, **settings, steps=3)
    assert contents(run)["architectures"] == own["architectures"]
    (tmp_path / "other").mkdir()
    deepnets.write(tmp_path / "other" / "nets.db", "train", 3, 6)
    told = "architectures.images is '2 stored networks [0-9a-f]{12}', was '2 stored networks [0-9a-f]{12}'"
    with pytest.raises(TrainingError, match=told):
        ghn_init.train(out=run, **{**settings, "architectures": tmp_path / "other" / "nets.db"}, steps=4)


def test_many_differences_are_counted(begun: Path) -> None:
    changes: dict[str, Any] = {
        "seed": 1,
        "clip": 1.0,
        "meta_batch": 1,
        "pool": 5,
        "average": 0.5,
        "weight_decay": 0.1,
        "bf16": True,
    }
    with pytest.raises(TrainingError, match=r"recipe.meta_batch is 1, was 2 \(and 3 more\)\. Go on with"):
        ghn_init.train(out=begun, **options(**changes))


CHANGES = {"steps": 6, "budget": 9.0, "least_examples": 2, "warmup": 1, "cooldown": 0.5, "lr": 1e-2, "save_minutes": 1.0}


def test_some_fields_may_change_and_it_is_noted_when(begun: Path, tmp_path: Path) -> None:
    assert set(CHANGES) == set(MAY_CHANGE)
    folder = copied(begun, tmp_path / "run")
    ghn_init.train(out=folder, **options(**CHANGES))
    first = {name: [getattr(RECIPE, name), value] for name, value in CHANGES.items()}
    assert contents(folder)["recipe"] == {**asdict(RECIPE), **CHANGES}
    assert contents(folder)["changes"] == [{"step": 4, **first}]
    ghn_init.train(out=folder, **options(**CHANGES))  # again as it was: nothing to note
    assert contents(folder)["changes"] == [{"step": 4, **first}]
    ghn_init.train(out=folder, **options(**{**CHANGES, "steps": 7}))
    assert contents(folder)["changes"] == [{"step": 4, **first}, {"step": 6, "steps": [6, 7]}]
    with (folder / "log.csv").open() as file:
        assert [line.split(",")[0] for line in file] == ["step", *map(str, range(1, 8))]


def test_another_learning_rate_is_followed(begun: Path, tmp_path: Path) -> None:
    rates: list[float] = []
    folder = copied(begun, tmp_path / "run")
    ghn_init.train(out=folder, on_step=lambda p: rates.append(p.lr), **options(steps=5, lr=0.5, cooldown=0.0))
    assert rates == [0.5]


def test_versions_are_those_of_the_last_start(begun: Path, tmp_path: Path) -> None:
    folder = copied(begun, tmp_path / "run")
    old = contents(folder) | {"versions": {"ghn_init": "0.0.1", "torch": "1.0"}}
    (folder / "recipe.json").write_text(json.dumps(old))
    ghn_init.train(out=folder, **options(steps=5))
    assert contents(folder)["versions"] == {"ghn_init": ghn_init.__version__, "torch": str(torch.__version__)}


def test_a_run_goes_on_from_weights_that_it_was_begun_with(tmp_path: Path) -> None:
    start = given()
    ghn_init.train(out=tmp_path, **options(ghn=start))
    assert contents(tmp_path)["start"] == start.fingerprint
    ghn_init.train(out=tmp_path, **options(ghn=start, steps=5))
    with torch.no_grad():
        start.embed.weight[0, 0] += 1
    with pytest.raises(TrainingError, match=r"another recipe: start is '[0-9a-f]{12}', was '[0-9a-f]{12}'\."):
        ghn_init.train(out=tmp_path, **options(ghn=start, steps=6))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), r"FileNotFoundError\(.*"),
        (lambda path: path.write_text("{"), r"JSONDecodeError\(.*"),
        (lambda path: path.write_text("[]"), r"TypeError\(.*"),
        (lambda path: path.write_text(json.dumps({"recipe": {}})), r"KeyError\('ghn'\)"),
    ],
    ids=["missing", "no JSON", "no object", "entries are missing"],
)
def test_a_state_without_a_recipe_says_what_to_do(
    begun: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    """Runs of the first version have none."""
    folder = copied(begun, tmp_path / "run")
    damage(folder / "recipe.json")
    state = load_file(folder / "state.safetensors")
    with pytest.raises(
        TrainingError,
        match=rf"^{folder} holds a state, but no recipe.json that says of what run \({words}\); pass another folder\. Where it "
        rf"has a finished checkpoint too, ghn=ghn_init.load\('{folder}'\), on the command line --start, goes on from its",
    ):
        ghn_init.train(out=folder, **options(steps=5))
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(folder / "state.safetensors").items())
    seen: list[int] = []
    ghn_init.train(out=tmp_path / "next", on_step=lambda p: seen.append(p.step), **options(ghn=ghn_init.load(folder), steps=2))
    assert seen == [1, 2]


def test_a_folder_without_a_state_begins_anew(begun: Path, tmp_path: Path) -> None:
    folder = copied(begun, tmp_path / "run")
    (folder / "state.safetensors").unlink()
    seen: list[int] = []
    ghn_init.train(out=folder, on_step=lambda p: seen.append(p.step), **options(seed=1))
    assert seen == [1, 2, 3, 4]
    assert contents(folder)["recipe"]["seed"] == 1


def test_keywords_are_the_fields_of_the_recipe() -> None:
    assert get_type_hints(TrainOptions) == get_type_hints(TrainConfig)
    assert list(TrainOptions.__annotations__) == [field.name for field in fields(TrainConfig)]
    assert TrainOptions.__total__ is False
    assert set(MAY_CHANGE) <= TrainOptions.__annotations__.keys()


def test_fields_that_there_are_not_are_type_errors(tmp_path: Path) -> None:
    known = ", ".join(field.name for field in fields(TrainConfig))
    with pytest.raises(TypeError, match=rf"^train\(\) takes no 'stpes'; did you mean 'steps'\? A recipe has {known}\.$"):
        ghn_init.train(colours(), tmp_path / "run", stpes=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=rf"^train\(\) takes no 'xyz'; A recipe has {known}\.$"):
        ghn_init.train(colours(), tmp_path / "run", xyz=3)  # type: ignore[call-arg]
    assert not (tmp_path / "run").exists()


def test_keywords_go_before_the_config() -> None:
    assert changed(None, {}) == TrainConfig()
    assert changed(RECIPE, {"steps": 9, "seed": 3}) == TrainConfig(
        steps=9, meta_batch=2, batch_size=8, pool=6, warmup=2, bf16=False, seed=3
    )
    assert RECIPE.steps == 4


@dataclass(frozen=True)
class Own:
    """An objective with a setting."""

    power: int = 2

    def __call__(self, *_: object) -> None: ...


class Plain:
    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels


def darker(pixels: Tensor) -> Tensor:
    return pixels // 2


def test_parts_of_a_run_are_described_in_words_that_are_the_same_tomorrow() -> None:
    assert described(ZeroShot()) == "ZeroShot()"
    assert described(FineTune(steps=3)) == "FineTune(steps=3, lr=0.05, classes=3)"
    assert described(Own(3)) == "Own(power=3)"
    assert described(darker) == f"{__name__}.darker"
    assert described(Plain()) == f"<{__name__}.Plain object>"
    assert "0.5" in described(functools.partial(darker, 0.5))
    assert described(nn.Dropout(0.25)) == "Dropout(p=0.25, inplace=False)"
    assert described(object()) == "<object object>"
    assert described({"red", "green", "blue"}) == str(["'blue'", "'green'", "'red'"])


def darker_by(amount: object, factor: int = 1) -> Callable[[Tensor], Any]:
    return lambda pixels, more=factor: pixels - more * amount  # type: ignore[operator]


def test_functions_without_a_name_of_their_own_are_told_by_what_they_are_made_of() -> None:
    alike = described(darker_by(2))
    assert re.fullmatch(rf"{__name__}\.darker_by\.<locals>\.<lambda> [0-9a-f]{{12}}", alike)
    assert described(darker_by(2)) == alike
    others = [darker_by(3), darker_by(2, 3), darker_by(Own(2)), darker_by(Own(3)), darker_by(torch.tensor(2)), darker_by(math)]
    assert len({alike, *map(described, others)}) == 7
    assert described(lambda pixels: pixels) != described(lambda pixels: 255 - pixels)
    partials = [functools.partial(darker_by(amount), more=4) for amount in (2, 2, 3)]
    assert [described(each) == described(partials[0]) for each in partials] == [True, True, False]
    tasks = [ImageTask(colours(), transform=darker_by(amount)).fingerprint for amount in (2, 2, 3)]  # type: ignore[arg-type]
    assert [each == tasks[0] for each in tasks] == [True, True, False]


class Darker:
    """Not a data class: its representation says nothing of its settings."""

    def __init__(self, amount: object) -> None:
        self.amount = amount
        self.itself = self

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels // self.amount  # type: ignore[operator]


class Listed:
    """Its representation has those of others, as torchvision's `Compose`."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return f"Listed({self.parts})"


@pytest.mark.parametrize(
    "made",
    [
        Darker,
        lambda amount: Darker(Darker(amount)),
        lambda amount: Darker([torch.tensor(amount)]),
        lambda amount: Darker(lambda pixels: pixels - amount),
        lambda amount: Darker(amount).__call__,
        lambda amount: functools.partial(darker, Darker(amount)),
        lambda amount: Listed(Darker(amount)),
        lambda amount: Listed(darker_by(amount)),
        lambda amount: Own(Darker(amount)),  # type: ignore[arg-type]
    ],
)
def test_objects_are_told_apart_by_their_settings(made: Callable[[int], Any]) -> None:
    assert [described(made(amount)) == described(made(2)) for amount in (2, 3)] == [True, False]
    assert " at 0x" not in described(made(2))


def test_a_run_does_not_go_on_under_other_settings_of_an_object(tmp_path: Path) -> None:
    def train(amount: int) -> None:
        task = ImageTask(colours(), transform=Darker(amount))
        ghn_init.train(task, tmp_path, architectures=tiny_networks(), ghn=SMALL, config=RECIPE)

    train(2)
    train(2)
    with pytest.raises(TrainingError, match=r"begun with another recipe: tasks.images.data is .*Darker object> [0-9a-f]{12}"):
        train(3)


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    numbers = {"steps": np.int64(1), "lr": np.float32(1e-3), "seed": np.uint8(1), "equal_gradients": np.bool_(True)}
    ghn_init.train(out=tmp_path, **options(**numbers))
    told = contents(tmp_path)["recipe"]
    assert {name: told[name] for name in numbers} == {name: value.item() for name, value in numbers.items()}
    assert type(TrainConfig(lr=1).lr) is int  # as older recipes have it


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
        ({"seed": 1.0}, "seed is 1.0; expected a whole number"),
        ({"lr": "a"}, "lr is 'a'; expected a number"),
        ({"lr": None}, "lr is None; expected a number"),
        ({"budget": "1"}, "budget is '1'; expected a number"),
        ({"bf16": "no"}, "bf16 is 'no'; expected True or False"),
    ],
)
def test_values_of_another_kind_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        TrainConfig(**changes)


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for out in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(TrainingError, match=f"out is '{out}', which can't be the run's folder .*; pass another one"):
            ghn_init.train(out=out, **options())


def test_trees_are_compared_leaf_by_leaf() -> None:
    assert flattened({"a": {"b": 1, "c": {"d": [2]}}, "e": {}, "f": None}) == {"a.b": 1, "a.c.d": [2], "e": {}, "f": None}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("steps", -3, "steps is -3; expected 0 at least"),
        ("meta_batch", 0, "meta_batch is 0; expected 1 at least"),
        ("batch_size", 0, "batch_size is 0; expected 1 at least"),
        ("average", 2.0, "average is 2.0; expected 0 to 1"),
        ("cooldown", 3.0, "cooldown is 3.0; expected 0 to 1"),
        ("warmup", -5, "warmup is -5; expected 0 at least"),
        ("seed", -1, "seed is -1; expected 0 to"),
        ("clip", -1.0, r"clip is -1\.0; expected a number above 0"),
        ("lr", math.nan, "lr is nan; expected a number above 0"),
        ("budget", 0.0, r"budget is 0\.0; expected a number above 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_error(tmp_path: Path, field: str, value: float, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        ghn_init.train(out=tmp_path / "run", **options(**{field: value}))
    assert not (tmp_path / "run").exists()
