"""Which inputs are tried, and what the error says when none works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import ghn_init
from ghn_init.errors import TraceError
from ghn_init.tracing.inputs import candidates
from zoo import Fn, conv, images


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: conv(), (2, 3, 224, 224)),
        (lambda: timm.create_model("resnet18"), (2, 3, 224, 224)),
        (lambda: timm.create_model("resnet18", in_chans=5), (2, 5, 224, 224)),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), (2, 3, 64, 64)),
        (lambda: timm.create_model("inception_v3"), (2, 3, 299, 299)),
    ],
)
def test_first_guess(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        first = next(candidates(build()))
    assert tuple(first.args[0].shape) == shape
    assert first.args[0].is_meta


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU()),
        nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU()),
        nn.Sequential(conv(7), nn.ReLU()),
        nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 2)),
        nn.Sequential(conv(1), nn.Flatten(), nn.Linear(8 * 64 * 64, 2)),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ],
    ids=["1-D", "3-D", "7 channels", "tokens", "64 px", "transformer"],
)
def test_first_layers_tell_what_they_take(model: nn.Module) -> None:
    assert ghn_init.trace(model).kept == {}


def test_auxiliary_heads_are_reached_by_larger_images() -> None:
    """Eval mode runs at 224 px, training mode from 299 px on; smaller ones aren't tried before, nor eval mode again."""
    tried: list[tuple[bool, int]] = []

    class Model(nn.ModuleDict):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tried.append((self.training, x.shape[2]))
            if self.training and x.shape[2] < 299:
                raise ValueError("too small")
            return self["a"](x) + self["b"](x) if self.training else self["a"](x)

    graph = ghn_init.trace(Model({"a": conv(), "b": conv()}))
    assert tried == [(True, 224), (False, 224), (True, 256), (True, 299)]
    assert graph.kept == {}


@pytest.mark.parametrize(("name", "size"), [("ViT", {}), ("ViT", {"image_size": 64}), ("Bert", {}), ("T5", {})])
def test_transformers_configurations_are_read(name: str, size: dict[str, int]) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if name == "T5":
        small = {"d_model": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "d_kv": 4, "vocab_size": 20}
    config = getattr(transformers, f"{name}Config")(**small, **size)
    model = getattr(transformers, f"{name}Model")(config)
    assert ghn_init.trace(model).num_nodes > 8


@pytest.mark.parametrize("inputs", [torch.zeros(2, 5), (torch.zeros(2, 5),), {"input": torch.zeros(2, 5)}, [torch.zeros(2, 5)]])
def test_example_inputs_take_a_tensor_a_tuple_or_a_dict(inputs: object) -> None:
    assert ghn_init.trace(nn.Linear(5, 3), inputs).primitives["conv"] == 1


def test_a_failing_forward_shows_the_input_and_the_way_out() -> None:
    with pytest.raises(TraceError, match=r"Linear failed on \(float32\[2, 7\]\) from example_inputs.*example_inputs="):
        ghn_init.trace(nn.Linear(5, 3), torch.zeros(2, 7))


def test_a_failing_forward_shows_inputs_of_every_kind() -> None:
    inputs = {"x": torch.zeros(2, 7), "more": [torch.zeros(3).long()], "options": {"scale": torch.ones(()), "steps": 4}}
    words = (
        r"failed on \(x=float32\[2, 7\], more=\[int64\[3\]\], options=\{scale: float32\[\], steps: 4\}\) from example_inputs"
    )
    with pytest.raises(TraceError, match=words):
        ghn_init.trace(Fn(lambda m, x, more, options: m.a(x), a=nn.Linear(5, 3)), inputs)


def test_a_model_without_a_workable_guess_says_how_many_were_tried() -> None:
    def picky(m: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return m.a(x) + y  # type: ignore[operator]

    with pytest.raises(TraceError, match=r"\d+ other guesses failed too.*missing 1 required positional argument: 'y'"):
        ghn_init.trace(Fn(lambda m, x, y: picky(m, x, y), a=conv()))


def test_example_inputs_on_another_device_kind_are_fine() -> None:
    assert ghn_init.trace(conv(), images().to("meta")).primitives["conv"] == 1


def test_guesses_have_the_models_dtype_and_none_comes_twice() -> None:
    guesses = [guess.args[0] for guess in candidates(conv().half())]
    assert {guess.dtype for guess in guesses} == {torch.float16}
    shapes = [tuple(guess.shape) for guess in guesses]
    assert len(set(shapes)) == len(shapes) > 5


def test_eval_mode_is_tried_where_training_mode_leaves_parameters_unused() -> None:
    model = Fn(lambda m, x: m.a(x) if m.training else m.b(m.a(x)), a=conv(), b=conv(8))
    assert ghn_init.trace(model, images()).kept == {}


def test_the_first_guess_counts_where_training_mode_fails_on_all() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        if m.training:
            raise RuntimeError("not for training")
        return m.a(x) if x.shape[-1] == 224 else m.b(x)

    assert set(ghn_init.trace(Fn(forward, a=conv(), b=conv())).kept) == {"b.weight", "b.bias"}


def test_layers_without_parameters_drop_nothing() -> None:
    class Drop(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x) if self.training else x

    model = Fn(lambda m, x: m.drop(m.a(x)) + m.b(x), a=conv(), b=conv(), drop=Drop())
    graph = ghn_init.trace(model, images())
    assert (graph.kept, graph.primitives["sum"]) == ({}, 1)


def test_real_runs_are_tried_on_the_first_guess_alone() -> None:
    seen: list[tuple[bool, int]] = []

    class Failing(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((x.is_meta, x.shape[-1]))
            raise RuntimeError("never.")

    with pytest.raises(TraceError, match=r"Failing failed on .*\(\d+ other guesses failed too\): RuntimeError: never\. Pass"):
        ghn_init.trace(Failing(conv()))
    assert [size for on_meta, size in seen if not on_meta] == [224, 224]  # in training and in eval mode
    assert len({size for on_meta, size in seen if on_meta}) > 5


def test_encoder_layers_show_their_parameters_in_real_runs_in_eval_mode() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        if m.training or x.sum().item() < 0:
            raise RuntimeError("for non-negative sums in eval mode")
        return m.layer(x)

    model = Fn(forward, layer=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    assert ghn_init.trace(model, torch.zeros(2, 5, 8)).kept == {}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (np.zeros((2, 3, 8, 8)), r"(?s)failed on \(numpy float64\[2, 3, 8, 8\]\) .* Pass .*=torch.from_numpy\(array\)"),
        ((2, 3, 8, 8), r"Pass what it takes: .* example_inputs=torch.zeros\(2, 3, 8, 8\)\.$"),
    ],
    ids=["array", "shape"],
)
def test_what_is_no_tensor_is_told_how_to_become_one(inputs: object, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        ghn_init.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), inputs)


def test_a_real_run_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ghn_init")
    ghn_init.trace(Fn(lambda m, x: m.layer(x) if x.sum() >= 0 else x, layer=nn.Linear(3, 3)), torch.zeros(2, 3))
    assert "Fn: running the model on real tensors, since shapes alone did not do" in caplog.text
