"""Runs a model once and writes down every tensor operation: model → list of calls.

The model runs on meta tensors (shapes without data) under a dispatch mode, so that nothing is computed. What comes out is in
single assignment form: an in-place operation makes a new `Value`.

Why a run below the modules, and no symbolic trace: what counts is what a model computes, whoever computes it. Hooks on modules
don't see `torch.nn.functional`, and `torch.fx` stops at the first `if` on a value.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_init.tracing.holders import mapped, tensors_in
from ghn_init.tracing.refusals import NoTensorError
from ghn_init.tracing.reparametrized import seen_through
from ghn_init.tracing.shapes import shaped
from ghn_init.tracing.writes import WRITES_STATISTICS, Overwritten, Places, leaves, storage_of, writes_of, written_by

Source = Literal["input", "parameter", "constant", "call"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor at one moment of the run: its shape, and where it comes from.

    `name` is set for parameters, `number` for constants of one element whose value is known.
    """

    shape: tuple[int, ...]
    source: Source
    name: str | None = None
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the run.

    Attributes:
        op: Its name without overload: 'linear' of PyTorch's own (ATen), with the namespace of others, 'mylib::fused_linear'.
        args: Positional arguments, `Value`s in the place of tensors; trailing ones that have their default are left out.
        kwargs: Keyword-only arguments, likewise.
        outputs: Tensors that it returned, and after them those that it wrote into without returning them.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value, ...]

    @property
    def inputs(self) -> list[Value]:
        """All tensors that flow in, in argument order."""
        return list(leaves((self.args, self.kwargs), Value))


