"""Rules that users register: what they change, what is refused, and that they can be taken back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import TraceError
from ghn_init.tracing.record import record_calls
from ghn_init.tracing.rules import (
    WHOLE,
    Call,
    GraphBuilder,
    Node,
    apply_weight,
    argument,
    build_graph,
    convolve,
    normalise,
    pool,
    register_rule,
    registry,
    unregister_rule,
)
from zoo import Fn, conv, images, param, vectors

PAGE = Path(__file__).parents[1] / "docs" / "add_an_operation.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@torch.library.custom_op("ghn_tests::fused_linear", mutates_args=())
def fused_linear(x: Tensor, w: Tensor, b: Tensor | None = None, *, act: str = "gelu") -> Tensor:
    """Has no fake kernel, so that only a real run can follow it."""
    return F.gelu(F.linear(x, w, b))


@torch.library.custom_op("ghn_tests::linear", mutates_args=())
def linear(w: Tensor, x: Tensor) -> Tensor:
    """Called as one of PyTorch's own operators, with other arguments."""
    return x @ w.T


@linear.register_fake
def _(w: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], w.shape[0])


@torch.library.custom_op("ghn_tests::add_rows", mutates_args={"out"})
def add_rows(x: Tensor, w: Tensor, out: Tensor) -> None:
    """Returns nothing."""
    out.add_(x @ w.T)


@torch.library.custom_op("ghn_tests::elsewhere", mutates_args=(), device_types="cuda")
def elsewhere(x: Tensor) -> Tensor:
    return x.clone()


LIBRARY = torch.library.Library("ghn_tests", "FRAGMENT")
LIBRARY.define("composite(Tensor x, Tensor w) -> Tensor")
LIBRARY.impl("composite", lambda x, w: F.linear(x, w).relu(), "CompositeImplicitAutograd")


@pytest.fixture(autouse=True)
def _rules_as_before() -> Iterator[None]:
    before = dict(registry.RULES)
    yield
    after = dict(registry.RULES)
    registry.RULES.clear()
    registry.RULES.update(before)
    assert after == before


@pytest.fixture
def fused() -> Iterator[None]:
    register_rule("ghn_tests::fused_linear")(fused_rule)
    yield
    unregister_rule("ghn_tests::fused_linear")


def fused_rule(b: GraphBuilder, call: Call) -> None:
    x, w = call.args[:2]
    b.assign(call.outputs, apply_weight(b, b.flow(x), w, argument(call, 2, "b"), "conv"))


def fused_model() -> nn.Module:
    return Fn(lambda m, x: m.head(fused_linear(x, m.w, m.b)), w=param(16, 8), b=param(16), head=nn.Linear(16, 10))


def test_without_a_rule_the_reason_names_the_operator() -> None:
    graph = ghn_init.trace(fused_model(), vectors(2, 8))
    reason = "no primitive covers the operation 'ghn_tests::fused_linear' that uses it"
    assert graph.kept == {"w": reason, "b": reason}
    assert graph.primitives == {"input": 1, "conv": 1, "bias": 1}


def test_a_rule_registered_after_import_takes_effect(fused: None, ghn: ghn_init.GHN) -> None:
    prediction = ghn_init.predict(fused_model(), ghn, vectors(2, 8), head=True)
    assert not prediction.kept
    assert set(prediction.tensors) == {"w", "b", "head.weight", "head.bias"}
    graph = ghn_init.trace(fused_model(), vectors(2, 8))
    assert [(node.primitive, node.weight) for node in graph.nodes[1:3]] == [("conv", "w"), ("bias", "b")]
    assert graph.edges == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("keyword", [False, True])
