"""Where hypernetworks come from: bundled with the package, published by others, a folder, a file, or the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from ghn_init.checkpoints.assemble import assemble
from ghn_init.checkpoints.folder import CONFIG, EXPECTED, MODEL, expanded, read_file, read_folder
from ghn_init.checkpoints.published.cache import converted
from ghn_init.checkpoints.published.fetch import DOWNLOAD_FAILURES, Access, reason
from ghn_init.checkpoints.published.registry import PUBLISHED, Published
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.ghn import GHN

DEFAULT = "ghn2-cifar10-small"
"""Name of the bundled checkpoint that is used where none is asked for."""

_PICKLED = (".pt", ".pth", ".bin", ".pkl", ".joblib", ".ckpt")


def bundled() -> dict[str, Path]:
    """Names and folders of the checkpoints that come with the package."""
    root = Path(str(resources.files("ghn_init"))) / "checkpoints" / "bundled"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / CONFIG).is_file()}


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    device: torch.device | str = "cpu",
) -> GHN:
    """Loads a hypernetwork in float32, in eval mode. Nothing is unpickled.

    Args:
        name_or_path: In this order: a bundled name; a published one (`ghn2-imagenet`, `ghn3-xl`, …: `ghn-init list`), which is
            fetched and converted the first time; a folder with `config.json` and `model.safetensors`; a `.safetensors` file
            with the configuration in its metadata; a hub id `owner/repo` or `owner/repo@revision`.
        revision: Branch, tag or commit of the hub or of a published file.
        cache_dir: Folder of the cache; by default the hub client's.
        local_files_only: Don't go online; `HF_HUB_OFFLINE=1` does the same.
        token: For private repositories.
        device: Where the hypernetwork goes.

    Raises:
        CheckpointError: Nothing of that name, or a file that is missing, damaged or of another kind.

    Example:
        >>> import ghn_init
        >>> ghn_init.load(ghn_init.DEFAULT).config.num_classes
        10
    """
    name = os.fspath(name_or_path)
    own = bundled()
    if name not in own and name in PUBLISHED:
        access = Access(None if cache_dir is None else expanded(cache_dir), local_files_only, token)
        return _published(PUBLISHED[name], revision, access).to(device)
    path = own.get(name) or _local(name)
    if path is not None and revision is not None:
        raise CheckpointError(f"{name!r} is here on disk, where it has no revision {revision!r}; leave revision out.")
    if path is not None:
        return assemble(*(read_folder if path.is_dir() else read_file)(path), path).to(device)
    if _is_hub_id(name):
        repository, _, tag = name.partition("@")
        if tag and revision not in (None, tag):
            raise CheckpointError(f"{name!r} and revision {revision!r} name two revisions; give one.")
        options = {"cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
        folder = _download(repository, tag or revision, options)
        return assemble(*read_folder(folder), folder).to(device)
    raise CheckpointError(
        f"{name!r} is neither a bundled checkpoint ({', '.join(own) or 'there are none'}) nor a file or folder here, "
        f"nor a published one ({', '.join(PUBLISHED)}), nor a hub id owner/repo; {EXPECTED}."
    )


def _published(entry: Published, revision: str | None, access: Access) -> GHN:
    """From its folder in the cache, made if it isn't there."""
    folder = converted(entry, revision, access)
    try:
        return assemble(*read_folder(folder), folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error} The folder is a copy in the cache: delete it to have it made again.") from error


def _local(name: str) -> Path | None:
    """The file or folder of that name, if there is one."""
    try:
        path = expanded(name)
        return path if path.exists() else None
    except (OSError, CheckpointError, ValueError):  # too long, no such user, a null byte
        return None


def _is_hub_id(name: str) -> bool:
    parts = name.partition("@")[0].split("/")
    looks_local = name.startswith((".", "~", "/")) or name.endswith((".safetensors", *_PICKLED))
    return len(parts) == 2 and all(parts) and not looks_local


def _download(repository: str, revision: str | None, options: Mapping[str, Any]) -> Path:
    """Folder in the cache with both files."""
    where = f"{repository}@{revision}" if revision else repository
    try:
        files = [huggingface_hub.hf_hub_download(repository, file, revision=revision, **options) for file in (CONFIG, MODEL)]
    except DOWNLOAD_FAILURES as error:
        raise CheckpointError(
            f"could not get {CONFIG} and {MODEL} of {where!r} from the hub ({reason(error)}); "
            f"check name, revision, token and connection, or pass a local folder."
        ) from error
    return Path(files[1]).parent
