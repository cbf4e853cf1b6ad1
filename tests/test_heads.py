"""Heads fitted in closed form: found wherever they are, written so that the model says what was fitted, or nothing changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init.cli.words import in_options
from ghn_init.errors import ComparisonError, HeadError, RecalibrationError, TraceError, UnsupportedModelError
from ghn_init.heads.response import centred_logits
from ghn_init.heads.ridge import fit_ridge
from zoo import Fn, conv, param


def labelled(count: int = 48, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Images of 6 px, each class brighter in its own channel; classes differ in size."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(classes), torch.randint(0, classes, (count - classes,), generator=rng)])
    images = torch.randn(count, 3, 6, 6, generator=rng)
    images[torch.arange(count), labels % 3] += 0.4
    return images, labels


def loader(size: int = 16, **kwargs: Any) -> list[tuple[Tensor, Tensor]]:
    images, labels = labelled(**kwargs)
    return list(zip(images.split(size), labels.split(size), strict=True))


def body() -> nn.Module:
    return nn.Sequential(conv(3, 5), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5))


def pooled(m: Any, x: Tensor) -> Tensor:
    return m.body(x).mean((2, 3))


def maps(m: Any, x: Tensor) -> Tensor:
    return m.body(x).flatten(1)


def both(m: Any, x: Tensor) -> Tensor:
    return torch.cat([pooled(m, x), m.body(x).amax((2, 3))], 1)


@dataclass(frozen=True)
class Head:
    """A forward, the parameters that it needs, what its heads see, and the names that are to be written."""

    forward: Callable[..., Any]
    attributes: Callable[[], dict[str, Any]]
    written: tuple[str, ...]
    features: Callable[[Any, Tensor], Tensor] = pooled
    intercept: bool = True

    def model(self) -> Any:
        torch.manual_seed(0)
        return Fn(self.forward, body=body(), **self.attributes())


def linear(**kwargs: Any) -> dict[str, Any]:
    return {"fc": nn.Linear(5, 3, **kwargs)}


def two(bias: bool = True) -> dict[str, Any]:
    return {"a": nn.Linear(5, 3, bias=bias), "b": nn.Linear(5, 3)}


def top(m: Any, x: Tensor) -> Tensor:
    return m.body(x).amax((2, 3))


FC, TWO = ("fc.weight", "fc.bias"), ("a.weight", "a.bias", "b.weight", "b.bias")
HEADS: dict[str, Head] = {
    "linear": Head(lambda m, x: m.fc(pooled(m, x)), linear, FC),
    "dropout before, identity after": Head(
        lambda m, x: m.tail(m.fc(F.dropout(pooled(m, x), 0.5, m.training))), lambda: {**linear(), "tail": nn.Identity()}, FC
    ),
    "without a bias": Head(lambda m, x: m.fc(pooled(m, x)), lambda: linear(bias=False), FC[:1], intercept=False),
    "softmax": Head(lambda m, x: m.fc(pooled(m, x)).softmax(-1), linear, FC),
    "log-softmax": Head(lambda m, x: m.fc(pooled(m, x)).log_softmax(-1), linear, FC),
    "scaled": Head(lambda m, x: -10 * m.fc(pooled(m, x)) + 3, linear, FC),
    "raw parameters": Head(
        lambda m, x: F.linear(pooled(m, x), m.w, m.b), lambda: {"w": param(3, 5), "b": param(3)}, ("w", "b")
    ),
    "x @ w + b": Head(lambda m, x: pooled(m, x) @ m.w + m.b, lambda: {"w": param(5, 3), "b": param(3)}, ("w", "b")),
    "x @ w.T": Head(lambda m, x: pooled(m, x) @ m.w.T, lambda: {"w": param(3, 5)}, ("w",), intercept=False),
    "addmm": Head(lambda m, x: torch.addmm(m.b, pooled(m, x), m.w), lambda: {"w": param(5, 3), "b": param(3)}, ("w", "b")),
    "all of a map": Head(lambda m, x: m.fc(maps(m, x)), lambda: {"fc": nn.Linear(180, 3)}, FC, maps),
    "1×1 on the mean": Head(
        lambda m, x: m.fc(m.body(x).mean((2, 3), keepdim=True)).flatten(1), lambda: {"fc": conv(5, 3, 1)}, FC
    ),
    "1×1 before the mean": Head(lambda m, x: m.fc(m.body(x)).mean((2, 3)), lambda: {"fc": conv(5, 3, 1)}, FC),
    "1×1, a ReLU, the mean": Head(lambda m, x: m.fc(m.body(x)).relu().mean((2, 3)), lambda: {"fc": conv(5, 3, 1)}, FC),
    "a kernel as large as the map": Head(lambda m, x: m.fc(m.body(x)).flatten(1), lambda: {"fc": nn.Conv2d(5, 3, 6)}, FC, maps),
    "tokens, then their mean": Head(lambda m, x: m.fc(m.body(x).flatten(2).transpose(1, 2)).mean(1), linear, FC),
    "the mean of two heads": Head(lambda m, x: (m.a(pooled(m, x)) + m.b(top(m, x))) / 2, two, TWO, both),
    "the sum of two heads, one without a bias": Head(
        lambda m, x: m.a(pooled(m, x)) + m.b(top(m, x)), lambda: two(bias=False), (TWO[0], *TWO[2:]), both
    ),
    "a mapping": Head(lambda m, x: {"logits": m.fc(pooled(m, x)), "maps": m.body(x)}, linear, FC),
    "an output of another width": Head(
        lambda m, x: (m.fc(pooled(m, x)), m.age(pooled(m, x))), lambda: {**linear(), "age": nn.Linear(5, 7)}, FC
    ),
    "other heads in training mode": Head(
        lambda m, x: m.fc(pooled(m, x)) if not m.training else (m.fc(pooled(m, x)), m.auxiliary(top(m, x))),
        lambda: {**linear(), "auxiliary": nn.Linear(5, 3)},
        FC,
    ),
}


def first(result: Any) -> Tensor:
    result = next(iter(result.values())) if isinstance(result, dict) else result
    return result[0] if isinstance(result, tuple) else result


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a fit could change, by value."""
    modes = {f"{name} mode": module.training for name, module in model.named_modules()}
    wanted = {f"{name} grad": p.requires_grad for name, p in model.named_parameters()}
    return {**model.state_dict(), **modes, **wanted, "random": torch.get_rng_state()}


