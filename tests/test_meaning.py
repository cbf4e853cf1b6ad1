"""What a prediction would destroy is kept, with a true reason; one argument predicts it all the same."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ghn_init
from ghn_init import GHN
from ghn_init.prediction.meaning import EQUALISED, FROZEN, LATE, PHASE, WAVE
from ghn_init.prediction.starts import BESIDE, GAINS, NEAR_ZERO, OFF_CENTRE, SAME, UNMIXED, ZERO
from ghn_init.tracing.rules.reasons import INVERTED
from zoo import ZOO, Case, Fn, conv, images, param, vectors


def frozen_backbone() -> nn.Module:
    backbone = nn.Sequential(conv(), nn.BatchNorm2d(8)).requires_grad_(False)
    backbone[1].running_mean.fill_(3.0)
    return Fn(lambda m, x: m.fc(m.backbone(x).mean((2, 3))), backbone=backbone, fc=nn.Linear(8, 10))


def with_adapter() -> nn.Module:
    up = nn.Linear(4, 8)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)
    return Fn(
        lambda m, x: m.head(m.fc(x) + m.up(m.down(x))),
        fc=nn.Linear(8, 8),
        down=nn.Linear(8, 4),
        up=up,
        head=nn.Linear(8, 10),
    )


def student_and_teacher() -> nn.Module:
    student = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(512, 4))
    teacher = copy.deepcopy(student).requires_grad_(False)
    return Fn(lambda m, x: F.mse_loss(m.p(m.s(x)), m.t(x)), s=student, t=teacher, p=nn.Linear(4, 4))


def test_a_frozen_backbone_keeps_its_values_and_statistics(ghn: GHN) -> None:
    model = frozen_backbone()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    prediction = ghn_init.predict(model, ghn, images(), head=True)
    assert prediction.kept == dict.fromkeys((f"backbone.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")), FROZEN)
    prediction.apply_()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


@pytest.mark.parametrize("overwrite", ["*", ["backbone.0.*", "backbone.1.weight", "backbone.1.bias"]])
def test_frozen_parameters_are_predicted_where_the_caller_says_so(ghn: GHN, overwrite: Any) -> None:
    model = frozen_backbone()
    assert ghn_init.predict(model, ghn, images(), head=True, overwrite=overwrite).kept == {}
    ghn_init.initialize(model, ghn, images(), head=True, overwrite=overwrite)
    assert model.backbone[1].running_mean.abs().max() < 1  # those of noise in the place of 3
    assert not model.backbone[0].weight.requires_grad


def test_a_model_that_is_frozen_as_a_whole_is_predicted(ghn: GHN) -> None:
    assert ghn_init.predict(frozen_backbone().requires_grad_(False), ghn, images(), head=True).kept == {}


def test_an_adapter_that_starts_at_zero_stays_so_with_its_bias(ghn: GHN) -> None:
    model = with_adapter()
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"up.weight": ZERO, "up.bias": ZERO}
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True, overwrite="up.*").kept == {}


def near_zero(weight: Tensor) -> None:
    nn.init.normal_(weight, std=1e-4)


def ones(weight: Tensor) -> None:
    nn.init.constant_(weight, 0.25)


STARTS = {ZERO: nn.init.zeros_, NEAR_ZERO: near_zero, UNMIXED: nn.init.eye_, SAME: ones}


@pytest.mark.parametrize("why", STARTS)
def test_a_layer_that_starts_as_something_on_purpose_keeps_its_weight_and_bias(ghn: GHN, why: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 10))
    STARTS[why](model[1].weight)
    kept = {"1.weight": why} | ({} if why == SAME else {"1.bias": BESIDE})
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == kept
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True, overwrite="1.*").kept == {}
    for layer in (model[0], model[2]):
        STARTS[why](layer.weight)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


def test_a_transformer_of_spatial_maps_starts_as_the_identity(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        theta = m.theta(m.a(x).mean((2, 3))).view(-1, 2, 3)
        return m.fc(F.grid_sample(x, F.affine_grid(theta, list(x.shape), False), align_corners=False).flatten(1))

    model = Fn(forward, a=conv(), theta=nn.Linear(8, 6), fc=nn.Linear(192, 10))
    nn.init.zeros_(model.theta.weight)
    model.theta.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])
    ghn_init.initialize(model, ghn, images())
    assert model.theta.bias.tolist() == [1, 0, 0, 0, 1, 0]


def dirac(groups: int = 1, scale: float = 1.0) -> nn.Module:
    layer = conv(8, 8, groups=groups)
    nn.init.dirac_(layer.weight, groups)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


def eye(inputs: int, outputs: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.dirac_(layer.weight)
    return layer


def upsampling(groups: int = 1) -> nn.Module:
    layer, side = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=groups), torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight.data.zero_()
    for channel in range(8):
        layer.weight.data[channel, channel % (8 // groups)] = side[:, None] * side
    return layer


def permutation() -> nn.Module:
    layer = nn.Conv2d(8, 8, 1)
    layer.weight.data = torch.eye(8)[torch.randperm(8)][..., None, None]
    return layer


PASSING = {
    "the identity": dirac,
    "half of it": lambda: dirac(scale=0.5),
    "in groups": lambda: dirac(4),
    "of each channel": lambda: dirac(8),
    "to more channels": lambda: eye(8, 16),
    "to fewer": lambda: eye(8, 4),
    "a permutation": permutation,
    "a bilinear upsampling": upsampling,
    "that of each channel": lambda: upsampling(8),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_layer_that_starts_by_passing_channels_on_is_kept(ghn: GHN, name: str) -> None:
    layer = PASSING[name]()
    model = nn.Sequential(conv(), nn.ReLU(), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))
    model(images())
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {"2.weight": UNMIXED, "2.bias": BESIDE}
    nn.init.kaiming_normal_(layer.weight)
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}


def test_passing_on_is_no_purpose_where_all_layers_do(ghn: GHN) -> None:
    model = nn.Sequential(eye(3, 8), dirac(), nn.Flatten(), nn.Linear(512, 10))
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}
    model[0] = nn.Identity()
    assert ghn_init.predict(model, ghn, images(8), head=True).kept == {}


def test_weights_with_few_channels_or_zeros_are_no_identities(ghn: GHN) -> None:
    single, sparse = conv(1, 1), nn.Linear(64, 64)
    nn.init.sparse_(sparse.weight, 0.9)
    model = nn.Sequential(conv(3, 1), single, nn.Flatten(), sparse, nn.Linear(64, 10))
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}


@pytest.mark.parametrize("log", [True, False])
def test_a_deviation_that_is_a_layer_of_its_own_keeps_its_logarithm(ghn: GHN, log: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        variance = F.linear(x.square(), F.softplus(m.rho).square())
        return m.fc(F.linear(x, m.mu) + variance.sqrt() * torch.randn_like(variance))

    rho = nn.Parameter(0.1 * torch.randn(8, 8) - 5) if log else param(8, 8)
    model = Fn(forward, mu=param(8, 8), rho=rho, fc=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == ({"rho": OFF_CENTRE} if log else {})


def test_a_narrow_layer_of_a_usual_small_deviation_is_predicted(ghn: GHN) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 64), nn.Linear(64, 4), nn.Linear(4, 1), nn.Linear(1, 10))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.006)
    nn.init.normal_(model[2].weight, std=1e-4)  # of four elements nothing is known
    assert ghn_init.predict(model, ghn, vectors(2, 1), head=True).kept == {}


@pytest.mark.parametrize("gains", [True, False])
def test_a_table_of_gains_keeps_its_values(ghn: GHN, gains: bool) -> None:
    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        gain, shift = m.table(y)[:, :, None, None].chunk(2, 1)
        return m.head((gain * m.norm(m.a(x)) + shift).mean((2, 3)))

    table = nn.Embedding(5, 16)
    if gains:
        table.weight.data = torch.cat([1 + 0.02 * torch.randn(5, 8), torch.zeros(5, 8)], 1)
    model = Fn(forward, a=conv(), norm=nn.BatchNorm2d(8, affine=False), table=table, head=nn.Linear(8, 10))
    kept = ghn_init.predict(model, ghn, (images(), torch.tensor([0, 1])), head=True).kept
    assert kept == ({"table.weight": GAINS} if gains else {})


def test_zero_convolutions_may_outnumber_other_weights(ghn: GHN) -> None:
    zero = [conv(8, 8, 1) for _ in range(4)]
    for parameter in nn.ModuleList(zero).parameters():
        nn.init.zeros_(parameter)
    model = Fn(lambda m, x: [z(m.c(x)) for z in m.z], c=conv(), z=nn.ModuleList(zero))
    names = {f"z.{k}.{kind}" for k in range(4) for kind in ("weight", "bias")}
    assert ghn_init.predict(model, ghn, images()).kept == dict.fromkeys(names, ZERO)


def test_a_head_that_starts_at_zero_is_a_head_like_others(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 10))
    nn.init.zeros_(model[1].weight)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


def test_heads_that_are_zero_do_not_count(ghn: GHN) -> None:
    model = with_adapter()
    nn.init.zeros_(model.head.weight)
    assert set(ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept) == {"up.weight", "up.bias"}


@pytest.mark.parametrize("norms", [True, False])
def test_a_model_that_was_never_initialised_is_not_zero_on_purpose(ghn: GHN, norms: bool) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), conv(8), nn.Flatten(), nn.Linear(512, 10))
    for name, parameter in model.named_parameters():
        if norms or not name.startswith("1."):
            nn.init.zeros_(parameter)
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}


def test_a_frozen_copy_stays_a_copy(ghn: GHN) -> None:
    model = student_and_teacher()
    prediction = ghn_init.predict(model, ghn, images())
    rows = {row.name: row for row in prediction.report.rows}
    assert rows["t.0.weight"].conditioning == "the same as 's.0.weight', of which it is a frozen copy"
    assert torch.equal(prediction.tensors["t.3.bias"], prediction.tensors["s.3.bias"])
    before = model.s[0].weight.clone()
    prediction.apply_()
    assert not torch.equal(model.s[0].weight, before)
    assert all(torch.equal(a, b) for a, b in zip(model.s.state_dict().values(), model.t.state_dict().values(), strict=True))


COPIES = {
    "not in the forward": lambda m, x: m.p(m.s(x)),
    "which sees another input": lambda m, x: m.p(m.s(x) - m.t(3 * x + 1)),
}


@pytest.mark.parametrize("labelled", [None, False, True])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_has_the_statistics_of_its_original(ghn: GHN, name: str, affine: bool, labelled: bool | None) -> None:
    student = nn.Sequential(conv(), nn.BatchNorm2d(8, affine=affine), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    model = Fn(COPIES[name], s=student, t=copy.deepcopy(student).requires_grad_(False), p=nn.Linear(4, 4))
    x, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    ghn_init.initialize(model, ghn, images(), data=None if labelled is None else [(x, labels) if labelled else x])
    assert model.s[1].running_mean.any()
    assert all(torch.equal(a, b) for a, b in zip(model.s.state_dict().values(), model.t.state_dict().values(), strict=True))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_frozen_weights_without_elements_are_no_copies(ghn: GHN) -> None:
    backbone = nn.Sequential(conv(), nn.Flatten(), nn.Linear(512, 0)).requires_grad_(False)
    model = Fn(lambda m, x: (m.backbone(x), m.fc(x)), backbone=backbone, fc=conv())
    assert "backbone.2.weight" in ghn_init.predict(model, ghn, images()).kept


def test_a_copy_of_what_is_kept_is_kept(ghn: GHN) -> None:
    prediction = ghn_init.predict(student_and_teacher(), ghn, images(), exclude="s.0.weight")
    assert prediction.kept["t.0.weight"] == FROZEN
    assert "t.0.bias" in prediction.tensors


def test_a_copy_that_is_trained_gets_a_warning(ghn: GHN) -> None:
    model = student_and_teacher()
    model.t.requires_grad_(True)
    assert any("'t.0.weight' is a copy of 's.0.weight', but not frozen" in w for w in warnings(model, ghn, images()))


@pytest.mark.parametrize("hide", [lambda copy: [copy], lambda copy: {"teacher": copy}, lambda copy: (None, copy)])
def test_a_copy_that_no_module_registers_gets_a_warning(ghn: GHN, hide: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    model[1].average = hide(copy.deepcopy(model))
    (warning,) = warnings(model, ghn, vectors(2, 8))
    assert re.fullmatch(r"'1\.average\[.*\]\.0\.weight', which no module registers, is a copy of '0\.weight': .*", warning)
    model[1].average = hide(model[0])
    assert warnings(model, ghn, vectors(2, 8)) == ()


class Shadow:
    def __init__(self, module: nn.Module) -> None:
        self.weights = [parameter.detach().clone() for parameter in module.parameters()]


def test_a_copy_in_buffers_or_in_an_object_gets_a_warning(ghn: GHN) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    words = "which is no parameter, is a copy of 'net.0.weight': they will differ"
    model = Fn(lambda m, x: m.net(x), net=net, average=Shadow(net))
    assert any(w.startswith(f"'average.weights[0]', {words}") for w in warnings(model, ghn, vectors(2, 8)))
    model = Fn(lambda m, x: m.net(x), net=net, average=nn.Module())
    model.average.register_buffer("0weight", net[0].weight.detach().clone())
    assert any(w.startswith(f"'average.0weight', {words}") for w in warnings(model, ghn, vectors(2, 8)))
    model = Fn(lambda m, x: m.net(x), net=net, turned=net[0].weight.detach().T.clone())
    assert any(w.startswith(f"'turned', {words}") for w in warnings(model, ghn, vectors(2, 8)))
    model = Fn(lambda m, x: m.net(x), net=net, view=net[0].weight.detach())
    assert warnings(model, ghn, vectors(2, 8)) == ()


def test_repeated_layers_are_no_copies(ghn: GHN) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert warnings(encoder, ghn, vectors(2, 5, 8)) == ()


def warnings(model: nn.Module, ghn: GHN, inputs: Any) -> tuple[str, ...]:
    return tuple(w for w in ghn_init.predict(model, ghn, inputs).report.warnings if not w.startswith("parameters that"))


@pytest.mark.parametrize("row", [0, -1])
@pytest.mark.parametrize("table", [nn.Embedding, nn.EmbeddingBag])
def test_rows_of_padding_keep_their_values(ghn: GHN, table: Any, row: int) -> None:
    model = nn.Sequential(table(50, 8, padding_idx=row), nn.Linear(8, 4))
    ghn_init.initialize(model, ghn, torch.zeros(2, 5).long())
    assert (model[0].weight[row] == 0).all()
    assert (model[0].weight[1:-1] != 0).all()
    ghn_init.initialize(model, ghn, torch.zeros(2, 5).long(), overwrite="0.weight")
    assert (model[0].weight[row] != 0).all()


TABLES = {
    "by a function": lambda m, i: m.o(F.embedding(i, m.e.weight).mean(1)),
    "by index": lambda m, i: m.o(m.e.weight[i].mean(1)),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_row_of_padding_of_a_table_without_its_module_keeps_its_value(ghn: GHN, name: str) -> None:
    model = Fn(TABLES[name], e=nn.Embedding(50, 16, padding_idx=0), o=nn.Linear(16, 4))
    ghn_init.initialize(model, ghn, torch.zeros(2, 5).long())
    assert not model.e.weight[0].any()
    assert model.e.weight[1:].any(1).all()


def test_a_row_of_padding_of_a_model_without_storage_is_zero(ghn: GHN) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(50, 8, padding_idx=3), nn.Linear(8, 4))
    prediction = ghn_init.predict(model, ghn, torch.zeros(2, 5).long())
    prediction.model.to_empty(device="cpu")
    prediction.apply_()
    assert (model[0].weight[3] == 0).all()


def test_each_of_several_heads_is_kept_unless_its_task_is_asked_for(ghn: GHN) -> None:
    heads = {"a": nn.Linear(8, 7), "b": nn.Linear(8, 5), "c": nn.Linear(8, 10)}
    model = Fn(lambda m, x: tuple(getattr(m, name)(m.body(x)) for name in "abc"), body=nn.Linear(8, 8), **heads)
    assert len(ghn_init.predict(model, ghn, vectors(2, 8)).kept) == 6
    kept = ghn_init.predict(model, ghn, vectors(2, 8), head="images").kept
    assert set(kept) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert kept["a.weight"].startswith("classification head of 7 classes")
    assert kept["b.bias"].startswith("classification head of 5 classes")


def test_names_match_themselves(ghn: GHN) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d = nn.ModuleDict({name: nn.Linear(8, 8) for name in ("h[0]", "x*", "xy")})

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.d.values():
                x = layer(x)
            return x

    for pattern, names in {
        "d.h[0].weight": {"d.h[0].weight"},
        "d.h[0].*": {"d.h[0].weight", "d.h[0].bias"},
        "d.x*.weight": {"d.x*.weight"},
        "d.[x]y.weight": {"d.xy.weight"},
    }.items():
        assert set(ghn_init.predict(Named(), ghn, vectors(2, 8), exclude=pattern, head=True).kept) == names


SCALED = {
    "a number": lambda m, x: F.linear(x, m.w * 0.25),
    "a number before it": lambda m, x: x @ (0.25 * m.w.t()),
    "a divisor": lambda m, x: F.linear(x, m.w / 4),
    "a buffer": lambda m, x: F.linear(x, m.w * m.c),
    "a tensor made on the way": lambda m, x: F.linear(x, torch.rsqrt(torch.tensor(16.0)) * m.w),
}


@pytest.mark.parametrize("name", SCALED)
def test_what_a_constant_scales_is_predicted_so_that_the_product_is_the_prediction(ghn: GHN, name: str) -> None:
    plain = ghn_init.predict(Fn(lambda m, x: F.linear(x, m.w), w=param(8, 6)), ghn, vectors(2, 6), head=True)
    model = Fn(SCALED[name], w=param(8, 6), c=nn.Buffer(torch.tensor(0.25)))
    scaled = ghn_init.predict(model, ghn, vectors(2, 6), head=True)
    torch.testing.assert_close(0.25 * scaled.tensors["w"], plain.tensors["w"])


SCALED_PARTS = {
    "a number": lambda w, c: w * 0.25,
    "a divisor": lambda w, c: w / 4,
    "a buffer before it": lambda w, c: c * w,
}


@pytest.mark.parametrize("name", SCALED_PARTS)
@pytest.mark.parametrize("join", [lambda p, q: torch.cat([p, q]), lambda p, q: torch.stack([p, q]).flatten(0, 1)])
def test_what_scales_a_concatenation_scales_its_parts(ghn: GHN, name: str, join: Any) -> None:
    parts = {"p": param(8, 6), "q": param(8, 6)}
    plain = ghn_init.predict(Fn(lambda m, x: F.linear(x, join(m.p, m.q)), **parts), ghn, vectors(2, 6), head=True)
    model = Fn(lambda m, x: F.linear(x, SCALED_PARTS[name](join(m.p, m.q), m.c)), **parts, c=nn.Buffer(torch.tensor(0.25)))
    scaled = ghn_init.predict(model, ghn, vectors(2, 6), head=True)
    for part in parts:
        torch.testing.assert_close(0.25 * scaled.tensors[part], plain.tensors[part])


EQUALISED_LAYERS = {
    "the input": lambda m, x: m.head(F.linear(0.1 * x, m.w)),
    "the result": lambda m, x: m.head(F.linear(x, m.w) * m.c),
    "the result's divisor": lambda m, x: m.head((x @ m.w.T) / 10),
    "the factor of a product": lambda m, x: m.head(torch.addmm(x[:, :8], x, m.w.T, alpha=0.1)),
    "the result with its bias": lambda m, x: m.head(F.linear(x, m.w, m.c.expand(8)) / 10),
}


@pytest.mark.parametrize("name", EQUALISED_LAYERS)
def test_a_weight_that_belongs_to_a_constant_beside_its_layer_is_kept(ghn: GHN, name: str) -> None:
    model = Fn(EQUALISED_LAYERS[name], w=param(8, 64), c=nn.Buffer(torch.tensor(0.1)), head=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {"w": EQUALISED}
    nn.init.kaiming_normal_(model.w)
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {}


BEHIND = {
    "one": lambda y: torch.sin(30 * y),
    "two": lambda y: torch.relu(10 * y * 3),
    "one with another in a branch": lambda y: torch.sin(30 * y) + torch.sin(2 * y),
    "doublings, none of them large": lambda y: torch.sin(2 * y) + torch.sin(4 * y) + torch.sin(8 * y),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_weight_that_is_small_for_a_large_constant_is_kept(ghn: GHN, name: str) -> None:
    model = Fn(lambda m, x: m.c(BEHIND[name](m.a(x))), a=nn.Linear(64, 64), c=nn.Linear(64, 64))
    nn.init.normal_(model.a.weight, std=2**0.5 / 8 / 30)
    kept = {"a.weight": LATE} if name in ("one", "two") else {}
    kept |= {"a.bias": PHASE} if name == "one" else {}
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == kept
    nn.init.kaiming_normal_(model.a.weight)
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {}


WAVES = {
    "features": lambda m, x: torch.cat([torch.sin(x @ m.w), torch.cos(x @ m.w)], -1),
    "features with phases": lambda m, x: torch.cos(F.linear(x, m.w.T, m.b)),
}


@pytest.mark.parametrize("name", WAVES)
def test_frequencies_of_fourier_features_are_kept_with_their_phases(ghn: GHN, name: str) -> None:
    def build(wave: bool) -> nn.Module:
        forward = WAVES[name] if wave else lambda m, x: torch.relu(x @ m.w + m.b)
        phases = {"b": nn.Parameter(torch.rand(32))} if not wave or "phases" in name else {}
        return Fn(
            lambda m, x: m.head(m.fc(forward(m, x))), w=param(2, 32), **phases, fc=nn.LazyLinear(16), head=nn.Linear(16, 10)
        )

    model = build(wave=True)
    model(vectors(2, 2))
    assert ghn_init.predict(model, ghn, vectors(2, 2), head=True).kept == {}
    model.w.data *= 10
    phases = {"b": PHASE} if "phases" in name else {}
    assert ghn_init.predict(model, ghn, vectors(2, 2), head=True).kept == {"w": WAVE} | phases
    model = build(wave=False)
    model(vectors(2, 2))
    model.w.data *= 10
    assert ghn_init.predict(model, ghn, vectors(2, 2), head=True).kept == {}


def test_the_biases_of_a_siren_stay_with_its_weights(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = torch.sin(30 * layer(x))
        return m.head(x)

    model = Fn(forward, layers=nn.ModuleList([nn.Linear(2, 64), nn.Linear(64, 64)]), head=nn.Linear(64, 10))
    nn.init.uniform_(model.layers[1].weight, -(6**0.5) / 8 / 30, 6**0.5 / 8 / 30)
    kept = {"layers.1.weight": LATE, "layers.1.bias": PHASE}
    assert ghn_init.predict(model, ghn, vectors(2, 2), head=True).kept == kept


SMALL_INITS = {
    "logits with a temperature": lambda m, x: m.head(m.a(x)) / 0.01,
    "a layer of bytes": lambda m, x: m.head(m.a(255 * x)),
}


@pytest.mark.parametrize("name", SMALL_INITS)
def test_large_constants_that_mean_nothing_keep_no_weight(ghn: GHN, name: str) -> None:
    model = Fn(SMALL_INITS[name], a=nn.Linear(64, 64), head=nn.Linear(64, 10))
    nn.init.normal_(model.a.weight if "bytes" in name else model.head.weight, std=0.008)
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {}


INVERSES = {
    "its determinant, before": lambda m, x: (torch.slogdet(m.w)[1], m.head(F.linear(x, m.w)))[::-1],
    "its determinant, after": lambda m, x: (m.head(F.linear(x, m.w)), torch.logdet(m.w.double())),
    "that of a kernel": lambda m, x: (m.head(F.conv1d(x[..., None], m.w[..., None])[..., 0]), torch.det(m.w)),
    "its inverse": lambda m, x: m.head(F.linear(x, torch.inverse(m.w))),
    "its inverse beside it": lambda m, x: m.head(F.linear(F.linear(x, m.w).relu(), torch.linalg.inv(m.w))),
    "a solution": lambda m, x: m.head(torch.linalg.solve(m.w, x.T).T),
    "a triangle's": lambda m, x: m.head(torch.linalg.solve_triangular(m.w.tril(), F.linear(x, m.w).T, upper=False).T),
}


@pytest.mark.parametrize("name", INVERSES)
def test_a_weight_that_the_model_inverts_is_kept(ghn: GHN, name: str) -> None:
    model = Fn(INVERSES[name], w=nn.Parameter(torch.linalg.qr(torch.randn(192, 192))[0]), head=nn.Linear(192, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 192), head=True).kept == {"w": INVERTED}


def skew(m: Any, x: Tensor) -> Tensor:
    half = (m.w - m.w.T) / 2
    return m.head(F.linear(x, torch.linalg.solve(torch.eye(8) + half, torch.eye(8) - half)))


def test_what_has_an_inverse_by_how_it_is_made_is_predicted(ghn: GHN) -> None:
    model = Fn(skew, w=param(8, 8), head=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8), orthogonal_map="cayley"), nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


def test_small_weights_before_norms_are_no_adapters(ghn: GHN) -> None:
    convs = [nn.Conv2d(3, 64, 3, bias=False), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 256, 1)]
    blocks = [layer for one in convs for layer in (one, nn.BatchNorm2d(one.out_channels), nn.ReLU())]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))
    for one in convs[1:]:
        nn.init.normal_(one.weight, std=0.0005)  # HRNet's 0.001, and less
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}


@pytest.mark.parametrize("init", [lambda w: nn.init.normal_(w, std=1e-4), nn.init.ones_])
def test_what_all_layers_start_as_is_no_purpose(ghn: GHN, init: Any) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    for layer in (model[0], model[2]):
        init(layer.weight)
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {}


def test_a_number_from_which_a_weight_is_computed(ghn: GHN) -> None:
    model = Fn(
        lambda m, x: m.head(F.linear(x[:, :1], m.p.exp().view(1, 1))), p=nn.Parameter(torch.tensor(0.5)), head=nn.Linear(1, 4)
    )
    ghn_init.initialize(model, ghn, vectors(2, 8))


@pytest.mark.parametrize("seen", [False, True])
def test_a_constant_that_a_norm_cancels_out_keeps_no_weight(ghn: GHN, seen: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.linear(x, m.w) * 0.1
        return m.head(F.normalize(x, dim=0) + x if seen else F.normalize(x, dim=0))

    model = Fn(forward, w=param(8, 64), head=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == ({"w": EQUALISED} if seen else {})


def style_mapping(m: Any, x: Tensor) -> Tensor:
    for w, b in ((m.w1, m.b1), (m.w2, m.b2)):
        x = F.leaky_relu(F.linear(x, w * (m.rate / 8), b * m.rate), 0.2) * 2**0.5
    return m.head(x)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_a_weight_whose_own_constant_is_divided_out_is_predicted_whatever_scales_its_result(ghn: GHN, rate: float) -> None:
    weights = {name: nn.Parameter(torch.randn(64, 64) / rate) for name in ("w1", "w2")}
    model = Fn(style_mapping, rate=rate, **weights, b1=param(64), b2=param(64), head=nn.Linear(64, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 64), head=True).kept == {}


def test_a_convolution_by_einsum_is_predicted_at_the_scale_of_its_inputs(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(torch.einsum("bchwij,ocij->bohw", x.unfold(2, 3, 1).unfold(3, 3, 1), m.w).flatten(1))

    model = Fn(forward, w=param(8, 3, 3, 3), head=nn.Linear(288, 10))
    prediction = ghn_init.predict(model, ghn, images(), head=True)
    assert next(node.shape for node in prediction.graph.nodes if node.weight == "w") == (8, 27)
    plain = nn.Sequential(nn.Linear(27, 8, bias=False), nn.Linear(8, 10))
    expected = ghn_init.predict(plain, ghn, vectors(2, 27), head=True, condition="none").tensors["0.weight"].std()
    assert float(prediction.tensors["w"].std()) == pytest.approx(float(expected), rel=0.5)


STACKS = {
    "experts, in, out": ("bd,edh->beh", (4, 6, 8), lambda w: w.transpose(1, 2)),
    "experts, out, in": ("bd,ehd->beh", (4, 8, 6), lambda w: w),
    "in, experts, out": ("bed,deh->beh", (6, 4, 8), lambda w: w.permute(1, 2, 0)),
    "out, in, experts": ("bed,hde->beh", (8, 6, 4), lambda w: w.permute(2, 0, 1)),
}


@pytest.mark.parametrize("condition", ["none", "orthogonal"])
@pytest.mark.parametrize("name", STACKS)
def test_each_slice_of_a_stack_is_predicted_as_the_linear_map_that_it_is(ghn: GHN, name: str, condition: Any) -> None:
    spec, shape, maps = STACKS[name]
    x = vectors(2, 4, 6) if spec.startswith("bed") else vectors(2, 6)
    model = Fn(lambda m, x: m.head(torch.einsum(spec, x, m.w)), w=param(*shape), head=nn.Linear(8, 10))
    found = ghn_init.predict(model, ghn, x, head=True, condition=condition)
    ordinary = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 10))
    plain = ghn_init.predict(ordinary, ghn, vectors(2, 6), head=True, condition=condition)
    for one in maps(found.tensors["w"]):
        if condition == "none":
            torch.testing.assert_close(one, plain.tensors["0.weight"])
        else:
            torch.testing.assert_close(one.T @ one, torch.eye(6), atol=1e-5, rtol=0)
    assert [row.note for row in found.report.rows] == ["one map repeated for 4 slices", "", ""]


@pytest.mark.parametrize(("spec", "turned"), [("bi,eoi->beo", False), ("bi,eio->beo", True)])
def test_separate_layers_in_a_stack_are_predicted_as_the_linear_maps_that_they_are(ghn: GHN, spec: str, turned: bool) -> None:
    layers = {name: param(6, 16) if turned else param(16, 6) for name in "ab"}
    model = Fn(lambda m, x: m.head(torch.einsum(spec, x, torch.stack([m.a, m.b]))), **layers, head=nn.Linear(16, 10))
    found = ghn_init.predict(model, ghn, vectors(2, 6), head=True, condition="none").tensors
    plain = ghn_init.predict(
        nn.Sequential(nn.Linear(6, 16, bias=False), nn.Linear(16, 10)), ghn, vectors(2, 6), head=True, condition="none"
    )
    spread = float((found["a"].T if turned else found["a"]).std())
    assert spread == pytest.approx(float(plain.tensors["0.weight"].std()), rel=0.5)


def test_reasons_are_true_of_all_of_the_zoo(case: Case, ghn: GHN) -> None:
    model = case.build()
    parameters = dict(model.named_parameters())
    for name, why in ghn_init.predict(model, ghn, case.inputs).kept.items():
        assert why != FROZEN or not parameters[name].requires_grad
        assert why != ZERO or not parameters[name].any()
        if "reparametrises" in why:
            assert why.split("'")[1] in parameters


def test_the_zoo_has_what_starts_at_zero_nowhere() -> None:
    assert all(p.any() for case in ZOO.values() for p in case.build().parameters() if p.dim() > 1 and p.is_floating_point())


class Language(nn.Module):
    """A language model; its head is the table of its tokens."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.tokens, self.fc, self.norm = way, nn.Embedding(50, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.bias, self.scale = nn.Parameter(torch.zeros(50)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x)
        h = self.norm(h + self.fc(h))
        if self.way == "linear":
            return torch.tanh(F.linear(h, self.tokens.weight) / 30) * 30
        if self.way == "with a bias":
            return h @ self.tokens.weight.T + self.bias
        if self.way == "with a scale":
            return h @ self.tokens.weight.T * self.scale
        return h if self.way == "a backbone" else h @ self.tokens.weight.T


