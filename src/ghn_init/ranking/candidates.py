"""What is ranked: names of models, functions that make them, or modules → functions that make them anew, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from torch import nn

from ghn_init.errors import ComparisonError
from ghn_init.models import spec as model_spec
from ghn_init.trials.anew import Made
from ghn_init.trials.predicting import copied

Make = Callable[[], nn.Module]
Candidate = nn.Module | str | Make
"""A module, `timm:NAME` and the like or a name of timm's alone, or a function that makes a module."""
Candidates = Mapping[str, Candidate] | Sequence[Candidate]
LONGEST = 40
"""Text that something which is no candidate is called by in an error."""


def makers(candidates: Candidates, classes: int) -> dict[str, Make]:
    """Name → what makes the network, in the order of the candidates.

    Args:
        candidates: With names of their own, or a list: then they are called by their specification, class or function.
        classes: That models which are built by name get.

    Raises:
        ComparisonError: There are fewer than two, two have the same name, a name is no string, or one is something else.
    """
    if isinstance(candidates, str | nn.Module) or not isinstance(candidates, Iterable):
        raise ComparisonError(
            f"candidates is one alone, {name_of(candidates)!r}; pass a list of two at least, or a mapping of names to them."
        )
    named = candidates.items() if isinstance(candidates, Mapping) else [(name_of(each), each) for each in candidates]
    found: dict[str, Make] = {}
    for name, candidate in named:
        if not isinstance(name, str):
            raise ComparisonError(f"a candidate is called {name!r}, a {type(name).__name__}; expected a string for its name.")
        if name in found:
            raise ComparisonError(f"two candidates are called {name!r}; pass a mapping of names to candidates.")
        found[name] = maker(name, candidate, classes)
    if len(found) < 2:
        raise ComparisonError(f"there is {'one candidate' if found else 'no candidate'}; a ranking needs two at least.")
    return found


def name_of(candidate: Candidate) -> str:
    """Of one that is given none: its specification, class or function."""
    if isinstance(candidate, str):
        return candidate
    if isinstance(candidate, nn.Module):
        return type(candidate).__name__
    name = str(getattr(candidate, "__name__", repr(candidate)))
    return name if callable(candidate) or len(name) <= LONGEST else type(candidate).__name__


def called(name: str) -> str:
    """A candidate in errors."""
    return f"the candidate {name!r}"


def maker(name: str, candidate: Candidate, classes: int) -> Make:
    """What makes the network.

    Raises:
        ComparisonError: It is something else.
    """
    if isinstance(candidate, nn.Module):
        return partial(copied, candidate, called(name), "pass a function that makes it")
    if isinstance(candidate, str):
        return partial(_built, name, candidate if ":" in candidate else f"timm:{candidate}", classes)
    if callable(candidate):
        return partial(_made, name, candidate)
    raise ComparisonError(
        f"{called(name)} is a {type(candidate).__name__}; expected a module, a name or a function that makes a module, "
        f"in a list or in a mapping of names to them."
    )


def _made(name: str, make: Make) -> nn.Module:
    try:
        model = make()
    except Exception as error:  # whatever the function raises
        raise ComparisonError(f"{called(name)} can't be made ({type(error).__name__}: {error}).") from error
    if not isinstance(model, nn.Module):
        raise ComparisonError(f"{called(name)} makes a {type(model).__name__}; expected a torch.nn.Module.")
    return _anew(name, model)


def _built(name: str, spec: str, classes: int) -> nn.Module:
    return _anew(name, model_spec.build(spec, classes))


def _anew(name: str, model: nn.Module) -> nn.Module:
    """What was made, unless a part of it was made before and is still there: it would be trained on and on."""
    _MADE.check(called(name), model)
    return model


_MADE = Made()
