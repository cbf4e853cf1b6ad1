"""timm's models: its own signature, its registry, folders that it loads."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import ModelSpecError, UnsupportedModelError
from ghn_init.timm import ghn_models, run
from hub_server import serving


def create(name: str = "resnet18", **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return ghn_init.timm.create_model(name, **kwargs)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet18", {"num_classes": 10}),
        ("resnet18", {"num_classes": 7, "in_chans": 1}),
        ("resnet18.a1_in1k", {"num_classes": 10}),
        ("vit_tiny_patch16_224", {"num_classes": 10, "img_size": 64, "drop_path_rate": 0.1}),
        ("resnet18", {"num_classes": 10, "pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}),
    ],
)
def test_arguments_mean_what_they_mean_to_timm(ghn: GHN, name: str, kwargs: dict[str, Any]) -> None:
    model = create(name, ghn=ghn, **kwargs)
    torch.manual_seed(0)
    expected = ghn_init.initialize(timm.create_model(name, **kwargs), ghn)
    assert same(model.state_dict(), expected.state_dict())
    assert model.pretrained_cfg == expected.pretrained_cfg


def test_layer_settings_reach_timm(ghn: GHN) -> None:
    attention = [
        create("vit_tiny_patch16_224", ghn=ghn, exportable=exportable, img_size=32).blocks[0].attn.fused_attn
        for exportable in (None, True)
    ]
    assert attention == [True, False]
    torch.jit.script(create("resnet18", ghn=ghn, scriptable=True, no_jit=True))


def test_arguments_of_initialize_are_passed_on(ghn: GHN) -> None:
    kept = create(num_classes=10, ghn=ghn, ghn_kwargs={"head": False}).fc.weight
    torch.manual_seed(0)
    assert torch.equal(kept, timm.create_model("resnet18", num_classes=10).fc.weight)


def test_arguments_of_initialize_in_the_wrong_place_are_said_to_be(ghn: GHN) -> None:
    with pytest.raises(ModelSpecError, match=r"data is an argument of ghn_init.initialize, .* pass ghn_kwargs={'data': …}"):
        create("resnet10t", ghn=ghn, data=labelled_images())


def test_a_value_that_no_model_takes_is_told_shortly(ghn: GHN) -> None:
    with pytest.raises(ModelSpecError, match="takes no images") as raised:
        create("resnet10t", ghn=ghn, images=labelled_images())
    assert len(str(raised.value)) < 500


def labelled_images() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(k)), torch.arange(8) % 4) for k in range(3)]


def test_data_reach_the_head_and_the_norms(ghn: GHN) -> None:
    reports: list[ghn_init.Report] = []
    options = {"data": labelled_images(), "on_report": reports.append}
    model = create("resnet10t", num_classes=4, ghn=ghn, ghn_kwargs=options)
    torch.manual_seed(0)
    expected = ghn_init.initialize(timm.create_model("resnet10t", num_classes=4), ghn, data=labelled_images())
    assert same(model.state_dict(), expected.state_dict())
    assert reports[0].fit is not None
    assert reports[0].fit.images == 24


@pytest.mark.parametrize("kind", [list, iter, lambda data: [{"x": x, "label": y} for x, y in data]])
def test_features_only_take_the_statistics_of_labelled_data(ghn: GHN, kind: Callable[[Any], Any]) -> None:
    options = {"data": kind(labelled_images())}
    features = create("resnet10t", features_only=True, ghn=ghn, ghn_kwargs=options)
    torch.manual_seed(0)
    expected = ghn_init.initialize(timm.create_model("resnet10t"), ghn, data=[x for x, _ in labelled_images()])
    assert torch.equal(features.state_dict()["bn1.running_mean"], expected.bn1.running_mean)
    assert expected.bn1.running_mean.any()


def test_without_classes_there_is_no_head_to_keep(ghn: GHN) -> None:
    model = create("mobilenetv3_small_050", num_classes=0, ghn=ghn)
    torch.manual_seed(0)
    random = timm.create_model("mobilenetv3_small_050", num_classes=0)
    assert not torch.equal(model.conv_head.weight, random.conv_head.weight)
    kept = create("mobilenetv3_small_050", num_classes=0, ghn=ghn, ghn_kwargs={"head": False})
    assert torch.equal(kept.conv_head.weight, random.conv_head.weight)


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("resnet18", lambda name: name),
        ("vit_tiny_patch16_224", lambda name: f"model.{name}"),
        ("mobilenetv3_small_050", lambda name: name),
        ("convnext_atto", lambda name: name.replace("stem.", "stem_").replace("stages.", "stages_")),
    ],
)
def test_features_carry_the_classifiers_tensors(ghn: GHN, name: str, renamed: Callable[[str], str]) -> None:
    features = create(name, ghn=ghn, features_only=True, out_indices=(0, 1), in_chans=1)
    whole = create(name, ghn=ghn, in_chans=1).state_dict()
    predicted = ghn_init.predict(timm.create_model(name, in_chans=1), ghn).tensors
    own = features.state_dict()
    carried = [n for n in predicted if renamed(n) in own]
    assert len(carried) > 5
    assert all(torch.equal(own[renamed(n)], predicted[n]) for n in carried)
    assert set(own) <= {renamed(n) for n in whole}
    features.eval()
    assert len(features(torch.zeros(1, 1, 224, 224))) == 2


def test_features_of_another_architecture_are_refused(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.Module):
        def __init__(self, model: nn.Module, **_: Any) -> None:
            super().__init__()
            self.model, self.neck, self.fc = model, nn.Linear(3, 5, bias=False), nn.Linear(3, 5, bias=False)

    words = r"Other holds 'neck.weight' \(5, 3\), 'fc.weight' \(5, 3\), which the classifier does not have"
    with pytest.raises(UnsupportedModelError, match=words):
        create(ghn=ghn, features_only=True, feature_cls=Other)


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("resnet18", {"pretrained": True}, "pretrained=True would put trained weights in the place of all that .* 'resnet18'"),
        ("resnet18", {"checkpoint_path": "x.pth"}, "checkpoint_path='x.pth' would put trained weights"),
        ("resnet19", {}, "timm has no model 'resnet19'; did you mean resnet18"),
        ("resnet18.nonexistent", {}, "'timm:resnet18.nonexistent' failed when called: RuntimeError: .*nonexistent"),
        ("resnet18", {"image_size": 3}, "'timm:resnet18' takes no image_size .* called with image_size=3: leave it out"),
        ("local-dir:nowhere", {}, "'timm:local-dir:nowhere' failed when called: FileNotFoundError: .*nowhere/config.json"),
    ],
)
def test_what_cannot_be_made_is_one_clear_error(ghn: GHN, name: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelSpecError, match=words):
        create(name, ghn=ghn, **kwargs)


def test_folders_and_the_hub_give_the_architecture_and_no_weights(
    ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = timm.create_model("resnet18", num_classes=10, in_chans=1)
    ghn_init.timm.export(trained, tmp_path / "trained", model_args={"in_chans": 1})
    expected = create(num_classes=10, in_chans=1, ghn=ghn).state_dict()
    assert same(create(f"local-dir:{tmp_path / 'trained'}", ghn=ghn).state_dict(), expected)
    with serving() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        server.files["someone/net", "main", "config.json"] = (tmp_path / "trained" / "config.json").read_bytes()
        model = create("hf-hub:someone/net", ghn=ghn, cache_dir=tmp_path / "cache")
    assert same(model.state_dict(), expected)


@pytest.mark.parametrize("name", ["resnet18", "coat_tiny"])  # coat ties parameters
def test_timm_loads_exported_folders_by_itself(ghn: GHN, tmp_path: Path, name: str) -> None:
    model = create(name, num_classes=10, ghn=ghn)
    folder = ghn_init.timm.export(model, tmp_path / "a" / "b", origin={"seed": 0})
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert same(loaded.state_dict(), model.state_dict())
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == name
    assert config["ghn_init"] == {"seed": 0}
    assert "tag" not in config["pretrained_cfg"]  # these are not the trained weights of that name


def test_timm_adapts_exported_folders(ghn: GHN, tmp_path: Path) -> None:
    model = create("vit_tiny_patch16_224", num_classes=10, in_chans=1, img_size=32, ghn=ghn)
    folder = ghn_init.timm.export(model, tmp_path, model_args={"in_chans": 1, "img_size": 32})
    as_saved = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert as_saved(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3, img_size=64)
    assert other(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    assert torch.equal(other.blocks[3].mlp.fc1.weight, model.blocks[3].mlp.fc1.weight)
    features = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True)
    assert torch.equal(features.model.blocks[3].mlp.fc1.weight, model.blocks[3].mlp.fc1.weight)


def test_export_leaves_the_model_alone_and_replaces_what_was_there(ghn: GHN, tmp_path: Path) -> None:
    first, second = create(num_classes=3, ghn=ghn), create(num_classes=4, ghn=ghn).to(memory_format=torch.channels_last)
    (tmp_path / "notes.txt").write_text("mine")
    ghn_init.timm.export(first, tmp_path)
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    ghn_init.timm.export(second, tmp_path)
    assert same(second.state_dict(), before)
    assert second.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not second._state_dict_hooks
    assert load_file(tmp_path / "model.safetensors")["fc.weight"].shape == (4, 512)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]


def test_what_timm_could_not_load_is_not_exported(ghn: GHN, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="Linear is no classifier that timm made"):
        ghn_init.timm.export(nn.Linear(3, 3), tmp_path)
    with pytest.raises(UnsupportedModelError, match="FeatureListNet is no classifier.*timm takes the features out of it"):
        ghn_init.timm.export(create(features_only=True, ghn=ghn), tmp_path)
    with torch.device("meta"):
        empty = timm.create_model("resnet18")
    with pytest.raises(UnsupportedModelError, match="ResNet is on the meta device, without values"):
        ghn_init.timm.export(empty, tmp_path)
    changed = create(num_classes=10, ghn=ghn)
    changed.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    with pytest.raises(
        ModelSpecError,
        match=r"timm would make \(64, 3, 7, 7\) of its configuration for 'conv1.weight', which is \(64, 3, 3, 3\) in the model",
    ):
        ghn_init.timm.export(changed, tmp_path)
    slower = ghn_init.adapt_stem_(create("regnetx_002", num_classes=10, ghn=ghn))  # shows in no tensor
    with pytest.raises(
        ModelSpecError, match=r"timm would make Conv2d\(3, 32, .*stride=\(2, 2\).* for 'stem.conv', which is Conv2d"
    ):
        ghn_init.timm.export(slower, tmp_path)
    beheaded = create(num_classes=10, ghn=ghn)
    beheaded.fc = nn.Identity()
    with pytest.raises(ModelSpecError, match=r"timm would make \(10, 512\) .* 'fc.weight', which is nothing in the model"):
        ghn_init.timm.export(beheaded, tmp_path)
    with pytest.raises(ModelSpecError, match="can't write the configuration of ResNet .*serializable.*pass model_args="):
        ghn_init.timm.export(create(ghn=ghn, act_layer=nn.ReLU), tmp_path, model_args={"act_layer": nn.ReLU})
    assert list(tmp_path.iterdir()) == []


def test_layers_without_tensors_are_compared_too(ghn: GHN, tmp_path: Path) -> None:
    model = create("resnet10t", num_classes=4, ghn=ghn)
    model.layer1[0].act1 = nn.SiLU()
    with pytest.raises(ModelSpecError, match=r"timm would make ReLU\(\) .* for 'layer1.0.act1', which is SiLU\(\)"):
        ghn_init.timm.export(model, tmp_path)
    model.layer1[0].act1 = nn.Identity()
    with pytest.raises(ModelSpecError, match=r"'layer1.0.act1', which is nothing in the model"):
        ghn_init.timm.export(model, tmp_path)
    model = create("resnet10t", num_classes=4, ghn=ghn)
    model.bn1.eps = 0.1
    with pytest.raises(ModelSpecError, match=r"'bn1', which is BatchNorm\(64, eps=0.1"):
        ghn_init.timm.export(model, tmp_path)


def test_what_changes_no_answer_changes_no_export(ghn: GHN, tmp_path: Path) -> None:
    """Dropout, writing in place, the pace of running statistics, and statistics of several processes."""
    model = create("resnet10t", num_classes=4, ghn=ghn, drop_rate=0.5, drop_path_rate=0.2)
    model.bn1.momentum = 0.5
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).half()
    folder = ghn_init.timm.export(model, tmp_path)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.equal(loaded.fc.weight.half(), model.fc.weight)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_models_in_wrappers_are_exported(ghn: GHN, tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = create("resnet10t", num_classes=4, ghn=ghn)
    folder = ghn_init.timm.export(wrap(model), tmp_path)
    assert same(timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict(), model.state_dict())


def test_a_full_disk_is_an_error_of_the_system(ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(timm.models, "save_for_hf", full)
    with pytest.raises(OSError, match="No space left on device"):
        ghn_init.timm.export(create(ghn=ghn), tmp_path)


def test_registered_names_make_initialised_models(ghn: GHN) -> None:
    assert ghn_init.timm.register("resnet18", ghn) == "ghn_resnet18"
    torch.manual_seed(0)
    model = timm.create_model("ghn_resnet18", num_classes=10)
    assert same(model.state_dict(), create(num_classes=10, ghn=ghn).state_dict())
    assert model.pretrained_cfg["architecture"] == "resnet18"
    assert "ghn_resnet18" in timm.list_models("ghn_*")
    assert "ghn_resnet18" in timm.list_models(module="ghn_models")
    assert timm.list_models("ghn_*", pretrained=True) == []
    assert ghn_models.ghn_resnet18 is timm.model_entrypoint("ghn_resnet18")
    assert len(timm.create_model("ghn_resnet18", features_only=True, out_indices=(1, 2))(torch.zeros(1, 3, 32, 32))) == 2
    torch.manual_seed(0)
    assert same(timm.create_model("ghn_resnet18", pretrained=True, num_classes=10).state_dict(), model.state_dict())


def test_registering_again_replaces_the_hypernetwork_without_a_warning(ghn: GHN) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for times in (1, 2):
            ghn_init.timm.register("resnet18", ghn, {"head": False})
            assert timm.list_models("ghn_resnet18") == ["ghn_resnet18"], times
        ghn_init.timm.register("resnet18", ghn_kwargs={"head": "cifar10"})
    model = timm.create_model("ghn_resnet18", num_classes=10)
    assert torch.equal(model.fc.weight, create(num_classes=10, ghn_kwargs={"head": "cifar10"}).fc.weight)


@pytest.mark.skipif(not hasattr(timm.models, "resolve_model_input_args"), reason="an older timm")
def test_registered_names_have_the_architectures_configurations(ghn: GHN, tmp_path: Path) -> None:
    name = ghn_init.timm.register("resnet18", ghn)
    resolved = timm.models.resolve_model_input_args(f"{name}.a1_in1k", {"input_size": (1, 64, 64)}, num_classes=10)
    model = timm.create_model(**resolved)  # as timm's scripts do
    original = timm.create_model("resnet18.a1_in1k", in_chans=1, num_classes=10)
    for key in ("architecture", "tag", "mean", "interpolation", "test_input_size", "first_conv", "classifier"):
        assert model.pretrained_cfg[key] == original.pretrained_cfg[key]
    folder = ghn_init.timm.export(model, tmp_path)
    assert same(timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet19", "timm has no model 'resnet19'; did you mean resnet18"),
        ("resnet18.a1_in1k", "'resnet18.a1_in1k' can't be registered; register the architecture, 'resnet18'"),
        ("hf-hub:someone/net", "'hf-hub:someone/net' can't be registered"),
        ("ghn_resnet18", "'ghn_resnet18' is a name that register made; register 'resnet18'"),
    ],
)
def test_what_cannot_be_registered(name: str, words: str) -> None:
    ghn_init.timm.register("resnet18")
    with pytest.raises(ModelSpecError, match=words):
        ghn_init.timm.register(name)


PROGRAM = """
import pathlib, sys
import timm
import beside
if __name__ == "__main__":
    names = [word.partition("=")[2] or word for word in sys.argv[1:-1] if "ghn_" in word]
    made = [timm.create_model(name, pretrained=True, num_classes=10) for name in names]
    print(sys.argv[0], sys.argv[1:], [type(model).__name__ for model in made], beside.VALUE)
