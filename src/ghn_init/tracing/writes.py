"""What operations write into, and memory with what was in it before it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

WRITES_STATISTICS = frozenset(
    {"batch_norm", "instance_norm", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm_update_stats"}
)
"""Operations that write running statistics, which their schemas don't say."""

Places = tuple[int | str, ...]
"""Positions of arguments, names of those that have none."""


class Overwritten:
    """Memory that is written, and what was in it."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def back_up(self, tensor: Tensor) -> None:
        """Before the first operation that writes into the tensor, or into another view of its memory."""
        key = storage_of(tensor)
        if key and key not in self._before and not tensor.is_meta:
            storage = tensor.untyped_storage()
            self._before[key] = storage, storage.clone()

    def restore(self) -> None:
        """Gives all of it the former values back."""
        for storage, content in self._before.values():
            if storage.nbytes() != content.nbytes():
                storage.resize_(content.nbytes())
            storage.copy_(content)


def writes_of(func: Any) -> Places:
    """The places of arguments that an operator says to write into."""
    written = [(i, a) for i, a in enumerate(func._schema.arguments) if a.alias_info is not None and a.alias_info.is_write]
    return tuple(a.name if a.kwarg_only else i for i, a in written)


def written_by(writes: Places, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors at these places, some of which may have been left out."""
    passed = [(args[at] if at < len(args) else None) if isinstance(at, int) else kwargs.get(at) for at in writes]
    return list(leaves(passed, Tensor))


def storage_of(tensor: Tensor) -> int:
    """Identity of a tensor's memory; 0 where it has several, as sparse tensors do."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


def leaves(tree: Any, kind: type) -> Iterator[Any]:
    """All objects of `kind` in nested tuples, lists and dicts."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from leaves(item, kind)
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from leaves(item, kind)
