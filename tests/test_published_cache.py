"""Published files by name: fetched, checked and converted once, then offline; against a local server."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from typer.testing import CliRunner

import ghn_init
from ghn_init import GHN, GHNConfig, cli
from ghn_init.checkpoints import fetch, pretrained
from ghn_init.checkpoints.published import cache
from ghn_init.checkpoints.published.cache import SOURCE, folder_of, is_kept
from ghn_init.checkpoints.published.convert import Parts, read_published
from ghn_init.checkpoints.published.registry import CHECKPOINTS, Published
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from helpers import write_hub, write_release
from hub_server import COMMIT, Hub, serving

TINY = GHNConfig({"imagenet": 5}, class_width=5, max_shape=(8, 4, 3, 3), hid=8)
TINY3 = replace(TINY, layers=2, heads=4)


def entry_of(ghn: GHN, name: str) -> Published:
    return replace(CHECKPOINTS[name], config=ghn.config, size=None, sha256=None)


@pytest.fixture
def ghn2() -> GHN:
    torch.manual_seed(0)
    return GHN(TINY).eval()


@pytest.fixture
def ghn3() -> GHN:
    torch.manual_seed(1)
    return GHN(TINY3).eval()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ghn2: GHN, ghn3: GHN) -> Iterator[Hub]:
    """Both hosts, with a tiny GHN-2 as `ghn2-imagenet` and a tiny GHN-3 as `ghn3-s`; the cache is in `tmp_path`."""
    with serving() as hub:
        monkeypatch.setattr(fetch, "GITHUB", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
        for ghn, name, write in ((ghn2, "ghn2-imagenet", write_release), (ghn3, "ghn3-s", write_hub)):
            entry = entry_of(ghn, name)
            monkeypatch.setitem(CHECKPOINTS, name, entry)
            content = write(ghn, tmp_path / name).read_bytes()
            for revision in (entry.revision, "v2"):
                hub.files[entry.release.repository, revision, entry.file] = content
        yield hub


def same(a: GHN, b: GHN) -> bool:
    return a.config == b.config and all(torch.equal(t, b.state_dict()[n]) for n, t in a.state_dict().items())


def content_of(hub: Hub, name: str) -> bytes:
    entry = CHECKPOINTS[name]
    return hub.files[entry.release.repository, entry.revision or "main", entry.file]


def change(hub: Hub, name: str, content: bytes) -> None:
    entry = CHECKPOINTS[name]
    hub.files[entry.release.repository, entry.revision or "main", entry.file] = content


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_first_fetched_then_offline(server: Hub, name: str, request: pytest.FixtureRequest) -> None:
    expected = request.getfixturevalue(name[:4])
    assert not is_kept(folder_of(CHECKPOINTS[name]))
    assert server.requests == []
    first = ghn_init.load(name)
    assert same(first, expected)
    assert not first.training
    assert is_kept(folder_of(CHECKPOINTS[name]))
    folder = folder_of(CHECKPOINTS[name])
    source = json.loads((folder / SOURCE).read_text())
    assert source["sha256"] == hashlib.sha256(content_of(server, name)).hexdigest()
    assert source["size"] == len(content_of(server, name))
    assert source["licence"] == "MIT"
    assert source["revision"] == CHECKPOINTS[name].revision
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "source.json"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing is left of the download
    server.requests.clear()
    for options in ({}, {"local_files_only": True}):
        assert same(ghn_init.load(name, **options), expected)
    assert server.requests == []


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_it_is_built_once(server: Hub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time it is fetched, converted and kept; that needs one hypernetwork, and so does each load after it."""
    built: list[str] = []
    make = GraphHyperNetwork.__init__

    def counted(self: GraphHyperNetwork, config: GHNConfig) -> None:
        built.append(type(self).__name__)
        make(self, config)

    assert CHECKPOINTS[name].numel > 0  # counting the parameters builds one without storage, once for each entry
    monkeypatch.setattr(GraphHyperNetwork, "__init__", counted)
    for times in (1, 2):
        ghn_init.load(name)
        assert built == ["GHN"] * times


