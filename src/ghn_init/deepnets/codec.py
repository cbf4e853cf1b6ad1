"""A graph as a few hundred bytes and back: JSON, compressed."""

from __future__ import annotations

import json
import zlib

import numpy as np

from ghn_init.graph import PRIMITIVES, Graph, Node


def encode(graph: Graph) -> bytes:
    """Nodes (primitive, shape, parameter names, flags) and edges; what is kept is not stored."""
    nodes = [
        [PRIMITIVES.index(node.primitive), node.shape, node.weight, node.bias, int(node.transposed), int(node.head)]
        for node in graph.nodes
    ]
    text = json.dumps({"nodes": nodes, "edges": graph.edge_index.T.ravel().tolist()}, separators=(",", ":"))
    return zlib.compress(text.encode(), 9)


def decode(data: bytes) -> Graph:
    """The graph that `encode` wrote.

    Raises:
        ValueError, KeyError, IndexError, TypeError: The bytes are something else.
    """
    try:
        fields = json.loads(zlib.decompress(data))
    except zlib.error as error:
        raise ValueError(f"a graph is damaged ({error})") from error
    nodes = tuple(
        Node(PRIMITIVES[primitive], None if shape is None else tuple(shape), weight, bias, bool(transposed), bool(head))
        for primitive, shape, weight, bias, transposed, head in fields["nodes"]
    )
    return Graph(nodes, np.asarray(fields["edges"], dtype=np.int64).reshape(-1, 2).T)
