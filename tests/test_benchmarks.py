"""Benchmarks: that they can be imported, with what they take from each other and from the package; how they count."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from ghn_init import GHN
from ghn_init.ranking.defaults import BATCH_SIZE, FITTED, RATES, RUNGS, STEPS
from ghn_init.ranking.measure import Settings
from helpers import SMALL

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """One of them, imported as when it is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(request.param)


def test_all_can_be_imported() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    code = (
        "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"  # here, `coverage` is another module
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["transfer"], indirect=True)
@pytest.mark.parametrize(
    ("best", "tried"), [(0.05, {0.015, 0.05, 0.15}), (0.45, {0.015, 0.05, 0.15, 0.45}), (0.005, {0.005, 0.015, 0.05})]
)
def test_rates_are_tried_as_long_as_the_best_is_at_an_end(script: ModuleType, best: float, tried: set[float]) -> None:
    asked = []

    def measured(rate: float) -> float:
        asked.append(rate)
        return -abs(math.log(rate / best))

    assert script.highest((0.005, 0.015, 0.05, 0.15, 0.45), measured) == best
    assert set(asked) == tried


@pytest.mark.parametrize("script", ["transfer"], indirect=True)
def test_a_table_has_the_inits_that_are_asked_for_alone(script: ModuleType, tmp_path: Path) -> None:
    for init, right in {"default": 50.0, "orthogonal": 40.0, "ours": 61.0, "other": 99.0}.items():
        runs = {"init": init, "bf16": False, "test": {str(seed): {"rate": 0.05, "accuracy": right + seed} for seed in range(3)}}
        (tmp_path / f"photographs~vit~{init}.json").write_text(json.dumps(runs))
    (cell,) = script.cells(tmp_path, ["photographs"], 3, ["default", "orthogonal", "ours"])
    assert list(cell.accuracies) == ["default", "orthogonal", "ours"]
    assert cell.gain("ours") == (11.0, 0.0)


@pytest.mark.parametrize("script", ["transfer"], indirect=True)
@pytest.mark.parametrize("slow", [True, False])
def test_runs_are_noted_in_the_precision_that_they_have(
    script: ModuleType, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "bfloat16_pays", lambda: not slow)
    (tmp_path / "photographs~vit~default.json").write_text(json.dumps({"init": "default", "bf16": True, "test": {}}))
    job = script.Job("photographs", "vit", "orthogonal", None, "", range(3), script.RATES, tmp_path, bf16=True)
    assert job.precision() is not slow


@pytest.mark.parametrize("script", ["transfer"], indirect=True)
def test_runs_in_bfloat16_do_not_go_on_in_float32(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "bfloat16_pays", lambda: False)
    monkeypatch.setattr(script, "accuracy", lambda *_: 50.0)
    pixels, labels = torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10, dtype=torch.long)
    images = script.Images(pixels, labels, 1, torch.zeros(3), torch.ones(3))
    monkeypatch.setattr(script, "read", lambda data: (images, images))
    job = script.Job("photographs", "vit", "default", None, "", range(1), script.RATES, tmp_path, bf16=True)
    script.run(job)
    done = json.loads(job.file.read_text())
    job.file.write_text(json.dumps(done | {"bf16": True}))
    script.run(job)  # nothing is left
    job.file.write_text(json.dumps(done | {"bf16": True, "test": {}}))
    with pytest.raises(SystemExit, match="begun in bfloat16"):
        script.run(job)


@pytest.mark.parametrize("script", ["choosing"], indirect=True)
def test_regret_is_against_the_start_that_is_best_in_the_other_seeds(script: ModuleType) -> None:
    lucky = [
        {"default": 50.0, "a": 52.0, "b": 48.0},
        {"default": 50.0, "a": 48.0, "b": 52.0},
        {"default": 50.0, "a": 50.0, "b": 50.0},
    ]
    found = [({"race": "default", "starts": list(each)}, each) for each in lucky]
    best = [max(each.values()) for each in lucky]
    assert script.regret(found) < sum(best) / 3 - 50  # not what chance alone gives
    ahead = [({"race": "default", "starts": ["default", "a"]}, {"default": 50.0 + k, "a": 53.0 + k}) for k in range(3)]
    assert script.regret(ahead) == 3
    ahead[0][1].pop("a")
    assert script.regret(ahead) is None


