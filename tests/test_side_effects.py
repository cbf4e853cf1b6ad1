"""Tracing and predicting leave the model, its gradients and every random state as they were, also when the forward raises."""

from __future__ import annotations

import functools
import io
import itertools
import queue
import random
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import TraceError
from ghn_init.tracing import untouched
from helpers import Tiny
from zoo import Case, Fn, conv, images, param

Verb = Callable[[nn.Module, ghn_init.GHN, Any], Any]
VERBS: dict[str, Verb] = {
    "trace": lambda model, ghn, inputs: ghn_init.trace(model, inputs),
    "predict": lambda model, ghn, inputs: ghn_init.predict(model, ghn, inputs),
}


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything that could be left behind, by value."""
    return {
        "state": {name: (id(t), t.data_ptr(), t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()},
        "grads": {name: (id(p.grad), p.requires_grad) for name, p in model.named_parameters()},
        "modules": {name: (module.training, attributes(module)) for name, module in model.named_modules()},
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),  # noqa: NPY002
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def attributes(module: nn.Module) -> dict[str, Any]:
    values = {}
    for key, value in vars(module).items():
        if isinstance(value, Tensor):
            values[key] = (id(value), value.clone())
        elif isinstance(value, dict):
            values[key] = (id(value), [(k, id(v)) for k, v in value.items()])
        elif isinstance(value, list | set):
            values[key] = (id(value), [id(v) for v in value])
        else:
            values[key] = (id(value), value)
    return values


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a.to_dense(), b.to_dense())
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_left_behind(case: Case, ghn: ghn_init.GHN, verb: str) -> None:
    model = case.build()
    before = snapshot(model)
    VERBS[verb](model, ghn, case.inputs)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_left_behind_by_gradients_hooks_and_mixed_modes(ghn: ghn_init.GHN, verb: str) -> None:
    calls = []
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.Linear(512, 10))
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    model[0].register_forward_hook(lambda *_: calls.append(1))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = snapshot(model)
    VERBS[verb](model, ghn, images())
    assert_same(before, snapshot(model))


def fails(m: Any, x: Tensor) -> Tensor:
    m.training = not m.training
    m.left = m.a(x)
    m.seen.append(1)
    m.register_buffer("late", x)
    torch.manual_seed(7)
    random.random()
    np.random.rand()  # noqa: NPY002
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_left_behind_when_the_forward_raises(ghn: ghn_init.GHN, verb: str) -> None:
    model = Fn(fails, a=conv(), seen=[0], norm=nn.BatchNorm2d(3))
    before = snapshot(model)
    with pytest.raises(TraceError, match="broken on purpose"):
        VERBS[verb](model, ghn, images())
    assert_same(before, snapshot(model))


def test_example_inputs_are_not_written() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.a(x.add_(1)) if x.sum().item() > -1 else x

    x = images()
    ghn_init.trace(Fn(forward, a=conv()), x)
    assert torch.equal(x, images())


class Edges:
    __slots__ = ("cache", "edge_index", "x")

    def __init__(self) -> None:
        self.x, self.edge_index, self.cache = torch.zeros(4, 3), torch.tensor([[0, 1], [1, 2]]), {}

    @property
    def adjacency(self) -> Tensor:
        if "adjacency" not in self.cache:
            self.cache["adjacency"] = self.x.new_zeros(4, 4).index_put(
                (self.edge_index[0], self.edge_index[1]), self.x.new_ones(2)
            )
        return self.cache["adjacency"]


def test_example_inputs_keep_no_cache() -> None:
    graph = Edges()
    ghn_init.trace(Fn(lambda m, g: m.a(g.adjacency @ g.x), a=nn.Linear(3, 4)), (graph,))
    assert graph.cache == {}


def test_plain_tensors_of_the_model_are_not_written() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.steps += 1
        m.steps += 1
        m.nested["count"].add_(1)
        return m.a(x)

    for forward_ in (forward, lambda m, x: forward(m, x) + x.sum().item()):
        model = Fn(forward_, a=conv(), steps=torch.zeros(()), nested={"count": torch.zeros(3)})
        ghn_init.trace(model, images())
        assert model.steps == 0
        assert torch.equal(model.nested["count"], torch.zeros(3))


class Rope:
    """A helper that is no module and caches what it made."""

    def __init__(self) -> None:
        self.table: Tensor | None = None
        self.calls = Counter({"seen": 1})

    def __call__(self, x: Tensor) -> Tensor:
        self.calls["seen"] += 1
        if self.table is None:
            self.table = torch.ones(x.shape[-1], device=x.device)
        return x * self.table


def test_helper_objects_and_nested_containers_are_as_before() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.cache["keys"].append(x)
        m.queue.append(x)
        m.names.add("late")
        m.array += 1
        m.own.random(), m.torch.manual_seed(5), m.numpy.random()
        return m.rope(m.a(x))

    own, numpy, generator = random.Random(0), np.random.default_rng(0), torch.Generator().manual_seed(0)
    parts = {"cache": {"keys": [1]}, "queue": deque([1, 2], maxlen=2), "names": {"early"}, "array": np.zeros(3)}
    model = Fn(forward, a=conv(), rope=Rope(), own=own, numpy=numpy, torch=generator, **parts)
    states = own.getstate(), str(numpy.bit_generator.state), generator.get_state()
    ghn_init.trace(model, images())
    assert model.cache == {"keys": [1]}
    assert list(model.queue) == [1, 2]
    assert model.names == {"early"}
    assert model.array.tolist() == [0, 0, 0]
    assert model.rope.table is None
    assert model.rope.calls == {"seen": 1}
    assert states[:2] == (own.getstate(), str(numpy.bit_generator.state))
    assert torch.equal(states[2], generator.get_state())
    model(images())


@pytest.mark.parametrize("make", [
    lambda: random.Random(0).random,
    lambda: np.random.default_rng(0).random,
    lambda: np.random.RandomState(0).rand,
    lambda: functools.partial(torch.rand, 1, generator=torch.Generator().manual_seed(0)),
])  # fmt: skip
def test_a_choice_by_a_generator_of_the_models_own_is_seen(make: Callable[[], Any]) -> None:
    model = Fn(lambda m, x: m.a(x) if float(m.draw()) < 2 else m.b(x), a=conv(), b=conv(), draw=make())
    assert "not reached" in ghn_init.trace(model, images()).kept["b.weight"]


def test_the_systems_random_numbers_have_no_state() -> None:
    model = Fn(lambda m, x: m.a(x) * m.own.random(), a=conv(), own=random.SystemRandom())
    assert ghn_init.trace(model, images()).kept == {}


def test_unregistered_statistics_are_not_written() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = F.batch_norm(m.a(x), m.mean, m.var, training=True)
        return y if y.sum().item() < 1e9 else x

    model = Fn(forward, a=conv(), mean=torch.zeros(8), var=torch.ones(8))
    ghn_init.trace(model, images() + 3)
    assert torch.equal(model.mean, torch.zeros(8))
    assert torch.equal(model.var, torch.ones(8))


def test_parameters_reached_past_the_modules_are_not_written(ghn: ghn_init.GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.listed[0].data.mul_(0)
        return m.a(x)

    model = Fn(forward, a=conv())
    model.listed = [model.a.weight]
    before = model.a.weight.detach().clone()
    ghn_init.predict(model, ghn, images())
    assert torch.equal(model.a.weight, before)


def test_an_optimizer_stays_valid(ghn: ghn_init.GHN) -> None:
    model = nn.Sequential(conv(), nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ghn_init.initialize(model, ghn, images())
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_stored_parameter_outside_of_any_layer_is_kept_bit_for_bit(ghn: ghn_init.GHN) -> None:
    model = Fn(lambda m, x: m.a(x) * m.scale, a=conv(), scale=param(1))
    before = model.scale.detach().clone()
    ghn_init.initialize(model, ghn, images())
    assert torch.equal(model.scale, before)


class Counting:
    __slots__ = ("cache", "count")

    def __init__(self) -> None:
        self.count = 0


def changes_its_helpers(m: Any, x: Tensor) -> Tensor:
    m.numpy.rand()
    m.bits.random_raw()
    m.counting.count += 1
    m.counting.cache = x
    m.numbers[0] += 1
    m.text.extend(b"x")
    return m.a(x)


def test_helpers_are_as_before() -> None:
    model = Fn(
        changes_its_helpers,
        numpy=np.random.RandomState(3),
        bits=np.random.PCG64(3),
        counting=Counting(),
        numbers=array("i", [1]),
        text=bytearray(b"x"),
        a=nn.Linear(8, 4),
    )
    ghn_init.trace(model, torch.zeros(2, 8))
    assert model.numpy.rand() == np.random.RandomState(3).rand()
    assert model.bits.random_raw() == np.random.PCG64(3).random_raw()
    assert (model.counting.count, hasattr(model.counting, "cache")) == (0, False)
    assert (model.numbers[0], bytes(model.text)) == (1, b"x")


class Meter:
    def __init__(self) -> None:
        self.count = 0

    def up(self, *_: Any) -> None:
        self.count += 1


def counting() -> tuple[Callable[..., None], list[int]]:
    """A function that counts its calls in a closure, an attribute of its own and a default."""
    seen, calls = [0], 0

    def up(*_: Any, default: list[int] = seen) -> None:
        nonlocal calls
        calls += 1
        up.calls = calls  # type: ignore[attr-defined]
        default[0] = calls

    return up, seen


class Memo(dict[str, int]):
    hits = 0

    def up(self) -> None:
        self.hits += 1


@pytest.mark.parametrize("verb", VERBS)
def test_what_hooks_and_other_callbacks_belong_to_is_as_before(ghn: ghn_init.GHN, verb: str) -> None:
    hooked, bound, partial, memo, (function, seen), log = Meter(), Meter(), Meter(), Memo(), counting(), []
    parts = {"cb": bound.up, "part": functools.partial(partial.up), "memo": memo, "count": function, "append": log.append}

    def forward(m: Any, x: Tensor) -> Tensor:
        m.cb(), m.part(), m.memo.up(), m.count(), m.append(x)
        return m.a(x)

    model = Fn(forward, a=conv(), **parts)
    model.a.register_forward_hook(hooked.up)
    VERBS[verb](model, ghn, images())
    assert (hooked.count, bound.count, partial.count, vars(memo), seen, vars(function), log) == (0, 0, 0, {}, [0], {}, [])
    model(images())
    assert (hooked.count, bound.count, partial.count, memo.hits, seen, vars(function)) == (1, 1, 1, 1, [1], {"calls": 1})


def left(iterator: Any) -> list[Any]:
    return list(itertools.islice(iterator, 4))


ITERATORS = {
    "count": lambda: itertools.count(5),
    "list": lambda: iter([1, 2, 3]),
    "range": lambda: iter(range(4)),
    "cycle": lambda: itertools.cycle([1, 2, 3]),
    "enumerate": lambda: enumerate([1, 2, 3]),
    "chain": lambda: itertools.chain([1], [2, 3]),
    "zip": lambda: zip([1, 2], [3, 4], strict=True),
}


@pytest.mark.parametrize("name", ITERATORS)
def test_iterators_are_where_they_were(name: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        next(m.it), next(m.held["it"]), m.step()
        return m.a(x)

    it, held, step = (ITERATORS[name]() for _ in range(3))
    model = Fn(forward, a=conv(), it=it, held={"it": held}, step=step.__next__)
    for iterator in (it, held, step):
        next(iterator)
    expected = ITERATORS[name]()
    next(expected)
    ghn_init.trace(model, images())
    assert model.it is it
    assert left(it) == left(held) == left(step) == left(expected)


def test_an_iterator_that_two_hold_is_one_while_tracing() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        assert (next(m.one), next(m.other)) == (1, 2)
        return m.a(x)

    it = iter([1, 2, 3])
    ghn_init.trace(Fn(forward, a=conv(), one=it, other=it), images())
    assert next(it) == 1


def test_generators_do_not_stand_in_the_way() -> None:
    model = Fn(
        lambda m, x: m.a(x * next(m.numbers)), a=conv(), numbers=(n for n in range(1, 9)), mapped=map(str, (n for n in "ab"))
    )
    assert ghn_init.trace(model, images()).num_nodes == 3


@pytest.mark.parametrize("kind", [io.StringIO, io.BytesIO])
def test_files_in_memory_are_as_before(kind: Any) -> None:
    text: Any = "abc" if kind is io.StringIO else b"abc"

    def forward(m: Any, x: Tensor) -> Tensor:
        m.log.read(), m.log.write(text), m.closed.close()
        return m.a(x)

    log = kind(text)
    log.seek(1)
    ghn_init.trace(Fn(forward, a=conv(), log=log, closed=kind(text)), images())
    assert (log.getvalue(), log.tell()) == (text, 1)


def test_data_and_what_other_threads_change_are_left_alone() -> None:
    """A trainer that hooks its model holds both."""

    class Trainer:
        def __init__(self) -> None:
            self.steps, self.events, self.rows = 0, queue.Queue(), [0] * (untouched._MOST + 1)
            self.images = np.zeros(untouched._MOST + 1, dtype=np.uint8)
            self.few = [0]

        def hook(self, *_: Any) -> None:
            self.steps += 1
            for changed in (self.rows, self.images, self.few):
                changed[0] = 1  # type: ignore[index]
            self.events.get()

    trainer, model = Trainer(), Fn(lambda m, x: m.a(x), a=conv())
    for item in range(9):
        trainer.events.put(item)
    model.a.register_forward_hook(trainer.hook)
    ghn_init.trace(model, images())
    assert (trainer.steps, trainer.few[0]) == (0, 0)
    assert (trainer.rows[0], trainer.images[0]) == (1, 1)
    assert trainer.events.get() > 0


LABELLED = [(torch.arange(96.0).view(-1, 1, 1, 1).expand(-1, 3, 6, 6), torch.arange(96) % 3)]
SEEDING: dict[str, Callable[[ghn_init.GHN], Any]] = {
    "choose": lambda ghn: ghn_init.choose(lambda: Tiny(1, 4), LABELLED, ghn, steps=1, rungs=1, batch_size=16),
    "rank": lambda ghn: ghn_init.rank({"a": Tiny(1, 4), "b": Tiny(1, 8)}, LABELLED, LABELLED, ghn, steps=1, rungs=1),
    "score": lambda ghn: ghn_init.score(lambda: Tiny(1, 4), LABELLED, LABELLED, ghn, steps=1),
    "families": lambda ghn: ghn_init.families.network("val", 0),
    "compare": lambda _: ghn_init.compare(lambda: Tiny(1, 4), LABELLED, LABELLED, ["default", "orthogonal"], steps=1, seeds=1),
}


@pytest.mark.parametrize("verb", SEEDING)
def test_a_seed_that_waits_for_cuda_stays(ghn: ghn_init.GHN, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Until CUDA is in use its seed is kept as a call that the next seed replaces."""
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(123)
    SEEDING[verb](ghn)
    assert seeds == [123]


