"""Published files are read without running them: what PyTorch and joblib write comes back, all else is one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ghn_init
from ghn_init import GHN, GHNConfig
from ghn_init.checkpoints.pretrained import convert
from ghn_init.checkpoints.published.formats import read
from ghn_init.errors import CheckpointError
from helpers import published_config, published_state, write_hub, write_release

EXAMPLES = int(os.environ.get("GHN_INIT_EXAMPLES", "300"))
VARIANTS: dict[str, dict[str, Any]] = {
    "GHN-2": {},
    "GHN-1": {"ve": False, "layernorm": False, "weight_norm": False},
    "MLP": {"hypernet": "mlp"},
    "GHN-3": {"layers": 2, "heads": 4},
}


def hypernetwork(variant: str) -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig({"classes": 5}, class_width=5, max_shape=(8, 4, 3, 3), hid=8, **VARIANTS[variant])).eval()


def same(a: GHN, b: GHN) -> bool:
    return a.config == b.config and all(torch.equal(t, b.state_dict()[n]) for n, t in a.state_dict().items())


@pytest.mark.parametrize("variant", ["GHN-2", "GHN-1", "MLP"])
def test_files_of_the_release_come_back(tmp_path: Path, variant: str) -> None:
    ghn = hypernetwork(variant)
    assert same(convert(write_release(ghn, tmp_path / "ghn.pt")), ghn)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("at_the_top", [False, True])
def test_files_of_the_hub_come_back(tmp_path: Path, variant: str, at_the_top: bool) -> None:
    ghn = hypernetwork(variant)
    assert same(convert(write_hub(ghn, tmp_path / "ghn.pt", at_the_top)), ghn)


def test_conversion_ends_in_a_folder_that_loads(tmp_path: Path) -> None:
    ghn = hypernetwork("GHN-3")
    convert(write_hub(ghn, tmp_path / "ghn.pt")).save_pretrained(tmp_path / "ghn")
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
    with pytest.raises(
        CheckpointError, match=r"hostile.pt is not a published .*it calls 'posix.open'; .*Nothing in it was run"
    ):
        convert(path)
    assert not target.exists()


def bomb(depth: int, tail: bytes) -> bytes:
    """A tuple that holds the one before twice, `depth` times: walking it would take 2 to the `depth` steps."""
    return b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(depth)) + tail


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def archived(operations: bytes, storage: bytes = bytes(4), key: str = "0") -> bytes:
    """`torch.save`'s archive of one storage of floats; the pickle finds it as `h\x01`, and `_rebuild_tensor_v2` as `h\x02`."""
    count = (len(storage) // 4).to_bytes(4, "little")
    mention = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"J" + count + b"tq\x00Qq\x01"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + mention + b"ctorch._utils\n_rebuild_tensor_v2\nq\x02" + operations + b".")
        archive.writestr(f"a/data/{key}", storage)
    return packed.getvalue()


