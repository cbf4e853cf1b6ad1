"""Sines and cosines of a layer's result, whose weights are frequencies then."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call
from ghn_init.tracing.rules.products import layer_of
from ghn_init.tracing.rules.registry import rule


@rule("sin", "cos")
def _wave(b: GraphBuilder, call: Call) -> None:
    for index in layer_of(b, b.flow(call.args[0])):
        b.nodes[index] = replace(b.nodes[index], wave=True)
    b.contract(call)
