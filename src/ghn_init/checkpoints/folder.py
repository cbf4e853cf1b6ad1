"""A hypernetwork on disk: `config.json` beside `model.safetensors`, whose metadata holds the configuration as well.

Nothing is unpickled, and nothing of a file is believed before it was compared with what its configuration says.
"""

from __future__ import annotations

import json
import os
import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.config import GHNConfig

CONFIG, MODEL = "config.json", "model.safetensors"
EXPECTED = f"expected a folder with {CONFIG} and {MODEL}, or a .safetensors file with the configuration in its metadata"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with its user's home in place of `~`.

    Raises:
        CheckpointError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointError(
            f"{os.fspath(path)!r} begins with a home folder that is not known; write the path out."
        ) from error


def write_folder(folder: Path, config: GHNConfig, tensors: Mapping[str, Tensor]) -> None:
    """Writes both files; the tensors' file also loads on its own."""
    text = json.dumps(config.to_dict(), indent=2)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, folder / MODEL, metadata={"format": "pt", "config": text})
    (folder / CONFIG).write_text(text + "\n")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files take the places of those of their names only when all are written.

    Args:
        folder: Made where it is missing; files of other names in it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        made = Path(temporary)
        yield made
        names = {file.name for file in made.iterdir()}
        first = [name for name in (MODEL, CONFIG) if name in names]  # what makes a checkpoint, then what is said of it
        for name in [*first, *sorted(names.difference(first))]:
            os.replace(made / name, folder / name)


def read_folder(folder: Path) -> tuple[GHNConfig, dict[str, Tensor]]:
    """Configuration and tensors of a folder.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    missing = [name for name in (CONFIG, MODEL) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} has no {' and no '.join(missing)}; {EXPECTED}.")
    try:
        text = (folder / CONFIG).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG} can't be read ({error}); expected JSON.") from error
    _, tensors = read_tensors(folder / MODEL)
    return parse_config(text, folder / CONFIG), tensors


def read_file(path: Path) -> tuple[GHNConfig, dict[str, Tensor]]:
    """Configuration and tensors of one safetensors file.

    Raises:
        CheckpointError: Not a safetensors file, damaged, or without a configuration.
    """
    metadata, tensors = read_tensors(path)
    if "config" not in metadata:
        raise CheckpointError(f"{path} has no metadata key 'config'; {EXPECTED}.")
    return parse_config(metadata["config"], path), tensors


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file.

    Raises:
        CheckpointError: Not a safetensors file, or damaged.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is not a .safetensors file; {EXPECTED}. Published pickles: ghn-init convert.")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({str(error)!r:.200}); {EXPECTED}.") from error


def parse_config(text: str, path: Path) -> GHNConfig:
    """The configuration in a JSON text.

    Raises:
        CheckpointError: Not JSON, or values that no hypernetwork has.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the configuration of {path} is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"the configuration of {path} is a {type(values).__name__}; expected a JSON object.")
    try:
        return GHNConfig.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"the configuration of {path} can't be used: {error}") from error


def check_size(config: GHNConfig, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Refuses a configuration whose network is larger than the tensors that came with it, before anything is built from it.

    Raises:
        CheckpointError: It is.
    """
    M0, M1, S, _ = config.max_shape
    claimed = (
        12 * config.layers * config.hid**2
        + 4 * config.hid**2 * S**2
        + 8 * config.hid * M0 * M1
        + sum(config.tasks.values()) * (M0 + 1)
    )
    held = sum(tensor.numel() for tensor in tensors.values())
    if claimed > held:
        shown = f"{claimed:,}" if claimed < 2**63 else "more than 2⁶³"
        raise CheckpointError(
            f"the configuration of {path} needs {shown} parameters at least, the file has {held:,}; it is damaged "
            f"or belongs to another file."
        )


def fitted(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path | str) -> dict[str, Tensor]:
    """The file's tensors as the model takes them: float32; published 1×1 convolution kernels become matrices.

    Raises:
        CheckpointError: Names, shapes or types differ, or values are not finite; all that is wrong in one error.
    """
    problems = [f"no tensor '{name}'" for name in expected if name not in tensors]
    problems += [f"unexpected tensor {name!r:.100}" for name in tensors if name not in expected]
    result = {}
    for name, like in expected.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        if tensor.dim() == 4 and like.dim() == 2 and tensor.shape[2:] == (1, 1):
            tensor = tensor[..., 0, 0]
        if tensor.shape != like.shape:
            problems.append(f"'{name}' is {reprlib.repr(tuple(tensor.shape))}, expected {tuple(like.shape)}")
        elif tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            problems.append(f"'{name}' is {tensor.dtype}, expected a floating type")
        elif not torch.isfinite(tensor).all():
            problems.append(f"'{name}' has values that are not finite")
        else:
            # A copy: the file's tensor is a view of the file, whose next change would be one of the model.
            result[name] = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise CheckpointError(f"{path} does not hold the hypernetwork of its configuration: {'; '.join(problems[:5])}{more}.")
    return result
