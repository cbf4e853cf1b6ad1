"""Files from the hub and from GitHub: the one way by which anything is downloaded. Nothing that was fetched is read here."""

from __future__ import annotations

import http.client
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from ghn_init.connection import has_no_address

GITHUB = "https://github.com"
TIMEOUT = 30
"""Seconds without an answer from GitHub."""
_PIECE = 2**20
DOWNLOAD_FAILURES: tuple[type[Exception], ...] = (
    OSError, ValueError, RuntimeError, http.client.HTTPException, EntryNotFoundError, HfHubHTTPError.__bases__[0],
)  # fmt: skip
"""What a download can raise: urllib's errors, the hub client's (a retry of 1.3 can find its own connection closed, a
RuntimeError), and (the last) those of the HTTP library below it, httpx."""


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


def from_hub(repository: str, file: str, revision: str | None, access: Access) -> Path:
    """A file of a hub repository in the client's cache.

    Without a network it is taken from the cache at once: the client by itself tries again for half a minute before.

    Args:
        repository: `owner/repo`.
        file: Path in it.
        revision: Branch, tag or commit; None: the main branch.
        access: How.

    Raises:
        Exception: One of `DOWNLOAD_FAILURES`.
    """
    cut_off = not access.offline and has_no_address(huggingface_hub.constants.ENDPOINT)
    try:
        path = huggingface_hub.hf_hub_download(
            repository,
            file,
            revision=revision,
            cache_dir=access.cache_dir,
            local_files_only=access.local_files_only or cut_off,
            token=access.token,
        )
    except LocalEntryNotFoundError as error:
        if not cut_off:
            raise
        host = huggingface_hub.constants.ENDPOINT
        raise ConnectionError(f"it is not in the cache, and no address can be found for {host}") from error
    return Path(path)


def from_github(repository: str, file: str, revision: str | None, access: Access, folder: Path, largest: int) -> Path:
    """A file of a GitHub repository, written to `folder`, with a progress bar.

    Args:
        repository: `owner/repo`.
        file: Path in it.
        revision: Branch, tag or commit; None: the main branch.
        access: How.
        folder: Where the file is put.
        largest: Bytes beyond which it is refused.

    Raises:
        Exception: One of `DOWNLOAD_FAILURES`: offline, not to be had, too large, or cut off.
    """
    if access.offline:
        raise OSError("it is not in the cache, and offline mode is on")
    path = folder / Path(file).name
    with urllib.request.urlopen(github_url(repository, file, revision), timeout=TIMEOUT) as answer, path.open("wb") as target:
        expected = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=expected or None, unit="B", unit_scale=True, desc=path.name) as bar:
            while piece := answer.read(_PIECE):
                bar.update(target.write(piece))
                if target.tell() > largest:
                    raise ValueError(f"it has more than {largest:,} bytes, too many for what it should hold")
        if expected and target.tell() != expected:
            raise ValueError(f"the connection ended after {target.tell():,} of {expected:,} bytes")
    return path


def github_url(repository: str, file: str, revision: str | None) -> str:
    """Where GitHub has the file."""
    return "/".join([GITHUB, *map(urllib.parse.quote, (repository, "raw", revision or "main", file))])


def reason(error: Exception) -> str:
    """Kind and first line of an error, which may have no text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