def test_left_out_and_keyword_arguments_are_read(fused: None, keyword: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return fused_linear(x, w=m.w, b=m.b, act="relu") if keyword else fused_linear(x, m.w)

    attributes = {"w": param(16, 8), "b": param(16)} if keyword else {"w": param(16, 8)}
    assert ghn_init.trace(Fn(forward, **attributes), vectors(2, 8)).kept == {}


def test_unregister_restores(fused: None) -> None:
    unregister_rule("ghn_tests::fused_linear")
    assert set(ghn_init.trace(fused_model(), vectors(2, 8)).kept) == {"w", "b"}
    register_rule("ghn_tests::fused_linear")(fused_rule)
    assert ghn_init.trace(fused_model(), vectors(2, 8)).kept == {}


def test_the_same_name_in_two_namespaces_is_two_operators() -> None:
    model = Fn(lambda m, x: m.a(linear(m.w, x)), w=param(8, 8), a=nn.Linear(8, 8))
    graph = ghn_init.trace(model, vectors(2, 8))
    assert graph.kept == {"w": "no primitive covers the operation 'ghn_tests::linear' that uses it"}
    assert graph.primitives["conv"] == 1


def test_aten_may_be_said() -> None:
    register_rule("aten::maximum")(maximum)
    assert registry.RULES["maximum"] is maximum
    unregister_rule("aten::maximum")


def maximum(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.merge("sum", [b.flow(value) for value in call.inputs]))


def composite(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, apply_weight(b, b.flow(call.args[0]), call.args[1], None, "sep_conv"))


def test_a_composite_operator_is_taken_apart_until_it_has_a_rule() -> None:
    model = Fn(lambda m, x: torch.ops.ghn_tests.composite(x, m.w), w=param(8, 8))

    def primitives() -> list[str]:
        return [node.primitive for node in build_graph(record_calls(model, (vectors(2, 8),), {}, WHOLE)).nodes]

    assert primitives() == ["input", "conv"]
    register_rule("ghn_tests::composite")(composite)
    assert "ghn_tests::composite" in WHOLE
    assert primitives() == ["input", "sep_conv"]
    unregister_rule("ghn_tests::composite")
    assert "ghn_tests::composite" not in WHOLE
    assert primitives() == ["input", "conv"]


def test_trace_does_not_take_apart_what_was_registered_later() -> None:
    register_rule("ghn_tests::composite")(composite)
    primitives = ghn_init.trace(Fn(lambda m, x: torch.ops.ghn_tests.composite(x, m.w), w=param(8, 8)), vectors(2, 8)).primitives
    unregister_rule("ghn_tests::composite")
    assert primitives == {"input": 1, "sep_conv": 1}


def test_an_operator_that_only_writes_has_what_it_wrote_as_its_result() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        out = torch.zeros(2, 16)
        add_rows(x, m.w, out[:, :16])
        return m.head(out)

    model = Fn(forward, w=param(16, 8), head=nn.Linear(16, 4))
    assert ghn_init.trace(model, vectors(2, 8)).kept == {
        "w": "no primitive covers the operation 'ghn_tests::add_rows' that uses it"
    }
    register_rule("ghn_tests::add_rows")(
        lambda b, call: b.assign(call.outputs, apply_weight(b, b.flow(call.args[0]), call.args[1], None, "conv"))
    )
    graph = ghn_init.trace(model, vectors(2, 8))
    unregister_rule("ghn_tests::add_rows")
    assert graph.kept == {}
    assert graph.edges == [(0, 1), (1, 2), (2, 3)]


def test_slices_of_a_tensor_that_the_forward_made_on_the_cpu_are_followed() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        out = torch.zeros(2, 8, 8, 8)
        out[:, :4] = m.a(x)
        out[:, 4:] = m.b(x)
        return m.c(out)

    graph = ghn_init.trace(Fn(forward, a=conv(3, 4), b=conv(3, 4), c=conv(8, 8)), images())
    assert graph.kept == {}
    assert (graph.num_nodes, graph.distances[2, 5], graph.distances[4, 5]) == (7, 1, 1)


def test_a_constant_that_no_operation_made_does_not_take_a_dead_tensors_place() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        for _ in range(3):
            m.b(x).sigmoid()  # its tensors are gone at once, and their ids free
            x = x * torch.from_numpy(np.ones((1, 8, 1, 1), np.float32))
        return m.c(x)

    graph = ghn_init.trace(Fn(forward, a=conv(), b=conv(8), c=conv(8)), images())
    assert graph.primitives == {"input": 1, "conv": 2, "bias": 2}


def test_results_written_by_the_out_argument_are_followed() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        out = x.new_empty(2, 8)
        torch.mm(x, m.w, out=out[:, :8])
        return m.head(out)

    model = Fn(forward, w=param(8, 8), head=nn.Linear(8, 4))
    assert ghn_init.trace(model, vectors(2, 8)).edges == [(0, 1), (1, 2), (2, 3)]


def test_an_autograd_function_is_followed_inside() -> None:
    class Squared(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
            return (x @ w.T).square()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[None, None]:
            return None, None

    model = Fn(lambda m, x: Squared.apply(x, m.w), w=param(4, 8))
    assert ghn_init.trace(model, vectors(2, 8)).primitives == {"input": 1, "conv": 1}


def test_an_operator_without_a_kernel_here_says_so_in_one_line() -> None:
    model = Fn(lambda m, x: elsewhere(m.a(x)), a=nn.Linear(8, 8))
    message = (
        r"operator 'ghn_tests::elsewhere' has no kernel for tensors on cpu; torch.library.register_fake\('ghn_tests::elsewh"
    )
    with pytest.raises(TraceError, match=message) as error:
        ghn_init.trace(model, vectors(2, 8))
    assert "\n" not in str(error.value)


def test_layers_of_every_kind() -> None:
    """Each helper in the place of the operator's own rule."""

    def rules(b: GraphBuilder, call: Call) -> None:
        x = b.flow(call.args[0])
        if call.op == "conv2d":
            flow = convolve(b, x, call.args[1], argument(call, 2), dilation=argument(call, 5, "dilation", 1), groups=8)
        elif call.op == "layer_norm":
            flow = normalise(b, x, call.args[2], call.args[3], "bn")
        else:
            flow = pool(b, x, "max_pool", 5)
        b.assign(call.outputs, flow)

    names = ("conv2d", "layer_norm", "avg_pool2d")
    register_rule(*names, replace=True)(rules)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, dilation=2), nn.AvgPool2d(2), nn.LayerNorm(2))
    graph = ghn_init.trace(model, images(8))
    unregister_rule(*names)
    assert [node.primitive for node in graph.nodes] == ["input", "dil_conv", "bias", "max_pool", "bn"]
    assert graph.nodes[3].shape == (1, 1, 5, 5)
    assert graph.kept == {}


