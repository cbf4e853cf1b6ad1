"""`verify` against the published implementation's own norms of the tiny hypernetworks, and where it must refuse."""

from __future__ import annotations

import gzip
import json
import math
import re
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torchvision
from typer.testing import CliRunner

import ghn_init
from ghn_init import cli
from ghn_init.checkpoints.published.registry import CHECKPOINTS
from ghn_init.errors import ModelSpecError, VerificationError
from ghn_init.evaluation.norms import TOLERANCE, Expected, NormCheck, norms_table, read_table, verify
from helpers import SMALL

DATA = Path(__file__).parent / "data" / "parity"
UNPREDICTED = {
    "squeezenet1_1": {},
    "mobilenet_v3_small": {},
    "vit_b_32": {"class_token": 0.0},
    "convnext_tiny": {"*.layer_scale": 1e-6},
    "swin_t": {"*.relative_position_bias_table": 0.02},
}


@lru_cache
def expected(tag: str) -> dict[str, Expected]:
    """Norms from those of single parameters, which the published implementation produced."""
    published = json.loads(gzip.decompress((DATA / f"{tag}.json.gz").read_bytes()))
    rows = {}
    for model, unpredicted in UNPREDICTED.items():
        squares = sum(numbers[0] ** 2 for numbers in published[model].values() if numbers is not None)
        squares += squares_at_init(model, [name for name, numbers in published[model].items() if numbers is None])
        rows[model] = Expected(model, math.sqrt(squares), unpredicted)
    return rows


def squares_at_init(model: str, names: list[str]) -> float:
    if not names:
        return 0.0
    torch.manual_seed(0)
    built = torchvision.models.get_model(model, weights=None)
    return sum(float(built.get_parameter(name).detach().square().sum()) for name in names)


