"""The two file formats of published hypernetworks: what `torch.save` and what `joblib.dump` wrote → plain values and tensors.

Neither `torch.load` nor `joblib.load` is called. A tensor never reads beyond its storage, a storage never beyond its file, and
all that is made of a file stays within an allowance that its size sets.
"""

from __future__ import annotations

import io
import mmap
import reprlib
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghn_init.checkpoints.published.pickled import Calls, Name, PickleError, evaluate

LARGEST = 4 * 2**30
"""Bytes of the largest file that is read; the largest published one has 2.6 GB."""
MOST_DIMENSIONS, LARGEST_NUMBER = 8, 2**40
"""Of a tensor: dimensions, and what its sizes, its strides and its offset may be."""

_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
FAILURES = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError, RuntimeError, MemoryError, OSError,
    struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What damaged bytes can raise in the standard library and in PyTorch."""


@dataclass(frozen=True)
class Storage:
    """A flat run of numbers in the file."""

    content: bytes | memoryview
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return len(self.content) // self.dtype.itemsize


@dataclass
class Allowance:
    """Bytes that may still be made of a file, whose few operations could ask for the same numbers again and again."""

    left: int

    @classmethod
    def of(cls, path: Path) -> Allowance:
        """Every number once in a storage and once in a tensor, and twice more where tensors share storages."""
        return cls(4 * path.stat().st_size + 2**20)

    def spend(self, count: int) -> None:
        """Takes `count` bytes of it."""
        self.left -= count
        if self.left < 0:
            raise PickleError("it asks for more than four times the bytes of the file")


def read(path: Path) -> Any:
    """The file's value: dicts, lists, numbers, strings and tensors.

    Raises:
        Any of `FAILURES`: The file is damaged, or holds what no published file holds.
    """
    if path.stat().st_size > LARGEST:
        raise PickleError(f"{path.stat().st_size:,} bytes, more than any published file")
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    allowance = Allowance.of(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # the largest has 2.6 GB
        return evaluate(content, _calls(allowance, partial(_load_from_bytes, allowance)))


def _read_zip(path: Path) -> Any:
    """`torch.save`: an archive of one pickle and a file per storage, nothing compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise PickleError("compressed entries, which torch.save does not write")
        (name,) = [name for name in entries if name.endswith("/data.pkl")]
        prefix = name.removesuffix("data.pkl")
        order = archive.read(f"{prefix}byteorder") if f"{prefix}byteorder" in entries else b"little"
        if order != b"little":
            raise PickleError(f"byte order {order!r:.20}, expected little")

        allowance = Allowance.of(path)
        contents: dict[str, bytes] = {}

        def persistent(value: Any) -> Storage:
            kind, key, count = _storage_id(value)
            if key not in contents:
                contents[key] = archive.read(f"{prefix}data/{key}")
                allowance.spend(len(contents[key]))
            storage = Storage(contents[key], kind)
            if storage.numel != count:
                raise PickleError(f"storage {key!r:.20} has {storage.numel} numbers, expected {count}")
            return storage

        return evaluate(io.BytesIO(archive.read(name)), _calls(allowance), persistent)


def _calls(allowance: Allowance, load_from_bytes: Callable[[bytes], Storage] | None = None) -> Calls:
    calls: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _empty_dict,
        "torch._utils._rebuild_tensor_v2": partial(_tensor, allowance),
    }
    if load_from_bytes is not None:
        calls["torch.storage._load_from_bytes"] = load_from_bytes
    return calls


def _storage_id(value: Any) -> tuple[torch.dtype, str, int]:
    """('storage', type, key, device, numel, …) as PyTorch names a storage."""
    tag, kind, key, _, count = value[:5]
    if (
        tag != "storage"
        or not isinstance(kind, Name)
        or str(kind) not in _DTYPES
        or type(key) is not str
        or type(count) is not int
    ):
        raise PickleError(f"storage {reprlib.repr(value)}")
    return _DTYPES[str(kind)], key, count


def _empty_dict() -> dict[str, Any]:
    """Its items come one by one; as an argument they would be hashed, and nested tuples can take forever."""
    return {}


def _tensor(
    allowance: Allowance, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    if not isinstance(storage, Storage) or len(size) != len(stride) or len(size) > MOST_DIMENSIONS:
        raise PickleError(f"a tensor of size {reprlib.repr(size)}")
    if any(type(number) is not int or not 0 <= number <= LARGEST_NUMBER for number in (offset, *size, *stride)):
        raise PickleError(f"a tensor of size {reprlib.repr(size)}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if prod(size) > storage.numel or last >= max(storage.numel, 1):
        raise PickleError(f"a tensor of size {reprlib.repr(size)} in a storage of {storage.numel} numbers")
    if prod(size) == 0:
        return torch.empty(size, dtype=storage.dtype)
    allowance.spend(storage.dtype.itemsize * max(prod(size), last + 1 - offset))
    needed = memoryview(storage.content)[storage.dtype.itemsize * offset : storage.dtype.itemsize * (last + 1)]
    flat = torch.frombuffer(bytearray(needed), dtype=storage.dtype)
    return flat.as_strided(size, stride).clone(memory_format=torch.contiguous_format)


def _load_from_bytes(allowance: Allowance, content: bytes) -> Storage:
    """One storage in PyTorch's format from before archives: five pickles, then the length and the numbers."""
    allowance.spend(len(content))
    stream = io.BytesIO(content)
    for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        if evaluate(stream, {}) != expected:
            raise PickleError("a nested storage without PyTorch's mark")
    if evaluate(stream, {}).get("little_endian") is not True:
        raise PickleError("a nested storage that is not little-endian")
    dtype, key, count = evaluate(stream, {}, _storage_id)
    if evaluate(stream, {}) != [key]:
        raise PickleError("a nested storage of another key")
    (stored,) = struct.unpack("<q", stream.read(8))
    storage = Storage(memoryview(content)[stream.tell() :], dtype)
    if stored != count or storage.numel != count:
        raise PickleError(f"a nested storage has {storage.numel} numbers, expected {count}")
    return storage
