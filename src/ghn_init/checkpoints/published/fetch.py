"""A published file, from the hub or from GitHub, with a progress bar. Nothing that was fetched is read here."""

from __future__ import annotations

import http.client
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from ghn_init.checkpoints.published.registry import Published
from ghn_init.errors import CheckpointError

GITHUB = "https://github.com"
TIMEOUT = 30
"""Seconds without an answer from GitHub."""
_PIECE = 2**20
DOWNLOAD_FAILURES: tuple[type[Exception], ...] = (
    OSError, ValueError, http.client.HTTPException, EntryNotFoundError, HfHubHTTPError.__bases__[0],
)  # fmt: skip
"""What a download can raise: urllib's errors, the hub client's, and (the last) those of the HTTP library below it, httpx."""


@dataclass(frozen=True)
class Access:
    """How to fetch, in the hub client's words; its settings (`HF_ENDPOINT`, `HF_HUB_OFFLINE`, …) hold as well."""

    cache_dir: Path | None = None
    local_files_only: bool = False
    token: str | bool | None = None

    @property
    def offline(self) -> bool:
        """Nothing may be fetched."""
        return self.local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE


def fetch(entry: Published, revision: str | None, folder: Path, access: Access) -> Path:
    """The published file.

    Args:
        entry: What to fetch.
        revision: Branch, tag or commit; None: the main branch.
        folder: Where a file from GitHub is written to; files of the hub go to its cache.
        access: How.

    Raises:
        CheckpointError: Offline, or it can't be had.
    """
    try:
        return (_from_hub if entry.release.host == "hub" else _from_github)(entry, revision, folder, access)
    except DOWNLOAD_FAILURES as error:
        raise CheckpointError(
            f"could not get {entry.name!r}, {entry.file} of {entry.release.page} at {revision or 'main'} "
            f"({reason(error)}); check the connection, or get that file elsewhere and run ghn-init convert."
        ) from error


def reason(error: Exception) -> str:
    """Kind and first line of an error, which may have no text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def github_url(entry: Published, revision: str | None) -> str:
    """Where GitHub has the file."""
    parts = (entry.release.repository, "raw", revision or "main", entry.file)
    return "/".join([GITHUB, *map(urllib.parse.quote, parts)])


def _from_hub(entry: Published, revision: str | None, folder: Path, access: Access) -> Path:
    path = huggingface_hub.hf_hub_download(
        entry.release.repository,
        entry.file,
        revision=revision,
        cache_dir=access.cache_dir,
        local_files_only=access.local_files_only,
        token=access.token,
    )
    return Path(path)


def _from_github(entry: Published, revision: str | None, folder: Path, access: Access) -> Path:
    if access.offline:
        raise OSError("it is not in the cache, and offline mode is on")
    path = folder / Path(entry.file).name
    with urllib.request.urlopen(github_url(entry, revision), timeout=TIMEOUT) as answer, path.open("wb") as file:
        expected = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=expected or None, unit="B", unit_scale=True, desc=path.name) as bar:
            while piece := answer.read(_PIECE):
                bar.update(file.write(piece))
                if file.tell() > entry.largest:
                    raise ValueError(f"more than {entry.largest:,} bytes, too many for {entry.numel:,} parameters")
        if expected and file.tell() != expected:
            raise ValueError(f"the connection ended after {file.tell():,} of {expected:,} bytes")
    return path
