"""Without a network nobody tries for half a minute."""

from __future__ import annotations

import socket
from collections.abc import Callable

import huggingface_hub
import pytest

from ghn_init.errors import ModelSpecError, TrainingError
from ghn_init.models import spec
from ghn_init.tasks.image_reading import load_images


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror("no address")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("library", "ask", "error"),
    [
        ("timm", lambda: spec.build("timm:hf-hub:someone/nothing"), ModelSpecError),
        ("transformers", lambda: spec.build("transformers:someone/nothing"), ModelSpecError),
        ("datasets", lambda: load_images("someone/nothing", "train"), TrainingError),
    ],
)
def test_what_the_hub_would_have_is_missed_at_once(
    cut_off: None, library: str, ask: Callable[[], object], error: type[Exception]
) -> None:
    pytest.importorskip(library)
    with pytest.raises(error, match="not in the cache, and no address can be found for https://"):
        ask()
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
