"""Published files are read without running them: what PyTorch and joblib write comes back, all else is one clear error."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ghn_init
from ghn_init import GHN, CheckpointError, GHNConfig
from ghn_init.published.convert import convert

EXAMPLES = int(os.environ.get("GHN_INIT_EXAMPLES", "300"))
VARIANTS: dict[str, dict[str, Any]] = {
    "GHN-2": {},
    "GHN-1": {"ve": False, "layernorm": False, "weight_norm": False},
    "MLP": {"hypernet": "mlp"},
    "GHN-3": {"layers": 2, "heads": 4},
}


def hypernetwork(variant: str) -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(num_classes=5, max_shape=(8, 4, 3, 3), hid=8, **VARIANTS[variant])).eval()


def release(ghn: GHN, path: Path, **options: Any) -> Path:
    """As the 2021 release: a dict with the configuration; the decoder's convolutions have 4-D kernels."""
    state = OrderedDict(
        (n, t[..., None, None] if n in ("decoder.conv.0.weight", "decoder.conv.2.weight") else t)
        for n, t in ghn.state_dict().items()
    )
    config = {**ghn.config.to_dict(), "decoder": "conv", "note": None}
    torch.save({"config": config, "state_dict": state, "epoch": 3}, path, **options)
    return path


def hub(ghn: GHN, path: Path, at_the_top: bool = False) -> Path:
    """As the hub repository: a bare state dict."""
    names = ("gnn.0.centrality", "gnn.0.input_dist")
    state = OrderedDict(
        (n.removeprefix("gnn.0.") if at_the_top and n.startswith(names) else n, t) for n, t in ghn.state_dict().items()
    )
    joblib.dump(state, path)
    return path


def same(a: GHN, b: GHN) -> bool:
    return a.config == b.config and all(torch.equal(t, b.state_dict()[n]) for n, t in a.state_dict().items())


@pytest.mark.parametrize("variant", ["GHN-2", "GHN-1", "MLP"])
def test_files_of_the_release_come_back(tmp_path: Path, variant: str) -> None:
    ghn = hypernetwork(variant)
    assert same(convert(release(ghn, tmp_path / "ghn.pt")), ghn)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at_the_top", [False, True])
def test_files_of_the_hub_come_back(tmp_path: Path, variant: str, at_the_top: bool) -> None:
    ghn = hypernetwork(variant)
    assert same(convert(hub(ghn, tmp_path / "ghn.pt", at_the_top)), ghn)


def test_conversion_ends_in_a_folder_that_loads(tmp_path: Path) -> None:
    ghn = hypernetwork("GHN-3")
    convert(hub(ghn, tmp_path / "ghn.pt")).save_pretrained(tmp_path / "ghn")
    assert same(ghn_init.load(tmp_path / "ghn"), ghn)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return (os.open, (str(self.target), os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("write", [torch.save, joblib.dump, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_hostile_files_are_refused_and_nothing_of_them_runs(tmp_path: Path, write: Callable[..., Any]) -> None:
    target, path = tmp_path / "created", tmp_path / "hostile.pt"
    write({"config": {"hid": 8}, "state_dict": Hostile(target)}, path)
    with pytest.raises(CheckpointError, match=r"hostile.pt is not a published .*it calls posix.open; .*Nothing in it was run"):
        convert(path)
    assert not target.exists()


def bomb(depth: int, tail: bytes) -> bytes:
    """A tuple that holds the one before twice, `depth` times: walking it would take 2 to the `depth` steps."""
    return b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c0" % (k, k, k + 1) for k in range(depth)) + tail


@pytest.mark.parametrize(
    "content",
    [
        bomb(100, b"}h\x64K\x01s."),  # hashed as a key
        bomb(100, b"h\x64)R."),  # shown as what is called
        bomb(100, b"h\x64."),
        bomb(100, b"}X\x06\x00\x00\x00configh\x64sX\x0a\x00\x00\x00state_dictq\x65}s."),
        b"\x80\x02]r\xff\xff\xff\xff.",  # a huge memo index
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # huge bytes
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02}q\x00h\x00.",
        b"(" * 1000,
        b"0.",
        b"",
        b"PK\x03\x04",
    ],
    ids=lambda content: repr(content[-12:]),
)
@pytest.mark.filterwarnings("error")
def test_malicious_bytes_end_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="x.pt is not a published hypernetwork's file"):
        convert(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


def test_archives_that_torch_save_does_not_write(tmp_path: Path) -> None:
    ghn = hypernetwork("GHN-2")
    path = rewritten(release(ghn, tmp_path / "a.pt"), lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed entries"):
        convert(path)
    path = rewritten(
        release(ghn, tmp_path / "b.pt"), lambda name, content: content[:-4] if name.endswith("/data/1") else content
    )
    with pytest.raises(CheckpointError, match=r"storage 1 has \d+ numbers, expected \d+"):
        convert(path)
    path = rewritten(release(ghn, tmp_path / "c.pt"), lambda name, content: b"big" if name.endswith("byteorder") else content)
    with pytest.raises(CheckpointError, match="byte order b'big'"):
        convert(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"weights": torch.zeros(3)}, "KeyError: 'embed.weight'"),
        ({"config": {"hid": 8}, "state_dict": {}}, "no 'num_classes'"),
        ([1, 2], "it holds a list"),
        ({}, "it holds a dict"),
        ({"a": 1}, "it holds .'a'."),
        ({"config": {"num_classes": 5, "max_shape": [9**9, 9, 3, 3], "hid": 8}, "state_dict": {}}, "parameters at least"),
        ({"state_dict": {"embed.weight": torch.zeros(15, 8)[:, ::2]}}, "KeyError"),
    ],
)
def test_other_values_are_named(tmp_path: Path, value: Any, words: str) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=words):
        convert(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", ["release", "hub"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = (release if kind == "release" else hub)(hypernetwork("GHN-2"), tmp_path / "x.pt")
    whole = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match=r"x.pt is not a published"):
            convert(path)


@pytest.mark.parametrize("kind", ["release", "hub"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_random_corruptions_end_in_a_hypernetwork_or_one_clear_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path, broken = tmp_path / "x.pt", tmp_path / "broken.pt"
    if not path.exists():
        (release if kind == "release" else hub)(hypernetwork("GHN-2"), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 4000) | st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken.write_bytes(content)
    try:
        assert isinstance(convert(broken), GHN)
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(str(broken))