@pytest.mark.parametrize("way", ["linear", "product", "with a bias", "with a scale"])
def test_a_table_that_is_the_head_too_is_kept_as_heads_are(ghn: GHN, way: str) -> None:
    model, tokens = Language(way), torch.zeros(2, 5, dtype=torch.long)
    assert "classification head of 50 classes" in ghn_init.predict(model, ghn, tokens).kept["tokens.weight"]
    assert "tokens.weight" not in ghn_init.predict(model, ghn, tokens, head=True).kept


def test_a_table_of_a_backbone_is_predicted(ghn: GHN) -> None:
    assert "tokens.weight" not in ghn_init.predict(Language("a backbone"), ghn, torch.zeros(2, 5, dtype=torch.long)).kept


@pytest.mark.parametrize(
    "score",
    [
        lambda h: h @ h.transpose(1, 2),
        lambda h: h.softmax(1).transpose(1, 2) @ h,
        lambda h: h.mean(1) @ h.amax(1).T,
    ],
    ids=["of all with all", "pooling by attention", "two towers"],
)
def test_products_of_what_is_computed_from_the_data_are_no_heads(ghn: GHN, score: Any) -> None:
    model = Fn(lambda m, x: score(m.fc(m.tokens(x))), tokens=nn.Embedding(50, 8), fc=nn.Linear(8, 8))
    assert ghn_init.predict(model, ghn, torch.zeros(2, 5, dtype=torch.long)).kept == {}


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.a, self.b = base.requires_grad_(False), nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x))


def test_after_adapters_on_a_frozen_base_the_base_stays(ghn: GHN) -> None:
    model = nn.Sequential(LoRA(nn.Linear(8, 8)), nn.ReLU(), LoRA(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))
    assert set(ghn_init.predict(model, ghn, torch.zeros(2, 8)).tensors) == {"0.a.weight", "2.a.weight"}


def test_what_was_copied_before_is_told_of(ghn: GHN, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ghn_init")
    ghn_init.initialize(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), ghn, torch.zeros(2, 8))
    assert "optimizer states and weight averages made before hold the former values" in caplog.text
