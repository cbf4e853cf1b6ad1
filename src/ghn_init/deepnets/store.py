"""Slices of splits in one file: an SQLite database, a row per network with arguments, graph and statistics.

SQLite gives random access by index, safe appending (a row is there whole or not at all), and one file of any size.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import overload

import torch
from torch import nn

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.codec import decode, encode
from ghn_init.deepnets.network import DeepNet
from ghn_init.deepnets.splits import SPLITS, arguments, suited
from ghn_init.deepnets.statistics import GraphStatistics
from ghn_init.errors import ArchitectureError
from ghn_init.graph import Graph
from ghn_init.processes import ended

FORMAT = "ghn_init deepnets 1"
CHUNK = 32
"""Networks that a process makes at a time, and that are written in one transaction."""

_TABLES = """
create table if not exists about (format text, seed integer);
create table if not exists networks (
    split text, idx integer, arguments text, graph blob,
    nodes integer, edges integer, params integer, degree real, path real, primitives text,
    primary key (split, idx)
);
"""


@dataclass(frozen=True)
class Entry:
    """One network of a file.

    Attributes:
        split: Name of its split.
        index: In the split.
        arguments: What it is built from.
        graph: Its architecture graph. One from the original release has no parameter names and shapes.
        statistics: Of the graph.
    """

    split: str
    index: int
    arguments: Arguments
    graph: Graph
    statistics: GraphStatistics

    def module(self, num_classes: int = 10, image_size: int = 32) -> nn.Module:
        """The network, (B, 3, H, W) → (B, classes)."""
        return DeepNet(suited(self.arguments, self.split, image_size), num_classes, image_size)


def write(
    path: str | Path,
    split: str,
    start: int = 0,
    stop: int | None = None,
    *,
    workers: int = 1,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Generates networks `start` to `stop` of a split into a file; those that are there already are left alone.

    Args:
        path: The file; other slices and splits may be in it.
        split: One of `SPLITS`, but not `predefined`.
        start: First index.
        stop: One past the last index; by default the split's published size.
        workers: Processes.
        seed: Of the whole file.
        on_progress: Called with the number of networks that have just been written.

    Returns:
        How many networks were generated.

    Raises:
        ArchitectureError: No such split or slice, or the file is something else, of another seed, in no folder or in use, or
            a process ended.
    """
    arguments(split, start, seed)  # raises where there is no such split or index
    stop = SPLITS[split].size if stop is None else stop
    if stop < start:
        raise ArchitectureError(
            f"the slice of {split!r} goes from {start} to {stop}; expected a stop that is not before start."
        )
    with closing(_open(path, seed)) as database, _named(path):
        there = {index for (index,) in database.execute("select idx from networks where split = ?", (split,))}
        missing = [index for index in range(start, stop) if index not in there]
        chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
        for rows in _rows([(split, chunk, seed) for chunk in chunks], workers):
            with database:
                database.executemany("insert or ignore into networks values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            if on_progress is not None:
                on_progress(len(rows))
    return len(missing)


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """SQLite's errors say what the file is, and what to do now."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise ArchitectureError(
                f"{path} is in use by another process ({error}); wait until it has ended, or take another file."
            ) from error
        raise ArchitectureError(
            f"{path} is no file of architectures ({error}); expected one from ghn-init deepnets write."
        ) from error


Row = tuple[str, int, str, bytes, int, int, int, float, float, str]


def _rows(jobs: list[tuple[str, list[int], int]], workers: int) -> Iterator[list[Row]]:
    if workers <= 1:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            yield from pool.map(_make, jobs)
        except BrokenProcessPool as error:
            raise ArchitectureError(ended(error, "it had made its networks", "a network")) from error


def _make(job: tuple[str, list[int], int]) -> list[Row]:
    """The rows of some networks; in a process of its own where there are several."""
    split, indices, seed = job
    return [_row(split, index, arguments(split, index, seed)) for index in indices]


def _row(split: str, index: int, drawn: Arguments) -> Row:
    from ghn_init.tracing.trace import trace

    with torch.device("meta"):
        module = DeepNet(drawn)
    graph = trace(module, torch.empty(2, 3, 32, 32, device="meta"))
    *numbers, primitives = astuple(GraphStatistics.of(graph, sum(p.numel() for p in module.parameters())))
    text = json.dumps(drawn.to_dict(), separators=(",", ":"))
    return (split, index, text, encode(graph), *numbers, json.dumps(primitives))


def _open(path: str | Path, seed: int | None) -> sqlite3.Connection:
    """Connects; makes a file where there is none and a seed is given."""
    if seed is None and not Path(path).is_file():
        raise ArchitectureError(f"there is no file {path}; write one with ghn-init deepnets write.")
    if not (folder := Path(path).absolute().parent).is_dir():
        raise ArchitectureError(f"{path} can't be made, there is no folder {folder}; make it first, or take another file.")
    with _named(path):
        database = sqlite3.connect(path)
        if seed is not None and database.execute("select count(*) from sqlite_master").fetchone() == (0,):
            with database:
                database.executescript(_TABLES)
                database.execute("insert into about values (?, ?)", (FORMAT, seed))
        found = database.execute("select format, seed from about").fetchone()
    if found is None or found[0] != FORMAT:
        raise ArchitectureError(f"{path} has format {found and found[0]!r}; expected {FORMAT!r}.")
    if seed is not None and found[1] != seed:
        raise ArchitectureError(f"{path} holds networks of seed {found[1]}, not {seed}; write another file.")
    return database


def is_stored(path: str | Path) -> bool:
    """Whether a file is an SQLite database, whatever it is called."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def told_apart(entries: Sequence[Entry]) -> str:
    """`6 stored networks 1f0c…`: how many, and a digest of their places in splits and of their arguments."""
    rows = [(entry.split, entry.index, entry.arguments.to_dict()) for entry in entries]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())
    return f"{len(rows)} stored networks {digest.hexdigest()[:12]}"


class Entries(Sequence[Entry]):
    """Networks of a file, by position; read when they are asked for."""

    @overload
    def __getitem__(self, position: int) -> Entry: ...

    @overload
    def __getitem__(self, position: slice) -> list[Entry]: ...

    def __getitem__(self, position: int | slice) -> Entry | list[Entry]:
        found = range(len(self))[position]
        return self._read(found) if isinstance(found, int) else [self._read(k) for k in found]

    @abstractmethod
    def _read(self, position: int) -> Entry:
        """The network at a position, counted from 0."""


class Stored(Entries):
    """The networks of a file that `write` made."""

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        self._database = _open(path, None)
        if split is None:
            query = self._database.execute("select split, idx from networks order by split, idx")
        else:
            query = self._database.execute("select split, idx from networks where split = ? order by idx", (split,))
        self._keys: list[tuple[str, int]] = query.fetchall()
        if split is not None and not self._keys:
            names = [name for (name,) in self._database.execute("select distinct split from networks")]
            raise ArchitectureError(f"{path} has no networks of split {split!r}; it has {', '.join(names) or 'none at all'}.")

    def __len__(self) -> int:
        return len(self._keys)

    def _read(self, position: int) -> Entry:
        split, index = self._keys[position]
        row = self._database.execute("select * from networks where split = ? and idx = ?", (split, index)).fetchone()
        text, graph, nodes, edges, params, degree, path, primitives = row[2:]
        try:
            found = GraphStatistics(nodes, edges, params, degree, path, tuple(json.loads(primitives)))
            return Entry(split, index, Arguments.from_dict(json.loads(text)), decode(graph), found)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ArchitectureError(f"network {index} of {split!r} is damaged ({error}); write the file again.") from error
