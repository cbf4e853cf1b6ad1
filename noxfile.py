"""The oldest and the newest versions that pyproject.toml promises, and `make check` in environments of its own.

CI runs `make check` on one Python; `lower_bounds` and `newest` are run by hand before a release (`docs/releasing.md`). Bounds
are read from pyproject.toml. Where the newest Python is missing, name the newest that is there: `nox -s newest -P 3.13`.
"""

from __future__ import annotations

import nox
from packaging.requirements import Requirement

NEWEST = "3.14"  # of the Pythons that PyTorch has wheels for
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT, max_version=NEWEST)
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["project"]["optional-dependencies"].items()}
FOR_USERS = sorted(EXTRAS.keys() - {"browser", "dev", "docs", "packages"})

nox.options.sessions = ["lint", "docs"]
nox.options.error_on_missing_interpreters = True


def lower_bounds_of_dependencies() -> list[str]:
    """The package's dependencies, those of its extras too, each at its lower bound."""
    dependencies = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    dependencies += [requirement for name in FOR_USERS for requirement in EXTRAS[name]]
    bounds = {r.name: spec.version for r in dependencies for spec in r.specifier if spec.operator == ">="}
    return [f"{name}=={version}" for name, version in bounds.items()]


@nox.session(python=PYTHONS[0])
def lower_bounds(session: nox.Session) -> None:
    """Tests with the oldest Python and the oldest dependencies; arguments after `--` are pytest's."""
    tools = [str(tool) for tool in EXTRAS["dev"] if tool.name != PROJECT["project"]["name"]]
    session.install("-e", f".[{','.join(FOR_USERS)}]", *lower_bounds_of_dependencies(), *tools)
    # Old releases beside new ones of what they need themselves warn of things that nobody here can mend.
    session.run("pytest", "-W", "default", *session.posargs)


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """Tests with the newest Python and the newest dependencies; arguments after `--` are pytest's."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("make", "lint", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site; it is read off the sources, so that the package need not be installed."""
    session.install(*map(str, EXTRAS["docs"]))
    session.run("make", "docs", external=True)


@nox.session
def dist(session: nox.Session) -> None:
    """The sdist and the wheel."""
    session.install(*(str(tool) for tool in EXTRAS["dev"] if tool.name in ("build", "twine")))
    session.run("make", "dist", external=True)
