"""The command line: `cli.main` in this process, and twice in a process of its own."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import typer
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_model
from typer.testing import CliRunner

import ghn_init
from ghn_init import GHN, GHNConfig, cli
from ghn_init.cli.console import table as new_table
from ghn_init.comparison import inits
from ghn_init.errors import ModelSpecError
from ghn_init.models import spec as model_spec
from ghn_init.ranking import bench
from ghn_init.tasks import images as image_tasks
from ghn_init.training import pace
from helpers import write_release

OWN = """
import torch
def small(num_classes=10):
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, num_classes)]
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), *head)
def broken():
    raise RuntimeError("no luck")
def number():
    return 3
class Wide(torch.nn.Sequential):
    def __init__(self, num_classes=10):
        head = [torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, num_classes)]
        super().__init__(torch.nn.Conv2d(3, 16, 3), *head)
def tied():
    layer = torch.nn.Linear(4, 4)
    return torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
class Holder:
    model = small()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "damaged.py").write_text("def thing(:")
    (tmp_path / "folder.safetensors").mkdir()
    monkeypatch.delitem(sys.modules, "own_models", raising=False)  # another test's file of that name
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*args: str) -> str:
    result = CliRunner().invoke(cli.app, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_inspect_shows_graph_and_coverage() -> None:
    text = run("inspect", "timm:resnet18")
    assert "nodes" in text
    assert "classification head of 1000 classes" in text
    assert "60 of 62 parameters predicted" in text
    assert "62 of 62 parameters predicted" in run("inspect", "torchvision:resnet18", "--head", "yes")
    assert "62 of 62 parameters predicted" in run("inspect", "timm:resnet18", "--num-classes", "10", "--head", "cifar10")


def test_the_version_is_told() -> None:
    assert run("--version").strip() == f"ghn-init {ghn_init.__version__}"


def test_values_that_mean_something_are_overwritten_on_request(own: Path) -> None:
    (own / "own_models.py").write_text(
        OWN + "def frozen():\n    model = small()\n    model[0].requires_grad_(False)\n    return model\n"
    )
    frozen = ["own_models:frozen", "--head", "cifar10"]
    assert "2 of 4 parameters predicted" in run("inspect", *frozen)
    assert "4 of 4 parameters predicted" in run("inspect", *frozen, "--overwrite", "0.weight", "--overwrite", "0.bias")
    assert "4 of 4 parameters predicted" in run("init", *frozen, "-o", "f.safetensors", "--overwrite", "*")
    result = CliRunner().invoke(cli.app, ["inspect", "own_models:frozen", "--overwrite", "nothing"])
    assert "Invalid value for --overwrite" in result.output


def test_a_transformers_model_is_built_from_its_configuration(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=16, patch_size=8, **sizes)
    config.save_pretrained(tmp_path / "features")
    config.architectures = ["ViTForImageClassification"]
    config.save_pretrained(tmp_path / "classifier")
    config.architectures = ["MineForImages"]
    config.save_pretrained(tmp_path / "mine")
    made = model_spec.build(f"transformers:{tmp_path}/classifier", 7)
    assert isinstance(made, transformers.ViTForImageClassification)
    assert made.classifier.out_features == 7
    assert isinstance(model_spec.build(f"transformers:{tmp_path}/features"), transformers.ViTModel)
    with pytest.raises(ModelSpecError, match=r"has no MineForImages, which '.*mine' is; build it by yourself"):
        model_spec.build(f"transformers:{tmp_path}/mine")


def test_the_help_page_says_what_the_commands_say() -> None:
    group = typer.main.get_command(cli.app)
    own = {name: (command.help or "").splitlines()[0] for name, command in group.commands.items()}  # type: ignore[attr-defined]
    assert own == {name: text for name, (_, text) in cli.COMMANDS.items()}


def test_help_needs_no_pytorch() -> None:
    code = """
import sys
from ghn_init import cli
for command in ([], *([name] for name in cli.COMMANDS)):
    sys.argv = ["ghn-init", *command, "--help"]
    try:
        cli.main()
    except SystemExit:
        pass
    assert not {"torch", "numpy", "huggingface_hub"} & sys.modules.keys(), command
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "inspect" in result.stdout
    assert "--small-stem" in result.stdout


def test_help_names_what_there_is() -> None:
    assert import_module("ghn_init.cli.compare").NAMES.split(", ") == list(inits.NAMES)
    drawn = [name for name in ghn_init.deepnets.SPLITS if name != "predefined"]
    assert import_module("ghn_init.cli.deepnets").SPLITS.split(", ") == drawn


def test_long_names_are_not_cut_off() -> None:
    narrow = Console(width=40, file=io.StringIO())
    table = new_table("init", "accuracy, %", "learning rate")
    names = [f"ghn2-small+{condition}+weights" for condition in ("orthogonal", "noise", "orthogonal+noise")]
    for name in names:
        table.add_row(name, "12.3", "0.01")
    narrow.print(table)
    shown = narrow.file.getvalue()  # type: ignore[attr-defined]
    first = "".join(line[: line.find("  ")] if "  " in line else line for line in shown.splitlines())
    assert first.replace(" ", "") == "init" + "".join(names)


@pytest.mark.parametrize(
    ("slowness", "options", "budget"),
    [
        (1.0, [], 0.3),
        (0.32, [], 0.94),  # two digits
        (2.0, [], 0.15),
        (100.0, [], 0.1),  # with less, most networks would be left out
        (2.0, ["--budget", "0"], None),
        (2.0, ["--budget", "2"], 2.0),
    ],
)
def test_a_first_run_has_a_budget_that_the_machine_can_afford(
    slowness: float, options: list[str], budget: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    train = import_module("ghn_init.cli.train")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pace, "pace", lambda _: slowness)
    monkeypatch.setattr(train, "VARIANTS", {"ghn-2": lambda _: None})
    monkeypatch.setattr(ghn_init, "train", lambda *_, **kwargs: seen.update(kwargs))  # first: its own import of tasks_of stays
    monkeypatch.setattr(image_tasks, "tasks_of", lambda *_, **__: [])
    told = CliRunner().invoke(cli.app, ["train", "data", "-o", str(tmp_path), *options]).stderr
    assert seen["budget"] == budget
    assert (f"{slowness:.2g} times as long here" in told) is (not options)


def test_arguments_reach_the_models_constructor(tmp_path: Path) -> None:
    options = ["--model-arg", "in_chans=1", "--model-arg", "stem_type=deep"]
    run("init", "timm:resnet10t", "--num-classes", "3", "-o", str(tmp_path / "x.safetensors"), *options)
    expected = timm.create_model("resnet10t", num_classes=3, in_chans=1, stem_type="deep").state_dict()
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert {name: list(tensor.shape) for name, tensor in expected.items()} == {
            name: file.get_slice(name).get_shape()
            for name in file.keys()  # noqa: SIM118
        }
        assert json.loads(file.metadata()["model_args"]) == {
            "in_chans": 1,
            "stem_type": "deep",
            "num_classes": 3,
        }
    assert "pos_enc" in run("inspect", "timm:vit_tiny_patch16_224", "--model-arg", "img_size=64")


def uninstalled(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks as if one package were not there."""
    version = metadata.version

    def others(name: str) -> str:
        if name == package:
            raise metadata.PackageNotFoundError
        return version(name)

    monkeypatch.setattr(metadata, "version", others)


def test_doctor_tells_what_is_here_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {line.split()[0]: line for line in run("doctor").splitlines()}
    assert told["torch"].split() == ["torch", metadata.version("torch")]
    assert f"{torch.get_num_threads()} of PyTorch's" in told["threads"]
    assert f"timm {timm.__version__}" in told["families"]
    assert not {"dev", "docs"} & told.keys()
    start = told["torch"].index(metadata.version("torch"))
    assert all(line[start - 1] == " " != line[start] for line in run("doctor").splitlines())
    uninstalled("timm", monkeypatch)
    told = {line.split()[0]: line for line in run("doctor").splitlines()}
    assert told["timm"].split(maxsplit=1)[1] == "without timm: pip install 'ghn_init[timm]'"
    assert re.search(
        r"torchvision [\d.+a-z]+, transformers .*; without timm: pip install 'ghn_init\[families\]'", told["families"]
    )


def test_doctor_runs_from_source(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstalled("ghn_init", monkeypatch)
    told = {line.split()[0]: line for line in run("doctor").splitlines()}
    assert told["ghn_init"].split()[1] == ghn_init.__version__
    assert "run from source" in told["extras"]


def test_inspect_explains_a_parameter() -> None:
    told = run("inspect", "timm:resnet18", "--explain", "layer4.0.conv1.weight")
    assert told.startswith("layer4.0.conv1.weight: node 38, conv, 512 × 256 × 3 × 3")
    assert "decoded 64 × 64 × 3 × 3, copies: 32" in told


def test_inspect_lists_every_parameter_on_request() -> None:
    text = run("inspect", "timm:resnet18", "--parameters")
    assert "layer4.1.bn2.weight" in text
    assert "tiled" in text


def test_inspect_groups_parameters_by_module() -> None:
    lines = run("inspect", "timm:resnet18", "--num-classes", "10").splitlines()
    start = next(k for k, line in enumerate(lines) if line.split() == ["module", "parameters", "elements", "what", "why"])
    assert lines[start + 1].split() == ["conv1", "1", "9,408", "predicted"]
    (head,) = (line.split() for line in lines[start:] if line.startswith("fc "))
    assert head[:5] == ["fc", "2", "5,130", "kept", "classification"]


def test_inspect_shows_statistics_on_request() -> None:
    lines = run("inspect", "timm:resnet10t", "--statistics").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("parameter "))
    name, *figures = lines[start + 1].split()
    assert (name, len(figures), figures[-1]) == ("conv1.0.weight", 8, "24")


def test_inspect_writes_a_picture_and_a_page(own: Path) -> None:
    text = run("inspect", "own_models:small", "--svg", "a.svg", "--html", "a.html")
    assert "written to a.svg" in text
    assert "written to a.html" in text
    prediction = ghn_init.predict(__import__("own_models").small())
    assert (own / "a.svg").read_text() == prediction.graph.to_svg()
    page = (own / "a.html").read_text()
    assert "<title>own_models:small</title>" in page
    assert 'value="fate"' in page
    run("inspect", "own_models:small", "--svg", "b.svg", "--colour", "fate")
    assert ">kept 2<" in (own / "b.svg").read_text()


@pytest.mark.parametrize("option", ["--svg", "--html"])
@pytest.mark.parametrize(
    ("file", "message"),
    [(".", ". is a folder"), ("missing/a.svg", "does not exist"), (f"{300 * 'a'}.svg", "can't be written")],
)
def test_pictures_that_cannot_be_written_are_told(own: Path, option: str, file: str, message: str) -> None:
    result = CliRunner().invoke(cli.app, ["inspect", "own_models:small", option, file])
    assert result.exit_code == 2
    output = "".join(result.output.split())
    assert f"Invalidvaluefor{option}" in output
    assert "".join(message.split()) in output.replace("│", "")


def test_init_writes_what_initialize_gives(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    assert f"written to {file}" in run("init", "timm:resnet18", "-o", str(file), "--num-classes", "10").replace("\n", "")
    torch.manual_seed(0)  # of the head, which is kept
    expected = ghn_init.initialize(timm.create_model("resnet18", num_classes=10))
    model = timm.create_model("resnet18", num_classes=10)
    load_model(model, file)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=0)
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["model"] == "timm:resnet18"
    assert [path.name for path in tmp_path.iterdir()] == ["resnet18.safetensors"]
    again = CliRunner().invoke(cli.app, ["init", "timm:resnet18", "-o", str(file)])
    assert again.exit_code == 2
    assert "exists; pass --force" in again.output.replace("\n", " ")


def test_export_writes_a_folder_that_timm_loads(tmp_path: Path) -> None:
    options = ["--num-classes", "10", "--in-chans", "1", "--condition", "orthogonal+noise", "--seed", "3"]
    text = run("export", "timm:resnet18", "-o", str(tmp_path / "net"), *options)
    assert "60 of 62 parameters predicted" in text
    assert "not predicted but those of noise: 20" in text
    call = f'timm.create_model("local-dir:{tmp_path / "net"}", pretrained=True)'
    assert call in text
    torch.manual_seed(3)
    expected = ghn_init.initialize(
        timm.create_model("resnet18", num_classes=10, in_chans=1), seed=3, condition="orthogonal+noise"
    ).state_dict()
    found = eval(call).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    origin = json.loads((tmp_path / "net" / "config.json").read_text())["ghn_init"]
    again = CliRunner().invoke(cli.app, ["export", "timm:resnet18", "-o", str(tmp_path / "net")])
    assert again.exit_code == 2
    assert "has config.json and model.safetensors; pass --force" in again.output.replace("\n", " ")
    assert "predicted" in run("export", "timm:resnet18", "-o", str(tmp_path / "net"), "--force")
    assert origin == {
        "model": "timm:resnet18", "ghn": ghn_init.DEFAULT, "seed": 3, "condition": "orthogonal+noise",
        "version": ghn_init.__version__,
    }  # fmt: skip


def test_own_modules_and_tied_parameters(own: Path) -> None:
    assert "4 of 4 parameters predicted" in run("inspect", "own_models:small", "--head", "cifar10")
    reason = "as many as cifar10 and imagenette and food10 have (--head cifar10 predicts it)"
    assert reason in run("inspect", "own_models:small")
    three = run("inspect", "own_models:small", "--num-classes", "3")
    assert "2 of 4" in three
    assert "(--head yes predicts it)" in three
    assert "4 of 4 parameters predicted" in run("inspect", "own_models:Holder.model", "--input", "3x16x16", "--head", "cifar10")
    run("init", "own_models:tied", "-o", "x.safetensors", "--input", "4")
    assert Path("x.safetensors").stat().st_size > 0


def test_torchvision_models_with_backbones_download_nothing() -> None:
    assert "predicted" in run("inspect", "torchvision:lraspp_mobilenet_v3_large")


def test_list_shows_the_bundled_checkpoint() -> None:
    assert f"{ghn_init.DEFAULT} (default)" in run("list")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["inspect", "timm:resnet5"], 1, "error: timm has no model 'resnet5'; did you mean resnet50"),
        (["inspect", "timm:resnet18", "--model-arg", "img_size"], 2, "'img_size' is not NAME=VALUE"),
        (["inspect", "timm:resnet18", "--model-arg", "wings=2"], 1, "error: 'timm:resnet18' takes no wings (ResNet"),
        (
            ["init", "torchvision:resnet18", "--in-chans", "1", "-o", "x.safetensors"],
            1,
            "'in_chans'), and was called with in_chans=1: models of torchvision are made for 3 channels; take timm:resnet18, ",
        ),
        (
            ["init", "torchvision:s3d", "--in-chans", "1", "--num-classes", "5", "-o", "x.safetensors"],
            1,
            "was called with in_chans=1, num_classes=5: models of torchvision are made for 3 channels; take a model of timm",
        ),
        (["inspect", "timm:resnet18", "--explain", "fc.weight"], 2, "'fc.weight' keeps its value: "),
        (["inspect", "transformers:no/such"], 1, "error: transformers has no configuration of 'no/such' ("),
        (["inspect", "torchvision:vgg"], 1, "error: torchvision has no model 'vgg'; did you mean vgg"),
        (["inspect", "resnet50"], 1, "'resnet50' names no model; did you mean timm:resnet50 or torchvision:resnet50? expected"),
        (["inspect", "nothing"], 1, "error: 'nothing' names no model; expected timm:NAME"),
        (["inspect", "own_models:small", "--ghn", "ghn3"], 1, "; did you mean ghn3-t or ghn3-s or ghn3-l? "),
        (["inspect", "own_models:small", "--ghn", "ghn2-cifar10-small"], 1, "or ghn2-small? "),
        (
            ["inspect", "own_models:small", "--head", "yes"],
            2,
            "--head yes is ambiguous: cifar10 and imagenette and food10 have 10",
        ),
        (["inspect", "own_models:small", "--head", "foo"], 2, "expected yes, no, auto or a task"),
        (["inspect", "own_models:small", "--num-classes", "-3"], 2, "--num-classes"),
        (
            ["inspect", "nowhere:thing"],
            1,
            "error: 'nowhere:thing' can't be imported (ModuleNotFoundError: No module named 'nowhere')",
        ),
        (["inspect", "damaged:thing"], 1, "error: 'damaged:thing' can't be imported (SyntaxError"),
        (["inspect", "timm:resnet18.nonexistent"], 1, "error: 'timm:resnet18.nonexistent' failed when called"),
        (["inspect", "own_models:small", "--input=-3x5x5"], 2, "'-3x5x5' is no shape"),
        (["init", "own_models:small", "-o", "x.safetensors", "--seed", "9" * 20], 2, "--seed"),
        (["init", "own_models:small", "-o", "folder.safetensors"], 2, "folder.safetensors is a folder"),
        (["inspect", "own_models:broken"], 1, "error: 'own_models:broken' failed when called: RuntimeError: no luck."),
        (["inspect", "own_models:number"], 1, "error: 'own_models:number' gives a int; expected"),
        (["inspect", "own_models:small", "--ghn", "ghn9"], 1, "error: 'ghn9' is neither a bundled checkpoint"),
        (["inspect", "own_models:small", "--input", "axb"], 2, "'axb' is no shape"),
        (["evaluate", "data", "--networks", "0"], 2, "--networks"),
        (["evaluate", "data", "-o", "missing/x.json"], 2, "does not exist"),
        (["evaluate", "data", "--plot", "x.gold"], 2, "x.gold ends in none of .png, .pdf"),
        (["compare", "own_models:small", "data", "--plot", "folder.safetensors"], 2, "folder.safetensors is a folder"),
        (["deepnets", "write", "tset", "-o", "x.db"], 1, "error: there is no split 'tset' to draw from; there are train, val"),
        (["deepnets", "write", "test", "-o", "x.db", "--start", "5", "--stop", "2"], 2, "2 is not above --start 5"),
        (["evaluate", "data", "--split", "foo"], 2, "there is no split 'foo'"),
        (["train", "data", "-o", "own_models.py"], 2, "own_models.py is a file"),
        (["train", "data", "-o", "own_models.py/run"], 2, "own_models.py is a file"),
        (["train", "data", "-o", "x", "--seed", "-1"], 2, "--seed"),
        (["deepnets", "write", "test", "-o", "missing/x.db"], 2, "does not exist"),
        (["train", "data", "-o", "x", "--budget", "-1"], 2, "--budget"),
        (["train", "data", "-o", "x", "--lr", "0"], 2, "0.0 is no learning rate"),
        (["compare", "own_models:small", "data", "--lr", "0"], 2, "--lr"),
        (["deepnets", "stats", "x.db"], 1, "error: there is no file x.db"),
        (["export", "timm:resnet5", "-o", "x"], 1, "error: timm has no model 'resnet5'; did you mean resnet50"),
        (["export", "timm:resnet18", "-o", "x", "--img-size", "64"], 1, "error: 'timm:resnet18' takes no img_size ("),
        (["export", "torchvision:resnet18", "-o", "x"], 2, "'torchvision:resnet18' is not timm:NAME"),
        (["export", "timm:resnet18", "-o", "own_models.py"], 2, "own_models.py is a file"),
        (["export", "timm:resnet18", "-o", "own_models.py/x"], 2, "own_models.py is a file"),
        (["export", "timm:resnet18", "-o", "x", "--condition", "twice"], 2, "--condition"),
        (["convert", "own_models.py", "-o", "own_models.py"], 2, "own_models.py is a file"),
        (["init", "own_models:small", "-o", "x.pt"], 2, "x.pt does not end in .safetensors"),
        (["init", "own_models:small", "-o", "missing/x.safetensors"], 2, "does not exist"),
        (["init", "own_models:small", "-o", "x.safetensors", "--num-classes", "3", "--strict"], 1, "error: '3.weight'"),
        (["init", "own_models:small", "-o", "x.safetensors", "--strict"], 1, "Leave out --strict to accept"),
        (["inspect", "own_models:small", "--input", "4x16x16"], 1, "error: the forward pass of Sequential failed"),
        (["inspect", "own_models:small", "--input", "4x16x16"], 1, "Pass what it takes: --input, such as 3x224x224"),
    ],
)
def test_errors_are_short_and_have_exit_codes(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], code: int, words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["ghn-init", *args])
    with pytest.raises(SystemExit, match=rf"^{code}$"):
        cli.main()
    text = capsys.readouterr().err
    assert words in text
    assert not (own / "x.safetensors").exists()
    if code == 1:
        assert len(text.strip().splitlines()) == 1


