"""Tiny models, one hazard each, with the graph and the kept parameters that are expected of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Case:
    """A model, its example inputs, its primitives without the input, and kept parameters → words of the reason."""

    build: Callable[[], nn.Module]
    primitives: dict[str, int]
    kept: dict[str, str] = field(default_factory=dict)
    inputs: Any = None


class Fn(nn.Module):
    """Attributes from keywords; forward is a function of the module and its inputs."""

    def __init__(self, forward: Callable[..., Any], **attributes: Any) -> None:
        super().__init__()
        self.function = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def images(channels: int = 3, size: int = 8) -> Tensor:
    return torch.zeros(2, channels, size, size)


def param(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def conv(i: int = 3, o: int = 8, k: int = 3, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **kwargs)


def scattered_attention(m: Any, x: Tensor, e: Tensor) -> Tensor:
    left, right = m.l(x).view(-1, 2, 3), m.r(x).view(-1, 2, 3)
    share = (F.leaky_relu(left[e[0]] + right[e[1]]) * m.score).sum(-1).exp()
    share = share / x.new_zeros(5, 2).index_add(0, e[1], share)[e[1]]
    return x.new_zeros(5, 2, 3).index_add(0, e[1], left[e[0]] * share[..., None]).flatten(1) + m.b


def messages_by_edge(m: Any, x: Tensor, e: Tensor, edges: Tensor) -> Tensor:
    kernels = m.kernel(edges).view(-1, 8, 6)
    return x.new_zeros(5, 6).index_add(0, e[1], torch.bmm(x[e[0]][:, None], kernels)[:, 0]) + m.b


def locally_connected(m: Any, x: Tensor) -> Tensor:
    patches = x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return (patches[:, None] * m.w).sum((2, -1)) + m.b


def sunk_attention(m: Any, x: Tensor) -> Tensor:
    logits = m.q(x) @ m.k(x).transpose(-2, -1)
    return torch.cat([logits, m.sink.expand(2, 5, 1)], -1).softmax(-1)[..., :-1] @ m.v(x)


def norm_expanded(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    return m.scale[None, :, None, None].expand_as(x) * (x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))


class Subclassed(nn.Conv2d):
    """Standardises its weight, under another name."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias, padding=1)


def tied() -> nn.Module:
    model = Fn(lambda m, x: m.b(m.a(x)), a=nn.Linear(8, 8, bias=False), b=nn.Linear(8, 8))
    model.b.weight = model.a.weight
    return model


def hand_rms(m: Any, x: Tensor) -> Tensor:
    return m.fc(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale)


def offset_rms(m: Any, x: Tensor) -> Tensor:
    return m.fc(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + m.scale.float()))


def hand_layer_norm(m: Any, x: Tensor) -> Tensor:
    x = m.fc(x)
    deviation = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-6)
    return (x - x.mean(-1, keepdim=True)) / deviation * m.scale + m.shift


def explicit_attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, -1)
    logits = q @ k.transpose(-2, -1) * 0.5 + m.table[m.index]
    return m.out(logits.softmax(-1) @ v)


def floored_norm(m: Any, x: Tensor) -> Tensor:
    x = m.fc(x)
    return (x - x.mean(-1, keepdim=True)) / torch.maximum(x.std(-1, keepdim=True), m.floor) * m.scale


def offset_then_scale(m: Any, x: Tensor) -> Tensor:
    return m.fc(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + m.scale) * m.gamma)


def masked_attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, -1)
    logits = q @ k.transpose(-2, -1) * m.scale + m.table[m.index]
    return m.out((logits.softmax(-1) * m.mask) @ v)


def attention_with_content_and_place(m: Any, x: Tensor) -> Tensor:
    q = m.q(x)
    logits = q @ m.k(x).transpose(-2, -1) + q @ m.r(x).transpose(-2, -1) + m.table[m.index]
    return logits.softmax(-1) @ m.v(x)


def table_after_softmax(m: Any, x: Tensor) -> Tensor:
    return (m.q(x).softmax(-1) + m.table[m.index]) @ m.v(x)


def mixed_attention(m: Any, x: Tensor) -> Tensor:
    weights = (m.q(x) @ m.k(x).transpose(-2, -1)).softmax(-1)
    return m.out((weights + m.g(x)) @ m.v(x))


def gated_attention(m: Any, x: Tensor) -> Tensor:
    weights = (m.q(x) @ m.k(x).transpose(-2, -1)).softmax(-1)
    return m.out((weights * m.g(x).sigmoid()) @ m.v(x))


def attention_with_a_learned_mask(m: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x), attn_mask=m.mask(x))


def relative_keys(m: Any, x: Tensor) -> Tensor:
    q = m.q(x)
    return (q @ m.k(x).transpose(-2, -1) + q @ m.table[m.index].T).softmax(-1) @ m.v(x)


def shared_shift(m: Any, x: Tensor) -> Tensor:
    x = F.layer_norm(m.a(x), (8,)) * m.v + m.b
    return F.layer_norm(m.c(x), (8,)) * m.w + m.b


def same_stream_twice(m: Any, x: Tensor) -> Tensor:
    x = torch.maximum(m.a(x), m.b(x))
    return x + x.relu()


def dynamic_convolution(m: Any, x: Tensor) -> Tensor:
    share = m.route(x.mean((2, 3))).softmax(-1)
    kernel = (share @ m.kernels.flatten(1)).view(2, 8, 3, 3, 3)[0]
    return F.conv2d(x, kernel)


def qkv_bias(m: Any, x: Tensor) -> Tensor:
    return F.linear(x, m.w, torch.cat([m.q, torch.zeros(8, device=m.q.device), m.v]))


class Slotted:
    """An output without `__dict__`."""

    __slots__ = ("value",)

    def __init__(self, value: Tensor) -> None:
        self.value = value


def vit(m: Any, x: Tensor) -> Tensor:
    x = m.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(2, -1, -1), x], 1) + m.position
    return m.head((x + m.gamma * m.fc(m.norm(x)))[:, 0])


def gate(m: Any, x: Tensor) -> Tensor:
    x = m.body(x)
    return m.head((x * m.gate(x.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3)))