def same(a: Any, b: Any) -> bool:
    """Bit for bit: NaN is NaN."""
    return torch.equal(a.nan_to_num(7e7), b.nan_to_num(7e7)) if isinstance(a, Tensor) else a == b


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not same(before[name], after[name])}


def copied(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}


STATISTICS = {f"body.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("name", HEADS)
def test_the_model_says_what_the_regression_says(name: str) -> None:
    case = HEADS[name]
    model = case.model()
    model.train()
    before = copied(state(model))
    fit = ghn_init.fit_head_(model, loader())
    assert fit.heads == case.written
    assert changed(before, state(model)) == {*case.written, *STATISTICS}
    images, labels = labelled()
    with torch.no_grad():
        output = first(model.eval()(images))
        features = case.features(model, images).double()
    ridge = fit_ridge(features, labels, 3, intercept=case.intercept, resolution=torch.finfo(torch.float32).eps)
    logits = (features @ ridge.weight.T + ridge.bias) / fit.temperature
    torch.testing.assert_close(centred_logits(output), centred_logits(logits), rtol=1e-3, atol=1e-3)
    right = (ridge.left_out.argmax(1) == labels).double().mean()
    assert (fit.images, fit.classes, fit.features) == (48, 3, features.shape[1])
    assert fit.accuracy == pytest.approx(100 * float(right))
    assert fit.strength == pytest.approx(ridge.strength)
    assert 100 / 3 < fit.majority < fit.accuracy < 100


@pytest.mark.parametrize("name", ["linear", "softmax", "1×1, a ReLU, the mean"])
def test_two_classes(name: str) -> None:
    torch.manual_seed(0)
    fc = nn.Linear(5, 2) if name != "1×1, a ReLU, the mean" else conv(5, 2, 1)
    model = Fn(HEADS[name].forward, body=body(), fc=fc)
    fit = ghn_init.fit_head_(model, loader(classes=2))
    images, labels = labelled(classes=2)
    with torch.no_grad():
        features, output = pooled(model.eval(), images).double(), model(images)
    ridge = fit_ridge(features, labels, 2)
    logits = (features @ ridge.weight.T + ridge.bias) / fit.temperature
    torch.testing.assert_close(centred_logits(output), centred_logits(logits), rtol=1e-3, atol=1e-3)


def test_outputs_of_one_width_have_heads_of_their_own() -> None:
    model = Fn(lambda m, x: (m.a(pooled(m, x)), m.b(top(m, x))), body=body(), **two())
    assert ghn_init.fit_head_(model, loader()).heads == TWO
    images, labels = labelled()
    for output, of in zip(model.eval()(images), (pooled, top), strict=True):
        features = of(model, images).detach().double()
        ridge = fit_ridge(features, labels, 3)
        assert torch.equal(output.argmax(1), (features @ ridge.weight.T + ridge.bias).argmax(1))


def test_the_report_in_words() -> None:
    fit = ghn_init.fit_head_(HEADS["linear"].model(), loader())
    most = labelled()[1].bincount().max()
    assert str(fit).startswith(f"a classifier of 3 classes in {fit.seconds:.1f} s: leave-one-out accuracy {fit.accuracy:.1f} ±")
    assert f" % on 48 images (the most frequent class: {100 * most / 48:.1f} %); 5 features, strength " in str(fit)
    assert str(fit).endswith("written to fc.weight, fc.bias")
    share = (fit.accuracy / 100 * 48 + 2) / 52
    assert fit.error == pytest.approx(100 * (share * (1 - share) / 52) ** 0.5)
    assert replace(fit, accuracy=0.0).error == pytest.approx(100 * (2 / 52 * 50 / 52 / 52) ** 0.5)


class Distilled(nn.Module):
    """A student beside its frozen teacher."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student = Fn(HEADS["linear"].forward, body=body(), **linear())
        self.teacher = Fn(HEADS["linear"].forward, body=body(), **linear()).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(x), self.teacher(x)


def test_a_frozen_teacher_is_left_alone() -> None:
    model = Distilled()
    before = copied(state(model))
    fit = ghn_init.fit_head_(model, loader())
    assert changed(before, state(model)) == {f"student.{name}" for name in (*FC, *STATISTICS)}
    assert (fit.heads, fit.frozen) == (("student.fc.weight", "student.fc.bias"), ("teacher.fc.weight", "teacher.fc.bias"))
    assert str(fit).endswith("student.fc.bias; frozen, and left alone: teacher.fc.weight, teacher.fc.bias")
    assert len(ghn_init.fit_head_(model.requires_grad_(False), loader()).heads) == 4  # nothing is singled out


KINDS: dict[str, Callable[[], Any]] = {
    "an iterator": lambda: iter(loader()),
    "lists": lambda: DataLoader(TensorDataset(*labelled()), batch_size=16),
    "mappings": lambda: [{"image": x, "label": y, "name": "a"} for x, y in loader()],
    "numbers in a list": lambda: [(x, y.tolist()) for x, y in loader()],
    "bytes": lambda: [(x, y.byte()) for x, y in loader()],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_loader_gives_the_same(kind: str) -> None:
    expected, model = HEADS["linear"].model(), HEADS["linear"].model()
    ghn_init.fit_head_(expected, loader())
    ghn_init.fit_head_(model, KINDS[kind]())
    assert changed(state(expected), state(model)) == set()


def test_a_loaders_own_generator_stays() -> None:
    generator = torch.Generator().manual_seed(3)
    data, before = DataLoader(TensorDataset(*labelled()), 16, shuffle=True, generator=generator), generator.get_state()
    first, second = (HEADS["linear"].model() for _ in range(2))
    for model in (first, second):
        ghn_init.fit_head_(model, data)
        assert torch.equal(generator.get_state(), before)
    assert changed(state(first), state(second)) == set()


def test_the_number_of_images_is_bounded() -> None:
    few, model = HEADS["linear"].model(), HEADS["linear"].model()
    images, labels = labelled()
    ghn_init.recalibrate_batchnorm(few, [images[:16], images[16:32]])
    ghn_init.fit_head_(few, [(images[:20], labels[:20])], recalibrate=False)
    assert ghn_init.fit_head_(model, loader(), max_images=20).images == 20  # the batch that reaches it is seen by the norms
    torch.testing.assert_close(model.fc.weight, few.fc.weight)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_batches_without_an_image_count_for_nothing(place: int) -> None:
    expected, model, data = HEADS["linear"].model(), HEADS["linear"].model(), loader()
    ghn_init.fit_head_(expected, data)
    data.insert(place, (data[0][0][:0], data[0][1][:0]))
    assert ghn_init.fit_head_(model, data).images == 48
    assert changed(state(model), state(expected)) == set()


def test_where_more_images_may_be_had_it_is_said_how() -> None:
    ordered = [(images, torch.arange(16) % (2 + k)) for k, (images, _) in enumerate(loader())]
    model = HEADS["linear"].model()
    way = r"make the model with an output for each class of the data, shuffle them, or let more .*: pass max_images=…\.$"
    with pytest.raises(HeadError, match=f"none of 16 images is of class .*; {way}"):
        ghn_init.fit_head_(model, ordered, max_images=16)
    with pytest.raises(HeadError, match="; make the model with an output for each class of the data\\.$"):
        ghn_init.fit_head_(model, ordered[:1])
    told = "let more than the first of them count: in Python pass max_images=…"
    assert in_options(told.replace("in Python ", "")) == told


def test_statistics_may_stay() -> None:
    model = HEADS["linear"].model()
    model.body[1].running_mean += 0.3
    before = copied(state(model))
    ghn_init.fit_head_(model, loader(), recalibrate=False)
    assert changed(before, state(model)) == set(FC)


def test_a_frozen_head_is_written_and_stays_frozen() -> None:
    model = HEADS["linear"].model()
    model.fc.requires_grad_(False)
    before = copied(state(model))
    ghn_init.fit_head_(model, loader())
    assert changed(before, state(model)) == {*FC, *STATISTICS}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    model = HEADS["linear"].model().to(dtype)
    data = [(x.to(dtype), y) for x, y in loader()]
    whole = ghn_init.fit_head_(HEADS["linear"].model(), loader())
    assert abs(ghn_init.fit_head_(model, data).accuracy - whole.accuracy) < (5 if dtype == torch.bfloat16 else 0.1)
    assert model.fc.weight.dtype == dtype


def test_wrappers_are_looked_into() -> None:
    model = HEADS["linear"].model()
    assert ghn_init.fit_head_(nn.DataParallel(model), loader()).heads == ("module.fc.weight", "module.fc.bias")
    compiled = torch.compile(model, backend="eager")
    assert ghn_init.fit_head_(compiled, loader()).heads == ("_orig_mod.fc.weight", "_orig_mod.fc.bias")


def cosine(m: Any, x: Tensor) -> Tensor:
    return F.linear(F.normalize(pooled(m, x)), F.normalize(m.w))


def poisoned() -> list[tuple[Tensor, Any]]:
    data = loader()
    data[1][0][3, 0, 0, 0] = float("nan")
    return data


def with_labels(labels: Any) -> list[tuple[Tensor, Any]]:
    return [(x, labels) for x, _ in loader()]


def interrupted() -> Iterator[Any]:
    yield from loader()[:2]
    raise OSError("the disk is gone")


def fails(model: nn.Module, data: Any, error: type[Exception], words: str) -> None:
    """Raises one clear error, and leaves all of the model as it was."""
    with torch.no_grad():
        model.train()(loader()[0][0])  # statistics that are worth keeping
    before = copied(state(model))
    with pytest.raises(error, match=words) as raised:
        ghn_init.fit_head_(model, data)
    assert len(str(raised.value).splitlines()) == 1
    assert changed(before, state(model)) == set()


OUT = (
    r"\. To data without classes no head is fitted: initialize\(…, exclude=.<head>\.\*.\) leaves it out, as images alone do\.$"
)
SINGLE = r"the loader yields single images; wrap it: torch.utils.data.DataLoader\(data, 32\)\.$"


class Once:
    """Its iterator can be used up."""

    def __init__(self) -> None:
        self.batches = iter(loader())

    def __iter__(self) -> Iterator[Any]:
        return self.batches


LABELS: dict[str, tuple[Any, str]] = {
    "whole fractions": (with_labels(torch.ones(16)), r"of shape \(16,\); expected .* of 16 images: yield labels.long\(\)\.$"),
    "true fractions": (with_labels(torch.full((16,), 0.5)), rf"one for each of 16 images{OUT}"),
    "several": (with_labels(torch.ones(16, 3)), rf"\(16, 3\); expected .* each of 16 images{OUT}"),
    "maps": (with_labels(torch.zeros(16, 6, 6).long()), rf"\(16, 6, 6\); expected .* each of 16 images{OUT}"),
    "a column": (with_labels(torch.ones(16, 1)), r"\(16, 1\); .* of 16 images: yield labels.flatten\(\).long\(\)\.$"),
    "smoothed": (with_labels(torch.rand(16, 3)), rf"\(16, 3\); .* 16 images{OUT}"),
    "none": ([x for x, _ in loader()], "the loader yields images without labels; yield"),
    "no images": ([], "the loader has no batches; pass one that yields images"),
    "fractions": (with_labels(torch.zeros(16)), r"the labels are torch.float32 of shape \(16,\); expected whole class numbers"),
    "one-hot": (
        with_labels(torch.eye(3)[[0] * 16].long()),
        r"of shape \(16, 3\); expected .* of 16 images: if they are one-hot, yield labels.argmax\(1\)\.$",
    ),
    "too few": (
        with_labels(torch.zeros(15).long()),
        r"of shape \(15,\); expected whole class numbers from 0, one for each of 16",
    ),
    "words": (with_labels(["cat"] * 16), r"the labels are a list such as .*'cat'.*; expected whole class numbers"),
    "below zero": ([(x, y - 1) for x, y in loader()], "the labels go from -1 to 1; the head 'fc.weight' has classes 0 to 2"),
    "beyond": ([(x, y + 1) for x, y in loader()], "the labels go from 1 to 3; the head 'fc.weight' has classes 0 to 2"),
    "one class": (with_labels(torch.full((16,), 2)), "all 48 images are of class 2; a classifier needs images of two classes"),
    "a class is missing": (
        with_labels(torch.arange(16) % 2),
        "the head 'fc.weight' has 3 outputs, but none of 48 images is of class 2; make the model with an output for each",
    ),
    "NaN": (
        poisoned(),
        "what the norm '.*' sees is not finite; images that are not finite themselves: 1",
    ),
    "numbers": ([3], "the loader yields int; expected a tensor"),
    "no loader": (3, "the data are a int; expected a loader"),
    "no batches": (
        TensorDataset(*labelled()),
        r"the data are a TensorDataset; .* such as torch.utils.data.DataLoader\(data, 32",
    ),
    "single images": ([(x, int(y)) for x, y in zip(*labelled(), strict=True)], SINGLE),
    "single images in mappings": ([{"image": x, "label": y} for x, y in zip(*labelled(), strict=True)], SINGLE),
    "mappings of lists": (
        [{"image": [[0.0]], "label": 1}],
        r"mappings without a tensor \('image': list, 'label': int\); .*DataLoader\(data.with_format\(\"torch\"\), 32\)\.$",
    ),
    "images once": (Once(), r"the loader yields its images once; pass list\(loader\)\.$"),
    "words for images": ([(["a", "b"], torch.arange(2))], "the loader yields tuple that begins with list; expected a"),
    "arrays": ([(np.zeros((4, 3, 8, 8)), np.arange(4))], "the loader yields tuple that begins with ndarray; expected a tensor"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_unfit_data_change_nothing(kind: str) -> None:
    data, words = LABELS[kind]
    fails(HEADS["linear"].model(), data, HeadError, words)


def test_images_that_the_model_cant_take_change_nothing() -> None:
    words = r"failed on \(float32\[2, 13\]\) from the loader: .*\. Let the loader yield what the forward takes: .*s\.$"
    fails(HEADS["linear"].model(), [(torch.zeros(4, 13), torch.arange(4) % 3)], TraceError, words)
    fails(HEADS["linear"].model(), interrupted(), OSError, "the disk is gone")
    late = [*loader(), (torch.zeros(4, 2, 6, 6), torch.arange(4) % 3)]
    fails(HEADS["linear"].model(), late, RuntimeError, "2 channels")


UNFIT: dict[str, tuple[Callable[[], Any], str]] = {
    "a backbone": (lambda: Fn(lambda m, x: m.norm(pooled(m, x)), body=body(), norm=nn.LayerNorm(5)), "no classification head"),
    "maps": (lambda: Fn(lambda m, x: m.body(x), body=body()), r"first output of Fn is of shape \(2, 5, 6, 6\)"),
    "one output": (lambda: Fn(lambda m, x: m.fc(pooled(m, x)), body=body(), fc=nn.Linear(5, 1)), "has 1 output; expected one"),
    "used twice": (lambda: Fn(lambda m, x: m.fc(pooled(m, x)) + m.fc(top(m, x)), body=body(), **linear()), "several .* leaves"),
    "on the left": (lambda: Fn(lambda m, x: (m.w @ pooled(m, x).T).T, body=body(), w=param(3, 5)), "understood; .* leaves"),
    "cosine": (lambda: Fn(cosine, body=body(), w=param(3, 5)), "no linear .* has 'w' itself .*leaves it out"),
    "weight norm": (
        lambda: Fn(lambda m, x: m.fc(pooled(m, x)), body=body(), fc=parametrizations.weight_norm(nn.Linear(5, 3))),
        "has 'fc.parametrizations.weight.original1' itself",
    ),
    "a part for each of two heads": (
        lambda: Fn(
            lambda m, x: torch.cat([m.fc(y := pooled(m, x)), m.other(y)], 1),
            body=body(),
            fc=nn.Linear(5, 2),
            other=nn.Linear(5, 1),
        ),
        "no linear layer or convolution of 3 outputs",
    ),
    "a value beside advantages": (
        lambda: Fn(lambda m, x: m.fc(y := pooled(m, x)) + m.other(y), body=body(), **linear(), other=nn.Linear(5, 1)),
        "no linear layer or convolution of 3 outputs",
    ),
    "a wide kernel": (lambda: Fn(lambda m, x: m.fc(m.body(x)).mean((2, 3)), body=body(), fc=conv(5, 3, 3)), r"kernel \(3, 3\)"),
    "a maximum": (
        lambda: Fn(lambda m, x: m.fc(m.body(x)).amax((2, 3)), body=body(), fc=conv(5, 3, 1)),
        "the model's probabilities are off by",
    ),
    "a sigmoid": (
        lambda: Fn(lambda m, x: m.fc(pooled(m, x)).sigmoid(), body=body(), **linear()),
        "neither linear nor a softmax",
    ),
    "a ReLU and no bias": (
        lambda: Fn(lambda m, x: m.fc(m.body(x)).relu().mean((2, 3)), body=body(), fc=conv(5, 3, 1, bias=False)),
        "a ReLU follows the head 'fc.weight', which has no bias",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_heads_that_cant_be_fitted_stay(kind: str) -> None:
    build, words = UNFIT[kind]
    fails(build(), loader(), HeadError, words)


def test_a_sigmoid_of_two_classes_is_none_of_them() -> None:
    model = Fn(lambda m, x: m.fc(pooled(m, x)).sigmoid(), body=body(), fc=nn.Linear(5, 2))
    fails(model, loader(classes=2), HeadError, "neither linear nor a softmax")


def test_settings_and_places() -> None:
    for value in (0, "100", None, 64.0, True):
        with pytest.raises(ValueError, match=f"max_images is {value!r}; expected a whole number, 1 at least"):
            ghn_init.fit_head_(HEADS["linear"].model(), loader(), max_images=value)  # type: ignore[arg-type]
    assert ghn_init.fit_head_(HEADS["linear"].model(), loader(), max_images=np.int64(20)).images == 20  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="expected a torch.nn.Module, got int"):
        ghn_init.fit_head_(3, loader())  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="Fn is on the meta device, without values"):
        ghn_init.fit_head_(HEADS["linear"].model().to("meta"), loader())


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    model = HEADS["linear"].model()
    fit = ghn_init.fit_head_(model.cuda(), loader())
    assert fit.accuracy == pytest.approx(ghn_init.fit_head_(HEADS["linear"].model(), loader()).accuracy, abs=3)


@pytest.mark.parametrize("turned", [False, True])
def test_a_head_that_sees_another_one_is_fitted_to_what_that_one_then_gives(turned: bool) -> None:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        first = m.first(m.body(x.flatten(1)).relu())
        return (m.second(first), first) if turned else (first, m.second(first))

    torch.manual_seed(0)
    model = Fn(forward, body=nn.Linear(108, 16), first=nn.Linear(16, 3), second=nn.Linear(3, 3))
    ghn_init.fit_head_(model, loader())
    once = copied(state(model))
    ghn_init.fit_head_(model, loader())
    for name in ("first.weight", "second.weight"):
        torch.testing.assert_close(model.state_dict()[name], once[name], rtol=1e-3, atol=1e-5)


def test_figures_are_of_images_in_the_order_in_which_they_were_read() -> None:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = pooled(m, x)
        return m.a(h), m.b(h)

    model = Fn(forward, body=body(), a=nn.Linear(5, 3), b=nn.Linear(5, 3))
    images, labels = labelled(96)
    images = images + 3 * F.one_hot(labels, 3)[..., None, None]
    assert ghn_init.fit_head_(model, DataLoader(TensorDataset(images, labels), 16, shuffle=True)).accuracy > 90


def test_a_failure_is_its_own_error_where_a_buffer_cannot_be_written() -> None:
    model = Fn(lambda m, x: m.fc(pooled(m, x)), body=body(), fc=nn.Linear(5, 2))
    model.register_buffer("mask", torch.ones(1, 4).expand(3, 4))
    before = copied(state(model))
    with pytest.raises(HeadError, match="labels go from 0 to 2"):
        ghn_init.fit_head_(model, loader())
    assert changed(before, state(model)) == set()


def test_a_sum_of_heads_is_fitted_after_each_of_them_alone() -> None:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = pooled(m, x)
        a, b = m.a(h), m.b(h)
        return a + b, b

    torch.manual_seed(0)
    model = Fn(forward, body=body(), a=nn.Linear(5, 3), b=nn.Linear(5, 3))
    fit = ghn_init.fit_head_(model, loader())
    expected = Fn(lambda m, x: forward(m, x)[0], body=model.body, a=nn.Linear(5, 3), b=nn.Linear(5, 3))
    assert ghn_init.fit_head_(expected, loader()).accuracy == fit.accuracy
    images, _ = labelled()
    torch.testing.assert_close(model.eval()(images)[0].softmax(1), expected.eval()(images).softmax(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("context", [lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("meta")])
@pytest.mark.parametrize("bias", [True, False])
def test_ambient_modes_change_nothing(context: Any, bias: bool) -> None:
    torch.manual_seed(0)
    expected = nn.Sequential(conv(3, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3, bias=bias))
    model = copy.deepcopy(expected)
    data = [(x, y.tolist()) for x, y in loader()]
    fit = ghn_init.fit_head_(expected, data)
    with context():
        found = ghn_init.fit_head_(model, data)
    assert replace(found, seconds=0.0) == replace(fit, seconds=0.0)
    assert changed(state(model), state(expected)) == set()


@pytest.mark.parametrize("normed", [True, False])
def test_images_of_another_precision_are_named(normed: bool) -> None:
    norm = nn.BatchNorm2d(5) if normed else nn.Identity()
    model = nn.Sequential(nn.Conv2d(3, 5, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).bfloat16()
    words = r"of torch.bfloat16 failed on images of torch.float32: .*images.to\(torch.bfloat16\).*model.to\(torch.float32\)"
    with pytest.raises(TraceError, match=words):
        ghn_init.fit_head_(model, loader())


def test_failures_that_have_nothing_to_do_with_precision_keep_their_words() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        if x.is_meta:
            return m.head(m.conv(x.float()).mean((2, 3)))
        raise RuntimeError("out of something")

    model = Fn(forward, conv=nn.Conv2d(3, 5, 3), head=nn.Linear(5, 3))
    with pytest.raises(RuntimeError, match="^out of something$"):
        ghn_init.fit_head_(model, [(x.double(), labels) for x, labels in loader()])


def twice() -> list[tuple[Tensor, Tensor]]:
    """Batches that differ in size, of images some of which come again."""
    images, labels = labelled()
    rows = torch.cat([torch.arange(48), torch.arange(0, 48, 3)])
    return list(zip(images[rows].split(20), labels[rows].split(20), strict=True))


def test_an_image_that_comes_again_counts_once() -> None:
    expected, model = HEADS["linear"].model(), HEADS["linear"].model()
    fit = ghn_init.fit_head_(expected, loader(), recalibrate=False)
    found = ghn_init.fit_head_(model, twice(), recalibrate=False)
    assert (fit.images, fit.copies, found.images, found.copies) == (48, 0, 48, 16)
    assert "on 48 images, without 16 copies of them (the most" in str(found)
    assert found.accuracy == fit.accuracy
    torch.testing.assert_close(model.fc.weight, expected.fc.weight)
    few = ghn_init.fit_head_(model, twice(), max_images=50)
    assert (few.images, few.copies) == (48, 2)


def test_an_image_with_two_labels_is_no_copy() -> None:
    (images, labels), *_ = loader()
    fit = ghn_init.fit_head_(HEADS["linear"].model(), [(images, labels), (images, (labels + 1) % 3)])
    assert (fit.images, fit.copies) == (32, 0)


(X, Y), *_ = loader()
BARE: dict[str, tuple[Any, str]] = {
    "a tensor": (X, r"the data are a tensor of shape \(16, 3, 6, 6\); expected a loader, which yields batches: \[images\]\.$"),
    "a tuple": ((X, Y), r"a tuple of images \(16, 3, 6, 6\) and labels; .* batches: \[\(images, labels\)\]\.$"),
    "a list": ([X, Y], r"a list of images .* and labels; .* batches: \[\(images, labels\)\]\.$"),
    "an array": ((X, Y.numpy()), r"a tuple of images .* and labels; .* batches: \[\(images, labels\)\]\.$"),
}


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("verb", [
    (ghn_init.fit_head_, HeadError),
    (lambda model, data: ghn_init.initialize(model, data=data), RecalibrationError),
    (ghn_init.recalibrate_batchnorm, RecalibrationError),
    (lambda model, data: ghn_init.choose(model, data, steps=2, rungs=2), ComparisonError),
    (lambda model, data: ghn_init.rank([lambda: model, HEADS["linear"].model], data, data, steps=2), ComparisonError),
], ids=["fit_head_", "initialize", "recalibrate", "choose", "rank"])  # fmt: skip
def test_images_in_the_place_of_a_loader_are_refused(kind: str, verb: tuple[Any, type[Exception]]) -> None:
    call, error = verb
    model = HEADS["linear"].model()
    model.body[1] = nn.Identity()  # batch norms would have been another error
    before = copied(state(model))
    data, words = BARE[kind]
    with pytest.raises(error, match=words):
        call(model, data)
    assert changed(before, state(model)) == set()


def test_batches_without_labels_may_come_in_a_tuple() -> None:
    model, expected = HEADS["linear"].model(), HEADS["linear"].model()
    images = labelled()[0]
    ghn_init.recalibrate_batchnorm(model, (images[:24], images[24:]))
    ghn_init.recalibrate_batchnorm(expected, [images[:24], images[24:]])
    assert changed(state(model), state(expected)) == set()


def test_the_first_of_several_outputs_is_said_to_count() -> None:
    def forward(m: Any, x: Tensor) -> dict[str, Tensor]:
        projected = m.projection(pooled(m, x))
        return {"features": projected, "logits": m.fc(projected)}

    model = Fn(forward, body=body(), projection=nn.Linear(5, 4), fc=nn.Linear(4, 3))
    words = r"'projection.weight' has 4 outputs, .* The first of the model's 2 outputs is what counts: .* its classes first, or"
    fails(model, loader(), HeadError, rf"{words} leave the heads out \(exclude\)\.$")
    fails(model, [(x, y + 2) for x, y in loader()], HeadError, "has classes 0 to 3. The first of the model's 2 outputs")


@pytest.mark.parametrize("features", [pooled, lambda m, x: m.body(x)])
def test_classes_behind_features_are_said_to_come_first(features: Any) -> None:
    def forward(m: Any, x: Tensor) -> dict[str, Tensor]:
        return {"features": features(m, x), "logits": m.fc(pooled(m, x))}

    words = r"The first of its 2 outputs is what counts: let the forward return its classes first\."
    fails(Fn(forward, body=body(), fc=nn.Linear(5, 3)), loader(), HeadError, words)


def test_the_head_that_is_at_fault_is_named() -> None:
    model = Fn(lambda m, x: m.a(pooled(m, x)) + m.b(top(m, x)).sigmoid(), body=body(), **two())
    fails(model, loader(), HeadError, "what follows the head 'b.weight' is neither linear nor a softmax")


@pytest.mark.parametrize("write", [ghn_init.fit_head_, lambda model, data: ghn_init.initialize(model, data=data)])
def test_an_autocast_around_it_forgets_casts_of_what_was_there_before(write: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 5), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()
    images, _ = labelled()
    with torch.autocast("cpu", torch.bfloat16):
        model(images)
        write(model, loader())
        within = model(images)
        expected = copy.deepcopy(model)(images)
    assert torch.equal(within, expected)


def test_statistics_under_autocast_are_those_without() -> None:
    torch.manual_seed(0)
    expected = nn.Sequential(*body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    model = copy.deepcopy(expected)
    ghn_init.recalibrate_batchnorm(expected, loader())
    with torch.autocast("cpu", torch.bfloat16):
        ghn_init.recalibrate_batchnorm(model, loader())
    assert changed(state(model), state(expected)) == set()


def test_an_adapter_that_starts_at_zero_stays_there() -> None:
    """The head is fitted; LoRA's B, whose results are added to it, would else be fitted like a second head."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.A, self.B = (nn.Linear(n, m, bias=False) for n, m in ((base.in_features, 2), (2, base.out_features)))
            nn.init.zeros_(self.B.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.B(self.A(x))

    torch.manual_seed(0)
    expected = nn.Sequential(*body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    model = copy.deepcopy(expected)
    model[-1] = Adapted(model[-1])
    fit = ghn_init.fit_head_(model, loader())
    ghn_init.fit_head_(expected, loader())
    assert fit.heads == ("6.base.weight", "6.base.bias")
    assert torch.equal(model[-1].base.weight, expected[-1].weight)
    assert not model[-1].B.weight.any()
