"""Checkpoints on disk: the same bits back, and one clear error for whatever is wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import ghn_init
from ghn_init import GHN, GHNConfig, checkpoints
from ghn_init.checkpoints.pretrained import bundled
from ghn_init.errors import CheckpointError
from helpers import published_state
from zoo import conv, images

CONFIG = json.dumps(GHNConfig({"ten": 10}, max_shape=(16, 16, 7, 7), hid=8).to_dict())


@pytest.fixture(scope="module")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig.from_dict(json.loads(CONFIG))).eval()


@pytest.fixture
def folder(ghn: GHN, tmp_path: Path) -> Path:
    ghn.save_pretrained(tmp_path / "ghn")
    return tmp_path / "ghn"


def test_saved_and_loaded_is_the_same(ghn: GHN, folder: Path) -> None:
    for path in (folder, folder / "model.safetensors", str(folder)):
        loaded = ghn_init.load(path)
        assert loaded.config == ghn.config
        assert not loaded.training
        for name, tensor in ghn.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)
    assert GHN.from_pretrained(folder).config == ghn.config


@pytest.mark.parametrize(
    "changes", [{"layers": 2, "heads": 4}, {"ve": False, "layernorm": False, "weight_norm": False}, {"hypernet": "mlp"}]
)
def test_other_hypernetworks_are_stored_as_well(tmp_path: Path, changes: dict[str, object]) -> None:
    ghn = GHN(GHNConfig.from_dict(json.loads(CONFIG) | changes))
    ghn.save_pretrained(tmp_path)
    loaded = ghn_init.load(tmp_path)
    assert loaded.config == ghn.config
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in ghn.state_dict().items())


def test_revisions_of_local_files_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="has no revision 'v2'; leave revision out"):
        ghn_init.load(folder, revision="v2")
    with pytest.raises(CheckpointError, match="'someone/tiny@v1' and revision 'v2' name two revisions"):
        ghn_init.load("someone/tiny@v1", revision="v2")


def test_a_loaded_hypernetwork_does_not_change_with_its_file(ghn: GHN, tmp_path: Path) -> None:
    ghn.save_pretrained(tmp_path)
    loaded = ghn_init.load(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(bytes(64))
    assert loaded.fingerprint == ghn.fingerprint
    assert ghn_init.load(tmp_path).fingerprint != ghn.fingerprint


def test_half_precision_files_load_in_single(ghn: GHN, folder: Path) -> None:
    half = {name: tensor.half() for name, tensor in ghn.state_dict().items()}
    save_file(half, folder / "model.safetensors")
    assert {p.dtype for p in ghn_init.load(folder).parameters()} == {torch.float32}


def test_the_published_convolution_layout_loads(ghn: GHN, tmp_path: Path) -> None:
    published = {
        n: t[..., None, None].clone() if n.startswith("decoder.conv.") and t.dim() == 2 else t
        for n, t in ghn.state_dict().items()
    }
    save_file(published, tmp_path / "x.safetensors", {"config": CONFIG})
    assert torch.equal(
        ghn_init.load(tmp_path / "x.safetensors").state_dict()["decoder.conv.0.weight"],
        ghn.state_dict()["decoder.conv.0.weight"],
    )


def test_the_bundled_checkpoint_loads_and_is_small() -> None:
    ghn = ghn_init.load()
    assert ghn_init.DEFAULT in bundled()
    assert ghn.config.tasks == {"cifar10": 10, "tiny-imagenet": 200, "imagenette": 10, "food10": 10}
    assert sum(file.stat().st_size for file in bundled()[ghn_init.DEFAULT].iterdir()) < 10e6
    assert (bundled()[ghn_init.DEFAULT] / "README.md").is_file()


def damage(folder: Path, how: str) -> None:
    model, config = folder / "model.safetensors", folder / "config.json"
    tensors, values = load_file(model), json.loads(config.read_text())
    if how == "no config":
        config.unlink()
    elif how == "no tensors":
        model.unlink()
    elif how == "truncated":
        model.write_bytes(model.read_bytes()[:-100])
    elif how == "empty":
        model.write_bytes(b"")
    elif how == "huge header":
        model.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    elif how == "no JSON":
        config.write_text("{")
    elif how == "no object":
        config.write_text("[1]")
    elif how == "deep JSON":
        config.write_text("[" * 100_000)
    elif how == "endless number":
        config.write_text('{"hid": ' + "1" * 5000 + "}")
    elif how == "no text":
        config.write_bytes(b"\xff\xfe\x00")
    elif how == "huge decoder":
        config.write_text(json.dumps(values | {"max_shape": [10**6, 10**6, 11, 11]}))
    elif how == "endless layers":
        config.write_text(json.dumps(values | {"layers": 10**9, "heads": 8}))
    elif how == "no classes":
        config.write_text(json.dumps({k: v for k, v in values.items() if k != "tasks"}))
    elif how == "many keys":
        config.write_text(json.dumps({f"key{number}": 1 for number in range(2000)}))
    elif how == "huge number":
        config.write_text(json.dumps(values | {"hid": 4 * 10**3000}))
    elif how == "evil type":
        header = json.dumps({"x": {"dtype": "evil\n\x1b[2J" * 100, "shape": [1], "data_offsets": [0, 4]}}).encode()
        model.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    elif how == "evil name":
        save_file(tensors | {"evil\n\x1b[2Jerror: all good" + "!" * 1000: torch.zeros(1)}, model)
    elif how == "wrong type":
        config.write_text(json.dumps(values | {"hid": "8"}))
    elif how == "other width":
        config.write_text(json.dumps(values | {"hid": 4}))
    elif how == "missing tensor":
        save_file({n: t for n, t in tensors.items() if n != "ln.weight"}, model)
    elif how == "extra tensor":
        save_file(tensors | {"extra": torch.zeros(1)}, model)
    elif how == "not finite":
        save_file(tensors | {"ln.weight": torch.full((8,), torch.inf)}, model)
    elif how == "integers":
        save_file(tensors | {"ln.weight": torch.zeros(8, dtype=torch.int32)}, model)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no config", r"has no config.json; expected a folder with config.json and model.safetensors"),
        ("no tensors", r"has no model.safetensors"),
        ("truncated", r"model.safetensors is not a readable safetensors file"),
        ("empty", r"model.safetensors is not a readable safetensors file"),
        ("huge header", r"model.safetensors is not a readable safetensors file"),
        ("no JSON", r"config.json is not JSON"),
        ("no object", r"config.json is a list; expected a JSON object"),
        ("deep JSON", r"config.json is not JSON"),
        ("endless number", r"config.json is not JSON"),
        ("no text", r"config.json can't be read"),
        ("huge decoder", r"needs [\d,]+ parameters at least, the file has"),
        ("endless layers", r"needs [\d,]+ parameters at least, the file has"),
        ("no classes", r"config.json can't be used: the configuration has neither 'tasks' nor 'num_classes'"),
        ("many keys", r"neither 'tasks' nor 'num_classes'; it has \['key0', .*\.\.\.\]\.$"),
        ("huge number", r"needs more than 2⁶³ parameters at least, the file has"),
        ("evil type", r"unknown variant .*evil|InvalidHeaderDeserialization"),
        ("evil name", r"unexpected tensor 'evil\\n"),
        ("wrong type", r"hid is '8'; expected int"),
        ("other width", r"'embed.weight' is \(15, 8\), expected \(15, 4\)"),
        ("missing tensor", r"no tensor 'ln.weight'"),
        ("extra tensor", r"unexpected tensor 'extra'"),
        ("not finite", r"'ln.weight' has values that are not finite"),
        ("integers", r"'ln.weight' is torch.int32, expected a floating type"),
    ],
)
def test_damaged_folders_are_one_clear_error(folder: Path, how: str, words: str) -> None:
    damage(folder, how)
    with pytest.raises(CheckpointError, match=words) as caught:
        ghn_init.load(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_random_corruptions_load_or_are_one_clear_error(ghn: GHN, tmp_path: Path) -> None:
    rng = random.Random(0)
    ghn.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    path, refused = tmp_path / "broken.safetensors", 0
    loaded = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(header)] = rng.randrange(256)
        path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.3 else content)
        try:
            ghn_init.load(path)
        except CheckpointError as error:
            refused += str(path) in str(error)
            continue
        loaded += 1
    assert refused + loaded == 300
    assert refused > 200


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return (os.open, (str(self.target), os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("suffix", [".pt", ".joblib", ".bin", ".safetensors"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickles_are_never_read(tmp_path: Path, suffix: str, zipped: bool) -> None:
    target, path = tmp_path / "created", tmp_path / f"hostile{suffix}"
    content = pickle.dumps(Hostile(target))
    if zipped:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        content = packed.getvalue()
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"hostile{suffix} is not a"):
        ghn_init.load(path)
    assert not target.exists()


def test_the_hostile_pickle_would_work_where_it_was_read(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "created")))
    assert (tmp_path / "created").exists()


@pytest.mark.parametrize(
    "name", ["ghn9", "./nowhere", "a/b/c", "folder/file.safetensors", "~/nowhere/at/all", "~nobody/x", "x" * 5000]
)
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"is neither a bundled checkpoint \({ghn_init.DEFAULT}\) nor a file"):
        ghn_init.load(name)


@pytest.mark.parametrize("name", ["runs/mine", "mine"])
def test_a_path_that_is_not_there_is_looked_for_nowhere_else(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"there is no file or folder '{name}'; .*a name or a hub id is a string"):
        ghn_init.load(Path(name))


def test_a_file_without_configuration_says_so(ghn: GHN, tmp_path: Path) -> None:
    save_file(ghn.state_dict(), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="x.safetensors has no metadata key 'config'"):
        ghn_init.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_shape": [16, 16, 7]}, r"max_shape is \(16, 16, 7\)"),
        ({"max_shape": [16, 16, 7, 8]}, "expected four positive sizes"),
        ({"max_shape": "16"}, "max_shape is '16'; expected four integers"),
        ({"hid": 6}, "hid is 6; expected a positive multiple of 4"),
        ({"class_width": 0}, "class_width is 0; expected at least 1, or None"),
        ({"class_width": True}, "class_width is True; expected int"),
        ({"tasks": {}}, r"tasks is \{\}; expected names with their numbers of outputs, such as \{'cifar10': 10\}"),
        ({"tasks": [10]}, r"tasks is \[10\]; expected names"),
        ({"tasks": {"ten": 0}}, "the task 'ten' has 0 outputs; expected a number of at least 1"),
        ({"tasks": {"ten": True}}, "the task 'ten' has True outputs; expected a number"),
        (
            {"tasks": {"Ten": 10}},
            "'Ten' names no task; expected at most 64 lower-case letters, digits, '-' and '_', and not 'auto'",
        ),
        ({"tasks": {"a.b": 10}}, "'a.b' names no task"),
        ({"tasks": {"": 10}}, "'' names no task"),
        ({"tasks": {"-a": 10}}, "'-a' names no task"),
        ({"tasks": {"a" * 65: 10}}, "names no task; expected at most 64 lower-case letters"),
        ({"tasks": {"auto": 10}}, "'auto' names no task; expected .* and not 'auto'"),
        ({"hypernet": "gpt"}, "hypernet is 'gpt'; expected one of"),
        ({"decoder": "mlp"}, "decoder is 'mlp'; this version reads 'conv'"),
        ({"layers": -1}, "layers is -1; expected 0"),
        ({"layers": 3, "heads": 3}, "heads is 3; expected a divisor of hid, 8"),
        ({"layers": "3"}, "layers is '3'; expected int"),
    ],
)
def test_configurations_that_no_hypernetwork_has(changes: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        GHNConfig.from_dict(json.loads(CONFIG) | changes)


@pytest.mark.parametrize("value", [0, True, "10", None])
def test_published_configurations_without_a_number_of_classes(value: object) -> None:
    published = {key: values for key, values in json.loads(CONFIG).items() if key != "tasks"}
    with pytest.raises(CheckpointError, match=rf"num_classes is {value!r}; expected a number of at least 1"):
        GHNConfig.from_dict({**published, "num_classes": value})


@pytest.mark.parametrize("name", ["keys", "forward", "training", "add_module"])
def test_names_that_pytorch_has_taken_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"'{name}' can't name a task, PyTorch's ModuleDict has a member of that name"):
        GHN(GHNConfig({name: 3}, max_shape=(8, 8, 3, 3), hid=8))


def test_configurations_by_name_are_the_published_variants() -> None:
    base = {"max_shape": (64, 64, 11, 11), "hid": 32}
    assert GHNConfig.ghn1({"a": 3}) == GHNConfig({"a": 3}, ve=False, layernorm=False, weight_norm=False, **base)
    assert GHNConfig.ghn2({"a": 3}) == GHNConfig({"a": 3}, ve=True, layernorm=True, weight_norm=True, **base)
    assert GHNConfig.mlp({"a": 3}, hid=8) == GHNConfig({"a": 3}, hid=8, hypernet="mlp")
    expected = GHNConfig({"a": 3}, max_shape=(128, 128, 16, 16), hid=128, layers=5, heads=16, class_width=3)
    assert GHNConfig.ghn3({"a": 3}, 128, 5, 16, class_width=3) == expected


def test_names_of_classes_travel(ghn: GHN, tmp_path: Path) -> None:
    (task, outputs), *_ = ghn.config.tasks.items()
    names = tuple(f"a {k}\nb" for k in range(outputs))
    named = GHN(ghn.config.with_classes({task: names}))
    named.save_pretrained(tmp_path)
    assert ghn_init.load(tmp_path).config == named.config == GHNConfig.from_dict(named.config.to_dict()) != ghn.config
    assert f"{task} ({outputs}: a 0 b, a 1 b" in (tmp_path / "README.md").read_text()
    assert "classes" not in ghn.config.to_dict()


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a"], r"classes is \['a'\]; expected names of tasks"),
        ({"cifar10": "ab"}, r"the classes of 'cifar10' are 'ab'; expected a list of names"),
        ({"cifar10": [1, 2]}, r"the classes of 'cifar10' are \[1, 2\]; expected a list of names"),
        ({"cifar10": ["a"]}, r"there are 1 names for classes of 'cifar10', and the tasks are \{'cifar10': 2\}"),
        ({"other": ["a", "b"]}, r"there are 2 names for classes of 'other', and the tasks are \{'cifar10': 2\}"),
    ],
)
def test_names_of_classes_that_do_not_fit(classes: object, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        GHNConfig.from_dict({"tasks": {"cifar10": 2}, "classes": classes})


def test_configurations_are_values() -> None:
    tasks = {"a": 3}
    config = GHNConfig(tasks)
    tasks["b"] = 4
    assert config.tasks == {"a": 3}
    assert len({config, GHNConfig({"a": 3})}) == 1
    assert GHNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    more = config.with_tasks({"b": 4, "a": 3})
    assert (more.tasks, config.tasks) == ({"a": 3, "b": 4}, {"a": 3})
    assert (more.tasks_with(3), more.tasks_with(5), more.described_tasks) == (["a"], [], "a (3), b (4)")
    with pytest.raises(
        CheckpointError, match="the task 'a' has 5 outputs, the hypernetwork knows it with 3; give it another name"
    ):
        more.with_tasks({"a": 5})


def test_tasks_of_a_file_keep_their_names_and_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ghn = GHN(GHNConfig({"zebra": 3, "ant-2": 5, "m_1": 3}, max_shape=(8, 8, 3, 3), hid=8)).eval()
    ghn.save_pretrained(tmp_path)
    loaded = ghn_init.load(tmp_path)
    assert list(loaded.config.tasks.items()) == [("zebra", 3), ("ant-2", 5), ("m_1", 3)]
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in ghn.state_dict().items())


OLD = {"num_classes": 10, "max_shape": [16, 16, 7, 7], "hid": 8, "hypernet": "gatedgnn", "ve": True}
"""A configuration as version 0.1.0 wrote it."""


def test_folders_of_the_first_version_load_and_predict_the_same(tmp_path: Path) -> None:
    """Its configuration had `num_classes`, its one head the published names."""
    torch.manual_seed(0)
    ghn = GHN(GHNConfig({"classes": 10}, max_shape=(16, 16, 7, 7), hid=8, class_width=10)).eval()
    config = json.dumps({**OLD, "layernorm": True, "weight_norm": True})
    (tmp_path / "config.json").write_text(config)
    state = published_state(ghn)
    assert {name for name in state if name not in ghn.state_dict()} == {
        "decoder.class_layer_predictor.1.weight", "decoder.class_layer_predictor.1.bias", "bias_class.1.weight",
        "bias_class.1.bias",
    }  # fmt: skip
    save_file(state, tmp_path / "model.safetensors", {"format": "pt", "config": config})
    model = torch.nn.Sequential(conv(), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8 * 64, 10))
    expected = ghn_init.predict(model, ghn, images(), head=True)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = ghn_init.load(path)
        assert loaded.config == ghn.config
        found = ghn_init.predict(model, loaded, images(), head=True)
        assert found.task == "classes"
        assert set(found.tensors) == set(dict(model.named_parameters()))
        for name, tensor in expected.tensors.items():  # a file's memory is aligned otherwise, which changes the last digits
            torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-5, atol=1e-6)


def test_only_the_one_head_of_a_file_may_have_published_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, two = (GHN(GHNConfig(tasks, max_shape=(8, 8, 3, 3), hid=8)) for tasks in ({"a": 3}, {"a": 3, "b": 4}))
    tensors = dict(two.state_dict())
    tensors["decoder.class_layer_predictor.1.weight"] = tensors.pop("heads.a.to_weight.weight")
    save_file(tensors, tmp_path / "x.safetensors", {"config": json.dumps(two.config.to_dict())})
    words = r"no tensor 'heads.a.to_weight.weight'; unexpected tensor 'decoder.class_layer_predictor.1.weight'\.$"
    with pytest.raises(CheckpointError, match=words):
        ghn_init.load(tmp_path / "x.safetensors")
    save_file(published_state(one), tmp_path / "x.safetensors", {"config": json.dumps(one.config.to_dict())})
    assert torch.equal(ghn_init.load(tmp_path / "x.safetensors").heads["a"].to_weight.weight, one.heads["a"].to_weight.weight)


RESNET18 = {
    "conv1.weight": (18.169383, -1.6430599, [0.002449034, -0.004296836, 0.002449034]),
    "bn1.weight": (9.2314874, 67.64399, [1.496438, 1.970649, 1.849262]),
    "bn1.bias": (4.5649319, -26.994609, [-0.242667, 0.06653377, -0.03140336]),
    "layer1.0.conv1.weight": (11.455696, -227.36297, [-0.006584673, 0.07450746, 0.005755626]),
    "layer2.0.downsample.0.weight": (8.762689, -92.486974, [0.4402489, 0.02576914, 0.03046463]),
    "layer4.1.conv2.weight": (14.81441, 318.1447, [0.03822583, 0.01497468, -0.001545693]),
    "layer4.1.bn2.bias": (3.464425, -36.939196, [-0.01927239, 0.01868523, -0.07982238]),
    "fc.weight": (1.3325949, -13.845112, [-0.000754622, -0.02015782, 0.01988258]),
    "fc.bias": (0.41645299, -0.030193888, [0.1309064, -0.1193498, 0.1693986]),
}


@pytest.mark.parametrize("name", RESNET18)
def test_the_bundled_hypernetwork_predicts_what_it_predicted_when_it_was_made(name: str) -> None:
    """Norm, sum and first values of ResNet-18's tensors."""
    tensor = resnet18_predicted()[name].double().flatten()
    norm, total, first = RESNET18[name]
    assert float(tensor.norm()) == pytest.approx(norm, rel=1e-5)
    assert float(tensor.sum()) == pytest.approx(total, rel=1e-5, abs=1e-5 * norm)
    assert tensor[:3].tolist() == pytest.approx(first, rel=1e-4, abs=1e-6)