class Equalised(nn.Module):
    """A linear layer whose weight is scaled at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.scale = param(8, 8), 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w * self.scale)


def gain_before_the_division(m: Any, x: Tensor) -> Tensor:
    x = m.fc(x)
    return m.scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + m.shift


def batch_norm_by_hand(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
    return m.scale * (x - mean) / (var + 1e-5).sqrt() + m.shift


def scale_inside_a_norm(m: Any, x: Tensor) -> Tensor:
    x = m.fc(x) * m.gamma
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale


def normed_queries(m: Any, x: Tensor) -> Tensor:
    k = m.k(x)
    return F.scaled_dot_product_attention(m.q(m.norm(m.z.expand(2, -1, -1))), k, k)


def queries_normed_by_hand(m: Any, x: Tensor) -> Tensor:
    k = m.k(x)
    z = m.z * torch.rsqrt(m.z.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale
    return F.scaled_dot_product_attention(z.expand(2, -1, -1), k, k)


def latents_normed_by_hand(m: Any, x: Tensor) -> Tensor:
    k = m.k(x)
    z = (m.z - m.z.mean(-1, keepdim=True)) / (m.z.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt() * m.scale + m.shift
    return F.scaled_dot_product_attention(z.expand(2, -1, -1), k, k)


def scaled_queries(m: Any, x: Tensor) -> Tensor:
    k = m.k(x)
    return F.scaled_dot_product_attention((m.norm(m.z) * m.s).expand(2, -1, -1), k, k)


def expert_by_expert(m: Any, x: Tensor) -> Tensor:
    return torch.stack([F.linear(x, m.w[k]) for k in range(4)]).mean(0)


def chosen_experts(m: Any, x: Tensor) -> Tensor:
    ids = m.route(x).argmax(-1)
    return torch.bmm(x[:, None], m.w[ids])[:, 0] + m.b[ids]


def experts_in_layers(m: Any, x: Tensor) -> Tensor:
    weights, biases = torch.stack([layer.weight for layer in m.e]), torch.stack([layer.bias for layer in m.e])
    return torch.einsum("bi,eoi->beo", x, weights) + biases


def experts_of_the_top(m: Any, x: Tensor) -> Tensor:
    ids = m.route(x).topk(2, -1).indices
    x = torch.einsum("td,tkdh->tkh", x, m.up[ids]).relu()
    return torch.einsum("tkh,tkhd->tkd", x, m.down[ids])


def modulated(m: Any, x: Tensor) -> Tensor:
    w = 0.25 * m.w * m.style(x.mean((2, 3)))[:, None, :, None, None]
    w = w * torch.rsqrt(w.pow(2).sum((2, 3, 4)) + 1e-8)[:, :, None, None, None]
    return F.conv2d(x.view(1, -1, 8, 8), w.view(-1, 3, 3, 3), groups=2).view(2, -1, 6, 6)


def gains_of_heads(m: Any, x: Tensor) -> Tensor:
    return F.layer_norm(m.fc(x).view(2, 5, 2, 4), (4,)) * m.scale + m.shift


def grouped_experts(m: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.grouped_mm(x, m.w, offs=torch.tensor([1, 2], dtype=torch.int32, device=x.device))


def hooks_gradients(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    x.register_hook(lambda gradient: gradient).remove()
    x.retain_grad()
    return x


def deformable(m: Any, x: Tensor) -> Tensor:
    import torchvision

    return torchvision.ops.deform_conv2d(x, m.offset(x), m.w, mask=m.mask(x).sigmoid())


def looks_at_values(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if x.sum().item() >= 0 else m.b(x)


def branch_of_a_gate(m: Any, x: Tensor) -> Tensor:
    return F.linear(x, m.w[m.gate(x).argmax().item()])


def contrasted(m: Any, x: Tensor) -> Tensor:
    return F.normalize(m.a(x), dim=-1) @ F.normalize(m.c(x), dim=-1).T * m.t.exp() + m.b


def stores(m: Any, x: Tensor) -> Tensor:
    m.last = m.a(x)
    m.seen.append(m.last)
    m.steps += 1
    return m.last * m.plain


def counts(m: Any, x: Tensor) -> Tensor:
    m.count += 1
    return m.a(x) * m.count


def slices(m: Any, x: Tensor) -> Tensor:
    out = x.new_zeros(2, 8, 8, 8)
    out[:, :4] = m.a(x)
    out[:, 4:] = m.b(x)
    return m.c(out)


def cell_loop(m: Any, x: Tensor) -> Tensor:
    h, c = x.new_zeros(2, 6), x.new_zeros(2, 6)
    for step in x.unbind(1):
        h, c = m.cell(step, (h, c))
    return m.head(h)


def siamese(m: Any, x: Tensor) -> Tensor:
    return torch.cat([m.a(x), m.a(x.flip(2))], 1)


def shared_norm_bias() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.LayerNorm(8))
    model[2].bias = model[1].bias
    return model


def shared_norm_weight() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.LayerNorm(8))
    model[2].weight = model[1].weight
    return model


def policy(m: Any, x: Tensor) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.Normal(m.mean(x), m.scale(x).exp(), validate_args=False), 1)


def listed_weight() -> nn.Module:
    model = Fn(lambda m, x: x @ m.ws[0].T, a=nn.Linear(8, 4, bias=False))
    model.ws = [model.a.weight]
    return model


def whole_number() -> nn.Parameter:
    return nn.Parameter(torch.tensor(0), requires_grad=False)


def vectors(*shape: int) -> Tensor:
    return torch.zeros(*shape)


SEQUENCE = vectors(2, 5, 8)

ZOO: dict[str, Case] = {
    "plain": Case(
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
        {"conv": 2, "bias": 2, "bn": 1, "max_pool": 1},
        inputs=images(),
    ),
    "tied weights": Case(tied, {"conv": 1, "bias": 1}, inputs=vectors(2, 8)),
    "reused module": Case(lambda: Fn(siamese, a=conv()), {"conv": 1, "bias": 1}, inputs=images()),
    "unused parameter": Case(
        lambda: Fn(lambda m, x: m.a(x), a=conv(), spare=param(3)),
        {"conv": 1, "bias": 1},
        {"spare": "does not use it with these inputs"},
        inputs=images(),
    ),
    "functional convolution": Case(
        lambda: Fn(lambda m, x: F.conv2d(x, m.w, m.b), w=param(8, 3, 3, 3), b=param(8)), {"conv": 1, "bias": 1}, inputs=images()
    ),
    "x @ w": Case(lambda: Fn(lambda m, x: x @ m.w + m.b, w=param(8, 4), b=param(4)), {"conv": 1, "bias": 1}, inputs=SEQUENCE),
    "x @ w.T": Case(lambda: Fn(lambda m, x: x @ m.w.T, w=param(4, 8)), {"conv": 1}, inputs=SEQUENCE),
    "w @ x": Case(lambda: Fn(lambda m, x: m.w @ x, w=param(4, 5)), {"conv": 1}, inputs=SEQUENCE),
    "einsum": Case(lambda: Fn(lambda m, x: torch.einsum("bld,do->blo", x, m.w), w=param(8, 4)), {"conv": 1}, inputs=SEQUENCE),
    "addmm": Case(
        lambda: Fn(lambda m, x: torch.addmm(m.b, m.a(x), m.w), a=nn.Linear(8, 8), w=param(8, 4), b=param(4)),
        {"conv": 2, "bias": 2},
        inputs=vectors(2, 8),
    ),
    "product added to a stream": Case(
        lambda: Fn(
            lambda m, x: torch.baddbmm(m.c(x), m.q(x), m.k(x).transpose(1, 2)),
            **{n: nn.Linear(8, 8) for n in "qk"},
            c=nn.Linear(8, 5),
        ),
        {"conv": 3, "bias": 3, "sum": 1},
        inputs=SEQUENCE,
    ),
    "dict input and output": Case(
        lambda: Fn(lambda m, left, right: {"sum": m.a(left) + m.b(right)}, a=nn.Linear(8, 4), b=nn.Linear(8, 4)),
        {"conv": 2, "bias": 2, "sum": 1},
        inputs={"left": vectors(2, 8), "right": vectors(2, 8)},
    ),
    "tuple input and output": Case(
        lambda: Fn(lambda m, x, y: (m.a(x), m.b(y)), a=nn.Linear(8, 4), b=nn.Linear(8, 4)),
        {"conv": 2, "bias": 2},
        inputs=(vectors(2, 8), vectors(2, 8)),
    ),
    "eval mode": Case(
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(8)).eval(), {"conv": 1, "bias": 1, "bn": 1}, inputs=images()
    ),
    "grouped": Case(
        lambda: nn.Sequential(conv(3, 6), conv(6, 6, groups=6), nn.Conv2d(6, 6, 3, groups=3, dilation=2)),
        {"conv": 1, "sep_conv": 1, "dil_conv": 1, "bias": 3},
        inputs=images(),
    ),
    "1-D": Case(
        lambda: nn.Sequential(nn.Conv1d(8, 4, 3), nn.AvgPool1d(2)),
        {"conv": 1, "bias": 1, "avg_pool": 1},
        inputs=vectors(2, 8, 9),
    ),
    "3-D": Case(lambda: nn.Conv3d(3, 4, (2, 3, 3)), {"conv": 1, "bias": 1}, inputs=vectors(2, 3, 4, 8, 8)),
    "transposed": Case(
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 2), nn.ConvTranspose2d(8, 4, 3, groups=2)),
        {"conv": 1, "sep_conv": 1, "bias": 2},
        inputs=images(),
    ),
    "subclass": Case(lambda: Subclassed(3, 8, 3), {"conv": 1, "bias": 1}, inputs=images()),
    "weight norm": Case(
        lambda: parametrizations.weight_norm(conv()),
        {"conv": 1, "bias": 1},
        {"parametrizations.weight.original0": "reparametrises 'parametrizations.weight.original1'"},
        inputs=images(),
    ),
    "spectral norm": Case(
        lambda: parametrizations.spectral_norm(nn.Linear(8, 4)), {"conv": 1, "bias": 1}, inputs=vectors(2, 8)
    ),
    "multi-head attention": Case(
        lambda: Fn(lambda m, x: m.attention(x, x, x)[0], attention=nn.MultiheadAttention(8, 2, batch_first=True)),
        {"conv": 2, "bias": 2, "msa": 1},
        inputs=SEQUENCE,
    ),
    "encoder layer in eval mode": Case(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
        {"conv": 4, "bias": 4, "msa": 1, "sum": 2, "ln": 2},
        inputs=SEQUENCE,
    ),
    "cross-attention": Case(
        lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True),
        {"conv": 6, "bias": 6, "msa": 2, "sum": 3, "ln": 3},
        inputs=(vectors(2, 5, 8), vectors(2, 4, 8)),
    ),
    "slices of one weight": Case(
        lambda: Fn(lambda m, x: F.linear(x, m.w[:4], m.b[:4]), w=param(6, 8), b=param(6)),
        {"conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "weight of one axis": Case(
        lambda: Fn(lambda m, x: m.a(x) @ m.w[:, None], a=nn.Linear(8, 8), w=param(8)), {"conv": 2, "bias": 1}, inputs=SEQUENCE
    ),
    "weight in a flat parameter": Case(
        lambda: Fn(lambda m, x: m.a(x) @ m.w.view(8, 4), a=nn.Linear(8, 8), w=param(32)),
        {"conv": 2, "bias": 1},
        inputs=SEQUENCE,
    ),
    "transposed kernel in a flat parameter": Case(
        lambda: Fn(lambda m, x: F.conv_transpose1d(m.a(x), m.w.view(5, 2, 3)), a=nn.Linear(8, 8), w=param(30)),
        {"conv": 2, "bias": 1},
        inputs=SEQUENCE,
    ),
    "kernel expanded to all channels": Case(
        lambda: Fn(lambda m, x: m.a(F.conv2d(x, m.w[None, None].expand(3, 1, 3, 3), groups=3)), a=conv(), w=param(3, 3)),
        {"conv": 1, "bias": 1},
        {"w": "no primitive covers the operation 'convolution'"},
        inputs=images(),
    ),
    "norms with one bias": Case(
        lambda: shared_norm_bias(),
        {"conv": 1, "bias": 1, "ln": 2},
        inputs=SEQUENCE,
    ),
    "norms with one weight": Case(
        lambda: shared_norm_weight(),
        {"conv": 1, "bias": 1, "ln": 1},
        {"2.bias": "shares '1.weight' with a norm"},
        inputs=SEQUENCE,
    ),
    "norm whose weight is its bias": Case(
        lambda: Fn(lambda m, x: F.layer_norm(m.a(x), (8,), m.w, m.w), a=nn.Linear(8, 8), w=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "affine after a plain layer norm": Case(
        lambda: Fn(lambda m, x: F.layer_norm(m.a(x), (8,)) * m.w + m.b, a=nn.Linear(8, 8), w=param(8), b=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "norm weight with an offset": Case(
        lambda: Fn(offset_rms, fc=nn.Linear(8, 8), scale=param(8)),
        {"conv": 1, "bias": 1},
        {"scale": "adds a constant"},
        inputs=SEQUENCE,
    ),
    "distribution": Case(
        lambda: Fn(policy, mean=nn.Linear(8, 4), scale=nn.Linear(8, 4)), {"conv": 2, "bias": 2}, inputs=vectors(2, 8)
    ),
    "weight in a plain list": Case(lambda: listed_weight(), {"conv": 1}, inputs=vectors(2, 8)),
    "integer parameter": Case(
        lambda: Fn(lambda m, x: m.a(x) + m.steps, a=nn.Linear(8, 4), steps=whole_number()),
        {"conv": 1, "bias": 1},
        {"steps": "shifts a stream"},
        inputs=vectors(2, 8),
    ),
    "sparse constant": Case(
        lambda: Fn(lambda m, x: torch.sparse.mm(m.adjacency, m.a(x)), a=nn.Linear(8, 4), adjacency=torch.eye(2).to_sparse()),
        {"conv": 1, "bias": 1},
        inputs=vectors(2, 8),
    ),
    "explicit attention": Case(
        lambda: Fn(explicit_attention, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8), table=param(9, 1), index=torch.arange(5)),
        {"conv": 2, "bias": 2, "msa": 1},
        {"table": "attention logits"},
        inputs=SEQUENCE,
    ),
    "norms": Case(
        lambda: nn.Sequential(conv(), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm(8), nn.RMSNorm(8)),
        {"conv": 1, "bias": 1, "ln": 3, "bn": 1},
        inputs=images(),
    ),
    "gains of heads after a norm": Case(
        lambda: Fn(gains_of_heads, fc=nn.Linear(8, 8), scale=param(2, 4), shift=param(2, 4)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "bilinear": Case(
        lambda: Fn(lambda m, x: m.b(m.a(x), x), a=nn.Linear(8, 8), b=nn.Bilinear(8, 8, 6)),
        {"conv": 1, "bias": 2},
        {"b.weight": "no primitive covers the operation 'bilinear'"},
        inputs=SEQUENCE,
    ),
    "RMS norm by hand": Case(
        lambda: Fn(hand_rms, scale=param(8), fc=nn.Linear(8, 8)), {"ln": 1, "conv": 1, "bias": 1}, inputs=SEQUENCE
    ),
    "layer norm by hand": Case(
        lambda: Fn(hand_layer_norm, fc=nn.Linear(8, 8), scale=param(8), shift=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "norm without parameters": Case(
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, elementwise_affine=False)),
        {"conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "vision transformer": Case(
        lambda: Fn(
            vit,
            patch=nn.Conv2d(3, 8, 4, 4),
            token=param(1, 1, 8),
            position=param(1, 5, 8),
            norm=nn.LayerNorm(8),
            fc=nn.Linear(8, 8),
            gamma=param(8),
            head=nn.Linear(8, 10),
        ),
        {"conv": 3, "bias": 3, "pos_enc": 1, "sum": 2, "ln": 1},
        {"token": "class or register token", "gamma": "scales a stream"},
        inputs=images(),
    ),
    "squeeze and excite": Case(
        lambda: Fn(gate, body=conv(), gate=nn.Conv2d(8, 8, 1), head=nn.Linear(8, 10)),
        {"conv": 3, "bias": 3, "cse": 1, "glob_avg": 1},
        inputs=images(),
    ),
    "recurrent": Case(
        lambda: Fn(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)),
        {"conv": 8, "bias": 8, "concat": 2},
        inputs=SEQUENCE,
    ),
    "recurrent cell": Case(
        lambda: Fn(cell_loop, cell=nn.LSTMCell(8, 6), head=nn.Linear(6, 3)), {"conv": 3, "bias": 3}, inputs=SEQUENCE
    ),
    "embedding": Case(
        lambda: nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 4)),
        {"pos_enc": 1, "conv": 1, "bias": 1},
        inputs=torch.zeros(2, 5).long(),
    ),
    "looks at values": Case(
        lambda: Fn(looks_at_values, a=conv(), b=conv()),
        {"conv": 1, "bias": 1},
        {"b.weight": "not reached", "b.bias": "not reached"},
        inputs=images(),
    ),
    "counts in a parameter": Case(
        lambda: Fn(counts, a=nn.Linear(8, 4), count=nn.Parameter(torch.zeros(()), requires_grad=False)),
        {"conv": 1, "bias": 1},
        {"count": "scales a stream"},
        inputs=vectors(2, 8),
    ),
    "stores what it sees": Case(
        lambda: Fn(stores, a=conv(), seen=[], steps=torch.zeros(()), plain=torch.ones(8, 8)),
        {"conv": 1, "bias": 1},
        inputs=images(),
    ),
    "slice writes": Case(lambda: Fn(slices, a=conv(3, 4), b=conv(3, 4), c=conv(8, 8)), {"conv": 3, "bias": 3}, inputs=images()),
    "residual with dropout": Case(
        lambda: Fn(lambda m, x: m.b(m.drop(m.a(x))) + m.c(x), a=conv(), b=conv(8), c=conv(), drop=nn.Dropout(0.5)),
        {"conv": 3, "bias": 3, "sum": 1},
        inputs=images(),
    ),
    "half precision": Case(
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(8)).half(), {"conv": 1, "bias": 1, "bn": 1}, inputs=images().half()
    ),
    "channels last": Case(lambda: conv().to(memory_format=torch.channels_last), {"conv": 1, "bias": 1}, inputs=images()),
    "image of 32 px": Case(lambda: nn.Sequential(conv(), nn.Flatten(), nn.Linear(8 * 32 * 32, 10)), {"conv": 2, "bias": 2}),
    "one channel": Case(lambda: nn.Sequential(conv(1), nn.Flatten(), nn.Linear(8 * 28 * 28, 10)), {"conv": 2, "bias": 2}),
    "dead end": Case(
        lambda: Fn(lambda m, x: (m.a(x), m.b(x))[0], a=nn.Linear(8, 4), b=nn.Linear(8, 4)),
        {"conv": 1, "bias": 1},
        {"b.weight": "does not reach the model's output", "b.bias": "does not reach the model's output"},
        inputs=vectors(2, 8),
    ),
    "layer of a constant": Case(
        lambda: Fn(lambda m, x: m.a(x) + m.b(m.c), a=nn.Linear(8, 4), b=nn.Linear(3, 4), c=vectors(2, 3)),
        {"conv": 2, "bias": 2, "sum": 1},
        inputs=vectors(2, 8),
    ),
    "output with slots": Case(
        lambda: Fn(lambda m, x: Slotted(m.a(x)), a=nn.Linear(8, 4)), {"conv": 1, "bias": 1}, inputs=vectors(2, 8)
    ),
    "sum of a stream with itself": Case(
        lambda: Fn(same_stream_twice, a=nn.Linear(8, 4), b=nn.Linear(8, 4)), {"conv": 2, "bias": 2}, inputs=vectors(2, 8)
    ),
    "two embeddings": Case(
        lambda: Fn(lambda m, i: m.fc(m.a(i) + m.b(i)), a=nn.Embedding(50, 8), b=nn.Embedding(50, 8), fc=nn.Linear(8, 4)),
        {"pos_enc": 2, "sum": 1, "conv": 1, "bias": 1},
        inputs=torch.zeros(2, 5).long(),
    ),
    "shift along another axis": Case(
        lambda: Fn(lambda m, x: m.a(x) + m.p, a=nn.Linear(8, 8, bias=False), p=param(5, 1)),
        {"conv": 1},
        {"p": "shifts a stream"},
        inputs=SEQUENCE,
    ),
    "norm with a floor under its deviation": Case(
        lambda: Fn(floored_norm, fc=nn.Linear(8, 8), scale=param(8), floor=torch.ones(1)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "scale after a norm met another stream": Case(
        lambda: Fn(
            lambda m, x: torch.maximum(F.layer_norm(m.a(x), (8,)), m.b(x)) * m.w,
            a=nn.Linear(8, 8),
            b=nn.Linear(8, 8),
            w=param(8),
        ),
        {"conv": 2, "bias": 2},
        {"w": "scales a stream"},
        inputs=SEQUENCE,
    ),
    "norm weight with an offset, then a scale": Case(
        lambda: Fn(offset_then_scale, fc=nn.Linear(8, 8), scale=param(8), gamma=param(8)),
        {"conv": 1, "bias": 1},
        {"scale": "adds a constant", "gamma": "scales a stream"},
        inputs=SEQUENCE,
    ),
    "shift after a plain batch norm": Case(
        lambda: Fn(lambda m, x: m.norm(m.a(x)) * m.w, a=conv(), norm=nn.BatchNorm2d(8, affine=False), w=param(8, 1, 1)),
        {"conv": 1, "bias": 1, "bn": 1},
        inputs=images(),
    ),
    "shift after a plain batch norm and a function": Case(
        lambda: Fn(lambda m, x: m.norm(m.a(x)).relu() * m.w, a=conv(), norm=nn.BatchNorm2d(8, affine=False), w=param(8, 1, 1)),
        {"conv": 1, "bias": 1},
        {"w": "scales a stream"},
        inputs=images(),
    ),
    "affine after a plain instance norm": Case(
        lambda: Fn(lambda m, x: F.instance_norm(m.a(x)) * m.w + m.b, a=conv(), w=param(8, 1, 1), b=param(8, 1, 1)),
        {"conv": 1, "bias": 1, "bn": 1},
        inputs=images(),
    ),
    "norm whose weight is an exponential": Case(
        lambda: Fn(lambda m, x: F.layer_norm(m.a(x), (8,)) * m.w.exp(), a=nn.Linear(8, 8), w=param(8)),
        {"conv": 1, "bias": 1},
        {"w": "computes this norm's weight"},
        inputs=SEQUENCE,
    ),
    "norm that takes a positive weight": Case(
        lambda: Fn(lambda m, x: F.layer_norm(m.a(x), (8,), F.softplus(m.w), m.b), a=nn.Linear(8, 8), w=param(8), b=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        {"w": "computes this norm's weight"},
        inputs=SEQUENCE,
    ),
    "norm whose weight is expanded": Case(
        lambda: Fn(norm_expanded, a=conv(), scale=param(8)), {"conv": 1, "bias": 1, "ln": 1}, inputs=images()
    ),
    "norms by hand that share a shift": Case(
        lambda: Fn(shared_shift, a=nn.Linear(8, 8), c=nn.Linear(8, 8), v=param(8), w=param(8), b=param(8)),
        {"conv": 2, "bias": 2, "ln": 2},
        inputs=SEQUENCE,
    ),
    "norm with a bias alone": Case(
        lambda: Fn(lambda m, x: F.layer_norm(m.a(x), (8,), None, m.b), a=nn.Linear(8, 8), b=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "kernel standardised as a norm": Case(
        lambda: Fn(
            lambda m, x: F.conv2d(x, F.batch_norm(m.w.view(1, 8, 27), None, None, m.gain, None, True).view(8, 3, 3, 3)),
            w=param(8, 3, 3, 3),
            gain=param(8),
        ),
        {"conv": 1},
        {"gain": "reparametrises 'w'"},
        inputs=images(),
    ),
    "instance norm by hand": Case(
        lambda: Fn(
            lambda m, x: F.batch_norm(m.a(x).reshape(1, 16, 8, 8), None, None, m.w.repeat(2), m.b.repeat(2), True),
            a=conv(),
            w=param(8),
            b=param(8),
        ),
        {"conv": 1, "bias": 1, "bn": 1},
        inputs=images(),
    ),
    "division by a root of a parameter": Case(
        lambda: Fn(lambda m, x: m.a(x) / m.v.sqrt() * m.w, a=nn.Linear(8, 8), v=param(8), w=param(8)),
        {"conv": 1, "bias": 1},
        {"v": "no primitive covers the operation 'div'", "w": "scales a stream"},
        inputs=SEQUENCE,
    ),
    "dynamic convolution": Case(
        lambda: Fn(dynamic_convolution, route=nn.Linear(3, 4), kernels=param(4, 8, 3, 3, 3)),
        {"conv": 1, "bias": 1, "glob_avg": 1},
        {"kernels": "mix kernels from it"},
        inputs=images(),
    ),
    "maps that the data mix": Case(
        lambda: Fn(
            lambda m, x: torch.einsum("bi,boi->bo", x, torch.einsum("be,eoi->boi", m.route(x).softmax(-1), m.maps)),
            route=nn.Linear(8, 3),
            maps=param(3, 6, 8),
        ),
        {"conv": 1, "bias": 1},
        {"maps": "mix kernels from it"},
        inputs=vectors(2, 8),
    ),
    "modulated convolution": Case(
        lambda: Fn(modulated, style=nn.Linear(3, 3, bias=False), w=param(1, 8, 3, 3, 3)),
        {"conv": 1, "glob_avg": 1},
        {"w": "mix kernels from it"},
        inputs=images(),
    ),
    "bias of queries and values": Case(
        lambda: Fn(qkv_bias, w=param(24, 8), q=param(8), v=param(8)), {"conv": 1, "bias": 2}, inputs=SEQUENCE
    ),
    "masked attention": Case(
        lambda: Fn(
            masked_attention,
            qkv=nn.Linear(8, 24),
            out=nn.Linear(8, 8),
            table=param(9, 1),
            index=torch.arange(5),
            scale=torch.ones(1),
            mask=torch.ones(5, 5),
        ),
        {"conv": 2, "bias": 2, "msa": 1},
        {"table": "attention logits"},
        inputs=SEQUENCE,
    ),
    "attention by content and place": Case(
        lambda: Fn(
            attention_with_content_and_place,
            **{name: nn.Linear(8, 8) for name in "qkrv"},
            table=param(9, 1),
            index=torch.arange(5),
        ),
        {"conv": 4, "bias": 4, "sum": 1, "msa": 1},
        {"table": "attention logits"},
        inputs=SEQUENCE,
    ),
    "table after the softmax": Case(
        lambda: Fn(table_after_softmax, q=nn.Linear(8, 5), v=nn.Linear(8, 8), table=param(9, 1), index=torch.arange(5)),
        {"conv": 2, "bias": 2, "msa": 1},
        {"table": "attention logits"},
        inputs=SEQUENCE,
    ),
    "attention mixed with a stream": Case(
        lambda: Fn(mixed_attention, **{name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")}, g=nn.Linear(8, 5)),
        {"conv": 5, "bias": 5, "sum": 1},
        inputs=SEQUENCE,
    ),
    "attention times a gate": Case(
        lambda: Fn(gated_attention, **{name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")}, g=nn.Linear(8, 5)),
        {"conv": 5, "bias": 5, "cse": 1},
        inputs=SEQUENCE,
    ),
    "attention by its kernel": Case(
        lambda: Fn(
            lambda m, x: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*(f(x)[:, None] for f in (m.q, m.k, m.v)))[
                0
            ],
            **{name: nn.Linear(8, 8) for name in "qkv"},
        ),
        {"conv": 3, "bias": 3, "msa": 1},
        inputs=SEQUENCE,
    ),
    "attention mask from a layer": Case(
        lambda: Fn(attention_with_a_learned_mask, **{name: nn.Linear(8, 8) for name in "qkv"}, mask=nn.Linear(8, 5)),
        {"conv": 4, "bias": 4, "msa": 1},
        inputs=SEQUENCE,
    ),
    "relative keys": Case(
        lambda: Fn(relative_keys, **{name: nn.Linear(8, 8) for name in "qkv"}, table=param(9, 8), index=torch.arange(5)),
        {"conv": 3, "bias": 3, "sum": 1, "msa": 1},
        {"table": "attention logits"},
        inputs=SEQUENCE,
    ),
    "batched product with a weight of two parts": Case(
        lambda: Fn(lambda m, x: torch.bmm(x, torch.cat([m.u, m.v], 1).expand(2, 8, 8)), u=param(8, 4), v=param(8, 4)),
        {"conv": 2},
        inputs=SEQUENCE,
    ),
    "dilated along one axis": Case(
        lambda: nn.Conv2d(6, 6, 3, groups=3, dilation=(2, 1)), {"sep_conv": 1, "bias": 1}, inputs=images(6)
    ),
    "projected recurrent layer without biases": Case(
        lambda: Fn(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(8, 6, bias=False, proj_size=3, batch_first=True)),
        {"conv": 3},
        inputs=SEQUENCE,
    ),
    "recurrent cell without biases": Case(
        lambda: Fn(lambda m, x: m.cell(x), cell=nn.GRUCell(8, 6, bias=False)), {"conv": 2}, inputs=vectors(2, 8)
    ),
    "packed sequence": Case(
        lambda: Fn(
            lambda m, x: m.rnn(nn.utils.rnn.pack_padded_sequence(x, [5, 3], batch_first=True))[0].data,
            rnn=nn.GRU(8, 6, bidirectional=True, batch_first=True),
        ),
        {"conv": 4, "bias": 4, "concat": 1},
        inputs=SEQUENCE,
    ),
    "weight filled by hand": Case(
        lambda: Fn(lambda m, x: m.a(x) + m.b(x.new_empty(2, 8).normal_()), a=nn.Linear(8, 8), b=nn.Linear(8, 8)),
        {"conv": 2, "bias": 2, "sum": 1},
        inputs=vectors(2, 8),
    ),
    "noise of a stream's shape": Case(
        lambda: Fn(lambda m, x: m.b(torch.randn_like(m.a(x))) + x, a=nn.Linear(8, 8), b=nn.Linear(8, 8)),
        {"conv": 1, "bias": 1, "sum": 1},
        {"a.weight": "does not reach", "a.bias": "does not reach"},
        inputs=vectors(2, 8),
    ),
    "channels last means over space": Case(
        lambda: Fn(lambda m, x: m.fc(m.a(x).permute(0, 2, 3, 1).mean((1, 2))), a=conv(), fc=nn.Linear(8, 4)),
        {"conv": 2, "bias": 2, "glob_avg": 1},
        inputs=images(),
    ),
    "mean over the batch": Case(
        lambda: Fn(lambda m, x: m.a(x).mean(0), a=nn.Conv1d(8, 4, 3)), {"conv": 1, "bias": 1}, inputs=vectors(2, 8, 9)
    ),
    "mean over channels": Case(
        lambda: Fn(lambda m, x: m.a(x).mean(2), a=nn.Linear(8, 5)), {"conv": 1, "bias": 1}, inputs=SEQUENCE
    ),
    "vectors": Case(lambda: nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 2)), {"conv": 2, "bias": 2}),
    "experts in einsum": Case(
        lambda: Fn(lambda m, x: torch.einsum("bd,edh->beh", x, m.w), w=param(4, 8, 6)), {"conv": 1}, inputs=vectors(2, 8)
    ),
    "experts out first in einsum": Case(
        lambda: Fn(lambda m, x: torch.einsum("ehd,bed->beh", m.w, x), w=param(4, 6, 8)), {"conv": 1}, inputs=vectors(2, 4, 8)
    ),
    "experts one by one": Case(lambda: Fn(expert_by_expert, w=param(4, 6, 8)), {"conv": 1}, inputs=vectors(2, 8)),
    "experts that the data choose": Case(
        lambda: Fn(chosen_experts, route=nn.Linear(8, 4), w=param(4, 8, 6), b=param(4, 6)),
        {"conv": 2, "bias": 2},
        inputs=vectors(2, 8),
    ),
    "experts of groups of tokens": Case(
        lambda: Fn(grouped_experts, w=nn.Parameter(torch.randn(2, 8, 16, dtype=torch.bfloat16))),
        {"conv": 1},
        inputs=torch.zeros(2, 8, dtype=torch.bfloat16),
    ),
    "experts of the top two": Case(
        lambda: Fn(experts_of_the_top, route=nn.Linear(8, 4), up=param(4, 8, 16), down=param(4, 16, 8)),
        {"conv": 3, "bias": 1},
        inputs=vectors(3, 8),
    ),
    "experts in separate layers": Case(
        lambda: Fn(experts_in_layers, e=nn.ModuleList([nn.Linear(8, 6) for _ in range(3)])),
        {"conv": 3, "bias": 3},
        inputs=vectors(2, 8),
    ),
    "experts in separate weights": Case(
        lambda: Fn(
            lambda m, x: torch.baddbmm(torch.stack([m.c, m.d])[:, None], x[None].expand(2, -1, -1), torch.stack([m.a, m.b])),
            a=param(8, 6),
            b=param(8, 6),
            c=param(6),
            d=param(6),
        ),
        {"conv": 2, "bias": 2},
        inputs=vectors(2, 8),
    ),
    "experts in separate layers that the data choose": Case(
        lambda: Fn(
            lambda m, x: torch.einsum("bi,boi->bo", x, torch.stack([m.a, m.b])[m.route(x).argmax(-1)]),
            route=nn.Linear(8, 2),
            a=param(6, 8),
            b=param(6, 8),
        ),
        {"conv": 3, "bias": 1},
        inputs=vectors(2, 8),
    ),
    "heads of a weight of three axes": Case(
        lambda: Fn(
            lambda m, x: torch.einsum("bnhk,hkd->bnd", m.a(x).view(2, 5, 2, 4), m.w), a=nn.Linear(8, 8), w=param(2, 4, 6)
        ),
        {"conv": 2, "bias": 1},
        inputs=SEQUENCE,
    ),
    "stacked linears with biases": Case(
        lambda: Fn(
            lambda m, x: (torch.bmm(x[None].expand(4, -1, -1), m.w) + m.b[:, None]).mean(0), w=param(4, 8, 6), b=param(4, 6)
        ),
        {"conv": 1, "bias": 1},
        inputs=vectors(2, 8),
    ),
    "linear map as a sum of products": Case(
        lambda: Fn(lambda m, x: (x[:, None] * m.w).sum(-1), w=param(6, 8)), {"conv": 1}, inputs=vectors(2, 8)
    ),
    "linear map as a sum of products, inputs first": Case(
        lambda: Fn(lambda m, x: (m.w * x[..., None]).sum(1) + m.b, w=param(8, 6), b=param(6)),
        {"conv": 1, "bias": 1},
        inputs=vectors(2, 8),
    ),
    "score as a sum of products": Case(
        lambda: Fn(lambda m, x: (m.a(x).tanh() * m.w).sum(-1, keepdim=True), a=nn.Linear(8, 4), w=param(1, 4)),
        {"conv": 2, "bias": 1},
        inputs=SEQUENCE,
    ),
    "score of each head": Case(
        lambda: Fn(lambda m, x: (m.a(x).view(2, 5, 2, 4) * m.w).sum(-1), a=nn.Linear(8, 8), w=param(2, 4)),
        {"conv": 1, "bias": 1},
        {"w": "sums its products with a stream"},
        inputs=SEQUENCE,
    ),
    "scale of a stream that is also summed": Case(
        lambda: Fn(lambda m, x: (lambda z: (z.exp(), z.sum(-1)))(m.a(x).tanh() * m.w), a=nn.Linear(8, 4), w=param(4)),
        {"conv": 1, "bias": 1},
        {"w": "scales a stream"},
        inputs=vectors(2, 8),
    ),
    "scale before a sum over positions": Case(
        lambda: Fn(lambda m, x: (m.a(x) * m.w).sum(1), a=nn.Linear(8, 4), w=param(4)),
        {"conv": 1, "bias": 1},
        {"w": "scales a stream"},
        inputs=SEQUENCE,
    ),
    "sum of a function of products": Case(
        lambda: Fn(lambda m, x: (x[:, None] * m.w).relu().sum(-1) + m.a(x), w=param(6, 8), a=nn.Linear(8, 6)),
        {"conv": 1, "bias": 1, "sum": 1},
        {"w": "scales a stream"},
        inputs=vectors(2, 8),
    ),
    "maps of places as a sum of products": Case(
        lambda: Fn(lambda m, x: (x[..., None] * m.w).sum(2) + m.b, w=param(5, 8, 6), b=param(5, 6)),
        {"conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "locally connected": Case(
        lambda: Fn(locally_connected, w=param(1, 4, 3, 6, 6, 9), b=param(4, 6, 6)), {"conv": 1, "bias": 1}, inputs=images()
    ),
    "experts and biases one by one": Case(
        lambda: Fn(lambda m, x: sum(x @ m.w[k] + m.b[k] for k in range(3)), w=param(3, 8, 6), b=param(3, 6)),
        {"conv": 1, "bias": 1},
        inputs=vectors(2, 8),
    ),
    "biases of heads before their places": Case(
        lambda: Fn(lambda m, x: torch.einsum("bnd,hkd->bhkn", x, m.w) + m.b, w=param(2, 4, 8), b=param(2, 4, 1)),
        {"conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "biases of experts in one axis": Case(
        lambda: Fn(
            lambda m, x: F.conv1d(x.repeat(1, 3, 1), m.w.view(18, 5, 1), groups=3) + m.b.view(1, 18, 1),
            w=param(3, 6, 5),
            b=param(3, 6),
        ),
        {"sep_conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "bias expanded to the batch": Case(
        lambda: Fn(
            lambda m, x: torch.baddbmm(m.b[None, None].expand(2, 5, -1), x, m.w.expand(2, -1, -1)), w=param(8, 6), b=param(6)
        ),
        {"conv": 1, "bias": 1},
        inputs=SEQUENCE,
    ),
    "weight summed in einsum": Case(
        lambda: Fn(lambda m, x: torch.einsum("bi,oih->bo", m.a(x), m.w), a=nn.Linear(8, 8), w=param(6, 8, 3)),
        {"conv": 1, "bias": 1},
        {"w": "no primitive covers the operation 'matmul'"},
        inputs=vectors(2, 8),
    ),
    "weight that a gate's value chooses": Case(
        lambda: Fn(branch_of_a_gate, w=param(3, 6, 8), gate=nn.Linear(8, 3)),
        {"conv": 1},
        {"gate.weight": "may decide what is computed", "gate.bias": "may decide what is computed"},
        inputs=vectors(1, 8),
    ),
    "scale and bias of logits": Case(
        lambda: Fn(contrasted, a=nn.Linear(8, 4), c=nn.Linear(8, 4), t=param(1), b=param(1)),
        {"conv": 2, "bias": 2},
        {"t": "logit scale", "b": "shifts a stream"},
        inputs=vectors(2, 8),
    ),
    "equalised learning rate": Case(lambda: Equalised(), {"conv": 1}, inputs=SEQUENCE),
    "weight times an unknown constant": Case(
        lambda: Fn(lambda m, x: F.linear(x, m.w * m.c.exp()), w=param(8, 8), c=torch.nn.Buffer(torch.ones(()))),
        {},
        {"w": "a constant whose value is not known"},
        inputs=SEQUENCE,
    ),
    "gain before the division": Case(
        lambda: Fn(gain_before_the_division, fc=nn.Linear(8, 8), scale=param(8), shift=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "norm by F.normalize": Case(
        lambda: Fn(lambda m, x: m.scale * F.normalize(m.fc(x), dim=-1), fc=nn.Linear(8, 8), scale=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "norm by a power": Case(
        lambda: Fn(
            lambda m, x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5 * m.scale + m.fc(x),
            fc=nn.Linear(8, 8),
            scale=param(8),
        ),
        {"conv": 1, "bias": 1, "ln": 1, "sum": 1},
        inputs=SEQUENCE,
    ),
    "norm by addcmul": Case(
        lambda: Fn(
            lambda m, x: torch.addcmul(m.shift, F.layer_norm(m.fc(x), (8,)), m.scale),
            fc=nn.Linear(8, 8),
            scale=param(8),
            shift=param(8),
        ),
        {"conv": 1, "bias": 1, "ln": 1},
        inputs=SEQUENCE,
    ),
    "batch norm by hand": Case(
        lambda: Fn(batch_norm_by_hand, a=conv(), scale=param(1, 8, 1, 1), shift=param(1, 8, 1, 1)),
        {"conv": 1, "bias": 1, "bn": 1},
        inputs=images(),
    ),
    "scale inside a norm": Case(
        lambda: Fn(scale_inside_a_norm, fc=nn.Linear(8, 8), gamma=param(8), scale=param(8)),
        {"conv": 1, "bias": 1, "ln": 1},
        {"gamma": "scales a stream"},
        inputs=SEQUENCE,
    ),
    "norm of learned queries": Case(
        lambda: Fn(normed_queries, z=param(4, 8), norm=nn.LayerNorm(8), q=nn.Linear(8, 8), k=nn.Linear(8, 8)),
        {"conv": 2, "bias": 2, "ln": 1, "msa": 1},
        {"z": "learned query"},
        inputs=SEQUENCE,
    ),
    "norm of learned queries by hand": Case(
        lambda: Fn(queries_normed_by_hand, z=param(4, 8), scale=param(8), k=nn.Linear(8, 8)),
        {"conv": 1, "bias": 1, "ln": 1, "msa": 1},
        {"z": "learned query"},
        inputs=SEQUENCE,
    ),
    "layer norm of learned queries by hand": Case(
        lambda: Fn(latents_normed_by_hand, z=param(4, 8), scale=param(8), shift=param(8), k=nn.Linear(8, 8)),
        {"conv": 1, "bias": 1, "ln": 1, "msa": 1},
        {"z": "learned query"},
        inputs=SEQUENCE,
    ),
    "scale after a norm of learned queries": Case(
        lambda: Fn(scaled_queries, z=param(4, 8), norm=nn.LayerNorm(8), s=param(8), k=nn.Linear(8, 8)),
        {"conv": 1, "bias": 1, "ln": 1, "msa": 1},
        {"z": "learned query", "s": "no primitive covers what the model does with it"},
        inputs=SEQUENCE,
    ),
    "weight of concatenated parts": Case(
        lambda: Fn(lambda m, x: F.linear(x, torch.cat([m.q, m.k])), q=param(4, 8), k=param(6, 8)), {"conv": 2}, inputs=SEQUENCE
    ),
    "weight of blocks": Case(
        lambda: Fn(lambda m, x: F.linear(x, torch.block_diag(*m.w.unbind(0), m.q)), w=param(2, 3, 2), q=param(4, 4)),
        {"conv": 2},
        inputs=SEQUENCE,
    ),
    "weight with zeros around it": Case(
        lambda: Fn(lambda m, x: m.a(F.conv2d(x, F.pad(m.w, (1, 1, 1, 1)))), w=param(8, 3, 1, 1), a=conv(8)),
        {"conv": 2, "bias": 1},
        inputs=images(),
    ),
    "weight beside zeros": Case(
        lambda: Fn(lambda m, x: F.linear(x, torch.cat([m.w, m.w.new_zeros(2, 8)])), w=param(4, 8)), {"conv": 1}, inputs=SEQUENCE
    ),
    "table with a row of zeros before it": Case(
        lambda: Fn(lambda m, i: m.o(F.embedding(i, torch.cat([m.t.new_zeros(1, 8), m.t]))), t=param(19, 8), o=nn.Linear(8, 4)),
        {"pos_enc": 1, "conv": 1, "bias": 1},
        inputs=torch.zeros(2, 5).long(),
    ),
    "table with a norm": Case(
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Embedding(20, 8)), nn.Linear(8, 4)),
        {"pos_enc": 1, "conv": 1, "bias": 1},
        {"0.parametrizations.weight.original0": "reparametrises"},
        inputs=torch.zeros(2, 5).long(),
    ),
    "channels of a wider layer": Case(
        lambda: Fn(
            lambda m, x: F.linear(F.linear(x, m.w[:4, :8], m.b[:4]), m.v[:, :4]), w=param(6, 10), b=param(6), v=param(6, 6)
        ),
        {"conv": 2, "bias": 1},
        inputs=SEQUENCE,
    ),
    "middle of a kernel": Case(
        lambda: Fn(lambda m, x: F.conv2d(x, m.w[:, :, 1:4, 1:4]), w=param(8, 3, 5, 5)), {"conv": 1}, inputs=images()
    ),
    "mask over concatenated parts": Case(
        lambda: Fn(
            lambda m, x: F.linear(x, torch.cat([m.q, m.k]) * m.mask),
            q=param(4, 8),
            k=param(6, 8),
            mask=nn.Buffer(torch.ones(10, 8).tril()),
        ),
        {"conv": 2},
        inputs=SEQUENCE,
    ),
    "weight as a product": Case(
        lambda: Fn(lambda m, x: F.linear(m.a(x), m.u @ m.v), a=nn.Linear(8, 8), u=param(8, 8), v=param(8, 8)),
        {"conv": 1, "bias": 1},
        {"u": "the product is kept whole", "v": "the product is kept whole"},
        inputs=SEQUENCE,
    ),
    "weight as a Kronecker product": Case(
        lambda: Fn(lambda m, x: F.linear(m.a(x), torch.kron(m.u, m.v)), a=nn.Linear(8, 8), u=param(4, 2), v=param(4, 4)),
        {"conv": 1, "bias": 1},
        {"u": "the product is kept whole", "v": "the product is kept whole"},
        inputs=SEQUENCE,
    ),
    "weight as an outer product": Case(
        lambda: Fn(
            lambda m, x: F.linear(m.a(x), m.u[:, None].expand(8, 8) * m.v[None]), a=nn.Linear(8, 8), u=param(8), v=param(8)
        ),
        {"conv": 1, "bias": 1},
        {"u": "the product is kept whole", "v": "the product is kept whole"},
        inputs=SEQUENCE,
    ),
    "Kronecker product before a weight": Case(
        lambda: Fn(
            lambda m, x: F.linear(x, torch.kron(m.u, m.v) + m.g[:, None] * m.w),
            u=param(4, 2),
            v=param(2, 4),
            g=param(8),
            w=param(8, 8),
        ),
        {"conv": 1},
        {"u": "reparametrises 'w'", "v": "reparametrises 'w'", "g": "reparametrises 'w'"},
        inputs=SEQUENCE,
    ),
    "weight as a product with constants": Case(
        lambda: Fn(
            lambda m, x: F.linear(m.a(x), torch.eye(8, device=m.l.device) @ (m.l.tril(-1) + m.p) @ m.u.triu()),
            a=nn.Linear(8, 8),
            p=torch.eye(8),
            l=param(8, 8),
            u=param(8, 8),
        ),
        {"conv": 1, "bias": 1},
        {"l": "the product is kept whole", "u": "the product is kept whole"},
        inputs=SEQUENCE,
    ),
    "noise before the mean of a weight": Case(
        lambda: Fn(
            lambda m, x: F.linear(x, F.softplus(m.rho) * torch.randn_like(m.rho) + m.mu), rho=param(8, 8), mu=param(8, 8)
        ),
        {"conv": 1},
        {"rho": "reparametrises 'mu'"},
        inputs=SEQUENCE,
    ),
    "mask before a weight": Case(
        lambda: Fn(lambda m, x: F.linear(x, torch.sigmoid(m.mask) * m.w), mask=param(8, 8), w=param(8, 8)),
        {"conv": 1},
        {"mask": "reparametrises 'w'"},
        inputs=SEQUENCE,
    ),
    "low rank before a weight": Case(
        lambda: Fn(lambda m, x: F.linear(x, m.u @ m.v + m.w), u=param(8, 8), v=param(8, 8), w=param(8, 8)),
        {"conv": 1},
        {"u": "reparametrises 'w'", "v": "reparametrises 'w'"},
        inputs=SEQUENCE,
    ),
    "graph convolution": Case(
        lambda: Fn(lambda m, x, a: (a @ (x @ m.w) + m.b).relu(), w=param(8, 6), b=param(6)),
        {"conv": 1, "bias": 1},
        inputs=(vectors(5, 8), vectors(5, 5)),
    ),
    "graph convolution of several hops": Case(
        lambda: Fn(
            lambda m, x, a: m.l0(x) + m.l1(a @ x) + a @ m.l2(x) + m.b,
            **{name: nn.Linear(8, 6, bias=False) for name in ("l0", "l1", "l2")},
            b=param(6),
        ),
        {"conv": 3, "sum": 2, "bias": 1},
        inputs=(vectors(5, 8), vectors(5, 5)),
    ),
    "bias after a sum of convolutions": Case(
        lambda: Fn(lambda m, x: m.a(x) + m.c(x) + m.b, a=conv(bias=False), c=conv(bias=False), b=param(1, 8, 1, 1)),
        {"conv": 2, "sum": 1, "bias": 1},
        inputs=images(),
    ),
    "shift after a residual": Case(
        lambda: Fn(lambda m, x: x + m.a(x) + m.b, a=nn.Linear(8, 8, bias=False), b=param(8)),
        {"conv": 1, "sum": 1},
        {"b": "shifts a stream"},
        inputs=vectors(2, 8),
    ),
    "weights of edges": Case(
        lambda: Fn(
            lambda m, x, a: x.new_zeros(5, 6).index_add(0, torch.tensor([1, 2, 0]), m.a(x)[:3] * a[:, None]) + m.b,
            a=nn.Linear(8, 6, bias=False),
            b=param(6),
        ),
        {"conv": 1, "bias": 1},
        inputs=(vectors(5, 8), torch.ones(3)),
    ),
    "graph convolution with a term of its own": Case(
        lambda: Fn(
            lambda m, x, e: x.new_zeros(5, 6).index_add(0, e[1], m.l(x)[e[0]]) + m.l(x) + m.b,
            l=nn.Linear(8, 6, bias=False),
            b=param(6),
        ),
        {"conv": 1, "bias": 1},
        inputs=(vectors(5, 8), torch.tensor([[0, 1, 2], [1, 2, 0]])),
    ),
    "graph attention": Case(
        lambda: Fn(
            lambda m, x: (m.q(x) @ m.k(x).transpose(-2, -1)).softmax(-1) @ (x @ m.w) + m.b,
            q=nn.Linear(8, 4),
            k=nn.Linear(8, 4),
            w=param(8, 6),
            b=param(6),
        ),
        {"conv": 3, "bias": 3, "msa": 1},
        inputs=SEQUENCE,
    ),
    "graph attention by edges": Case(
        lambda: Fn(
            scattered_attention, **{name: nn.Linear(8, 6, bias=False) for name in "lr"}, score=param(1, 2, 3), b=param(6)
        ),
        {"conv": 2, "sum": 1, "cse": 1, "bias": 1},
        {"score": "sums its products"},
        inputs=(vectors(5, 8), torch.tensor([[0, 1, 2], [1, 2, 0]])),
    ),
    "kernels of edges": Case(
        lambda: Fn(messages_by_edge, kernel=nn.Linear(3, 48), b=param(6)),
        {"conv": 1, "bias": 1},
        {"b": "shifts a stream"},
        inputs=(vectors(5, 8), torch.tensor([[0, 1, 2], [1, 2, 0]]), vectors(3, 3)),
    ),
    "attention with a sink": Case(
        lambda: Fn(sunk_attention, **{name: nn.Linear(8, 8) for name in "qkv"}, sink=param(1)),
        {"conv": 3, "bias": 3, "msa": 1},
        {"sink": "attention sink"},
        inputs=SEQUENCE,
    ),
    "deformable convolution": Case(
        lambda: Fn(deformable, offset=nn.Conv2d(3, 18, 3), mask=nn.Conv2d(3, 9, 3), w=param(8, 3, 3, 3)),
        {"conv": 3, "bias": 2},
        inputs=images(),
    ),
    "orthogonal parametrization": Case(
        lambda: parametrizations.orthogonal(nn.Linear(8, 8)), {"conv": 1, "bias": 1}, inputs=vectors(2, 8)
    ),
    "inputs in an object": Case(
        lambda: Fn(lambda m, batch: m.a(m.norm(batch.image)), norm=nn.BatchNorm2d(3), a=conv()),
        {"bn": 1, "conv": 1, "bias": 1},
        inputs=(SimpleNamespace(image=images()),),
    ),
    "hooks on gradients": Case(lambda: Fn(hooks_gradients, a=conv()), {"conv": 1, "bias": 1}, inputs=images()),
    "embedding of bounded norm": Case(
        lambda: nn.Embedding(50, 8, max_norm=1.0), {"pos_enc": 1}, inputs=torch.zeros(2, 5).long()
    ),
    "embedding by index": Case(
        lambda: Fn(lambda m, i: m.fc(m.table[i]), table=param(50, 8), fc=nn.Linear(8, 4)),
        {"pos_enc": 1, "conv": 1, "bias": 1},
        inputs=torch.zeros(2, 5).long(),
    ),
    "deviation that is returned": Case(
        lambda: Fn(
            lambda m, x: torch.distributions.Normal(m.a(x), m.log_std.exp(), validate_args=False),
            a=nn.Linear(8, 4),
            log_std=param(4),
        ),
        {"conv": 1, "bias": 1},
        {"log_std": "returns it as an output"},
        inputs=vectors(2, 8),
    ),
}