def test_there_is_one_way_by_which_anything_is_downloaded(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the hub, be they published or of a folder of ours, and of GitHub."""
    asked: list[tuple[str, str, str | None, object]] = []
    access = fetch.Access(None, False, "secret")

    def noted(way: Callable[..., Path]) -> Callable[..., Path]:
        def download(repository: str, file: str, revision: str | None, how: fetch.Access, *rest: object) -> Path:
            asked.append((repository, file, revision, how))
            return way(repository, file, revision, how, *rest)

        return download

    for module in (pretrained, cache):
        monkeypatch.setattr(module, "from_hub", noted(fetch.from_hub))
    monkeypatch.setattr(cache, "from_github", noted(fetch.from_github))
    small = GHN(TINY)
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        for file in ("config.json", "model.safetensors"):
            server.files["someone/tiny", "v2", file] = (Path(folder) / file).read_bytes()
    for name in ("ghn2-imagenet", "ghn3-s", "someone/tiny@v2"):
        ghn_init.load(name, token="secret")
    github, hub = CHECKPOINTS["ghn2-imagenet"], CHECKPOINTS["ghn3-s"]
    assert asked == [
        ("facebookresearch/ppuda", "checkpoints/ghn2_imagenet.pt", github.revision, access),
        ("SamsungSAILMontreal/ghn3", "ghn3sm8.pt", hub.revision, access),
        ("someone/tiny", "config.json", "v2", access),
        ("someone/tiny", "model.safetensors", "v2", access),
        ("someone/tiny", "confidence.json", "v2", access),  # which it hasn't
    ]
    files = {path.partition("?")[0].rpartition("/")[2] for verb, path in server.requests if verb == "GET"}
    assert files == {"ghn2_imagenet.pt", "ghn3sm8.pt", "config.json", "model.safetensors"}


def test_what_github_sends_lies_in_the_cache_until_it_is_kept(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a file can be larger than what the system has for temporary files."""
    folders: list[Path] = []

    def noted(*arguments: Any) -> Path:
        folders.append(arguments[4])
        return fetch.from_github(*arguments)

    monkeypatch.setattr(cache, "from_github", noted)
    ghn_init.load("ghn2-imagenet", cache_dir=tmp_path / "cache")
    (folder,) = folders
    assert folder.parent == folder_of(CHECKPOINTS["ghn2-imagenet"], None, tmp_path / "cache").parent
    assert not folder.exists()


def test_the_pinned_revision_is_asked_for(server: Hub) -> None:
    ghn_init.load("ghn2-imagenet")
    ghn_init.load("ghn3-s")
    github, hub = CHECKPOINTS["ghn2-imagenet"], CHECKPOINTS["ghn3-s"]
    assert ("GET", f"/facebookresearch/ppuda/raw/{github.revision}/checkpoints/ghn2_imagenet.pt") in server.requests
    assert ("GET", f"/SamsungSAILMontreal/ghn3/resolve/{hub.revision}/ghn3sm8.pt") in server.requests


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_other_revisions_have_folders_of_their_own(server: Hub, name: str) -> None:
    ghn_init.load(name, revision="v2")
    assert all(path.split("/")[4] == "v2" for _, path in server.requests)
    assert not is_kept(folder_of(CHECKPOINTS[name]))
    source = json.loads((folder_of(CHECKPOINTS[name], "v2") / SOURCE).read_text())
    assert source["revision"] == (COMMIT if name == "ghn3-s" else "v2")


def test_the_cache_is_where_it_is_asked_for(server: Hub, tmp_path: Path) -> None:
    ghn_init.load("ghn3-s", cache_dir=tmp_path / "elsewhere")
    assert (folder_of(CHECKPOINTS["ghn3-s"], None, tmp_path / "elsewhere") / SOURCE).is_file()
    assert not (tmp_path / "hub").exists()
    assert not is_kept(folder_of(CHECKPOINTS["ghn3-s"]))


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_and_not_cached_is_one_error(server: Hub, name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", how == "environment")
    file = CHECKPOINTS[name].file
    with pytest.raises(
        CheckpointError, match=rf"could not get '{name}', {file} of https://.* at [0-9a-f]{{40}} \(.*cach"
    ) as caught:
        ghn_init.load(name, local_files_only=how == "argument")
    assert "\n" not in str(caught.value)
    assert server.requests == []
    assert not is_kept(folder_of(CHECKPOINTS[name]))


def test_a_file_that_the_hub_client_has_already_is_converted_offline(server: Hub, ghn3: GHN) -> None:
    entry = CHECKPOINTS["ghn3-s"]
    huggingface_hub.hf_hub_download(entry.release.repository, entry.file, revision=entry.revision)
    server.requests.clear()
    assert same(ghn_init.load("ghn3-s", local_files_only=True), ghn3)
    assert server.requests == []


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_another_configuration_is_refused(server: Hub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CHECKPOINTS[name]
    monkeypatch.setitem(CHECKPOINTS, name, replace(entry, config=replace(entry.config, hid=12, tasks={"imagenet": 7})))
    words = rf"{entry.file} of .* is not the hypernetwork '{name}': "
    words += r"hid is 8, expected 12, tasks is \{'imagenet': 5\}, expected \{'imagenet': 7\}\."
    with pytest.raises(CheckpointError, match=words):
        ghn_init.load(name)
    assert not is_kept(folder_of(CHECKPOINTS[name]))


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_other_bytes_than_the_published_are_refused(server: Hub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(CHECKPOINTS[name], sha256="0" * 64, size=17)
    monkeypatch.setitem(CHECKPOINTS, name, entry)
    digest = hashlib.sha256(content_of(server, name)).hexdigest()
    with pytest.raises(
        CheckpointError, match=rf"has the SHA-256 {digest} and [\d,]+ bytes, the published '{name}' has 0{{64}} and 17"
    ):
        ghn_init.load(name)
    assert not is_kept(folder_of(entry))
    monkeypatch.setitem(CHECKPOINTS, name, replace(entry, sha256=digest))
    ghn_init.load(name)


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_files_that_are_too_large_are_refused(server: Hub, name: str) -> None:
    entry = CHECKPOINTS[name]
    change(server, name, bytes(entry.largest + 1))
    words = {
        "ghn2-imagenet": rf"could not get 'ghn2-imagenet'.* it has more than {entry.largest:,} bytes, too many for what it",
        "ghn3-s": rf"has {entry.largest + 1:,} bytes, too many for the {entry.numel:,} parameters of 'ghn3-s'",
    }
    with pytest.raises(CheckpointError, match=words[name]):
        ghn_init.load(name)
    assert list(folder_of(entry).parent.iterdir()) == []


@pytest.mark.parametrize("name", ["ghn2-imagenet", "ghn3-s"])
def test_damaged_files_are_refused_and_leave_nothing(server: Hub, name: str) -> None:
    change(server, name, content_of(server, name)[:-100])
    with pytest.raises(CheckpointError, match="is not a published hypernetwork's file"):
        ghn_init.load(name)
    assert list(folder_of(CHECKPOINTS[name]).parent.iterdir()) == []


def test_a_damaged_file_in_the_hub_s_cache_is_fetched_again_once_it_is_deleted(server: Hub, ghn3: GHN) -> None:
    whole = content_of(server, "ghn3-s")
    change(server, "ghn3-s", whole[:-100])
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"is not a published .* Delete /.* to have it fetched again\.$") as caught:
            ghn_init.load("ghn3-s")
        change(server, "ghn3-s", whole)
    Path(str(caught.value).rpartition("Delete ")[2].partition(" to have it")[0]).unlink()
    assert same(ghn_init.load("ghn3-s"), ghn3)


def test_a_damaged_file_of_github_is_named_by_its_address(server: Hub, ghn2: GHN) -> None:
    whole = content_of(server, "ghn2-imagenet")
    change(server, "ghn2-imagenet", whole[:-100])
    url = f"{server.url}/facebookresearch/ppuda/raw/{CHECKPOINTS['ghn2-imagenet'].revision}/checkpoints/ghn2_imagenet.pt"
    with pytest.raises(
        CheckpointError, match=rf"^what was fetched from {url} is not a published .*the next load fetches it again"
    ):
        ghn_init.load("ghn2-imagenet")
    change(server, "ghn2-imagenet", whole)
    assert same(ghn_init.load("ghn2-imagenet"), ghn2)


def test_an_unfinished_folder_gives_way(server: Hub, ghn2: GHN) -> None:
    ghn_init.load("ghn2-imagenet")
    folder = folder_of(CHECKPOINTS["ghn2-imagenet"])
    (folder / SOURCE).unlink()
    assert same(ghn_init.load("ghn2-imagenet"), ghn2)
    assert is_kept(folder_of(CHECKPOINTS["ghn2-imagenet"]))
    assert list(folder.parent.iterdir()) == [folder]


def test_a_cache_folder_of_no_user_is_one_error(server: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"'~nosuchuser/x' begins with a home folder that is not known"):
        ghn_init.load("ghn3-s", cache_dir="~nosuchuser/x")
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "words"), [("ghn2-imagenet", r"HTTPError: HTTP Error 404"), ("ghn3-s", r"EntryNotFoundError: 404")]
)
def test_files_that_are_gone_are_one_error(server: Hub, name: str, words: str) -> None:
    entry = CHECKPOINTS[name]
    revision = entry.revision or "main"
    server.files[entry.release.repository, revision, "README.md"] = b""  # the revision is there
    del server.files[entry.release.repository, revision, entry.file]
    with pytest.raises(CheckpointError, match=rf"could not get '{name}', .*{words}.*; check the connection"):
        ghn_init.load(name)


def test_a_connection_that_ends_early_is_one_error(server: Hub) -> None:
    size = len(content_of(server, "ghn2-imagenet"))
    server.cut = 1000
    with pytest.raises(CheckpointError, match=rf"could not get 'ghn2-imagenet'.*ended after 1,000 of {size:,} bytes"):
        ghn_init.load("ghn2-imagenet")


def test_a_hub_download_that_ends_early_is_one_error(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    server.cut = 1000
    with pytest.raises(CheckpointError, match=r"could not get 'ghn3-s'.*\(RemoteProtocolError: .*; check the connection"):
        ghn_init.load("ghn3-s")


def test_errors_without_text_are_named(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"could not get 'ghn3-s'.*\(TimeoutError\); check the connection"):
        ghn_init.load("ghn3-s")


def test_a_server_that_is_gone_is_one_error(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "GITHUB", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"could not get 'ghn2-imagenet'.*\(URLError: .*refused"):
        ghn_init.load("ghn2-imagenet")


def test_a_cache_that_can_not_be_written_is_one_error(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/ghn_init/ghn2-imagenet/\w+ can't be written .*pass another cache_dir"):
        ghn_init.load("ghn2-imagenet", cache_dir=tmp_path / "file")
    assert server.requests == []


def test_a_damaged_copy_says_what_to_delete(server: Hub) -> None:
    ghn_init.load("ghn2-imagenet")
    folder = folder_of(CHECKPOINTS["ghn2-imagenet"])
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=rf"{folder}/model.safetensors is not a readable .*delete it to have it made again"
    ):
        ghn_init.load("ghn2-imagenet")


def test_of_two_processes_at_once_the_faster_one_s_copy_stays(
    server: Hub, ghn2: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghn_init.load("ghn2-imagenet")
    finished = folder_of(CHECKPOINTS["ghn2-imagenet"])
    folder = folder_of(CHECKPOINTS["ghn2-imagenet"], None, tmp_path / "other")

    def meanwhile(file: Path, called: str, task: str) -> Parts:
        (shutil.copytree(finished, folder) / "faster").touch()
        return read_published(file, called, task)

    monkeypatch.setattr(pretrained, "read_published", meanwhile)
    assert same(ghn_init.load("ghn2-imagenet", cache_dir=tmp_path / "other"), ghn2)
    assert (folder / "faster").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_tokens_open_private_repositories(server: Hub, ghn3: GHN) -> None:
    server.private[CHECKPOINTS["ghn3-s"].release.repository] = "secret"
    with pytest.raises(CheckpointError, match=r"could not get 'ghn3-s'.*RepositoryNotFoundError"):
        ghn_init.load("ghn3-s", token=False)
    assert same(ghn_init.load("ghn3-s", token="secret"), ghn3)


def test_the_list_says_what_is_kept_and_fetches_nothing(server: Hub) -> None:
    def row() -> list[str]:
        text = CliRunner().invoke(cli.app, ["list"]).stdout
        return next(line.split() for line in text.splitlines() if line.startswith("ghn3-s"))

    entry = CHECKPOINTS["ghn3-s"]
    figures = [f"{entry.numel:,}", f"{4 * entry.numel / 1e6:.1f}"]
    assert row() == ["ghn3-s", "imagenet", "(5)", "8", "8×4×3×3", *figures, "remote"]
    assert server.requests == []
    ghn_init.load("ghn3-s")
    server.requests.clear()
    assert row()[-1] == "cached"
    assert server.requests == []
