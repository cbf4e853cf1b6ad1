"""Networks are measured in this process, or several at once, each in a process of its own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from ghn_init.errors import ComparisonError, GHNInitError
from ghn_init.processes import ended
from ghn_init.ranking.bench import Bench
from ghn_init.ranking.candidates import Make, called
from ghn_init.whole import whole

Result = TypeVar("Result")

_WAY = "pass names, or functions and classes that a module defines at its top, or workers=1"


class Processes:
    """Measures networks. What goes to processes and comes back is pickled here, so that errors say what can't be.

    Args:
        make: Name → what makes the network.
        bench: What all of them share.
        workers: Processes, which get an equal part of the threads; with 1, this one does it all.

    Raises:
        ComparisonError: A candidate or the optimiser can't be sent to a process, or there is to be none.
    """

    def __init__(self, make: Mapping[str, Make], bench: Bench, workers: int) -> None:
        self._make, self._bench = make, bench
        self._pool: ProcessPoolExecutor | None = None
        workers = min(whole("workers", workers, 1, ComparisonError), len(make))
        if workers > 1:
            self._sent = {name: _sent(one, called(name)) for name, one in make.items()}
            _sent(bench.settings.optimizer, "the optimizer")
            shared = (_sent(bench, "what all candidates share"), max(torch.get_num_threads() // workers, 1))
            self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _share, shared)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, measure: Callable[..., Result], names: Iterable[str], *args: Any) -> Iterator[tuple[str, Result]]:
        """What a method of the bench gives for each network, with its name, as it comes.

        Raises:
            ComparisonError: A network can't be measured, or a process ended.
        """
        if self._pool is None:
            for name in names:
                with naming(name):
                    found = measure(self._bench, self._make[name], *args)
                yield name, found
            return
        jobs = {self._pool.submit(_measured, measure, self._sent[name], args): name for name in names}
        for job in as_completed(jobs):
            with naming(jobs[job]):
                result = job.result()
            yield jobs[job], pickle.loads(result)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors name the candidate."""
    try:
        yield
    except GHNInitError as error:
        told = str(error)
        raise ComparisonError(told if told.startswith(called(name)) else f"candidate {name!r}: {told}") from error
    except BrokenProcessPool as error:
        raise ComparisonError(ended(error, f"it had measured {name!r}", "images and a network")) from error


def _sent(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # whatever it holds
        raise ComparisonError(f"{what} can't be sent to another process ({type(error).__name__}: {error}); {_WAY}.") from error


def _read(sent: bytes) -> Any:
    try:
        return pickle.loads(sent)
    except Exception as error:  # whatever it needs; above all what was defined where no module is
        raise ComparisonError(f"it can't be made in another process ({type(error).__name__}: {error}); {_WAY}.") from error


_bench: Bench | bytes


def _share(bench: bytes, threads: int) -> None:
    """Keeps in a worker process what all its networks need."""
    global _bench
    torch.set_num_threads(threads)
    _bench = bench


def _measured(measure: Callable[..., Any], make: bytes, args: tuple[Any, ...]) -> bytes:
    """In a worker process. The bench is read here and not before, where an error would end the process without a word."""
    global _bench
    if isinstance(_bench, bytes):
        _bench = _read(_bench)
    return pickle.dumps(measure(_bench, _read(make), *args))
