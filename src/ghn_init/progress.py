"""A bar for what takes more than a second, in terminals and notebooks; callers who count by themselves get none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@contextmanager
def counting(total: int | None, unit: str, show: bool, first: int = 0) -> Iterator[Callable[[str], None]]:
    """Gives what is called for each unit that is done, with a word on it.

    The hub client's tqdm, which `HF_HUB_DISABLE_PROGRESS_BARS` turns off; where standard error is no terminal it draws nothing.

    Args:
        total: How many units there are; None where that isn't known.
        unit: What they are called.
        show: Whether there is a bar at all.
        first: Units that have been done.
    """
    if not show:
        yield lambda _: None
        return
    from huggingface_hub.utils.tqdm import tqdm

    with tqdm(total=total, initial=first, unit=f" {unit}", disable=None, delay=1, leave=False) as bar:

        def done(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        yield done


def watched(loader: Any) -> Any:
    """The same batches, which are counted each time that they are read; what can be read only once stays what it is."""
    return _Watched(loader) if isinstance(loader, Iterable) and not isinstance(loader, Iterator) else loader


@dataclass(frozen=True)
class _Watched:
    loader: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        with counting(None, "batches", show=True) as done:
            for batch in self.loader:
                yield batch
                done("")
