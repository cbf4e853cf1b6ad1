"""Result shapes by formula against PyTorch's own meta kernels, on random arguments: the same, or left to PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_init.tracing.shapes import SHAPES, shaped

EXAMPLES = settings(max_examples=150, deadline=None)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])
SIZES = st.integers(1, 5)
SAME = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


class RefusedError(Exception):
    """PyTorch raises on these arguments."""


class Both(TorchDispatchMode):
    """Runs the formula and PyTorch's kernel for every operation that has a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[str, bool]] = []  # operation, and whether the formula gave a result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name not in SHAPES:
            return func(*args, **kwargs)
        found = shaped(name, args, kwargs)
        self.answers.append((name, found is not NotImplemented))
        try:
            expected = func(*args, **kwargs)
        except Exception as error:
            if found is not NotImplemented:
                pytest.fail(f"PyTorch refuses this {name}: {error}; the formula gives {described(found)}")
            raise RefusedError(str(error)) from error
        if found is not NotImplemented:
            assert described(found) == described(expected), name
            if name not in ("lstm", "gru", "rnn_tanh", "rnn_relu"):  # theirs are views of what is stored by time
                assert strides(found) == strides(expected), name
        return expected


def described(result: Any) -> list[tuple[tuple[int, ...], torch.dtype, str]]:
    return [(tuple(t.shape), t.dtype, t.device.type) for t in ((result,) if isinstance(result, Tensor) else result)]


