"""Reads the original release: one HDF5 file with adjacencies and nodes, and a JSON file beside it with arguments.

Layout (github.com/facebookresearch/ppuda, `deepnets1m_train.hdf5` and `deepnets1m_train_meta.json`): for every split and
index `adj`, (N, N) uint8 shortest-path lengths, 1 for an edge, and `nodes`, (N, 3) uint16: primitive, cell, name; the JSON
file maps split → `nets`, a list of arguments, and `meta`, the names behind the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.splits import WIDER
from ghn_init.deepnets.statistics import GraphStatistics
from ghn_init.deepnets.store import Entries, Entry
from ghn_init.errors import ArchitectureError
from ghn_init.graph import PRIMITIVES, Graph, Node

SUFFIXES = (".hdf5", ".h5")


class Release(Entries):
    """One split of the original release, by index; read when they are asked for."""

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        try:
            import h5py
        except ImportError as error:
            raise ArchitectureError(f"the release needs the extra ({error}): pip install 'ghn_init[deepnets]'.") from error
        self._path = Path(path)
        described = self._path.with_name(self._path.stem + "_meta.json")
        try:
            self._file = h5py.File(self._path, "r")
            splits = json.loads(described.read_text())
        except (OSError, ValueError) as error:
            raise ArchitectureError(
                f"{path} can't be read ({error}); expected HDF5, and {described.name} beside it."
            ) from error
        if split is None and len(splits) == 1:
            split = next(iter(splits))
        name = None if split is None else _release_name(split)
        if name not in splits or name not in self._file:
            raise ArchitectureError(f"{path} has the splits {', '.join(splits)}, not {split!r}; name one of them.")
        self._split, self._group = str(split), self._file[name]
        self._arguments: list[Mapping[str, Any]] = splits[name]["nets"]
        self._primitives = {int(k): _primitive(v) for k, v in splits[name]["meta"]["primitives_ext"].items()}

    def __len__(self) -> int:
        return len(self._arguments)

    def _read(self, position: int) -> Entry:
        try:
            stored, fields = self._group[str(position)], self._arguments[position]
            distances, rows = stored["adj"][()], stored["nodes"][()]
            primitives = [self._primitives[int(row[0])] for row in rows]
            arguments = Arguments.from_dict(fields)
            if self._split == "wide":  # whose networks are those of `test`, widened when they are loaded
                arguments = replace(arguments, C=WIDER * arguments.C)
            params = int(fields["num_params"]["cifar10"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArchitectureError(f"network {position} of {self._path} is damaged ({error!r}).") from error
        nodes = tuple(Node(name, (1, 1, 3, 3) if name in ("max_pool", "avg_pool") else None) for name in primitives)
        graph = Graph(nodes, np.stack(np.nonzero(distances == 1)).astype(np.int64))
        return Entry(self._split, position, arguments, graph, GraphStatistics.of(graph, params))


def _release_name(split: str) -> str:
    return "bnfree" if split == "bn-free" else split


def _primitive(name: str) -> str:
    """The release writes kernel sizes into some names, and `fc-b` for the head's bias."""
    if name == "fc-b":
        return "bias"
    for primitive in PRIMITIVES:
        if name == primitive or name.startswith(f"{primitive}_"):
            return primitive
    raise ArchitectureError(f"the release has the primitive {name!r}; expected one of {', '.join(PRIMITIVES)}.")
