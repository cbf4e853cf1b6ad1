"""Running statistics: against plain means, over kinds of loaders, and what must not change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN
from ghn_init.errors import HeadError, RecalibrationError, TraceError, UnsupportedModelError
from zoo import Fn, conv


def network(**kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(conv(3, 4), nn.Dropout(0.5), nn.BatchNorm2d(4, **kwargs), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4))


def batches(count: int = 3, size: int = 4) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(size, 3, 8, 8) * (k + 1) for k in range(count)]


def plain_mean(model: nn.Module, images: list[Tensor]) -> Tensor:
    """The mean over batches of each batch's mean, without dropout."""
    with torch.no_grad():
        return torch.stack([model[0](x).mean((0, 2, 3)) for x in images]).mean(0)


KINDS = {
    "tensors": lambda: iter(batches()),
    "tuples": lambda: ((x, torch.zeros(4)) for x in batches()),
    "lists": lambda: DataLoader(TensorDataset(torch.cat(batches()), torch.zeros(12)), batch_size=4),
    "mappings of the forward's arguments": lambda: ({"input": x, "labels": torch.zeros(4), "id": "a"} for x in batches()),
    "mappings of other names": lambda: ({"image": x, "label": torch.zeros(4)} for x in batches()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_plain_means_for_every_kind_of_loader(kind: str) -> None:
    model = network()
    assert ghn_init.recalibrate_batchnorm(model, KINDS[kind]()) is model
    torch.testing.assert_close(model[2].running_mean, plain_mean(model, batches()))
    assert model[2].num_batches_tracked == 3


def test_the_odd_last_image_of_a_loader_is_left_out() -> None:
    images = [*batches(), torch.randn(1, 3, 8, 8)]
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))  # of one image a norm over single positions raises
    ghn_init.recalibrate_batchnorm(pooled, images)
    means = torch.stack([x.mean((0, 2, 3)) for x in images[:-1]])
    torch.testing.assert_close(pooled[1].running_mean, means.mean(0))
    model = network()
    single = [x[:1] for x in batches()]  # all are of one image: they count
    ghn_init.recalibrate_batchnorm(model, single)
    torch.testing.assert_close(model[2].running_mean, plain_mean(model, single))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_batches_without_an_image_count_for_nothing(place: int) -> None:
    model, images = network(), batches()
    images.insert(place, images[0][:0])
    ghn_init.recalibrate_batchnorm(model, images)
    torch.testing.assert_close(model[2].running_mean, plain_mean(model, batches()))
    assert model[2].num_batches_tracked == 3
    with pytest.raises(RecalibrationError, match="no batches"):
        ghn_init.recalibrate_batchnorm(model, [images[place]])


def test_mappings_with_several_arguments_are_keywords() -> None:
    forms = {
        "named": lambda m, image, mask, labels=None: m.norm(m.conv(image) * mask),
        "any": lambda m, **inputs: m.norm(m.conv(inputs["image"]) * inputs["mask"]),
    }
    for forward in forms.values():
        model = Fn(forward, conv=conv(3, 4), norm=nn.BatchNorm2d(4))
        model.forward = forward.__get__(model)  # a signature of its own
        loader = [{"image": x, "mask": torch.full((1,), 2.0), "labels": torch.zeros(4)} for x in batches()]
        ghn_init.recalibrate_batchnorm(model, loader)
        expected = 2 * plain_mean([model.conv], batches())  # type: ignore[arg-type]
        torch.testing.assert_close(model.norm.running_mean, expected)


@pytest.mark.parametrize(("most", "used"), [(1, 1), (2, 2), (100, 3), (None, 3)])
def test_the_number_of_batches_is_bounded(most: int | None, used: int) -> None:
    seen = []

    def loader() -> Iterator[Tensor]:
        for x in batches():
            seen.append(x)
            yield x

    model = ghn_init.recalibrate_batchnorm(network(), loader(), max_batches=most)
    assert len(seen) == model[5].num_batches_tracked == used


def test_modes_momenta_and_parameters_stay() -> None:
    model = network(momentum=0.3)
    model.train()
    model[4].eval()
    modes = [module.training for module in model.modules()]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ghn_init.recalibrate_batchnorm(model, batches())
    assert [module.training for module in model.modules()] == modes
    assert (model[2].momentum, model[5].momentum) == (0.3, 0.1)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


