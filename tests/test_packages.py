"""Models by packages' own constructors: what is said of their parameters is true. Needs the extra `packages`."""

from __future__ import annotations

import pytest

import ghn_init
from packages import PACKAGES
from test_influence import faults

QUICK = "selective scan"  # needs no package


@pytest.mark.parametrize("name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PACKAGES])
def test_what_is_said_is_true(name: str) -> None:
    member = PACKAGES[name]
    pytest.importorskip(member.module)
    model, inputs = member.build()
    assert len(ghn_init.predict(model, example_inputs=inputs, head=True).kept) == member.kept
    assert list(faults(model, inputs)) == []