def test_duplicates_are_refused_with_both_names(fused: None) -> None:
    message = (
        r"'ghn_tests::fused_linear' already has a rule: test_rules\.fused_rule; "
        r"pass replace=True to put test_rules\.maximum in its place"
    )
    with pytest.raises(ValueError, match=message):
        register_rule("maximum", "ghn_tests::fused_linear")(maximum)
    assert registry.RULES["ghn_tests::fused_linear"] is fused_rule
    assert "maximum" not in registry.RULES


def test_the_packages_own_rules_are_not_overwritten_by_accident() -> None:
    with pytest.raises(
        ValueError, match=r"'conv2d' already has a rule: ghn_init\.tracing\.rules\.layers\._convolution; pass repl"
    ):
        register_rule("conv2d")(maximum)
    with pytest.raises(ValueError, match=r"'conv2d' already has a rule: ghn_init\.tracing\.rules\.layers\._convolution;"):
        registry.rule("conv2d")(maximum)


def test_replace_and_back() -> None:
    own = registry.RULES["conv2d"]
    for _ in range(2):  # as a notebook's cell that is run again
        register_rule("conv2d", replace=True)(lambda b, call: b.contract(call))
    assert set(ghn_init.trace(conv(), images()).kept) == {"weight", "bias"}
    unregister_rule("conv2d")
    assert registry.RULES["conv2d"] is registry.RULES["conv2d_"] is own
    assert ghn_init.trace(conv(), images()).kept == {}


def test_in_place_variants_follow_unless_they_have_their_own() -> None:
    rules = registry.RULES
    register_rule("lerp")(maximum)
    assert rules["lerp_"] is maximum
    register_rule("lerp_", replace=True)(composite)
    register_rule("lerp", replace=True)(fused_rule)
    assert (rules["lerp"], rules["lerp_"]) == (fused_rule, composite)
    unregister_rule("lerp_")
    assert rules["lerp_"] is fused_rule
    unregister_rule("lerp")
    assert not {"lerp", "lerp_"} & rules.keys()


@pytest.mark.parametrize("name", ["maximum", "conv2d", "ghn_tests::fused_linear"])
def test_what_was_not_registered_cannot_be_taken_back(name: str) -> None:
    with pytest.raises(ValueError, match=f"no rule was registered for '{name}'; the package's own rules can't be taken back"):
        unregister_rule(name)


@pytest.mark.parametrize(
    "name", ["ghn_tests::missing", "nowhere::linear", "fused_linear", "ghn_tests.fused_linear", "add.Tensor"]
)
def test_unknown_operators_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"there is no operator '{re.escape(name)}'; define it before its rule"):
        register_rule("maximum", name)


@pytest.mark.parametrize("ops", [(), (maximum,), (torch.ops.aten.maximum,)])
def test_operators_are_given_by_name(ops: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="register_rule takes operators by name, such as 'mylib::fused_linear' or 'gelu'; got "):
        register_rule(*ops)


def broken(b: GraphBuilder, call: Call) -> None:
    raise KeyError("left")


def test_a_rule_that_raises_is_named() -> None:
    register_rule("maximum")(broken)
    message = r"the rule for 'maximum', test_rules\.broken, raised KeyError: 'left'"
    with pytest.raises(TraceError, match=message):
        ghn_init.trace(Fn(lambda m, x: torch.maximum(m.a(x), x), a=conv(3, 3)), images())
    unregister_rule("maximum")


def test_a_rule_that_forgets_its_result_is_named() -> None:
    register_rule("maximum")(lambda b, call: None)
    message = (
        r"the rule for 'maximum', test_rules\..*<lambda>, gives a result no flow; it should end in b\.assign\(call\.outputs"
    )
    with pytest.raises(TraceError, match=message):
        ghn_init.trace(Fn(lambda m, x: torch.maximum(m.a(x), x), a=conv(3, 3)), images())
    unregister_rule("maximum")


def test_a_rule_that_makes_up_a_primitive_is_named() -> None:
    register_rule("maximum")(lambda b, call: b.assign(call.outputs, b.add(Node("maxout"), ())))
    with pytest.raises(TraceError, match=r"raised ValueError: there is no primitive 'maxout'; hypernetworks know max_pool, "):
        ghn_init.trace(Fn(lambda m, x: torch.maximum(m.a(x), x), a=conv(3, 3)), images())
    unregister_rule("maximum")


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_documentation_runs(time: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a second time in one process."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    assert len(BLOCKS) >= 3
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/add_an_operation.md, block {number}", "exec"), namespace)