@lru_cache
def resnet18_predicted() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = torchvision.models.resnet18(num_classes=10)
    return dict(ghn_init.predict(model, head="cifar10", strict=True).tensors)


def test_importing_is_light_and_loading_is_offline() -> None:
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = refuse\n"
        "import ghn_init\n"
        "heavy = {'timm', 'torchvision', 'datasets', 'matplotlib', 'transformers', 'PIL', 'h5py', 'ghn_init.cli'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "ghn_init.load()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_card_is_of_the_weights_and_of_what_the_user_wrote(ghn: GHN, tmp_path: Path) -> None:
    ghn.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "pushed to the Hub" not in card
    assert "More Information Needed" not in card
    assert "ghn_init.initialize(model, " in card
    assert f"ghn_init {ghn_init.__version__}" in card
    assert f"fingerprint: `{ghn.fingerprint}`" in card
    (tmp_path / "README.md").write_text(card + "Mine.\n")
    other = GHN(ghn.config)
    other.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == card.replace(ghn.fingerprint, other.fingerprint) + "Mine.\n"


@pytest.mark.parametrize("fails", ["save_file", "facts"])
def test_a_save_that_is_interrupted_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = GHN(GHNConfig.ghn2({"other": 3}))
    monkeypatch.setattr(checkpoints.folder if fails == "save_file" else checkpoints.pretrained, fails, interrupted)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            other.save_pretrained(target)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_a_saved_folder_may_begin_with_the_home_folder(ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    ghn.save_pretrained("~/mine")
    assert ghn_init.load("~/mine").fingerprint == ghn.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home"]


def test_configurations_take_the_integers_of_numpy(tmp_path: Path) -> None:
    sizes = {"max_shape": np.array([8, 8, 3, 3]), "hid": np.int64(8), "layers": np.int32(1), "heads": np.int64(2)}
    made = GHNConfig({"ten": np.int64(10)}, **sizes, class_width=np.int64(10), ve=np.True_)  # type: ignore[arg-type]
    assert made == GHNConfig({"ten": 10}, (8, 8, 3, 3), 8, layers=1, heads=2, class_width=10)
    GHN(made).save_pretrained(tmp_path)
    assert ghn_init.load(tmp_path).config == made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hid": 8.0}, "hid is 8.0; expected a whole number"),
        ({"hid": True}, "hid is True; expected a whole number"),
        ({"max_shape": (8, 8, 3, "3")}, r"max_shape is \(8, 8, 3, '3'\); expected four positive sizes"),
        ({"max_shape": 8}, "max_shape is 8; expected four positive sizes"),
        ({"layers": None}, "layers is None; expected a whole number"),
        ({"ve": "no"}, "ve is 'no'; expected True or False"),
        ({"tasks": {"ten": 10.0}}, "the task 'ten' has 10.0 outputs; expected a number of at least 1"),
    ],
)
def test_configurations_of_other_kinds(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        GHNConfig(**({"tasks": {"ten": 10}} | changes))


def test_a_card_that_others_wrote_stays_byte_by_byte(ghn: GHN, tmp_path: Path) -> None:
    theirs = b"M\xf6bius\r\n- parameters: 3\r\n"
    (tmp_path / "README.md").write_bytes(theirs)
    ghn.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == theirs


def test_the_card_of_another_hypernetwork_has_its_facts(ghn: GHN, tmp_path: Path) -> None:
    ghn.save_pretrained(tmp_path)
    other = GHN(GHNConfig.ghn2({"other": 3}))
    other.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "other (3)" in card
    assert f"parameters: {sum(tensor.numel() for tensor in other.state_dict().values()):,}" in card