def write(path: Path, rows: dict[str, Expected], column: str = "tiny") -> Path:
    lines = ["# a comment", f"model,other,{column},unpredicted"]
    for row in rows.values():
        unpredicted = " ".join(f"{pattern}={rms}" for pattern, rms in row.unpredicted.items())
        lines.append(f"{row.model},1.0,{row.norm:.4f},{unpredicted}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("tag", ["ghn2-tiny", "ghn3-tiny"])
def test_published_norms_are_reproduced(tag: str) -> None:
    ghn = ghn_init.load(DATA / f"{tag}.safetensors")
    for found in verify(ghn, expected(tag).values()):
        assert found.matches, found
        # the random draws of Swin's tables apart, the sums agree to the printed digits
        assert abs(found.exact - found.published) < (0.003 if found.model == "swin_t" else 2e-4)


def test_the_packages_table_covers_the_published_models() -> None:
    for column, resnet50 in {"ghn2-imagenet": 286.4883, "ghn3-t": 78.6197, "ghn3-xl": 108.4530}.items():
        assert column in CHECKPOINTS
        rows = {row.model: row for row in read_table(norms_table(), column)}
        assert len(rows) == 74
        assert rows["resnet50"].norm == resnet50
        assert set(rows) <= set(torchvision.models.list_models(torchvision.models))
        for model, unpredicted in UNPREDICTED.items():
            assert rows[model].unpredicted == unpredicted


def test_another_hypernetwork_does_not_match() -> None:
    rows = expected("ghn2-tiny")
    ghn = ghn_init.load(DATA / "ghn2-tiny.safetensors")
    with torch.no_grad():
        ghn.decoder.conv[0].bias += 0.01
    (found,) = verify(ghn, [rows["squeezenet1_1"]])
    assert not found.matches
    assert found.deviation > TOLERANCE


def test_what_the_table_does_not_know_of_is_named() -> None:
    ghn = ghn_init.load(DATA / "ghn2-tiny.safetensors")
    (found,) = verify(ghn, [Expected("vit_b_32", expected("ghn2-tiny")["vit_b_32"].norm, {})])
    assert found.strays == ("class_token",)
    assert not found.matches


@pytest.mark.parametrize(
    ("published", "matches"),
    [(20.0, True), (20.0099, True), (20.0101, False), (19.97, True), (19.9101, True), (19.9099, False)],
)
def test_what_single_precision_may_lose_is_granted_in_one_direction(published: float, matches: bool) -> None:
    # exact 20, single 19.96: half as wide vectors may give 19.92
    assert NormCheck("vgg11", published, 20.0, 19.96, ()).matches == matches


def test_the_largest_parameters_lose_in_single_precision() -> None:
    ghn = ghn_init.load(DATA / "ghn2-tiny.safetensors")
    (found,) = verify(ghn, [Expected("alexnet", 1.0, {})])
    assert found.exact - found.single > 1e-3


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["verify", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_command_passes_and_fails(tmp_path: Path) -> None:
    rows = {name: row for name, row in expected("ghn3-tiny").items() if name in ("squeezenet1_1", "vit_b_32")}
    ghn, table = str(DATA / "ghn3-tiny.safetensors"), write(tmp_path / "norms.csv", rows)
    code, text = run(ghn, "--table", str(table), "--column", "tiny")
    assert code == 0
    assert "2 of 2 norms reproduced" in text
    spoiled = rows | {"vit_b_32": Expected("vit_b_32", rows["vit_b_32"].norm + 0.02, rows["vit_b_32"].unpredicted)}
    code, text = run(ghn, "--table", str(write(tmp_path / "norms.csv", spoiled)), "--column", "tiny")
    assert code == 1
    assert "1 of 2 norms reproduced" in text
    assert "OFF" in next(line for line in text.splitlines() if "vit_b_32" in line)
    assert "OFF" not in next(line for line in text.splitlines() if "squeezenet1_1" in line)


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        (None, "tiny", r"norms.csv can't be read"),
        ("", "tiny", r"norms.csv has no norms for 'tiny'; it has columns for \[\]"),
        ("model,a,b,unpredicted\nx,1,2,\n", "tiny", r"no norms for 'tiny'; it has columns for \['a', 'b'\], pass --column"),
        ("model,a,unpredicted\nx,1,\n", "unpredicted", r"no norms for 'unpredicted'"),
        ("name,a\nx,1\n", "a", r"no norms for 'a'"),
        ("model,a\nx,one\n", "a", r"the row \{'model': 'x', 'a': 'one'\} can't be read \(could not convert .*'one'"),
        ("model,a\nx\n", "a", r"the row \{'model': 'x', 'a': None\} can't be read"),
        ("model,a,unpredicted\nx,1,token\n", "a", r"unpredicted': 'token'\} can't be read"),
    ],
)
def test_tables_that_can_not_be_used(tmp_path: Path, content: str | None, column: str, words: str) -> None:
    if content is not None:
        (tmp_path / "norms.csv").write_text(content)
    with pytest.raises(VerificationError, match=words):
        read_table(tmp_path / "norms.csv", column)


def test_checkpoints_without_published_norms_say_so_before_anything_is_fetched() -> None:
    with pytest.raises(
        VerificationError, match=r"no norms for 'ghn3-s'; it has columns for .*'ghn2-imagenet', 'ghn3-t', 'ghn3-xl'"
    ):
        run("ghn3-s")


@pytest.mark.parametrize("tasks", [{"a": 3, "b": 4}, {"a": 3, "b": 3}])
def test_hypernetworks_of_several_tasks_have_no_published_norms(tasks: dict[str, int]) -> None:
    ghn = ghn_init.GHN(ghn_init.GHNConfig(tasks, max_shape=(8, 8, 3, 3), hid=8))
    words = rf"published norms are of one task's head; this hypernetwork knows {re.escape(ghn.config.described_tasks)}"
    with pytest.raises(VerificationError, match=words):
        list(verify(ghn, [Expected("alexnet", 1.0, {})]))


def test_models_that_torchvision_does_not_have() -> None:
    with pytest.raises(ModelSpecError, match="torchvision has no model 'resnet5'; did you mean resnet50"):
        list(verify(ghn_init.GHN(SMALL), [Expected("resnet5", 1.0, {})]))