def test_norms_without_statistics_are_left_alone_and_a_model_of_them_is_not_run() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4))
    ghn_init.recalibrate_batchnorm(model, batches())
    assert model[1].running_mean is None
    assert model[2].num_batches_tracked == 3
    plain = nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False))
    used = iter(batches())
    ghn_init.recalibrate_batchnorm(plain, used)
    assert len(list(used)) == 3


def fails(model: nn.Module, loader: Any, error: type[Exception], words: str) -> None:
    """Raises, and leaves the model as it was."""
    model(batches()[0])
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with pytest.raises(error, match=words):
        ghn_init.recalibrate_batchnorm(model, loader)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert model[2].momentum == model[5].momentum == 0.1


def test_batches_of_one_image_are_too_small_for_norms_over_it() -> None:
    model = nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    one_by_one = [(x, torch.tensor([k % 2])) for k, x in enumerate(torch.cat(batches()).split(1))]
    words = r"norms need two images: pass larger batches \(Expected more than 1 value per channel"
    with pytest.raises(RecalibrationError, match=words):
        ghn_init.recalibrate_batchnorm(model, one_by_one)
    with pytest.raises(HeadError, match=words):
        ghn_init.fit_head_(model, one_by_one)


def test_failures_change_nothing() -> None:
    used = iter([])
    fails(network(), used, RecalibrationError, "the loader has no batches; pass one that yields images")
    fails(network(), [3], RecalibrationError, "the loader yields int; expected a tensor")
    words = r"mappings with \['a', 'b', 'label'\], the model's forward takes \['input'\]"
    fails(network(), [{"a": batches()[0], "b": torch.zeros(1), "label": 0}], RecalibrationError, words)
    fails(network(), [batches()[0], torch.zeros(2, 5, 8, 8)], RuntimeError, "5 channels")
    with pytest.raises(ValueError, match="max_batches is 0; expected at least 1"):
        ghn_init.recalibrate_batchnorm(network(), batches(), max_batches=0)


LAYERS: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any]]] = {
    "conv": (lambda m, x: m.layer(x), {"layer": nn.Conv2d(3, 8, 3)}),
    "conv without a bias": (lambda m, x: m.layer(x), {"layer": nn.Conv2d(3, 8, 3, bias=False)}),
    "linear": (lambda m, x: m.layer(x), {"layer": nn.Linear(8, 8)}),
    "linear without a bias": (lambda m, x: m.layer(x), {"layer": nn.Linear(8, 8, bias=False)}),
    "layer norm": (lambda m, x: m.layer(x), {"layer": nn.LayerNorm(8)}),
    "batch norm": (lambda m, x: m.norm(x), {}),
    "matmul": (lambda m, x: x @ m.weight, {"weight": nn.Parameter(torch.ones(8, 8))}),
    "einsum": (lambda m, x: torch.einsum("bchw,wd->bchd", x, m.weight), {"weight": nn.Parameter(torch.ones(8, 8))}),
    "PReLU": (lambda m, x: m.layer(x), {"layer": nn.PReLU()}),
    "mean": (lambda m, x: m.norm(x - x.mean()), {}),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8])
def test_failures_of_another_precision_say_so(layer: str, dtype: torch.dtype) -> None:
    forward, parts = LAYERS[layer]
    model = copy.deepcopy(Fn(forward, norm=nn.BatchNorm2d(3), **parts))
    way = r"yield images.float\(\) / 255" if dtype == torch.uint8 else r"yield images.to\(torch.float32\), or convert"
    images = [torch.ones(4, 3, 8, 8, dtype=dtype)]
    if dtype == torch.float16 and layer in ("layer norm", "batch norm", "mean"):
        ghn_init.recalibrate_batchnorm(model, images)  # they take it
        return
    with pytest.raises(TraceError, match=f"of torch.float32 failed on images of {dtype}: .*{way}"):
        ghn_init.recalibrate_batchnorm(model, images)


def test_a_model_without_values_has_no_statistics() -> None:
    with pytest.raises(UnsupportedModelError, match="Sequential is on the meta device, without values; initialise it first"):
        ghn_init.recalibrate_batchnorm(network().to("meta"), batches())
    model = conv(3, 8).to("meta")
    assert ghn_init.recalibrate_batchnorm(model, batches()) is model  # there is nothing to do


