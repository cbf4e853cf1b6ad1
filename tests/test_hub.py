"""Loading from the hub, against a local server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch

import ghn_init
from ghn_init import GHN
from ghn_init.errors import CheckpointError
from hub_server import COMMIT, Hub, serving

FILES = ("config.json", "model.safetensors")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ghn: GHN) -> Iterator[Hub]:
    ghn.save_pretrained(tmp_path / "upload")
    with serving() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        for revision in ("main", "v2"):
            for file in FILES:
                server.files["someone/tiny", revision, file] = (tmp_path / "upload" / file).read_bytes()
        yield server


def same(a: GHN, b: GHN) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_loads_by_name_and_caches(hub: Hub, ghn: GHN, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert same(ghn_init.load("someone/tiny", cache_dir=cache), ghn)
    assert (cache / "models--someone--tiny" / "snapshots" / COMMIT / "model.safetensors").exists()
    hub.requests.clear()
    assert same(ghn_init.load("someone/tiny", cache_dir=cache), ghn)
    assert not [path for verb, path in hub.requests if verb == "GET"]


@pytest.mark.parametrize("how", ["at", "argument"])
def test_revisions(hub: Hub, how: str, tmp_path: Path) -> None:
    if how == "at":
        ghn_init.load("someone/tiny@v2", cache_dir=tmp_path)
    else:
        ghn_init.load("someone/tiny", revision="v2", cache_dir=tmp_path)
    assert all("/resolve/v2/" in path for _, path in hub.requests)
    with pytest.raises(CheckpointError, match=r"'someone/tiny@v3' from the hub \(RevisionNotFoundError.*check name, revision"):
        ghn_init.load("someone/tiny@v3", cache_dir=tmp_path)


def test_offline_reads_the_cache_and_asks_nobody(hub: Hub, ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="'someone/tiny' from the hub"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path, local_files_only=True)
    assert hub.requests == []
    ghn_init.load("someone/tiny", cache_dir=tmp_path)
    hub.requests.clear()
    assert same(ghn_init.load("someone/tiny", cache_dir=tmp_path, local_files_only=True), ghn)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert same(ghn_init.load("someone/tiny", cache_dir=tmp_path), ghn)
    assert hub.requests == []


def test_without_a_network_nobody_is_asked(hub: Hub, ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    ghn_init.load("someone/tiny", cache_dir=tmp_path)
    hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://nowhere.invalid")
    assert same(ghn_init.load("someone/tiny", cache_dir=tmp_path), ghn)
    with pytest.raises(CheckpointError, match=r"not in the cache, and no address can be found for https://nowhere\.invalid"):
        ghn_init.load("someone/other", cache_dir=tmp_path)
    assert hub.requests == []
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})  # it may know the address
    ghn_init.load("someone/tiny", cache_dir=tmp_path)
    assert hub.requests


def test_tokens_open_private_repositories(hub: Hub, ghn: GHN, tmp_path: Path) -> None:
    hub.private["someone/tiny"] = "secret"
    with pytest.raises(CheckpointError, match="'someone/tiny' from the hub .*RepositoryNotFoundError"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path, token=False)
    assert same(ghn_init.load("someone/tiny", cache_dir=tmp_path, token="secret"), ghn)


def test_missing_files_and_repositories_are_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'nobody/nothing' from the hub"):
        ghn_init.load("nobody/nothing", cache_dir=tmp_path)
    del hub.files["someone/tiny", "main", "model.safetensors"]
    with pytest.raises(CheckpointError, match=r"config.json and model.safetensors of 'someone/tiny'"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path)


def test_a_server_that_is_gone_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    with pytest.raises(CheckpointError, match="'someone/tiny' from the hub"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path)


def test_a_download_that_ends_early_is_one_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut = 10
    with pytest.raises(CheckpointError, match=r"'someone/tiny' from the hub \(RemoteProtocolError: .*check name, revision"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path)


def test_errors_without_text_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"'someone/tiny' from the hub \(TimeoutError\)"):
        ghn_init.load("someone/tiny", cache_dir=tmp_path)


def test_from_pretrained_is_load(hub: Hub, ghn: GHN, tmp_path: Path) -> None:
    assert same(GHN.from_pretrained("someone/tiny", cache_dir=tmp_path), ghn)


def test_pushing_uploads_what_loading_needs(ghn: GHN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = {}

    def create(self: object, repo_id: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(repo_id=repo_id)

    def upload(self: object, repo_id: str, folder_path: str, **_: object) -> None:
        uploads[repo_id] = shutil.copytree(folder_path, tmp_path / "uploaded")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    ghn.push_to_hub("someone/tiny")
    assert same(ghn_init.load(uploads["someone/tiny"]), ghn)
    assert "ghn_init" in (uploads["someone/tiny"] / "README.md").read_text()
