"""The published hypernetworks: where their files live, and what is in them.

Sources: the projects' repositories and model card (licences, file names), their training code (configurations), the hub's page
of commit 2a46e7d (bytes and digests of `ghn3sm8.pt` and `ghn3lm8.pt`). What could not be looked up is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GraphHyperNetwork


@dataclass(frozen=True)
class Release:
    """A repository with published files: `github`, from where files come by plain HTTPS, or `hub`."""

    host: Literal["github", "hub"]
    repository: str
    licence: str
    citation: str

    @property
    def page(self) -> str:
        """Where a browser shows it."""
        return f"https://{'github.com' if self.host == 'github' else 'huggingface.co'}/{self.repository}"


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: What `load` takes.
        release: The repository.
        file: Path in the repository.
        config: What the file must hold; it determines every tensor's name and shape.
        revision: Commit that is fetched where no other is asked for; None: the main branch.
        size: Bytes of the file at `revision`.
        sha256: Of the file at `revision`.
    """

    name: str
    release: Release
    file: str
    config: GHNConfig
    revision: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def task(self) -> str:
        """What its one task is called."""
        (name,) = self.config.tasks
        return name

    @cached_property
    def numel(self) -> int:
        """How many parameters the hypernetwork has."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in GraphHyperNetwork(self.config).parameters())

    @property
    def largest(self) -> int:
        """Bytes beyond which a file isn't this one: the parameters four times, as where an optimiser's state is with them."""
        return 16 * self.numel + 2**20


_PPUDA = Release(
    "github",
    "facebookresearch/ppuda",
    "MIT",
    "Knyazev, Drozdzal, Taylor, Romero-Soriano, NeurIPS 2021 (arXiv 2110.13100)",
)
_PPUDA_COMMIT = "04188590c0c26c2fa0a7f4d13ba3f962cd1fcb90"
"""Its README links all five files."""
_GHN3 = Release(
    "hub",
    "SamsungSAILMontreal/ghn3",
    "MIT",
    "Knyazev, Hwang, Lacoste-Julien, ICML 2023 (arXiv 2303.04143)",
)
_GHN3_COMMIT = "2a46e7d33d9bc9cdb63d0b39f40e40fb8bc93cf7"
"""It added the files of GHN-3-S and GHN-3-L; whether it holds the other two could not be looked up."""

_CIFAR10: dict[str, Any] = {"tasks": {"cifar10": 10}, "class_width": 10, "max_shape": (64, 64, 11, 11)}
_IMAGENET: dict[str, Any] = {"tasks": {"imagenet": 1000}, "class_width": 1000, "max_shape": (64, 64, 16, 16)}


def _ghn3(hid: int, layers: int, heads: int) -> GHNConfig:
    return GHNConfig.ghn3({"imagenet": 1000}, hid, layers, heads, class_width=1000)


CHECKPOINTS = {
    entry.name: entry
    for entry in (
        Published("ghn1-cifar10", _PPUDA, "checkpoints/ghn1_cifar10.pt", GHNConfig.ghn1(**_CIFAR10), _PPUDA_COMMIT),
        Published("ghn1-imagenet", _PPUDA, "checkpoints/ghn1_imagenet.pt", GHNConfig.ghn1(**_IMAGENET), _PPUDA_COMMIT),
        Published("ghn2-cifar10", _PPUDA, "checkpoints/ghn2_cifar10.pt", GHNConfig.ghn2(**_CIFAR10), _PPUDA_COMMIT),
        Published("ghn2-imagenet", _PPUDA, "checkpoints/ghn2_imagenet.pt", GHNConfig.ghn2(**_IMAGENET), _PPUDA_COMMIT),
        Published("mlp-cifar10", _PPUDA, "checkpoints/mlp_cifar10.pt", GHNConfig.mlp(**_CIFAR10), _PPUDA_COMMIT),
        Published("ghn3-t", _GHN3, "ghn3tm8.pt", _ghn3(64, 3, 8)),
        Published(
            "ghn3-s",
            _GHN3,
            "ghn3sm8.pt",
            _ghn3(128, 5, 16),
            _GHN3_COMMIT,
            143_269_744,
            "b6101fd4dbba98ee34a1abf70888e5f3866a0bd75b0acf4ef23e07cb4918fa6d",
        ),
        Published(
            "ghn3-l",
            _GHN3,
            "ghn3lm8.pt",
            _ghn3(256, 12, 16),
            _GHN3_COMMIT,
            858_730_839,
            "e43b6903799a1d8f8b1a90274d729beb9052a1accdebb6d96b51c8d79337d7a5",
        ),
        Published("ghn3-xl", _GHN3, "ghn3xlm16.pt", _ghn3(384, 24, 16)),
    )
}
"""By the name that `load` takes."""