def in_a_process(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ghn_init", *args], capture_output=True, text=True, timeout=120, check=False)


def test_a_process_that_fails_has_the_exit_code_and_one_line(own: Path) -> None:
    result = in_a_process("inspect", "own_models:broken")  # found beside the caller, which is in no path of this process
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: 'own_models:broken' failed when called: RuntimeError: no luck.\n"


def test_the_help_page_has_all_commands_whatever_follows() -> None:
    assert cli.COMMANDS.keys() <= set(in_a_process("--help", "inspect").stdout.split())


def test_a_process_that_succeeds_has_its_text_on_the_standard_output(own: Path) -> None:
    result = in_a_process("init", "own_models:tied", "-o", "x.safetensors", "--input", "4")
    assert (result.returncode, result.stderr) == (0, "")
    assert "written to x.safetensors" in result.stdout
    assert (own / "x.safetensors").stat().st_size > 0


@pytest.fixture
def data(own: Path) -> Path:
    """A folder of twelve images of three classes for training and for testing."""
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    columns = {"img": list(rng.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)), "label": [0, 1, 2] * 4}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    for split in ("train", "test"):
        datasets.Dataset.from_dict(columns, features).to_parquet(own / "data" / f"{split}.parquet")
    return own / "data"


@pytest.fixture
def trained(data: Path) -> Path:
    """A hypernetwork of three classes in `run`, after one step."""
    options = ["--steps", "1", "--meta-batch", "1", "--batch-size", "4", "--pool", "3", "--no-bf16"]
    assert "written to run" in run("train", str(data), "-o", "run", *options)
    return data