class Waits(nn.Module):
    """Says that its forward runs, and goes on when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.runs, self.may_end = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        self.runs.set()
        self.may_end.wait(60)
        return self.layer(x)


def test_threads_that_trace_at_once_leave_the_process_as_it_was() -> None:
    first, second = Waits(), Waits()
    threads = [threading.Thread(target=ghn_init.trace, args=(model, torch.zeros(2, 3))) for model in (first, second)]
    threads[0].start()
    assert first.runs.wait(60)
    threads[1].start()
    overlapped = second.runs.wait(1)
    torch.func.grad(torch.sum)(torch.ones(2))  # in this thread, in which nothing is traced
    first.may_end.set()
    threads[0].join()
    second.may_end.set()
    threads[1].join()
    compiled: list[object] = []
    torch.compile(lambda x: x + 1, backend=lambda module, _: compiled.append(module) or module)(torch.ones(2))
    torch.func.grad(torch.sum)(torch.ones(2))
    assert torch.backends.mha.get_fastpath_enabled()
    assert compiled
    assert not overlapped


@pytest.mark.parametrize("in_use", [False, True])
def test_cuda_is_seeded_where_it_is_in_use(monkeypatch: pytest.MonkeyPatch, in_use: bool) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    untouched.seed_torch(7)
    drawn = torch.rand(())
    assert seeds == [7] * in_use
    assert torch.equal(drawn, torch.rand((), generator=torch.Generator().manual_seed(7)))