@pytest.mark.parametrize("script", ["nasbench"], indirect=True)
def test_networks_of_published_spaces_are_as_large_as_published(script: ModuleType) -> None:
    def elements(space: str, arch: str) -> int:
        return sum(parameter.numel() for parameter in script.SPACES[space](arch, 10).parameters())

    assert elements("macro", "02012100") == 890_666
    assert elements("macro", "11111221") == 2_181_386
    residual = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    assert elements("nasbench201", residual) == 1_288_506


@pytest.mark.parametrize("script", ["zero_cost"], indirect=True)
def test_a_network_that_no_image_reaches_has_the_lowest_score(script: ModuleType) -> None:
    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.ones(len(x), 4))

    assert script.jacov(Constant(), [(torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long))]) == -math.inf


@pytest.mark.parametrize("script", ["ranking"], indirect=True)
def test_the_rungs_that_are_measured_are_those_of_rank(script: ModuleType) -> None:
    steps = tuple(script.RUNGS)
    assert Settings(GHN(SMALL), FITTED, 1.0, BATCH_SIZE).steps_of_rungs(STEPS, RUNGS) == steps
    assert steps == tuple(script.RUNS[name][1] for name in script.RUNGS.values())
    assert script.RUNS[script.RUNGS[STEPS]] == (FITTED, STEPS, RATES[FITTED])
    assert script.BATCH == BATCH_SIZE


@pytest.mark.parametrize("script", ["ranking"], indirect=True)
def test_equal_scores_are_ties_in_the_ranking_of_rungs(script: ModuleType) -> None:
    names = [f"net{k}" for k in range(8)]
    before, after = script.RUNGS.values()
    scores = {name: {before: 10.0 + k // 2, after: 30.0 - k // 2} for k, name in enumerate(names)}
    found = {name: {"look": {"parameters": 1, "macs": 1}, "scores": scores[name], "seconds": {}} for name in names}
    places, images = script.columns(found, dict.fromkeys(names, 0.0), 0, {})["rank"]
    assert images == (1000 * 8 + (1000 + 32 * 50) * 4) // 8
    assert len({places[name] for name in names[4:]}) == 1
    assert places["net0"] == places["net1"] < places["net2"] == places["net3"] < places["net4"]


@pytest.mark.parametrize("script", ["ranking"], indirect=True)
def test_a_second_set_of_images_is_a_score_and_half_of_another(script: ModuleType) -> None:
    truths = {f"net{k:02}": float(k) for k in range(16)}
    first = script.RUNGS[0]
    looks = {name: {"parameters": truth, "macs": truth} for name, truth in truths.items()}
    found = {name: {"look": looks[name], "scores": {first: truth % 4}} for name, truth in truths.items()}
    beside = {name: 4 * (truth // 4) for name, truth in truths.items()}
    table = script.columns(found, truths, 0, beside)
    assert "rank" not in table  # without the second rung
    assert table[f"{first}, the other images"] == (beside, 1000)
    assert table[f"{first}, mean of both"] == ({name: truth / 2 for name, truth in truths.items()}, 2000)
    rows = [line.split(" | ") for line in script.text(found, {"truth": truths}, 0, beside).splitlines()]
    assert [row[2] for row in rows if "mean of both" in row[0]] == ["1.00 ± 0.00"]
    (own,) = (row for row in rows if row[0] == f"| {first}")
    expected = 24 / math.sqrt(96 * 120)  # of 120 pairs 24 share a remainder; 60 of the others are in order and 36 are not
    assert own[2].startswith(f"{expected:.2f} ± ")
    assert own[3].startswith(f"+{1 - expected:.2f} ± ")


@pytest.mark.parametrize("script", ["confidence"], indirect=True)
def test_each_network_is_a_point_of_the_picture(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    finish = script.finish

    def counted(made: object, panels: list[Axes], path: Path) -> None:
        scattered = [one for axes in panels for one in axes.collections if isinstance(one, PathCollection)]
        drawn.extend(len(one.get_offsets()) for one in scattered)
        finish(made, panels, path)

    monkeypatch.setattr(script, "finish", counted)
    own = [(17.0, 12.0, 5.0, "deepnets"), (18.0, 20.0, 5.0, "vit"), (16.0, 30.0, 5.0, "resnet")]
    script.draw({"gain": own, "accuracy": own[:1]}, tmp_path / "picture.png")
    assert sum(drawn) == 4
    assert (tmp_path / "picture.png").stat().st_size > 1000
