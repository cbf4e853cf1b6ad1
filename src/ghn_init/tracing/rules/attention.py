"""Attention, fused or written out."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.graph import Node
from ghn_init.tracing.flow import CONSTANT, GraphBuilder, as_stream
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.arithmetic import drop_position_table
from ghn_init.tracing.rules.reasons import POSITION_TABLE, QUERY
from ghn_init.tracing.rules.registry import argument, rule


@rule("softmax", "_softmax", "_safe_softmax")
def _softmax(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, softmax=flow.data))


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attention(b: GraphBuilder, call: Call) -> None:
    flows = [as_stream(b.flow(value)) for value in call.args[:3]]
    mask = argument(call, 3, "attn_mask")
    if isinstance(mask, Value):
        b.keep(b.flow(mask).params, POSITION_TABLE)
        if not drop_position_table(b, b.flow(mask)):
            flows.append(b.flow(mask))
    for flow in flows[:3]:
        b.keep(flow.params, QUERY)
    b.assign(call.outputs[:1], b.add(Node("msa"), frozenset().union(*(flow.nodes for flow in flows))))
    b.assign(call.outputs[1:], CONSTANT)
