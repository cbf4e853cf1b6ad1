"""Tables of the command line in a terminal of 80 columns, and names that would break a table."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import ghn_init
from ghn_init import cli, deepnets
from ghn_init.checkpoints.published.registry import CHECKPOINTS
from ghn_init.cli import console
from ghn_init.cli.narrow import fitting, short
from ghn_init.evaluation import results
from ghn_init.ranking.result import HEADER, Ranked, Ranking
from ghn_init.tasks import image_reading
from ghn_init.tasks.image_data import Images
from ghn_init.viz import text_table
from ghn_init.viz.text_table import aligned

WIDTH = 80


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to an output console of 80 columns."""
    narrow = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=WIDTH, highlight=False)
    cli.load()
    for module in ("checkpoints", "console", "deepnets", "evaluate", "rank"):
        monkeypatch.setattr(import_module(f"ghn_init.cli.{module}"), "out", narrow)
    return narrow.file  # type: ignore[return-value]


def shown(terminal: io.StringIO) -> str:
    text = terminal.getvalue()
    assert "…" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("https:", "first:"))) <= WIDTH
    return text


def test_list_cuts_no_figure(terminal: io.StringIO) -> None:
    CliRunner().invoke(cli.app, ["list"])
    words = shown(terminal).split()
    for entry in CHECKPOINTS.values():
        assert f"{entry.numel:,}" in words
        assert "×".join(map(str, entry.config.max_shape)) in words
    assert {"hidden", "width"} <= set(words)


def test_evaluate_cuts_no_figure(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [results.Result(split, k, 54.26 + k, 1, 1) for split in ("test", "bn-free", "predefined") for k in range(2)]
    found = results.Evaluation({"task": "cifar10", "data": "cifar10"}, rows, [], None)
    found.class_names = results.CIFAR10
    monkeypatch.setattr(ghn_init, "evaluate", lambda *_, **__: found)
    CliRunner().invoke(cli.app, ["evaluate", "data"])
    lines = {line.split()[0]: line.split()[1:] for line in shown(terminal).splitlines() if line.strip()}
    assert lines["test"][0] == "54.8"
    assert lines["test"][-3:] == ["51.4", "66.9", "69.2"]
    assert {"bn-free", "resnet50"} <= lines.keys()


def test_statistics_cut_no_figure(terminal: io.StringIO, tmp_path: Path) -> None:
    deepnets.write(tmp_path / "nets.db", "test", stop=1)
    CliRunner().invoke(cli.app, ["deepnets", "stats", str(tmp_path / "nets.db")])
    assert "published 185.5 ± 91.2 2.3 14.3 ± 4.8" in " ".join(shown(terminal).split())


def test_rank_shows_short_figures_and_what_matters_most(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["timm:mobilenetv3_small_100", "timm:efficientnetv2_rw_t"]
    rows = [
        Ranked(name, 61.2, (58.1, 64.2), 100, (41.0, 61.2), False, 4_925_566 * k, 59_123_456 * k, "all", 99.5)
        for k, name in enumerate(names, 1)
    ]
    pictures = Images.from_tensors(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    monkeypatch.setattr(image_reading, "load_images", lambda *_, **__: pictures)
    monkeypatch.setattr(ghn_init, "rank", lambda *_, **__: Ranking(tuple(rows), 200, 6400, 1000, 3.0))
    CliRunner().invoke(cli.app, ["rank", *names, "data", "--val-images", "2", "--batch-size", "2"])
    text = shown(terminal).replace("\u00a0", " ")
    assert "4.9 M" in text
    assert "118 M" in text
    assert "58.1–64.2" in text
    assert "ms/image" not in text
    columns = {title: ["123"] for title in HEADER}
    assert fitting(columns, ["ms/image"], 200) == columns  # where there is room nothing is left out


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"),
        (999, "999"),
        (1000, "1.0 k"),
        (4_925_566, "4.9 M"),
        (22_050_664, "22 M"),
        (999_999, "1.0 M"),
        (3 * 10**9, "3.0 G"),
    ],
)
def test_figures_are_short(number: int, text: str) -> None:
    assert short(number) == text.replace(" ", "\u00a0")


def test_terminals_that_are_too_narrow_break_figures(terminal: io.StringIO) -> None:
    table = console.table("name", "one figure", "another")
    table.add_row("a", "123,456,789", "987,654,321")
    narrow = Console(file=io.StringIO(), width=16)
    narrow.print(table)
    text = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert sorted(c for c in text if c.isdigit()) == sorted("123456789987654321")


def test_columns_stand_below_each_other_whatever_the_names() -> None:
    lines = aligned([("name", "n"), ("層", 1), ("e\u0301a", 2), ("a\x1b[2J\nb", 3)])
    assert lines == [
        "name         n",
        "層           1",
        "e\u0301a           2",
        "a\\x1b[2J\\nb  3",
    ]


def test_control_characters_are_escaped() -> None:
    assert text_table.printable("a\x1b[31m\r\nb\tÄ層") == "a\\x1b[31m\\r\nb\\tÄ層"


def test_names_do_not_move_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\ndef net():\n    net = torch.nn.Sequential()\n"
        "    net.add_module('a\\x1b[2J\\nb', torch.nn.Linear(4, 4))\n"
        "    net.add_module('head', torch.nn.Linear(4, 2))\n    return net\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for options in ([], ["--parameters"], ["--statistics"]):
        text = CliRunner().invoke(cli.app, ["inspect", "odd:net", "--input", "4", *options]).output
        assert "\x1b" not in text
        assert "a\\x1b[2J\\nb" in text


def test_errors_do_not_move_the_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["ghn-init", "inspect", "timm:\x1b[2J"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "\x1b" not in capsys.readouterr().err


def test_inspect_has_the_same_values_each_time() -> None:
    first, again, zero, other = (
        CliRunner().invoke(cli.app, ["inspect", "timm:test_resnet", "--statistics", *options]).stdout
        for options in ([], [], ["--seed", "0"], ["--seed", "1"])
    )
    assert first == again == zero
    assert first != other


def test_inspect_does_all_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wishes = ["--explain", "conv1.0.weight", "--svg", "a.svg", "--html", "a.html", "--statistics", "--parameters"]
    text = CliRunner().invoke(cli.app, ["inspect", "timm:resnet10t", *wishes]).stdout
    assert Path("a.svg").stat().st_size > 0
    assert Path("a.html").stat().st_size > 0
    assert "copies" in text
    assert "primitive" in text
    assert "\nconv1.0.weight: node " in text