BIG = b"\x8a\xff" + b"\x77" * 255
"""An integer of 2,040 bits."""
MANY = 30_000
CONFIGURED = b"}(" + text("state_dict") + b"}" + text("config") + b"}("
"""The beginning of a release's dict, up to the configuration's entries; `uu` ends it."""
LISTS = text("a") + b"(" + b"K\x00" * MANY + b"tq\x00" + b"".join(text(str(number)) + b"h\x00" for number in range(MANY))
"""Entries that are all the same long list."""


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Fails after three seconds of this process; `AssertionError` is not among what damaged bytes may raise."""

    def fail(*_: object) -> None:
        raise AssertionError("three seconds were not enough")

    before = signal.signal(signal.SIGPROF, fail)
    signal.setitimer(signal.ITIMER_PROF, 3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


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
        pytest.param(
            archived(b"h\x02(h\x01K\x00" + b"(" + BIG + b"q\x03" + b"h\x03" * 4000 + b"t(" + b"K\x00" * 4001 + b"ttR"),
            id="sizes",
        ),
        pytest.param(b"\x80\x02]" + b"K\x00" * 2 * MANY + b"(t" * 2 * MANY + b".", id="marks"),
        pytest.param(archived(b"(h\x01K\x00))" + b"K\x00" * 5 * MANY + b"tq\x03" + b"h\x02h\x03R" * MANY), id="arguments"),
        pytest.param(bomb(31, b"ccollections\nOrderedDict\n]h\x1fK\x01\x86a\x85R."), id="hashed as a dict's argument"),
        pytest.param(b"\x80\x02" + CONFIGURED + LISTS + b"uu.", id="configurations"),
    ],
    ids=lambda content: repr(content[-12:]),
)
@pytest.mark.filterwarnings("error")
def test_malicious_bytes_end_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with at_once(), pytest.raises(CheckpointError, match="x.pt is not a published hypernetwork's file"):
        convert(path)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("references", ["tensors", "spread tensors", "storages"])
def test_the_same_numbers_are_given_out_a_few_times_only(tmp_path: Path, references: str) -> None:
    """Each file asks for far more bytes than it has; tensors of two far numbers would each copy all that is between."""
    path, numel = tmp_path / "x.pt", 2**14
    size = b"M" + numel.to_bytes(2, "little") + b"\x85K\x01\x85"
    spread = b"K\x02\x85M" + (numel - 1).to_bytes(2, "little") + b"\x85"
    if references == "storages":
        buffer = io.BytesIO()
        torch.save(torch.zeros(numel).storage(), buffer, _use_new_zipfile_serialization=False)
        stored = b"B" + len(buffer.getvalue()).to_bytes(4, "little") + buffer.getvalue()
        path.write_bytes(
            b"\x80\x03" + stored + b"\x85q\x00ctorch.storage\n_load_from_bytes\nq\x01" + b"h\x01h\x00R" * 100 + b"."
        )
    else:
        shape = size if references == "tensors" else spread
        path.write_bytes(archived((b"h\x02(h\x01K\x00" + shape + b"tR") * 100, bytes(4 * numel)))
    with pytest.raises(CheckpointError, match="x.pt is not .* asks for more than four times the bytes of the file"):
        convert(path)


@pytest.mark.parametrize("write", [torch.save, joblib.dump])
def test_tensors_that_share_a_storage_come_back_each_with_its_own(tmp_path: Path, write: Callable[..., Any]) -> None:
    rows = torch.arange(2.0**20).reshape(2, -1)
    tensors = {"whole": rows, "turned": rows[:, :9].T, "second": rows[1], "even": rows[1, :9:2], "none": rows[:, :0]}
    write({"tied": rows.detach(), **tensors}, tmp_path / "x.pt")
    value = read(tmp_path / "x.pt")
    assert all(torch.equal(value[name], tensor) for name, tensor in tensors.items())
    assert value["whole"].data_ptr() != value["tied"].data_ptr()


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


def test_archives_that_torch_save_does_not_write(tmp_path: Path) -> None:
    ghn = hypernetwork("GHN-2")
    path = rewritten(write_release(ghn, tmp_path / "a.pt"), lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed entries"):
        convert(path)
    path = rewritten(
        write_release(ghn, tmp_path / "b.pt"), lambda name, content: content[:-4] if name.endswith("/data/1") else content
    )
    with pytest.raises(CheckpointError, match=r"storage '1' has \d+ numbers, expected \d+"):
        convert(path)
    path = rewritten(
        write_release(ghn, tmp_path / "c.pt"), lambda name, content: b"big" if name.endswith("byteorder") else content
    )
    with pytest.raises(CheckpointError, match="byte order b'big'"):
        convert(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"weights": torch.zeros(3)}, "KeyError: 'embed.weight'"),
        ({"config": {"hid": 8}, "state_dict": {}}, "neither 'tasks' nor 'num_classes'"),
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


EVIL = "evil\n\x1b[2Jerror: all good" + 1000 * "!"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda whole: {**whole, "state_dict": {**whole["state_dict"], EVIL: torch.zeros(1)}}, r"unexpected tensor 'evil\\n"),
        (lambda whole: {**whole, "config": {"hypernet": EVIL, "num_classes": 5}}, r"hypernet is 'evil\\n"),
        (lambda whole: {**whole, "config": {"decoder": EVIL, "num_classes": 5}}, r"decoder is 'evil\\n"),
        (lambda whole: {**whole, "config": {"num_classes": 5, "max_shape": [7] * 1000}}, r"max_shape is \(7, 7, 7, 7, 7, 7, "),
    ],
    ids=["tensor", "text", "decoder", "shape"],
)
def test_what_a_file_says_is_shown_in_one_short_line(tmp_path: Path, value: Callable[[Any], Any], words: str) -> None:
    ghn = hypernetwork("GHN-2")
    torch.save(value({"config": published_config(ghn), "state_dict": published_state(ghn)}), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=words) as caught:
        convert(tmp_path / "x.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


OTHER_COUNT = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("\x1b") + text("cpu") + b"K\x09tQ"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04" + text(EVIL) + text("name") + b"\x93)R.", r"it calls 'evil\\n"),
        (archived(OTHER_COUNT, key="\x1b"), r"storage '\\x1b' has 1 numbers, expected 9"),
    ],
    ids=["call", "storage"],
)
def test_names_in_pickles_are_shown_in_one_short_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        convert(tmp_path / "x.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_paths_of_no_user_are_one_error() -> None:
    with pytest.raises(CheckpointError, match=r"'~nosuchuser/x' begins with a home folder that is not known"):
        convert("~nosuchuser/x")


@pytest.mark.parametrize("kind", ["release", "hub"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = (write_release if kind == "release" else write_hub)(hypernetwork("GHN-2"), tmp_path / "x.pt")
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
        (write_release if kind == "release" else write_hub)(hypernetwork("GHN-2"), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 4000) | st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken.write_bytes(content)
    try:
        assert isinstance(convert(broken), GHN)
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(str(broken))


def test_a_file_without_a_configuration_may_have_kernels_of_four_axes(tmp_path: Path) -> None:
    ghn = hypernetwork("GHN-2")
    names = ("decoder.conv.0.weight", "decoder.conv.2.weight", "decoder.class_layer_predictor.1.weight")
    state = {n: t[..., None, None] if n in names else t for n, t in published_state(ghn).items()}
    joblib.dump(state, tmp_path / "ghn2.pt")
    assert same(convert(tmp_path / "ghn2.pt"), ghn)
