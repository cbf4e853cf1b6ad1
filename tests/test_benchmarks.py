"""Benchmarks: that they can be imported, with what they take from each other and from the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_all_can_be_imported() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    code = (
        "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"  # here, `coverage` is another module
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