def test_train_writes_a_checkpoint_that_the_other_commands_take(trained: Path) -> None:
    options = ["--num-classes", "3", "--ghn", "run", "--head", "yes"]
    assert "4 of 4 parameters predicted" in run("inspect", "own_models:small", *options)
    assert Path("run/curve.png").stat().st_size > 5000


def test_a_run_goes_on_with_the_budget_that_was_measured(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = json.loads(Path("run/recipe.json").read_text())["recipe"]["budget"]
    monkeypatch.setattr(pace, "pace", lambda _: pytest.fail("measured again"))
    options = ["--steps", "2", "--meta-batch", "1", "--batch-size", "4", "--pool", "3", "--no-bf16"]
    run("train", str(trained), "-o", "run", *options)
    begun = json.loads(Path("run/recipe.json").read_text())
    assert begun["recipe"]["budget"] == budget >= 0.1
    assert all("budget" not in change for change in begun["changes"])


def test_train_goes_on_from_a_checkpoint_and_takes_a_file_of_networks(trained: Path) -> None:
    assert "2 networks generated" in run("deepnets", "write", "val", "-o", "nets.db", "--stop", "2")
    options = ["--steps", "1", "--meta-batch", "2", "--batch-size", "4", "--lr", "1e-9", "--architectures", "nets.db"]
    run("train", str(trained), "-o", "more", "--start", "run", "--objective", "fine-tune", "--track", "tensorboard", *options)
    before, after = ghn_init.load("run").state_dict(), ghn_init.load("more").state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert list(Path("more").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(("variant", "expected"), [("ghn-1", {"ve": False, "layernorm": False}), ("mlp", {"hypernet": "mlp"})])
def test_train_takes_other_hypernetworks(data: Path, variant: str, expected: dict[str, object]) -> None:
    options = ["--steps", "1", "--meta-batch", "1", "--batch-size", "4", "--pool", "2", "--variant", variant]
    run("train", str(data), "-o", "run", *options)
    config = ghn_init.load("run").config.to_dict()
    assert {name: config[name] for name in expected} == expected


def test_evaluate_prints_writes_and_goes_on(trained: Path) -> None:
    options = ["--ghn", "run", "--images", "5", "-o", "results.json", "--split", "test", "--split", "predefined"]
    run("evaluate", str(trained), "--networks", "1", *options[:-4])
    first = json.loads(Path("results.json").read_text())
    assert [(r["split"], r["index"]) for r in first["results"]] == [("test", 0)]
    more = ["--networks", "2", "--sgd", "1", "--sgd-steps", "2", "--plot", "results.png"]
    text = run("evaluate", str(trained), *options, *more)
    results = json.loads(Path("results.json").read_text())
    assert results["results"][0] == first["results"][0]
    found = {(r["split"], r["index"]): r["accuracy"] for r in results["results"]}
    assert set(found) == {("test", 0), ("test", 1), ("predefined", 0), ("predefined", 1)}
    assert all(value % 20 == 0 for value in found.values())
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert lines["test"][0] == f"{(found['test', 0] + found['test', 1]) / 2:.1f}"
    assert lines["test"][4:] == []  # the published figures are of other data
    assert lines["resnet50"][0] == f"{found['predefined', 0]:.1f}"
    assert [(r["index"], r["steps"], r["accuracy"] % 20) for r in results["sgd"]] == [(1, 2, 0)]  # the cheaper one
    assert "test, 2 steps" in text
    assert Path("results.png").stat().st_size > 5000
    ghn = ghn_init.load("run")
    with torch.no_grad():
        next(ghn.parameters()).add_(1)
    ghn.save_pretrained("run")  # other weights by the same name
    with pytest.raises(ghn_init.errors.EvaluationError, match="name another file"):
        run("evaluate", str(trained), *options, "--networks", "2")


def test_evaluate_shows_published_figures_of_the_same_data(own: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    columns = {"img": [np.full((32, 32, 3), k, dtype=np.uint8) for k in range(4)], "label": [0, 1, 2, 3]}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    for split in ("train", "test"):
        datasets.Dataset.from_dict(columns, features).to_parquet(own / "data" / f"{split}.parquet")
    text = run("evaluate", "data", "--networks", "1", "--task", "cifar10")
    assert next(line for line in text.splitlines() if line.startswith("test")).split()[-3:] == ["51.4", "66.9", "69.2"]


def test_init_fits_to_data(data: Path) -> None:
    text = run("init", "own_models:small", str(data), "-o", "x.safetensors", "--seed", "2")
    images = ghn_init.tasks.load_images(data, "train")
    reports: list[ghn_init.Report] = []
    torch.manual_seed(2)
    model = sys.modules["own_models"].small(3)
    loader = [(images.normalise(images.pixels), images.labels)]
    expected = ghn_init.initialize(model, data=loader, seed=2, on_report=reports.append)
    assert "no head fitted: --head yes asks for" in run(
        "init", "own_models:small", str(data), "-o", "y.safetensors", "--head", "yes"
    )
    with safe_open("y.safetensors", "pt") as file:
        assert file.metadata()["head"] == "yes"
    assert f"leave-one-out accuracy {reports[0].fit.accuracy:.1f} ± " in text
    assert "2 of 4 parameters predicted" in text
    with safe_open("x.safetensors", "pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in expected.state_dict().items())
        known = {name: json.loads(file.metadata()[name]) for name in ("size", "mean", "std", "classes")}
    assert known["size"] == 16
    assert known["classes"] == ["0", "1", "2"]
    torch.testing.assert_close(torch.tensor([known["mean"], known["std"]]), torch.stack([images.mean, images.std]))


def test_export_prints_a_call_that_python_reads(tmp_path: Path) -> None:
    folder = tmp_path / 'a "net" \\n'
    *_, call = run("export", "timm:test_resnet", "-o", str(folder)).splitlines()
    assert call.startswith("timm.create_model(")
    assert isinstance(eval(call), torch.nn.Module)


def test_export_fits_to_data_as_timm_gives_them(data: Path) -> None:
    text = run("export", "timm:resnet10t", str(data), "-o", "net", "--image-size", "32")
    assert "a classifier of 3 classes" in text
    images = ghn_init.tasks.load_images(data, "train", image_size=32)
    model = timm.create_model("local-dir:net", pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    torch.manual_seed(0)
    pixels = (images.pixels.float().div(255) - mean) / std
    expected = ghn_init.initialize(timm.create_model("resnet10t", num_classes=3), data=[(pixels, images.labels)])
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-3, atol=1e-4)
    origin = json.loads(Path("net/config.json").read_text())["ghn_init"]
    assert (origin["data"], origin["size"], origin["classes"]) == (str(data), 32, ["0", "1", "2"])


def test_export_reads_images_of_the_size_that_the_model_is_built_for(data: Path) -> None:
    assert "a classifier of 3 classes" in run("export", "timm:test_vit", str(data), "-o", "net", "--img-size", "32")
    assert json.loads(Path("net/config.json").read_text())["ghn_init"]["size"] == 32


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (
            ["init", "own_models:small", "data", "-o", "x.safetensors", "--num-classes", "5"],
            1,
            "error: the head '3.weight' has 5",
        ),
        (["init", "own_models:small", "data", "-o", "x.safetensors", "--input", "3x8x8"], 2, "--input"),
        (["init", "own_models:small", "-o", "x.safetensors", "--image-size", "8"], 2, "--image-size"),
        (["init", "own_models:small", "data", "-o", "x.safetensors", "--choose"], 1, "error: there are 12 images, "),
        (["init", "own_models:small", "-o", "x.safetensors", "--choose"], 2, "--choose"),
        (
            ["init", "own_models:small", "data", "-o", "x.safetensors", "--choose", "--head", "yes"],
            2,
            "--head yes asks for a predicted head, and --choose compares",
        ),
        (
            ["compare", "own_models:small", "data", "--images", "6", "--val-images", "6", "--model-arg", "wings=2"],
            1,
            "takes no wings (small() got an unexpected keyword argument",
        ),
        (["rank", "own_models:small", "own_models:Wide", "data"], 2, "--val-images"),
        (["rank", "own_models:small", "own_models:Wide", "data", "--val-images", "10"], 2, "there are 12 images, 2 of them"),
        (
            ["rank", "own_models:small", "data", "--val-images", "5", "--batch-size", "3"],
            1,
            "error: there is one candidate",
        ),
        (["rank", "own_models:small", "data", "--known", "a=b"], 2, "--known"),
        (["init", "own_models:small", "nothing/here", "-o", "x.safetensors"], 1, "error: 'nothing/here' is no folder here"),
        (["init", "own_models:small", "data", "-o", "x.safetensors", "--head", "dogs"], 2, "--head"),
        (["export", "timm:resnet10t", "data", "-o", "net", "--in-chans", "1"], 2, "--in-chans"),
        (["export", "timm:resnet10t", "-o", "net", "--image-size", "8"], 2, "--image-size"),
    ],
)
def test_errors_with_data_are_short(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], code: int, words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["ghn-init", *args])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit, match=rf"^{code}$"):
        cli.main()
    assert words in capsys.readouterr().err
    assert not Path("x.safetensors").exists()
    assert not Path("net").exists()


