"""Which axes of a parameter the axes of a value are that was computed from it by views: as strides of the stored tensor.

Each axis of the value is a tuple of atoms, (stride, size), the outer one first; an axis that is none of the parameter's (it was
expanded or looked up) has the stride 0. So `einsum`, which permutes, merges and splits axes, leaves a trail to be followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ghn_init.graph import Stack

Atom = tuple[int, int]
Axes = tuple[tuple[Atom, ...], ...]


def stored(shape: Sequence[int]) -> Axes:
    """The axes of a parameter itself."""
    return tuple(((prod(shape[k + 1 :]), size),) if size > 1 else () for k, size in enumerate(shape))


def fits(axes: Axes, shape: Sequence[int]) -> bool:
    """Whether a value of `shape` can have these axes."""
    return len(axes) == len(shape) and all(prod(n for _, n in atoms) == size for atoms, size in zip(axes, shape, strict=True))


def viewed(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a view as `shape`; None where they can't be told."""
    left = [atom for atoms in axes for atom in atoms][::-1]
    result: list[tuple[Atom, ...]] = []
    for size in shape:
        atoms: list[Atom] = []
        while size > 1:
            if not left:
                return None
            stride, n = left.pop()
            if size % n:
                if n % size:
                    return None
                left.append((stride, n // size))
                stride, n = stride * (n // size), size
            atoms.append((stride, n))
            size //= n
        result.append(tuple(atoms))
    return None if left else tuple(result)


def expanded(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after an expansion to `shape`, which may add axes in front."""
    if len(shape) < len(axes):
        return None
    axes = ((),) * (len(shape) - len(axes)) + axes
    return tuple(atoms or _foreign(size) for atoms, size in zip(axes, shape, strict=True))


def looked_up(axes: Axes, dim: int, index: Sequence[int]) -> Axes:
    """The axes after a look-up along `dim` by an index of some shape."""
    return (*axes[:dim], *(_foreign(size) for size in index), *axes[dim + 1 :])


def _foreign(size: int) -> tuple[Atom, ...]:
    return ((0, size),) if size > 1 else ()


def stack_of(shape: Sequence[int], axes: Axes, out: int, inner: int, kernel: Sequence[int] = ()) -> Stack | None:
    """How a parameter of `shape` is a stack of linear maps or kernels, if it is one.

    Args:
        shape: The parameter's.
        axes: Of the value that is used as a weight.
        out: Its axis of output channels.
        inner: Its axis of input channels.
        kernel: Its axes in space.
    """
    parts = [[atom for atom in axes[k] if atom[0]] for k in (out, inner, *kernel)]
    # What was looked up beside the output channels is a batch: `einsum` folds all axes of a result into one.
    if any(stride == 0 for k in (inner, *kernel) for stride, _ in axes[k]) or not parts[0] or not parts[1]:
        return None
    named = [atom for part in parts for atom in part]
    atoms = _covering(prod(shape), {*named, *(atom for part in axes for atom in part if atom[0])})
    if atoms is None:
        return None
    # (experts, out, in): of several axes of outputs, those before the last are the stack. In (in, heads, out) all are outputs.
    if max(parts[0])[0] > max(parts[1])[0]:
        parts[0] = parts[0][-1:]
    named = [atom for part in parts for atom in part]
    slices = [atom for atom in atoms if atom not in named]
    order = tuple(atoms.index(atom) for atom in (*slices, *named))
    sizes = tuple(size for _, size in atoms)
    return Stack(sizes, order, len(slices), tuple(prod(n for _, n in part) for part in parts))


def _covering(numel: int, atoms: set[Atom]) -> list[Atom] | None:
    """All atoms of a parameter in the order in which they are stored, those that the value doesn't have among them."""
    result, rest = [], numel
    for stride, size in sorted(atoms, reverse=True):
        if rest % (stride * size):
            return None
        if rest > stride * size:
            result.append((stride * size, rest // (stride * size)))
        result.append((stride, size))
        rest = stride
    return [*result, (1, rest)] if rest > 1 else result
