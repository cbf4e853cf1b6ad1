"""The registry against published counts, and the documentation against the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghn_init.checkpoints.published.registry import CHECKPOINTS

DOCS = Path(__file__).parents[1] / "docs" / "checkpoints.md"
NUMEL = {  # as the release's tensors and the GHN-3 project's notebook have it
    "ghn1-cifar10": 1_620_668,
    "ghn2-cifar10": 1_620_764,
    "ghn2-imagenet": 2_319_720,
    "mlp-cifar10": 1_614_396,
    "ghn3-t": 6_906_632,
    "ghn3-xl": 654_365_184,
}


@pytest.mark.parametrize("name", NUMEL)
def test_configurations_have_the_published_number_of_parameters(name: str) -> None:
    assert CHECKPOINTS[name].numel == NUMEL[name]


@pytest.mark.parametrize("name", ["ghn3-s", "ghn3-l"])
def test_configurations_fit_the_published_number_of_bytes(name: str) -> None:
    entry = CHECKPOINTS[name]
    assert entry.size is not None
    assert 4 * entry.numel < entry.size < 4.002 * entry.numel


def test_the_documentation_has_the_registry() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | [{entry.release.repository}]({entry.release.page}) | `{entry.file}` | "
        f"{f'`{entry.revision[:7]}`' if entry.revision else 'main'} | {entry.numel:,} | {4 * entry.numel / 1e6:,.1f} | "
        f"{entry.config.tasks[entry.task]} | {'×'.join(map(str, entry.config.max_shape))} | {entry.config.hid} | "
        f"{'yes' if entry.sha256 else 'recorded'} | {entry.release.licence} |"
        for name, entry in CHECKPOINTS.items()
    ]
