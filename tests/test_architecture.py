"""The package's own graph: which file imports which. Dependencies point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import ghn_init

ROOT = Path(ghn_init.__file__).parent
FILES = {
    ".".join(("ghn_init", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
"""Module → file."""
LONGEST = 400


def imports_of(module: str, tree: ast.AST, is_package: bool) -> set[str]:
    """Modules of this package that a file imports, at its top or inside of functions, but not for type checkers alone."""
    found = set()
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            parents = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names}
    return found & FILES.keys() - {module}


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, without what only type checkers read."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            children = child.orelse
            for one in children:
                yield one
                yield from at_run_time(one)
        else:
            yield child
            yield from at_run_time(child)


@lru_cache
def graph() -> dict[str, set[str]]:
    return {
        module: imports_of(module, ast.parse(path.read_text()), path.name == "__init__.py") for module, path in FILES.items()
    }


def reached(imports: dict[str, set[str]], module: str) -> set[str]:
    """All modules that one needs, itself only where it is in a cycle."""
    found: set[str] = set()
    todo = list(imports[module])
    while todo:
        if (other := todo.pop()) not in found:
            found.add(other)
            todo += imports[other]
    return found


def in_cycles(imports: dict[str, set[str]]) -> list[str]:
    return [module for module in imports if module in reached(imports, module)]


def test_no_file_needs_itself() -> None:
    assert in_cycles(graph()) == []


def test_every_file_is_in_the_graph() -> None:
    """Else the tests here would see nothing."""
    assert {"ghn_init", "ghn_init.api", "ghn_init.hypernetwork", "ghn_init.hypernetwork.ghn"} < graph().keys()
    assert graph()["ghn_init.hypernetwork.heads"] == {"ghn_init.hypernetwork.config", "ghn_init.hypernetwork.decoder"}
    assert "ghn_init.api" in reached(graph(), "ghn_init.cli.compare")
    assert "ghn_init.errors" in reached(graph(), "ghn_init.api")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import ghn_init.graph", {"ghn_init.graph"}),
        ("from ghn_init import graph, errors as e", {"ghn_init.graph", "ghn_init.errors"}),
        ("from ghn_init.graph import Node", {"ghn_init.graph"}),
        ("def f():\n    from ghn_init import api", {"ghn_init.api"}),
        ("from ..graph import Node\nfrom . import ghn\nfrom .slots import fill", {"ghn_init.graph", *(
            f"ghn_init.hypernetwork.{name}" for name in ("ghn", "slots"))}),
        ("if TYPE_CHECKING:\n    from ghn_init import api\nelse:\n    import ghn_init.graph", {"ghn_init.graph"}),
        ("import torch\nfrom torch import nn", set()),
    ],
)  # fmt: skip
def test_imports_are_found_wherever_they_are(text: str, found: set[str]) -> None:
    assert imports_of("ghn_init.hypernetwork.config", ast.parse(text), is_package=False) == found


def test_cycles_are_found() -> None:
    assert in_cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


@pytest.mark.parametrize("module", FILES)
def test_files_are_short(module: str) -> None:
    assert len(FILES[module].read_text().splitlines()) <= LONGEST


BELOW_PREDICTION = {
    "errors", "whole", "devices", "confidence", "graph", "viz", "processes", "progress", "tracing", "hypernetwork", "models",
    "deepnets",
}  # fmt: skip
RULES = {
    "confidence": {"errors"},
    "graph": {"errors", "viz"},
    "tracing": {"errors", "graph", "viz"},
    "hypernetwork": {"errors", "confidence", "graph", "viz"},
    "deepnets": {"errors", "graph", "viz", "processes", "progress", "tracing", "models"},
    "families": BELOW_PREDICTION - {"hypernetwork"} | {"prediction"},
    "models": {"errors", "connection", "graph", "viz", "progress", "tracing", "whole"},
    "tasks": {"errors", "connection", "models"},
    "checkpoints": {"errors", "devices", "connection", "version", "confidence", "graph", "viz", "hypernetwork"},
    "prediction": BELOW_PREDICTION,
    "heads": BELOW_PREDICTION | {"prediction"},
    "trials": BELOW_PREDICTION | {"prediction", "heads", "checkpoints", "connection", "version"},
}
"""Room → all rooms that its files may need, directly or through others."""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", RULES)
def test_rooms_need_those_below_them_alone(name: str) -> None:
    own = [module for module in FILES if room(module) == name]
    assert own
    needed = {room(other) for module in own for other in reached(graph(), module)}
    assert needed - {name, ""} <= RULES[name]


def test_only_the_command_line_and_comparisons_stand_on_the_verbs() -> None:
    users = {room(module) for module, others in graph().items() if "ghn_init.api" in others}
    assert users <= {"cli", "comparison", "evaluation", "ranking", "timm"}
    assert not any(room(other) == "cli" for module, others in graph().items() if room(module) != "cli" for other in others
        if module != "ghn_init.__main__")  # fmt: skip
