"""Learning curves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ghn_init.training.curve import CurveLog, Progress
from ghn_init.viz.curve import draw, medians


def log(path: Path, first: int, last: int) -> None:
    with CurveLog(path, first, write=True) as curve:
        for step in range(first, last):
            curve.write(Progress(step + 1, last, 2.0 / (step + 1), 0.1 * step, 1e-3, 8.0), float(step + 1 - first))


def test_a_resumed_curve_drops_what_comes_after_its_state_and_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log(path, 0, 5)
    log(path, 3, 7)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [float(row["seconds"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert float(rows[3]["loss"]) == 0.5


def test_a_run_that_ends_as_soon_as_it_goes_on_keeps_its_curve(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log(path, 0, 5)
    before = path.read_text()
    resumed = CurveLog(path, 5, write=True)
    resumed.write(Progress(6, 9, 1.0, 0.5, 1e-3, 8.0), 1.0)
    assert path.read_text() == before  # what a process that is killed now leaves
    resumed.__exit__()
    assert path.read_text().startswith(before)
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def test_rows_are_kept_by_their_steps(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log(path, 0, 5)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], *rows[3:], "6,0.3"]))  # the second is missing, the last one half written
    log(path, 4, 5)
    with path.open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 3, 4, 5]


def test_several_tasks_have_columns_of_their_own_which_a_resumed_curve_keeps(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    found = [{"b": 0.25}, {"a": 0.5, "b": 0.125}, {"a": 1.0}]
    for first, last in ((0, 3), (2, 3)):  # the third step is taken twice
        with CurveLog(path, first, write=True, tasks=["a", "b"]) as curve:
            for step in range(first, last):
                curve.write(Progress(step + 1, 3, 1.0, 0.5, 1e-3, 8.0, found[step]), float(step + 1 - first))
    assert path.read_text().splitlines() == [
        "step,loss,accuracy,lr,networks_per_second,accuracy_a,accuracy_b,seconds",
        "1,1,0.5,0.001,8,,0.25,1.0",
        "2,1,0.5,0.001,8,0.5,0.125,2.0",
        "3,1,0.5,0.001,8,1,,3.0",
    ]


def test_one_task_needs_no_column(tmp_path: Path) -> None:
    with CurveLog(tmp_path / "log.csv", 0, write=True, tasks=["a"]) as curve:
        curve.write(Progress(1, 1, 1.0, 0.5, 1e-3, 8.0, {"a": 0.5}), 1.0)
    assert (tmp_path / "log.csv").read_text() == "step,loss,accuracy,lr,networks_per_second,seconds\n1,1,0.5,0.001,8,1.0\n"


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with CurveLog(tmp_path / "log.csv", 0, write=False) as curve:
        curve.write(Progress(1, 2, 1.0, 0.5, 1e-3, 8.0), 1.0)
    assert not (tmp_path / "log.csv").exists()


def test_a_picture_of_few_steps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log(tmp_path / "log.csv", 0, 3)
    draw(tmp_path / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_one_huge_loss_does_not_hide_the_others() -> None:
    assert medians([1.0, 900.0, 2.0, 3.0, 3.0, 4.0, 5.0], 3) == [2.0, 3.0]
