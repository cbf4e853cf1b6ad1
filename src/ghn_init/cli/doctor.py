"""`ghn-init doctor`."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata

from ghn_init.cli.console import app, say
from ghn_init.version import __version__

_REQUIREMENT = re.compile(r"^([\w.-]+).*extra == ['\"]([\w-]+)['\"]")
_FOR_DEVELOPMENT = ("browser", "dev", "docs", "packages")


@app.command()
def doctor() -> None:
    """Tells versions, processor, GPU, caches and extras, in lines to paste into an issue."""
    lines = [*_versions(), *_machine(), *_caches(), *_extras()]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name:{width}} {value}")


def _versions() -> list[tuple[str, str]]:
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    packages = ("torch", "numpy", "safetensors", "huggingface_hub")
    own = [("system", system), ("Python", platform.python_version()), ("ghn_init", __version__)]
    return own + [(name, metadata.version(name)) for name in packages]


def _machine() -> list[tuple[str, str]]:
    import torch

    from ghn_init.prediction.precision import bfloat16_pays

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    bf16 = "faster" if bfloat16_pays() else "slower"
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    gpus += ["MPS"] if torch.backends.mps.is_available() else []
    return [
        ("threads", f"{torch.get_num_threads()} of PyTorch's, on {cores} cores"),
        ("processor", f"{capability}; bfloat16 is {bf16} than float32"),
        ("GPU", ", ".join(gpus) or "none"),
    ]


def _caches() -> list[tuple[str, str]]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    from ghn_init.checkpoints.published.cache import folder_of, is_kept
    from ghn_init.checkpoints.published.registry import CHECKPOINTS

    kept = [name for name, entry in CHECKPOINTS.items() if is_kept(folder_of(entry))]
    offline = ", offline mode is on" if HF_HUB_OFFLINE else ""
    return [("hub cache", f"{HF_HUB_CACHE}{offline}"), ("published", ", ".join(kept) or "none is in the cache")]


def _extras() -> list[tuple[str, str]]:
    """Which of an extra's packages are installed, and what gets the missing ones."""
    if _version("ghn_init") is None:
        return [("extras", "not known: run from source, without an installation")]
    extras: dict[str, list[str]] = {}
    for text in metadata.requires("ghn_init") or []:
        match = _REQUIREMENT.match(text)
        if match is not None and match[2] not in _FOR_DEVELOPMENT:
            extras.setdefault(match[2], []).append(match[1])
    rows = []
    for extra, packages in extras.items():
        there = {name: version for name in packages if (version := _version(name)) is not None}
        text = ", ".join(f"{name} {version}" for name, version in there.items())
        missing = [name for name in packages if name not in there]
        hint = f"{'; ' if text else ''}without {', '.join(missing)}: pip install 'ghn_init[{extra}]'" if missing else ""
        rows.append((extra, text + hint))
    return rows


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