def test_a_forward_that_fails_of_itself_keeps_its_words() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        raise RuntimeError("the tokenizer's model_type is not set")

    for dtype in (torch.float64, torch.uint8):
        with pytest.raises(RuntimeError, match="^the tokenizer's model_type is not set$"):
            ghn_init.recalibrate_batchnorm(Fn(forward, norm=nn.BatchNorm2d(3)), [torch.ones(4, 3, 8, 8, dtype=dtype)])


def test_an_initialised_model_can_then_be_evaluated(ghn: GHN) -> None:
    model = ghn_init.initialize(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, affine=False)), ghn, torch.zeros(2, 3, 8, 8))
    images = [torch.randn(64, 3, 8, 8) + 5]
    reset = model.eval()(images[0])
    calibrated = ghn_init.recalibrate_batchnorm(model, images)(images[0])
    assert reset.mean((0, 2, 3)).abs().max() > 0.1
    torch.testing.assert_close(calibrated.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(calibrated.std((0, 2, 3)), torch.ones(4), rtol=0, atol=1e-2)


@pytest.mark.gpu
def test_batches_go_where_the_model_is() -> None:
    model = ghn_init.recalibrate_batchnorm(network().cuda(), batches())
    torch.testing.assert_close(model[2].running_mean.cpu(), plain_mean(model.cpu(), batches()), rtol=1e-3, atol=1e-4)


def test_norms_that_no_batch_comes_to_keep_their_statistics() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.seen(m.body(x)) if not m.training else m.unseen(m.body(x))

    model = Fn(forward, body=conv(), seen=nn.BatchNorm2d(8), unseen=nn.BatchNorm2d(8))
    model(torch.randn(8, 3, 8, 8) + 3)
    before = {name: buffer.clone() for name, buffer in model.unseen.named_buffers()}
    ghn_init.recalibrate_batchnorm(model, batches())
    assert int(model.seen.num_batches_tracked) == 3
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.unseen.named_buffers())


def test_mappings_are_given_to_wrapped_models_as_to_others() -> None:
    class Named(Fn):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image)

    model = Named(lambda m, x: m.norm(m.body(x)), body=conv(), norm=nn.BatchNorm2d(8))
    data = [{"image": x, "index": torch.arange(len(x))} for x in batches()]
    ghn_init.recalibrate_batchnorm(nn.DataParallel(model), data)
    assert int(model.norm.num_batches_tracked) == 3


def test_models_that_could_not_be_predicted_are_given_mappings_too() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = nn.BatchNorm2d(3), nn.LazyLinear(2)

        def forward(self, image: Tensor) -> Tensor:
            return self.fc(self.norm(image).flatten(1))

    model = Lazy()
    ghn_init.recalibrate_batchnorm(model, [{"image": x, "label": torch.zeros(len(x))} for x in batches()])
    assert int(model.norm.num_batches_tracked) == 3


def test_norms_that_do_not_count_their_batches_are_recalibrated() -> None:
    class Uncounted(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
            )

    model = nn.Sequential(Uncounted(3))
    ghn_init.recalibrate_batchnorm(model, [x + 3 for x in batches()])
    assert bool((model[0].running_mean > 0.5).all())  # type: ignore[operator,union-attr]


def test_norms_that_are_run_without_being_called_are_recalibrated() -> None:
    model = Fn(lambda m, x: m.norm.forward(m.body(x)), body=conv(), norm=nn.BatchNorm2d(8))
    ghn_init.recalibrate_batchnorm(model, batches())
    assert bool(model.norm.running_mean.any())


class ByHand(nn.Module):
    """A norm of somebody's own, which asks for training as `torch.nn.BatchNorm2d` does."""

    def __init__(self, channels: int, aten: bool = False) -> None:
        super().__init__()
        self.aten, self.gain, self.shift = aten, nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("average", torch.full((channels,), float("nan")))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.aten:
            return torch.batch_norm(
                x, self.gain, self.shift, self.average, self.spread, self.training, 0.1, 1e-5, torch.backends.cudnn.enabled
            )
        return nn.functional.batch_norm(x, self.average, self.spread, self.gain, self.shift, self.training)