def strides(tensor: Tensor) -> list[int]:
    """Of axes along which there is a next element."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def compare(run: Callable[[], Any]) -> list[tuple[str, bool]]:
    """Which operations had a formula, and whether it answered."""
    with torch.inference_mode(), Both() as both:
        run()
    return both.answers


def compare_wrong(run: Callable[[], Any]) -> None:
    """Likewise for arguments that PyTorch may refuse: so must the formula, then."""
    with contextlib.suppress(RefusedError):
        compare(run)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def per_axis(draw: st.DrawFn, axes: int, low: int, high: int) -> Any:
    """One number, or one for each axis."""
    values = st.integers(low, high)
    return draw(values | st.tuples(*[values] * axes))


@st.composite
def convolutions(draw: st.DrawFn, wrong: bool) -> tuple[int, tuple[Any, ...], dict[str, Any]]:
    """Axes, (x, weight, bias), options; with `wrong`, sizes need not fit together."""
    axes, groups, dtype = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(DTYPES)
    inner, out = draw(SIZES), draw(SIZES) * groups
    kernel = draw(st.tuples(*[st.integers(1, 4)] * axes))
    space = draw(st.tuples(*[st.integers(1 if wrong else 13, 16)] * axes))
    channels = inner * groups + (draw(st.integers(-1, 1)) if wrong else 0)
    options = {
        "stride": per_axis(draw, axes, 1, 3),
        "dilation": per_axis(draw, axes, 1, 3),
        "groups": groups,
        "padding": per_axis(draw, axes, 0, 3),
    }
    if draw(st.integers(0, 3)) == 0:
        options["padding"] = draw(st.sampled_from(["valid", "same"]))
        options["stride"] = draw(st.integers(1, 2)) if wrong or options["padding"] == "valid" else 1
    batch = draw(st.sampled_from([(), (1,), (2,)] + ([(2, 2)] if wrong else [])))
    x = meta(*batch, channels, *space, dtype=dtype)
    weight = meta(out + (draw(st.integers(0, 1)) if wrong else 0), inner, *kernel, dtype=draw(DTYPES) if wrong else dtype)
    width = out + (draw(st.integers(-1, 1)) if wrong else 0)
    bias = draw(st.sampled_from([None, meta(width, dtype=dtype)]))
    return axes, (x, weight, bias), options


def convolve(drawn: tuple[int, tuple[Any, ...], dict[str, Any]]) -> Callable[[], Any]:
    axes, args, options = drawn
    return lambda: (F.conv1d, F.conv2d, F.conv3d)[axes - 1](*args, **options)


@SAME
@EXAMPLES
@given(convolutions(wrong=False))
def test_convolutions(drawn: Any) -> None:
    axes, (x, *_), options = drawn
    ((name, answered),) = compare(convolve(drawn))[:1]
    assert name == f"conv{axes}d"
    if options["padding"] == "same" or x.dim() < axes + 2:
        assert not answered
    elif options["padding"] != "valid":  # which ATen leaves out where it is the last argument, as a default
        assert answered


@SAME
@EXAMPLES
@given(convolutions(wrong=True))
def test_convolutions_that_may_not_fit(drawn: Any) -> None:
    compare_wrong(convolve(drawn))


@EXAMPLES
@given(st.lists(SIZES, max_size=3), SIZES, SIZES, st.booleans(), DTYPES)
def test_linear(batch: list[int], inputs: int, outputs: int, bias: bool, dtype: torch.dtype) -> None:
    b = meta(outputs, dtype=dtype) if bias else None
    answers = compare(lambda: F.linear(meta(*batch, inputs, dtype=dtype), meta(outputs, inputs, dtype=dtype), b))
    assert answers == [("linear", True)]


@example([1], [3, 1], 3, torch.float64)
@EXAMPLES
@given(st.lists(st.integers(1, 3), max_size=3), st.lists(st.integers(1, 3), max_size=3), st.none() | st.integers(1, 3), DTYPES)
def test_linear_that_may_not_fit(x: list[int], weight: list[int], bias: int | None, dtype: torch.dtype) -> None:
    b = None if bias is None else meta(bias)
    compare_wrong(lambda: F.linear(meta(*x), meta(*weight, dtype=dtype), b))


@EXAMPLES
@given(SIZES, SIZES, st.lists(SIZES, max_size=3), st.booleans(), st.booleans(), st.booleans(), st.booleans(), DTYPES)
def test_batch_norm(
    batch: int, width: int, space: list[int], affine: bool, tracked: bool, train: bool, last: bool, dtype: torch.dtype
) -> None:
    x = meta(batch + 1, width, *space, dtype=dtype)
    if last and len(space) == 2:
        x = x.to(memory_format=torch.channels_last)
    own = [meta(width, dtype=dtype) if wanted else None for wanted in (tracked, tracked, affine, affine)]
    assert compare(lambda: F.batch_norm(x, *own, training=train or not tracked)) == [("batch_norm", True)]


@EXAMPLES
@given(st.lists(st.integers(2, 3), max_size=4), st.lists(st.none() | st.integers(1, 3), min_size=4, max_size=4), st.booleans())
def test_batch_norm_that_may_not_fit(x: list[int], widths: list[int | None], train: bool) -> None:
    """With two values per channel at least; `nn.functional` refuses one itself."""
    mean, var, weight, bias = (None if width is None else meta(width) for width in widths)
    compare_wrong(lambda: torch.batch_norm(meta(*x), weight, bias, mean, var, train, 0.1, 1e-5, False))


@EXAMPLES
@given(st.lists(SIZES, max_size=3), st.lists(SIZES, min_size=1, max_size=2), st.booleans(), st.booleans(), DTYPES)
def test_layer_norm(batch: list[int], sizes: list[int], weight: bool, bias: bool, dtype: torch.dtype) -> None:
    own = [meta(*sizes, dtype=dtype) if wanted else None for wanted in (weight, bias)]
    assert compare(lambda: F.layer_norm(meta(*batch, *sizes, dtype=dtype), sizes, *own)) == [("layer_norm", True)]


@EXAMPLES
@given(*[st.lists(st.integers(1, 2), max_size=3)] * 2, *[st.none() | st.lists(st.integers(1, 2), max_size=2)] * 2)
def test_layer_norm_that_may_not_fit(x: list[int], sizes: list[int], weight: list[int] | None, bias: list[int] | None) -> None:
    own = [None if shape is None else meta(*shape) for shape in (weight, bias)]
    compare_wrong(lambda: F.layer_norm(meta(*x), sizes, *own))


@EXAMPLES
@given(st.lists(SIZES, max_size=4), st.floats(0, 1), st.booleans(), DTYPES)
def test_dropout(shape: list[int], p: float, train: bool, dtype: torch.dtype) -> None:
    assert compare(lambda: torch.dropout(meta(*shape, dtype=dtype), p, train)) == [("dropout", True)]


@EXAMPLES
@given(st.sampled_from([-0.5, 0.0, 0.5, 1.0, 1.5]), st.booleans())
def test_dropout_that_may_not_fit(p: float, train: bool) -> None:
    compare_wrong(lambda: torch.dropout(meta(2, 3), p, train))


UNARY = {
    "relu": torch.relu,
    "relu_": torch.relu_,
    "hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "hardtanh_": lambda x: F.hardtanh(x, -1, 2, inplace=True),
    "hardswish": F.hardswish,
    "hardswish_": lambda x: F.hardswish(x, inplace=True),
    "hardsigmoid": F.hardsigmoid,
    "hardsigmoid_": lambda x: F.hardsigmoid(x, inplace=True),
    "sigmoid": torch.sigmoid,
    "sigmoid_": torch.sigmoid_,
    "silu": F.silu,
    "silu_": lambda x: F.silu(x, inplace=True),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
}


def tensor(draw: st.DrawFn, shape: list[int], dtype: torch.dtype) -> Tensor:
    """Contiguous, or with two axes swapped in memory, or expanded."""
    made = meta(*shape, dtype=dtype)
    way = draw(st.sampled_from(["plain", "plain", "swapped", "expanded"])) if len(shape) > 1 else "plain"
    if way == "swapped":
        return meta(*shape[:-2], shape[-1], shape[-2], dtype=dtype).transpose(-1, -2)
    return made[:1].expand(shape) if way == "expanded" else made


ANY = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    return tensor(draw, draw(st.lists(SIZES, max_size=4)), draw(ANY))


@pytest.mark.parametrize("name", UNARY)
@EXAMPLES
@given(x=tensors())
def test_functions_of_one_tensor(name: str, x: Tensor) -> None:
    compare_wrong(lambda: UNARY[name](x))


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tensor_have_formulas(name: str) -> None:
    assert compare(lambda: UNARY[name](meta(2, 3))) == [(name, True)]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Tensors of which each may be repeated along axes, or not fit; a tensor and a number."""
    shape = draw(st.lists(st.integers(1, 3), max_size=4))
    x = tensor(draw, shape, draw(ANY))
    if draw(st.integers(0, 4)) == 0:
        return x, draw(st.sampled_from([2, 0.5, True, 1j]))
    other = [draw(st.sampled_from([size, size, 1, 2])) for size in shape[draw(st.integers(0, len(shape))) :]]
    pair = [x, tensor(draw, other, draw(st.sampled_from([x.dtype, x.dtype, torch.float32])))]
    return tuple(pair if draw(st.booleans()) else reversed(pair))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@EXAMPLES