@dataclass(frozen=True)
class Record:
    """All calls of one run, in execution order, and the values that the model returned.

    `chooses`: the model's Python looked at values or drew random numbers, so that another run may take other ways.
    `statistics`: dotted names of the buffers that norms took for running means, but for norms whose weight is no parameter.
    `reparametrising`: parameters of parametrizations that the run went through → the one whose weight they make another.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Value, ...]
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    chooses: bool = False
    statistics: frozenset[str] = frozenset()
    reparametrising: Mapping[str, str] = field(default_factory=dict)


class Recorder(TorchDispatchMode):
    """Records calls; `keep` names the operations that are recorded whole although they could be decomposed."""

    def __init__(self, keep: Container[str], on_meta: bool) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.means: set[int] = set()  # ids of tensors that norms took for running means
        self._keep = keep
        self._operators: dict[Any, tuple[str, bool, Places]] = {}
        self._on_meta = on_meta
        # By identity: the mode is handed the same Python object for the same tensor. An id is given out again once its tensor
        # is gone: without `_alive`, a tensor that no operation made (`torch.from_numpy`) would take a dead one's value.
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []
        self._writes: dict[int, tuple[int, Value]] = {}  # storage → (position in calls, value written into it)
        self._born: dict[int, int] = {}  # id of tensor → position in calls
        self._meta: dict[int, Tensor] = {}
        self._constants: set[int] = set()  # storages that the model brought along
        self._overwritten = Overwritten()

    def register(self, tensor: Tensor, source: Source, name: str | None = None) -> Value:
        """Gives `tensor` its value from here on."""
        value = Value(tuple(tensor.shape), source, name, _number(tensor) if source == "constant" else None)
        self._bind(tensor, value)
        return value

    def constant(self, stand_in: Tensor, tensor: Tensor) -> None:
        """A buffer of one element, whose value says more than its shape."""
        self._bind(stand_in, Value(tuple(stand_in.shape), "constant", None, _number(tensor)))

    def alias(self, tensor: Tensor, stand_in: Tensor) -> None:
        """The model may also hold the real `tensor` where no module registers it; it has the stand-in's value."""
        self._values[id(tensor)] = self._values[id(stand_in)]
        self._born[id(tensor)] = self._born[id(stand_in)]
        self._alive.append(tensor)
        self._constants.add(storage_of(tensor))
        self._meta[id(tensor)] = stand_in

    def value_of(self, tensor: Tensor) -> Value:
        """The current value of `tensor`; a tensor never seen before is a constant."""
        value = self._values.get(id(tensor))
        if value is None:
            value = self.register(tensor, "constant")
            self._constants.add(storage_of(tensor))
        if self._writes:
            written = self._writes.get(storage_of(tensor))
            if written is not None and written[0] > self._born[id(tensor)]:
                value = self._merge(tensor, value, written[1])
        return value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, apart, writes = self._operators.get(func) or self._look_up(func)
        if apart:
            # Composite operations without a rule, such as `einsum`, come down to ones that have a rule.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        # `relu_` and the like bring nothing in that the result, or other views, would have to know.
        given = written_by(writes, args, kwargs) if writes and (len(args) + len(kwargs) > 1 or name in self._keep) else ()
        if self._on_meta:
            args, kwargs = self._to_meta(args, kwargs)
        # Before the operation runs: one that is in-place gives its argument another value.
        recorded = _map(self.value_of, (tuple(args), kwargs))
        if self._constants and (writes or name in WRITES_STATISTICS):
            self._back_up(args, kwargs)
        if name in ("batch_norm", "instance_norm"):
            weight = recorded[0][1]
            if not (isinstance(weight, Value) and weight.source == "constant"):
                self.means.add(id(args[3]))
        result = shaped(name, args, kwargs) if self._on_meta else NotImplemented
        if result is NotImplemented:
            result = _run(func, name, args, kwargs)
        written = written_by(writes, args, kwargs) if given else ()
        self._record(name, recorded, result, written)
        if written:
            self._note_writes(given, written)
        return result

    def _look_up(self, func: Any) -> tuple[str, bool, Places]:
        """An operator's name, whether it is taken apart, and the positions or names of arguments that it writes into."""
        # A custom operator keeps its namespace: two libraries may have the same name, and PyTorch may have it too.
        name = func._schema.name.removeprefix("aten::")
        apart = name not in self._keep and func.has_kernel_for_dispatch_key(_COMPOSITE)
        self._operators[func] = facts = (name, apart, writes_of(func))
        return facts

    def _back_up(self, args: Any, kwargs: Any) -> None:
        """Before the model's own plain tensors are written in place."""
        for tensor in leaves((args, kwargs), Tensor):
            if storage_of(tensor) in self._constants:
                self._overwritten.back_up(tensor)

    def restore(self) -> None:
        """Gives the model's own plain tensors their values back."""
        self._overwritten.restore()

    def _record(self, name: str, recorded: Any, result: Any, written: Sequence[Tensor]) -> None:
        tensors = list(leaves(result, Tensor))
        if written:  # a custom operator may return nothing of what it wrote
            tensors += [tensor for tensor in written if all(tensor is not other for other in tensors)]
        outputs = tuple(Value(tuple(t.shape), "call", None, None if t.dim() else _number(t)) for t in tensors)
        self.calls.append(Call(name, recorded[0], recorded[1], outputs))
        for tensor, value in zip(tensors, outputs, strict=True):
            self._bind(tensor, value)

    def _note_writes(self, given: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        """Other views of what was written into have to know. Where a stand-in was written, so does the model's own tensor."""
        for tensor, stand_in in zip(given, written, strict=True):
            value = self._values[id(stand_in)]
            for each in (tensor, stand_in):
                self._bind(each, value)
                if key := storage_of(each):
                    self._writes[key] = (len(self.calls), value)

    def _bind(self, tensor: Tensor, value: Value) -> None:
        self._values[id(tensor)] = value
        self._born[id(tensor)] = len(self.calls)
        self._alive.append(tensor)

    def _merge(self, tensor: Tensor, old: Value, written: Value) -> Value:
        """A view of a storage that was written through another view carries both values.

        Both, because it isn't known which elements were written: `out[:, :4] = a; out[:, 4:] = b` leaves `out` with a and b.
        A view that was overwritten as a whole has an edge too many.
        """
        merged = Value(tuple(tensor.shape), "call")
        self.calls.append(Call("alias", (old, written), {}, (merged,)))
        self._bind(tensor, merged)
        return merged

    def _to_meta(self, args: Any, kwargs: Any) -> Any:
        """Constants that the model holds as plain tensors meet meta tensors: their shapes are all that matters."""
        on_meta = {tensor.is_meta for tensor in leaves((args, kwargs), Tensor)}
        if len(on_meta) < 2:
            return args, kwargs
        return _map(self._meta_of, (tuple(args), kwargs))

    def _meta_of(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta or tensor.dim() == 0:  # PyTorch lets scalars meet tensors of any device
            return tensor
        value = self.value_of(tensor)
        if id(tensor) not in self._meta:
            self._meta[id(tensor)] = torch.empty_like(tensor, device="meta")
            self._bind(self._meta[id(tensor)], value)
        stand_in = self._meta[id(tensor)]
        # The tensor may have been written since, through a view with a stand-in of its own.
        if self._born[id(tensor)] > self._born[id(stand_in)]:
            self._bind(stand_in, value)
        return stand_in


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def record_calls(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    keep: Container[str],
    on_meta: bool = True,
) -> Record:
    """Runs `model(*args, **kwargs)` on stand-ins of its parameters and buffers and returns what happened.

    With `on_meta` nothing is computed; otherwise the run is a real one on copies of parameters and buffers.
    Tied parameters appear once, under the name that `named_parameters()` gives them.
    """

    def stand_in(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return torch.empty_like(tensor, device="meta") if on_meta else tensor.clone()

    recorder = Recorder(keep, on_meta)
    own, own_buffers = dict(model.named_parameters()), dict(model.named_buffers())
    # Inference mode, for the stand-ins as well as for the run: tensors that autograd knows, even under `no_grad`, reach the
    # dispatch mode only after PyTorch has taken composite operations apart (an LSTM then arrives as its sums and gates).
    with torch.inference_mode():
        # Parameters again: a module takes nothing else back after `self.count += 1`.
        parameters: dict[str, Tensor] = {name: nn.Parameter(stand_in(p), requires_grad=False) for name, p in own.items()}
        buffers = {name: stand_in(b) for name, b in own_buffers.items()}
        args, kwargs = mapped(stand_in, (args, dict(kwargs)))
    for name, tensor in parameters.items():
        recorder.register(tensor, "parameter", name)
    # `functional_call` swaps what modules have registered, and nothing else.
    for name, parameter in own.items():
        recorder.alias(parameter, parameters[name])
    for name, buffer in own_buffers.items():
        if buffer.numel() == 1:
            recorder.constant(buffers[name], buffer)
    for tensor in tensors_in((args, kwargs)):
        recorder.register(tensor, "input")

    def register(weight: Tensor, name: str) -> None:
        recorder.register(weight, "parameter", name)

    try:
        with seen_through(model, register) as reparametrising, torch.inference_mode(), recorder:
            result = torch.func.functional_call(model, {**parameters, **buffers}, args, dict(kwargs), tie_weights=True)
    finally:
        recorder.restore()
    outputs = tuple(recorder.value_of(tensor) for tensor in output_tensors(result))
    if not outputs:
        raise NoTensorError(type(result).__name__)
    return Record(
        calls=tuple(recorder.calls),
        outputs=outputs,
        parameters={name: tuple(p.shape) for name, p in parameters.items()},
        statistics=frozenset(name for name, buffer in buffers.items() if id(buffer) in recorder.means),
        reparametrising=reparametrising,
    )


def output_tensors(result: Any) -> Iterator[Tensor]:
    """Tensors in whatever a forward returns: tuples, dicts, dataclasses, distributions, objects with tensor attributes."""
    seen: set[int] = set()
    stack = [result]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            yield item
        elif id(item) in seen or isinstance(item, nn.Module | type | str | bytes | int | float):
            continue
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, tuple | list | set | frozenset):
            stack.extend(reversed(list(item)))
        else:
            slots = [name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())]
            attributes = [getattr(item, name, None) for name in slots if isinstance(name, str)]
            stack.extend(reversed([*getattr(item, "__dict__", {}).values(), *attributes]))
        seen.add(id(item))


def _run(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    try:
        return func(*args, **kwargs)
    except NotImplementedError as error:
        if "::" not in name:
            raise
        # PyTorch's own words are forty lines of dispatch keys.
        devices = " and ".join(sorted({tensor.device.type for tensor in leaves((args, kwargs), Tensor)}))
        raise NotImplementedError(
            f"operator '{name}' has no kernel for tensors on {devices}; "
            f"torch.library.register_fake('{name}') tells its result's shape, which is enough"
        ) from error


def _number(tensor: Tensor) -> float | None:
    """The value of a tensor of one element, as far as it has any."""
    known = not tensor.is_meta and tensor.numel() == 1 and tensor.is_floating_point()
    return float(tensor) if known else None


def _map(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """`tree` with `function` applied to every tensor in it."""
    if isinstance(tree, Tensor):
        return function(tree)
    if type(tree) in (tuple, list):
        return type(tree)(_map(function, item) for item in tree)
    if type(tree) is dict:
        return {key: _map(function, item) for key, item in tree.items()}
    return tree