@pytest.mark.parametrize("aten", [False, True])
def test_norms_that_are_called_as_functions_have_plain_means_too(aten: bool) -> None:
    model = nn.Sequential(ByHand(3, aten), nn.BatchNorm2d(3), ByHand(3, aten)).train()
    expected = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    for each in (model, expected):
        ghn_init.recalibrate_batchnorm(each, [x + 3 for x in batches()])
    for own, other in ((model[0], expected[0]), (model[2], expected[2])):
        torch.testing.assert_close(own.average, other.running_mean)
        torch.testing.assert_close(own.spread, other.running_var)
    torch.testing.assert_close(model[1].running_var, expected[1].running_var)
    assert all(module.training for module in model.modules())


def test_instance_norms_have_plain_means_too() -> None:
    model = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))
    images = [x + 3 for x in batches()]
    ghn_init.recalibrate_batchnorm(model, images)
    torch.testing.assert_close(model[0].running_mean, torch.stack([x.mean((0, 2, 3)) for x in images]).mean(0))
    torch.testing.assert_close(model[0].running_var, torch.stack([x.var((2, 3)).mean(0) for x in images]).mean(0))


def test_functional_norms_without_a_batch_or_frozen_by_design_stay() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "mean", "var"):
                self.register_buffer(name, torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.batch_norm(x, self.mean, self.var, self.weight, self.bias, training=False)

    model = Fn(lambda m, x: m.frozen(m.used(x)), frozen=Frozen(), used=ByHand(3), unused=ByHand(3))
    ghn_init.recalibrate_batchnorm(model, batches())
    assert model.frozen.mean.eq(1).all()
    assert model.unused.average.isnan().all()
    assert model.used.average.isfinite().all()


def test_failures_leave_functional_norms_as_they_were() -> None:
    model = nn.Sequential(ByHand(3))
    model[0].average.fill_(5)
    with pytest.raises(RuntimeError, match="4 channels|should contain 4"):
        ghn_init.recalibrate_batchnorm(model, [batches()[0], torch.zeros(2, 4, 8, 8)])
    assert model[0].average.eq(5).all()


def test_images_that_are_not_finite_are_refused() -> None:
    images = batches()
    images[1][2, 0, 0, 0] = float("nan")
    fails(
        network(), images, RecalibrationError, "what the norm '2' sees is not finite; images that are not finite themselves: 1"
    )
    model = network()
    with torch.no_grad():
        model[4].weight.fill_(float("inf"))
    with pytest.raises(RecalibrationError, match="what the norm '5' sees is not finite; look at the weights before it"):
        ghn_init.recalibrate_batchnorm(model, batches())
    assert model[5].running_var.eq(1).all()


def test_one_batch_shows_that_no_norm_takes_anything_from_images() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("std", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return (x - self.mean[:, None, None]) / self.std[:, None, None]

    read = []

    def loader() -> Iterator[Tensor]:
        for batch in batches():
            read.append(batch)
            yield batch

    ghn_init.recalibrate_batchnorm(nn.Sequential(Scaled(), conv()), loader())
    assert len(read) == 1


class Counting(nn.Module):
    """Counts its passes and averages its inputs, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.tensor(7))
        self.register_buffer("average", torch.full((3,), 2.0))
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.average.lerp_(x.mean((0, 2, 3)), 0.1)
        return self.head(self.norm(x).mean((2, 3)))


LABELLED = [(x, torch.tensor([0, 1, 0, 1])) for x in batches()]


@pytest.mark.parametrize(
    "verb",
    [
        lambda model: ghn_init.recalibrate_batchnorm(model, LABELLED),
        lambda model: ghn_init.fit_head_(model, LABELLED),
        lambda model: ghn_init.fit_head_(model, LABELLED, recalibrate=False),
        lambda model: ghn_init.initialize(model, data=LABELLED),
    ],
)
def test_other_buffers_that_a_forward_writes_stay(verb: Callable[[nn.Module], object]) -> None:
    model = Counting()
    before = copy.deepcopy(model)
    verb(model)
    assert model.passes == 7
    assert torch.equal(model.average, torch.full((3,), 2.0))
    assert not all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True))


def test_a_statistic_that_two_modules_hold_is_new() -> None:
    model = network()
    model.register_buffer("seen", model[2].running_mean)
    ghn_init.recalibrate_batchnorm(model, batches())
    torch.testing.assert_close(model.get_buffer("seen"), plain_mean(model, batches()))
