"""Hypernetworks with a place to come from: bundled with the package, published by others, a folder, a file, or the hub."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor

from ghn_init.checkpoints.card import CARD, TEMPLATE, facts, renew
from ghn_init.checkpoints.default import DEFAULT as DEFAULT
from ghn_init.checkpoints.fetch import DOWNLOAD_FAILURES, Access, from_hub, reason
from ghn_init.checkpoints.folder import (
    CONFIG,
    EXPECTED,
    MODEL,
    check_size,
    expanded,
    fitted,
    read_file,
    read_folder,
    read_tensors,
    replacing,
    write_folder,
)
from ghn_init.checkpoints.published.cache import fetched, folder_of, is_kept, keep
from ghn_init.checkpoints.published.convert import read_published
from ghn_init.checkpoints.published.registry import CHECKPOINTS, Published
from ghn_init.confidence.confidence import FILE, Confidence
from ghn_init.devices import found
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GraphHyperNetwork, under_our_names
from ghn_init.version import __version__

_PICKLED = (".pt", ".pth", ".bin", ".pkl", ".joblib", ".ckpt")


class GHN(
    GraphHyperNetwork,
    huggingface_hub.PyTorchModelHubMixin,
    library_name="ghn_init",
    tags=["hypernetwork"],
    model_card_template=TEMPLATE,
):
    """A graph hypernetwork that can be saved, loaded and shared.

    `GHN(GHNConfig.ghn2({"cifar10": 10}))` is an untrained one; `save_pretrained` and `push_to_hub` take what the hub mixin's
    take; `from_pretrained` is `ghn_init.load`, with its arguments alone.

    Example:
        >>> import ghn_init
        >>> ghn_init.load().config.tasks
        {'cifar10': 10, 'tiny-imagenet': 200, 'imagenette': 10, 'food10': 10}
    """

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **kwargs: Any
    ) -> str | None:
        """Writes a folder that `ghn_init.load` reads; a save that is interrupted leaves what was there.

        Args:
            save_directory: Made where it is missing.
            push_to_hub: Whether to push it as well.
            repo_id: Where to; by default the folder's name.
            **kwargs: Those of the hub mixin's: `config`, `model_card_kwargs`, and what `push_to_hub` takes.

        Returns:
            Where it was pushed to, if it was.

        Raises:
            CheckpointError: The folder begins with a home folder that is not known.
        """
        folder = expanded(save_directory)
        forgotten = self.confidence is None and not _holds(folder, self.state_dict())  # what it knows is of other weights
        with replacing(folder) as made:
            if (folder / CARD).is_file():
                shutil.copy(folder / CARD, made)
            super().save_pretrained(made, **{name: kwargs[name] for name in ("config", "model_card_kwargs") if name in kwargs})
        if forgotten:
            (folder / FILE).unlink(missing_ok=True)
        return self.push_to_hub(repo_id or folder.name, **kwargs) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.confidence is not None:
            self.confidence.write(save_directory)
        write_folder(save_directory, self.config, self.state_dict())
        renew(save_directory, self._facts())

    def generate_model_card(self, *args: Any, **kwargs: Any) -> huggingface_hub.ModelCard:
        """As the hub mixin's, of these weights."""
        return super().generate_model_card(*args, **{**self._facts(), **kwargs})

    def _facts(self) -> dict[str, str]:
        parameters = sum(tensor.numel() for tensor in self.state_dict().values())
        return facts(__version__, self.fingerprint, parameters, self.config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> GHN:  # type: ignore[override]
        """Loads from a folder, a file or the hub; arguments and errors as in `ghn_init.load`."""
        return load(pretrained_model_name_or_path, **kwargs)


def _holds(folder: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a folder has these weights already."""
    try:
        _, there = read_tensors(folder / MODEL)
    except CheckpointError:
        return False
    return there.keys() == tensors.keys() and all(torch.equal(there[name], value.cpu()) for name, value in tensors.items())


def bundled() -> dict[str, Path]:
    """Names and folders of the checkpoints that come with the package."""
    root = Path(str(resources.files("ghn_init"))) / "checkpoints" / "bundled"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / CONFIG).is_file()}


def given(ghn: GraphHyperNetwork | str | os.PathLike[str] | None) -> GraphHyperNetwork:
    """A hypernetwork as it is, the bundled one for None, else what `load` finds, with its errors."""
    return ghn if isinstance(ghn, GraphHyperNetwork) else load(DEFAULT if ghn is None else ghn)


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
            with the configuration in its metadata; a hub id `owner/repo` or `owner/repo@revision`, which is a string.
        revision: Branch, tag or commit of the hub or of a published file.
        cache_dir: Folder of the cache; by default the hub client's.
        local_files_only: Don't go online; `HF_HUB_OFFLINE=1` does the same.
        token: For private repositories.
        device: Where the hypernetwork goes.

    Raises:
        CheckpointError: Nothing of that name, or a file that is missing, damaged or of another kind.
        DeviceError: There is no such device.
        TypeError: Neither a name nor a path.

    Example:
        >>> import ghn_init
        >>> ghn_init.load(ghn_init.DEFAULT).config.hid
        32
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(
            f"ghn is of type {type(name_or_path).__name__}; expected a hypernetwork, a checkpoint's name or its folder. "
            "Inputs of a model go to example_inputs=, images of yours to initialize's data=."
        )
    device = found(device, computes=True)
    name = os.fspath(name_or_path)
    access = Access(None if cache_dir is None else expanded(cache_dir), local_files_only, token)
    own = bundled()
    if name not in own and name in CHECKPOINTS:
        return _published(CHECKPOINTS[name], revision, access).to(device)
    path = own.get(name) or _local(name)
    if path is not None and revision is not None:
        raise CheckpointError(f"{name!r} is here on disk, where it has no revision {revision!r}; leave revision out.")
    if path is not None:
        return _with_confidence(assemble(*(read_folder if path.is_dir() else read_file)(path), path), path).to(device)
    if isinstance(name_or_path, os.PathLike):
        raise CheckpointError(
            f"there is no file or folder {name!r}; a path is looked for on this machine alone, a name or a hub id is a string."
        )
    if _is_hub_id(name):
        repository, _, tag = name.partition("@")
        if tag and revision not in (None, tag):
            raise CheckpointError(f"{name!r} and revision {revision!r} name two revisions; give one.")
        folder = _hub_folder(repository, tag or revision, access)
        return _with_confidence(assemble(*read_folder(folder), folder), folder).to(device)
    near = difflib.get_close_matches(name, [*own, *CHECKPOINTS], 3, 0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise CheckpointError(
        f"{name!r} is neither a bundled checkpoint ({', '.join(own) or 'there are none'}) nor a file or folder here, "
        f"nor a published one ({', '.join(CHECKPOINTS)}), nor a hub id owner/repo; {hint}{EXPECTED}."
    )


def convert(path: str | os.PathLike[str]) -> GHN:
    """Reads the file of a published GHN-1, GHN-2, GHN-3 or MLP; no code of the file is run.

    Args:
        path: As `torch.save` or `joblib.dump` wrote it.

    Returns:
        The hypernetwork in float32, in eval mode, its task called `classes`; `save_pretrained` writes it as a folder that
        `load` reads.

    Raises:
        CheckpointError: Missing, damaged, or not a hypernetwork's file.
    """
    return assemble(*read_published(path), expanded(path))


def assemble(config: GHNConfig, tensors: Mapping[str, Tensor], path: Path | str) -> GHN:
    """The hypernetwork of a configuration and tensors that were read from `path`, in float32, in eval mode.

    Raises:
        CheckpointError: They don't belong together.
    """
    check_size(config, tensors, path)
    with torch.device("meta"):
        model = GHN(config)
    model.load_state_dict(fitted(model.state_dict(), under_our_names(config, tensors), path), assign=True)
    return model.eval()


def _with_confidence(ghn: GHN, folder: Path) -> GHN:
    """The hypernetwork, which knows what its predictions are worth where its folder says so."""
    if (folder / FILE).is_file():
        ghn.confidence = Confidence.read(folder / FILE)
    return ghn


def _published(entry: Published, revision: str | None, access: Access) -> GHN:
    """From its folder in the cache; the first time it is fetched, checked, converted and kept there."""
    folder = folder_of(entry, revision, access.cache_dir)
    if is_kept(folder):
        try:
            return assemble(*read_folder(folder), folder)
        except CheckpointError as error:
            raise CheckpointError(f"{error} The folder is a copy in the cache: delete it to have it made again.") from error
    with fetched(entry, revision, access, folder) as file:
        try:
            ghn = assemble(*read_published(file.path, file.called, entry.task), file.called)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {file.advice}") from error
        if ghn.config != entry.config:
            raise CheckpointError(
                f"{entry.file} of {entry.release.page} is not the hypernetwork {entry.name!r}: "
                f"{_difference(ghn.config, entry)}."
            )
        keep(entry, file, ghn, folder)
    return ghn


def _difference(found: GHNConfig, entry: Published) -> str:
    ours, theirs = entry.config.to_dict(), found.to_dict()
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return ", ".join(f"{key} is {theirs.get(key)}, expected {ours.get(key)}" for key in keys)


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


def _hub_folder(repository: str, revision: str | None, access: Access) -> Path:
    """Folder in the cache with both files."""
    try:
        files = [from_hub(repository, file, revision, access) for file in (CONFIG, MODEL)]
        with suppress(EntryNotFoundError, ConnectionError):  # not every checkpoint has one, also where there is no network
            from_hub(repository, FILE, revision, access)
    except DOWNLOAD_FAILURES as error:
        where = f"{repository}@{revision}" if revision else repository
        raise CheckpointError(
            f"could not get {CONFIG} and {MODEL} of {where!r} from the hub ({reason(error)}); "
            f"check name, revision, token and connection, or pass a local folder."
        ) from error
    return Path(files[1]).parent
