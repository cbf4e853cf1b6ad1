"""Published files, converted once into folders of the cache, from which they load without a connection."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import huggingface_hub
from safetensors import SafetensorError

from ghn_init.checkpoints.folder import write_folder
from ghn_init.checkpoints.published.convert import convert
from ghn_init.checkpoints.published.fetch import Access, fetch, github_url
from ghn_init.checkpoints.published.registry import Published
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.config import GHNConfig

SOURCE = "source.json"
"""What a converted folder came from: repository, revision, file, bytes, digest, licence, citation."""


def folder_of(entry: Published, revision: str | None = None, cache_dir: Path | None = None) -> Path:
    """Where a converted file is kept, be it there or not: below `cache_dir`, else among the hub client's assets."""
    root = cache_dir or Path(huggingface_hub.constants.HF_ASSETS_CACHE)
    return root / "ghn_init" / entry.name / (revision or entry.revision or "main").replace("/", "--")


def is_cached(entry: Published) -> bool:
    """Loading it needs no connection."""
    return (folder_of(entry) / SOURCE).is_file()


def converted(entry: Published, revision: str | None, access: Access) -> Path:
    """The folder of `config.json` and `model.safetensors`; the first time it is fetched, checked and converted.

    Raises:
        CheckpointError: It can't be had, is of another kind or another configuration, or the cache can't be written.
    """
    folder = folder_of(entry, revision, access.cache_dir)
    if (folder / SOURCE).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            made = Path(temporary) / "converted"
            made.mkdir()
            _convert(entry, revision or entry.revision, made, Path(temporary), access)
            _put(made, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} can't be written ({error}); pass another cache_dir, or set HF_HOME.") from error
    return folder


def _convert(entry: Published, revision: str | None, made: Path, temporary: Path, access: Access) -> None:
    file = fetch(entry, revision, temporary, access)
    kept = entry.release.host == "hub"  # by the hub's client, whose paths are links to the bytes
    called = str(file) if kept else f"what was fetched from {github_url(entry, revision)}"
    advice = (
        f"Delete {file.resolve()} to have it fetched again." if kept else "It was not kept; the next load fetches it again."
    )
    try:
        digest = _checked(entry, revision, file, called)
        ghn = convert(file, called=called)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {advice}") from error
    if ghn.config != entry.config:
        raise CheckpointError(
            f"{entry.file} of {entry.release.page} is not the hypernetwork {entry.name!r}: {_difference(ghn.config, entry)}."
        )
    write_folder(made, ghn.config, ghn.state_dict())
    source = asdict(entry.release) | {
        "file": entry.file,
        "revision": file.parent.name if entry.release.host == "hub" else revision,  # the hub's cache names folders by commit
        "size": file.stat().st_size,
        "sha256": digest,
    }
    (made / SOURCE).write_text(json.dumps(source, indent=2) + "\n")


def _checked(entry: Published, revision: str | None, file: Path, called: str) -> str:
    """The file's digest, compared with what is known of it."""
    size = file.stat().st_size
    if size > entry.largest:
        raise CheckpointError(f"{called} has {size:,} bytes, too many for the {entry.numel:,} parameters of {entry.name!r}.")
    digest = _sha256(file)
    if entry.sha256 is not None and revision == entry.revision and digest != entry.sha256:
        raise CheckpointError(
            f"{called} has the SHA-256 {digest} and {size:,} bytes, the published {entry.name!r} has {entry.sha256} and "
            f"{entry.size or 0:,}."
        )
    return digest


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _difference(found: GHNConfig, entry: Published) -> str:
    ours, theirs = entry.config.to_dict(), found.to_dict()
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return ", ".join(f"{key} is {theirs.get(key)}, expected {ours.get(key)}" for key in keys)


def _put(made: Path, folder: Path) -> None:
    """Moves the finished folder to its place; a finished one of a faster process stays, an unfinished one gives way."""
    try:
        os.replace(made, folder)
    except OSError:
        if (folder / SOURCE).is_file():
            return
        os.replace(folder, made.parent / "unfinished")
        os.replace(made, folder)