@given(pair=pairs())
def test_arithmetic(name: str, pair: tuple[Any, Any]) -> None:
    compare_wrong(lambda: getattr(torch, name)(*pair))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic_has_formulas(name: str) -> None:
    x, gate = meta(2, 3, 4, 4), meta(3, 1, 1)
    for pair in ((x, x), (x, gate), (gate, x), (x, 2), (x, 0.5)):
        assert compare(lambda pair=pair: getattr(torch, name)(*pair)) == [(name, True)]


@EXAMPLES
@given(tensors(), st.none() | st.lists(st.integers(-4, 3), max_size=3), st.booleans(), st.sampled_from([None, torch.float64]))
def test_means(x: Tensor, dim: list[int] | None, keepdim: bool, dtype: torch.dtype | None) -> None:
    compare_wrong(lambda: x.mean(dim, keepdim, dtype=dtype))
    assert compare(lambda: meta(2, 3, 4).mean([-1, 0], keepdim)) == [("mean", True)]


@EXAMPLES
@given(tensors(), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_adaptive_pools(x: Tensor, size: list[int]) -> None:
    compare_wrong(lambda: torch.ops.aten.adaptive_avg_pool2d(x, size))
    assert compare(lambda: F.adaptive_avg_pool2d(meta(2, 3, 7, 7), 1))[0] == ("adaptive_avg_pool2d", True)


@st.composite
def attentions(draw: st.DrawFn) -> list[Tensor]:
    """Queries, keys and values, most of which fit together."""
    batch = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    t, s, d, e = (draw(st.integers(1, 4)) for _ in range(4))
    wrong = [draw(st.sampled_from([0] * 9 + [1])) for _ in range(2)]
    dtype = draw(ANY)
    shapes = ([*batch, t, d], [*batch, s, d + wrong[0]], [*batch, s + wrong[1], e])
    return [tensor(draw, shape, dtype) for shape in shapes]


@EXAMPLES
@given(attentions(), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.5, 1.5]))
def test_attention(qkv: list[Tensor], masked: bool, causal: bool, dropout: float) -> None:
    mask = meta(qkv[0].shape[-2], qkv[1].shape[-2], dtype=qkv[0].dtype) if masked else None
    compare_wrong(lambda: F.scaled_dot_product_attention(*qkv, mask, dropout, causal))
    whole = [meta(2, 3, 4, 8) for _ in range(3)]
    assert compare(lambda: F.scaled_dot_product_attention(*whole))[0] == ("scaled_dot_product_attention", True)


RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


@pytest.mark.parametrize("name", RECURRENT)
@EXAMPLES
@given(data=st.data())
def test_recurrent_layers(name: str, data: st.DataObject) -> None:
    draw = data.draw
    inputs, hidden, layers = draw(SIZES), draw(st.integers(2, 5)), draw(st.integers(1, 3))
    options = {key: draw(st.booleans()) for key in ("bidirectional", "batch_first", "bias")}
    if name == "lstm":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    elif name != "gru":
        options["nonlinearity"] = name.removeprefix("rnn_")
    dtype = draw(DTYPES)
    layer = RECURRENT[name](inputs, hidden, layers, **options, device="meta", dtype=dtype)
    batch, length = draw(st.sampled_from([(), (1,), (3,)])), draw(st.integers(1, 3))
    shape = (*batch, length, inputs) if options["batch_first"] else (length, *batch, inputs)
    answers = compare(lambda: layer(meta(*shape, dtype=dtype)))
    assert (name, True) in answers


@pytest.mark.parametrize("name", RECURRENT)
@EXAMPLES
@given(data=st.data())
def test_recurrent_layers_that_may_not_fit(name: str, data: st.DataObject) -> None:
    """Sizes are off by one; the two states of an LSTM have one length, as PyTorch crashes where they don't."""
    draw = data.draw
    bidirectional, first, layers = draw(st.booleans()), draw(st.booleans()), draw(st.integers(1, 2))
    layer = RECURRENT[name](3, 4, layers, bidirectional=bidirectional, device="meta")
    off = st.sampled_from([0, 0, 0, 0, 1, -1])
    x = meta(2, 2 + draw(off), 3 + draw(off))
    count = layers * (2 if bidirectional else 1) + draw(off)
    state = [meta(count, 2 + draw(off), 4 + draw(off)) for _ in range(2 if name == "lstm" else 1)]
    weights = [p.data for p in layer.parameters()]
    args = (state if name == "lstm" else state[0], weights, True, layers, 0.0, False, bidirectional, first)
    compare_wrong(lambda: getattr(torch, name)(x, *args))


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_are_left_to_pytorch(name: str, bidirectional: bool) -> None:
    options = {"nonlinearity": name.removeprefix("rnn_")} if name.startswith("rnn") else {}
    layer = RECURRENT[name](3, 4, bidirectional=bidirectional, **options)
    with torch.inference_mode():
        packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 3), [5, 3])
    answers = compare(lambda: layer(packed))
    assert answers == [(name, False)]


OVERLOADS = {
    "a mean of all": lambda x, y: x.mean(),
    "a mean in another type": lambda x, y: x.mean(dtype=torch.float64),
    "a mean into a tensor": lambda x, y: torch.mean(x, 1, out=y[:, 0].contiguous()),
    "a division that rounds": lambda x, y: torch.div(x, 2, rounding_mode="floor") + torch.div(x, y, rounding_mode="trunc"),
    "a scaled number": lambda x, y: torch.ops.aten.add.Scalar(x, 2, 3) + x.sub(y, alpha=2),
    "a sum into a tensor": lambda x, y: torch.add(x, y, out=y),
    "an activation into a tensor": lambda x, y: torch.sigmoid(x, out=y),
}


@pytest.mark.parametrize("name", OVERLOADS)
def test_all_overloads_are_known_or_left_to_pytorch(name: str) -> None:
    x, y = (torch.zeros(2, 3, 4, device="meta") for _ in range(2))
    assert compare(lambda: OVERLOADS[name](x, y))
