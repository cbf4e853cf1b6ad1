"""Published files: fetched and checked once, then kept as folders of the cache, from which they load without a connection."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import huggingface_hub
from safetensors import SafetensorError

from ghn_init.checkpoints.fetch import DOWNLOAD_FAILURES, Access, from_github, from_hub, github_url, reason
from ghn_init.checkpoints.folder import write_folder
from ghn_init.checkpoints.published.registry import Published
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork

SOURCE = "source.json"
"""What a kept folder came from: repository, revision, file, bytes, digest, licence, citation."""


@dataclass(frozen=True)
class Fetched:
    """A published file on disk.

    Attributes:
        path: Where it is.
        called: What errors call it.
        advice: What the user can do about a damaged one.
        revision: Branch, tag or commit that it is of, as far as it is known.
        sha256: Of the file.
    """

    path: Path
    called: str
    advice: str
    revision: str | None
    sha256: str


def folder_of(entry: Published, revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where a file is kept, be it there or not: below `cache_dir`, else among the hub client's assets."""
    root = Path(huggingface_hub.constants.HF_ASSETS_CACHE) if cache_dir is None else Path(cache_dir)
    return root / "ghn_init" / entry.name / (revision or entry.revision or "main").replace("/", "--")


def is_kept(folder: Path) -> bool:
    """Loading from it needs no connection: the folder is there, and finished."""
    return (folder / SOURCE).is_file()


@contextmanager
def fetched(entry: Published, revision: str | None, access: Access, folder: Path) -> Iterator[Fetched]:
    """The published file, its size and digest compared with what is known of them; one from GitHub is gone afterwards.

    Args:
        entry: Which.
        revision: Branch, tag or commit; None: the entry's.
        access: How.
        folder: Where it will be kept; until then what comes from GitHub lies beside it, on the cache's disk.

    Raises:
        CheckpointError: Offline, it can't be had, it is another one, or the cache can't be written.
    """
    wanted = revision or entry.revision
    with _beside(folder) as temporary:
        try:
            path = _download(entry, wanted, access, temporary)
        except DOWNLOAD_FAILURES as error:
            raise CheckpointError(
                f"could not get {entry.name!r}, {entry.file} of {entry.release.page} at {wanted or 'main'} "
                f"({reason(error)}); check the connection, or get that file elsewhere and run ghn-init convert."
            ) from error
        if entry.release.host == "hub":
            # Its client keeps the file; its paths are links to the bytes, in folders named by commit.
            found: str | None = path.parent.name
            called, advice = str(path), f"Delete {path.resolve()} to have it fetched again."
        else:
            called = f"what was fetched from {github_url(entry.release.repository, entry.file, wanted)}"
            found, advice = wanted, "It was not kept; the next load fetches it again."
        yield Fetched(path, called, advice, found, _checked(entry, wanted, path, called, advice))


def _download(entry: Published, revision: str | None, access: Access, folder: Path) -> Path:
    repository = entry.release.repository
    if entry.release.host == "hub":
        return from_hub(repository, entry.file, revision, access)
    return from_github(repository, entry.file, revision, access, folder, entry.largest)


def _checked(entry: Published, revision: str | None, path: Path, called: str, advice: str) -> str:
    """The file's digest, compared with what is known of it."""
    size = path.stat().st_size
    if size > entry.largest:
        raise CheckpointError(
            f"{called} has {size:,} bytes, too many for the {entry.numel:,} parameters of {entry.name!r}. {advice}"
        )
    digest = _sha256(path)
    if entry.sha256 is not None and revision == entry.revision and digest != entry.sha256:
        raise CheckpointError(
            f"{called} has the SHA-256 {digest} and {size:,} bytes, the published {entry.name!r} has {entry.sha256} and "
            f"{entry.size or 0:,}. {advice}"
        )
    return digest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while piece := content.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def keep(entry: Published, file: Fetched, ghn: GraphHyperNetwork, folder: Path) -> None:
    """Writes the folder from which the hypernetwork loads from now on.

    Raises:
        CheckpointError: The cache can't be written.
    """
    source = asdict(entry.release) | {
        "file": entry.file,
        "revision": file.revision,
        "size": file.path.stat().st_size,
        "sha256": file.sha256,
    }
    try:
        with _beside(folder) as temporary:
            made = temporary / "converted"
            made.mkdir()
            write_folder(made, ghn.config, ghn.state_dict())
            (made / SOURCE).write_text(json.dumps(source, indent=2) + "\n")
            _put(made, folder)
    except (OSError, SafetensorError) as error:
        raise _unwritable(folder, error) from error


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder; a cache that can't be written is known before anything is downloaded."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".", dir=folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with temporary as path:
        yield Path(path)


def _unwritable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder} can't be written ({error}); pass another cache_dir, or set HF_HOME.")


def _put(made: Path, folder: Path) -> None:
    """Moves the finished folder to its place; a finished one of a faster process stays, an unfinished one gives way."""
    try:
        os.replace(made, folder)
    except OSError:
        if is_kept(folder):
            return
        os.replace(folder, made.parent / "unfinished")
        os.replace(made, folder)