"""


def test_a_program_that_cannot_import_us_is_run(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    (tmp_path / "beside.py").write_text("VALUE = 7")
    own = ["DATA", "--model", "ghn_resnet10t", "--teacher=ghn_resnet18.a1_in1k", "--experiment", "ghn_run1"]
    command = [sys.executable, "-m", "ghn_init.timm.run", "--head", "cifar10", str(program), *own]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path.parent)
    assert result.stdout.strip() == f"{program} {own} ['ResNet', 'ResNet'] 7", result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.py", "--model", "resnet18"], "no argument of train.py names a model ghn_NAME, such as ghn_resnet50"),
        (["missing.py", "--model", "ghn_resnet18"], "there is no program missing.py"),
        (["train.py", "--model", "ghn_resnet19"], "timm has no model 'resnet19'; did you mean"),
        (["--ghn", "nosuch", "train.py", "--model", "ghn_resnet18"], "nosuch"),
        (["--register", "resnet18.a1_in1k", "train.py"], "can't be registered; register the architecture, 'resnet18'"),
    ],
)
def test_programs_that_cannot_be_run_are_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("raise AssertionError")
    with pytest.raises(SystemExit, match="2"):
        run.main(arguments)
    assert words in capsys.readouterr().err


def test_what_a_call_gives_comes_before_what_was_registered(ghn: GHN) -> None:
    name = ghn_init.timm.register("resnet10t", "nowhere", {"head": "cifar10", "seed": 3})
    reports: list[ghn_init.Report] = []
    options = {"data": labelled_images(), "head": "auto", "on_report": reports.append}
    model = timm.create_model(name, num_classes=4, ghn=ghn, ghn_kwargs=options)
    assert reports[0].fit is not None
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, ghn=ghn, ghn_kwargs={"head": False})
    torch.manual_seed(0)
    expected = ghn_init.initialize(timm.create_model("resnet10t", num_classes=4), ghn, head=False, seed=3)
    assert same(model.state_dict(), expected.state_dict())