def test_compare_prints_a_table_and_draws_curves(data: Path) -> None:
    options = ["--images", "6", "--val-images", "6", "--steps", "2", "--seeds", "1", "--lr", "0.01", "--batch-size", "3"]
    text = run(
        "compare", "own_models:small", str(data), *options, "--init", "default", "--init", "orthogonal", "--plot", "r.png"
    )
    assert {line.split()[0] for line in text.splitlines()[1:3]} == {"default", "orthogonal"}
    assert "no winner" in text
    assert Path("r.png").stat().st_size > 5000


def test_rank_prints_a_table_and_writes_what_it_found(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--val-images", "5", "--steps", "2", "--rungs", "2", "--batch-size", "3", "-o", "r.json", "--plot", "r.png"]
    options += ["--start", "predicted"]
    text = run("rank", "own_models:small", "own_models:Wide", str(data), *options)
    table, first = text.splitlines()[1:3], text.splitlines()[-1]
    assert {line.split()[0] for line in table} == {"own_models:small", "own_models:Wide"}
    found = json.loads(Path("r.json").read_text())["ranking"]
    assert first.startswith(f"first: {found['rows'][0]['name']}, ")
    assert (found["steps"], [row["steps"] for row in found["rows"]]) == (2 * 1 + 2, [2, 1])
    images = ghn_init.tasks.load_images(data, "train", limit=5 + 2 * 3)  # as many as are used
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    parts = [[(images.normalise(images.pixels[rows]), images.labels[rows])] for rows in (order[5:], order[:5])]
    models = ["own_models:small", "own_models:Wide"]
    expected = ghn_init.rank(models, *parts, start="predicted", steps=2, rungs=2, batch_size=3, val_images=5)
    assert {row["name"]: row["score"] for row in found["rows"]} == expected.scores
    assert Path("r.png").stat().st_size > 5000
    monkeypatch.delattr(bench, "judge")  # nothing is measured again
    assert run("rank", *models, str(data), *options).splitlines()[1:3] == table
    other = CliRunner().invoke(cli.app, ["rank", *models, str(data), *options, "--seed", "1"])
    assert (other.exit_code, "seed (0 there, 1 here)" in str(other.exception)) == (1, True)


def test_a_fifth_of_few_images_judges(data: Path) -> None:
    run("rank", "own_models:small", "own_models:Wide", str(data), "--batch-size", "3", "--start", "default", "-o", "r.json")
    assert json.loads(Path("r.json").read_text())["ranking"]["val_images"] == 2


def test_init_chooses_a_start(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    initialize = ghn_init.initialize

    def noted(*args: object, choose: bool, **kwargs: object) -> object:
        seen.append({"choose": choose})
        told = kwargs.pop("on_report")
        return initialize(*args, **kwargs, on_report=lambda report: told(report.with_choice("chosen: default")))

    monkeypatch.setattr(ghn_init, "initialize", noted)
    assert "chosen in " in run("init", "own_models:small", str(data), "-o", "x.safetensors", "--choose")
    assert seen == [{"choose": True}]
    with safe_open("x.safetensors", "pt") as file:
        assert file.metadata()["choice"] == "chosen: default"


def test_deepnets_statistics_stand_beside_the_published_ones(own: Path) -> None:
    run("deepnets", "write", "test", "-o", "nets.db", "--stop", "3", "--workers", "2")
    assert "0 networks generated" in run("deepnets", "write", "test", "-o", "nets.db", "--stop", "3")
    text = run("deepnets", "stats", "nets.db")
    assert "185.5 ± 91.2" in text
    assert "glob_avg" in text


def test_convert_writes_a_folder_that_loads(own: Path) -> None:
    ghn = GHN(GHNConfig({"classes": 5}, max_shape=(8, 4, 3, 3), hid=8, class_width=5))
    write_release(ghn, Path("published.pt"))
    numel = sum(p.numel() for p in ghn.parameters())
    assert f"{numel:,} parameters, tasks: classes (5), written to converted" in run(
        "convert", "published.pt", "-o", "converted"
    )
    assert torch.equal(ghn_init.load("converted").embed.weight, ghn.embed.weight)
    assert sorted(file.name for file in Path("converted").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]  # no licence of ours
