"""Which rows of the shape tables a node reads."""

from __future__ import annotations

import pytest

from ghn_init.graph import Node
from ghn_init.hypernetwork.shape_encoding import ShapeEncoder, channel_vocabulary, four_sizes, kernel_vocabulary, nearest


def test_vocabularies_have_the_published_sizes() -> None:
    channels = channel_vocabulary(10)
    assert channels[:4] == [1, 3, 8, 10]
    assert channels[-1] == 8192
    assert len(channels) == 2 + 1 + 7 + 252 + 129  # 1 and 3, the classes, by 8 to 56, by 16 to 4080, by 32 to 8192
    assert channel_vocabulary(1000) == sorted({*channel_vocabulary(), 1000})
    assert channel_vocabulary() == [width for width in channels if width != 10]
    assert kernel_vocabulary(11) == [1, 3, 5, 7, 9, 11, 14, 16]
    assert kernel_vocabulary(16) == [1, 3, 5, 7, 9, 11, 13, 14, 15, 16]


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (2, 1), (9, 8), (12, 8), (13, 16), (9999, 16), (0, 1)])
def test_nearest_takes_the_smaller_on_a_tie(size: int, expected: int) -> None:
    vocabulary = [1, 3, 8, 16]
    assert vocabulary[nearest(vocabulary, size)] == expected


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Node("sum"), None),
        (Node("bn", (64,)), (64, 1, 1, 1)),
        (Node("conv", (10, 512)), (10, 512, 1, 1)),
        (Node("conv", (8, 4, 5)), (8, 4, 5, 1)),
        (Node("conv", (8, 4, 2, 3, 5)), (8, 4, 3, 5)),
        (Node("pos_enc", (1, 197, 384)), (1, 384, 14, 14)),
        (Node("max_pool", (1, 1, 3, 3)), (1, 1, 3, 3)),
    ],
)
def test_four_sizes(node: Node, expected: tuple[int, ...] | None) -> None:
    assert four_sizes(node) == expected


def test_rows_of_a_node() -> None:
    encoder = ShapeEncoder(8, 11, 10)
    o, i, height, width = encoder.rows(Node("conv", (64, 5, 2, 7)))
    assert (encoder.channels[o], encoder.channels[i]) == (64, 8)  # 4 to 7 channels read as 8
    assert (encoder.kernels[height], encoder.kernels[width]) == (3, 7)  # 2 reads as 3
    places = ShapeEncoder(8, 16, 1000)
    assert [places.kernels[row] for row in places.rows(Node("pos_enc", (1, 197, 768)))[2:]] == [14, 14]
    nothing = encoder.rows(Node("sum"))
    assert nothing == (len(encoder.channels), len(encoder.channels), len(encoder.kernels), len(encoder.kernels))
    assert encoder.embed_channel.num_embeddings == len(encoder.channels) + 1
