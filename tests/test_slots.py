"""Tiling: decoded cores → parameters, against index arithmetic element by element."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ghn_init.checkpoints.pretrained import GHN, load
from ghn_init.errors import CheckpointError
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.decoder import ConvDecoder
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.slots import Slot, fill, fill_, slots_of


def weight_slot(*layout: int, transposed: bool = False, kind: str = "weight") -> Slot:
    sizes = (*layout, *(1,) * (4 - len(layout))) if len(layout) <= 4 else (*layout[:2], *layout[-2:])
    shape = (layout[1], layout[0], *layout[2:]) if transposed else layout
    return Slot("w", 0, kind, sizes, layout, shape, transposed)  # type: ignore[arg-type]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layout", [(5, 7, 3, 3), (16, 4, 3, 3), (40, 36, 1, 1), (17, 33, 2, 3), (20, 20)])
def test_element_o_i_is_the_cores_o_modulo_its_channels(layout: tuple[int, ...], transposed: bool) -> None:
    slot = weight_slot(*layout, transposed=transposed)
    core = torch.randn(min(layout[0], 16), min(layout[1], 16), *slot.sizes[2:])
    filled = fill(slot, core)
    assert filled.shape == slot.shape
    filled = filled.transpose(0, 1) if transposed else filled
    expected = torch.empty(slot.sizes)
    for o, i in itertools.product(range(layout[0]), range(layout[1])):
        expected[o, i] = core[o % core.shape[0], i % core.shape[1]]
    assert torch.equal(filled.reshape(slot.sizes), expected)


@pytest.mark.parametrize(
    "slot",
    [
        weight_slot(40, 36, 3, 3),
        weight_slot(40, 36, 3, 3, transposed=True),
        weight_slot(40, 5),
        weight_slot(5, 40),
        weight_slot(40, 36, 4),
        weight_slot(40, 36, 2, 3, 3),
        weight_slot(40, 36, 2, 3, 3, transposed=True),
        Slot("b", 0, "bias", (50, 1, 1, 1), (50,), (50,)),
        Slot("b", 0, "bias", (50, 1, 1, 1), (50,), (1, 50, 1)),
        Slot("p", 0, "position", (1, 20, 4, 4), (1, 17, 20), (1, 17, 20)),
    ],
    ids=lambda slot: f"{slot.kind}-{slot.shape}",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_writing_blocks_equals_filling_at_once(slot: Slot, dtype: torch.dtype) -> None:
    core = (
        torch.randn(16) if slot.kind == "bias" else torch.randn(min(slot.sizes[0], 16), min(slot.sizes[1], 16), *slot.sizes[2:])
    )
    parameter = torch.full(slot.shape, torch.nan, dtype=dtype)
    fill_(parameter, slot, core, torch.Generator().manual_seed(1))
    assert torch.equal(parameter, fill(slot, core, torch.Generator().manual_seed(1)).to(dtype))


def test_writing_keeps_channels_last() -> None:
    parameter = torch.empty(40, 36, 3, 3).to(memory_format=torch.channels_last)
    core = torch.randn(16, 16, 3, 3)
    fill_(parameter, weight_slot(40, 36, 3, 3), core)
    assert parameter.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(parameter[16:32, 16:32], core)


def test_every_slice_along_the_depth_is_the_same_kernel() -> None:
    core = torch.randn(8, 4, 3, 3)
    filled = fill(weight_slot(8, 4, 5, 3, 3), core)
    assert all(torch.equal(filled[:, :, d], core) for d in range(5))


def test_a_one_dimensional_kernel_is_the_first_column() -> None:
    core = torch.randn(8, 4, 3, 1)
    assert torch.equal(fill(weight_slot(8, 4, 3), core), core[..., 0])


def test_position_rows_follow_the_grid_and_class_tokens_are_small_and_random() -> None:
    core = torch.randn(1, 6, 3, 3)
    slot = Slot("p", 0, "position", (1, 6, 3, 3), (1, 11, 6), (1, 11, 6))
    filled = fill(slot, core, torch.Generator().manual_seed(0))
    for row, (y, x) in enumerate(itertools.product(range(3), range(3))):
        assert torch.equal(filled[0, 2 + row], core[0, :, y, x])
    assert 0 < filled[0, :2].abs().max() < 0.1
    assert torch.equal(filled, fill(slot, core, torch.Generator().manual_seed(0)))
    assert not torch.equal(filled, fill(slot, core, torch.Generator().manual_seed(1)))


def test_fan_in_scaling() -> None:
    assert weight_slot(64, 32, 3, 3).scale == pytest.approx((2 / (32 * 9)) ** 0.5)
    assert weight_slot(64, 1, 3, 3).scale == pytest.approx((1 / 9) ** 0.5)
    assert weight_slot(64, 32, 1, 7).scale == pytest.approx((1 / (32 * 7)) ** 0.5)
    assert weight_slot(64, 1).scale == pytest.approx(2**0.5)  # no kernel of its own for each channel


def decoded(decoder: ConvDecoder, h: Tensor, o: int, i: int, height: int, width: int) -> Tensor:
    """(n, O, I, H, W) for nodes' embeddings (n, D)."""
    return decoder(h, decoder.cut([(o, i, height, width)]), o, i, (height, width))


@pytest.mark.parametrize("sizes", [(3, 5, 1, 1), (8, 8, 3, 3), (1, 8, 5, 2)])
def test_decoding_a_corner_equals_the_corner_of_everything(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(GHNConfig({"a": 4}, max_shape=(8, 8, 5, 5), hid=8))
    h = torch.randn(3, 8)
    o, i, height, width = sizes
    whole = decoded(decoder, h, 8, 8, 5, 5)
    torch.testing.assert_close(
        decoded(decoder, h, o, i, height, width), whole[:, :o, :i, :height, :width], rtol=1e-5, atol=1e-6
    )


def test_kernels_beyond_the_decoder_are_interpolated() -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(GHNConfig({"a": 4}, max_shape=(4, 4, 3, 3), hid=8))
    h = torch.randn(1, 8)
    large, whole = decoded(decoder, h, 4, 4, 7, 5), decoded(decoder, h, 4, 4, 3, 3)
    expected: Tensor = torch.nn.functional.interpolate(whole.flatten(0, 1), size=(7, 5), mode="bilinear")
    torch.testing.assert_close(large.flatten(0, 1), expected)


def headed(outputs: int) -> tuple[Graph, list[Slot]]:
    """A graph that ends in a classification head, and its slots."""
    nodes = (Node("input"), Node("conv", (outputs, 30), "w", head=True), Node("bias", (outputs,), "b", head=True))
    graph = Graph(nodes, np.array([[0, 1], [1, 2]]))
    return graph, slots_of(graph, {"w": (outputs, 30), "b": (outputs,)})


@pytest.mark.parametrize("config", [{}, {"layers": 1, "heads": 2}], ids=["ghn-2", "ghn-3"])
def test_a_head_is_decoded_by_its_tasks_own_decoder(config: dict[str, int]) -> None:
    """Against the formulas of the published classification layer, written out."""
    torch.manual_seed(0)
    ghn = GraphHyperNetwork(GHNConfig({"a": 7, "b": 11}, max_shape=(8, 6, 3, 3), hid=8, **config)).eval()
    graph, slots = headed(11)
    assert [(slot.kind, slot.head) for slot in slots] == [("weight", True), ("bias", True)]
    (cores,) = ghn([graph], [slots], ["b"])
    assert (cores["w"].shape, cores["b"].shape) == ((11, 6, 1, 1), (11,))
    assert fill(slots[0], cores["w"]).shape == (11, 30)
    (h,) = ghn.embed_nodes([graph])
    kernel = decoded(ghn.decoder, h[1:2], 8, 6, 1, 1)[0, :, :, 0, 0]
    weight = torch.stack([ghn.heads["b"].to_weight(column) for column in kernel.relu().T], dim=1)
    torch.testing.assert_close(cores["w"][..., 0, 0], weight * (2 / 30) ** 0.5)
    ((_, bias),) = ghn.decoder_1d(h[2:3])
    torch.testing.assert_close(cores["b"], torch.tanh(0.2 * ghn.heads["b"].to_bias(bias.relu())))


def test_a_head_without_a_task_of_as_many_outputs_is_decoded_like_other_layers() -> None:
    torch.manual_seed(0)
    ghn = GraphHyperNetwork(GHNConfig({"a": 7, "b": 11}, max_shape=(8, 6, 3, 3), hid=8)).eval()
    graph, slots = headed(11)
    body = [replace(slot, head=False) for slot in slots]
    (expected,) = ghn([graph], [body], ["b"])
    for tasks in ([None], ["a"]):  # no task; one of 7 outputs
        (cores,) = ghn([graph], [slots], tasks)
        assert cores["w"].shape == (8, 6, 1, 1)
        assert all(torch.equal(cores[name], expected[name]) for name in expected)


def test_a_hypernetwork_of_one_task_takes_it_where_none_is_named() -> None:
    torch.manual_seed(0)
    one = GraphHyperNetwork(GHNConfig({"a": 7}, max_shape=(8, 6, 3, 3), hid=8)).eval()
    two = GraphHyperNetwork(GHNConfig({"b": 11, "a": 7}, max_shape=(8, 6, 3, 3), hid=8)).eval()
    graph, slots = headed(7)
    for ghn, task in ((one, "a"), (two, None)):
        (cores,), (expected,) = ghn([graph], [slots]), ghn([graph], [slots], [task])
        assert all(torch.equal(cores[name], expected[name]) for name in expected)


def test_graphs_of_several_tasks_are_decoded_together_as_each_alone() -> None:
    torch.manual_seed(0)
    ghn = GraphHyperNetwork(GHNConfig({"a": 7, "b": 11, "c": 7}, max_shape=(8, 6, 3, 3), hid=8)).eval()
    pairs = [headed(7), headed(11), headed(7), headed(11)]
    tasks = ["c", "b", "a", None]
    together = ghn([graph for graph, _ in pairs], [slots for _, slots in pairs], tasks)
    for (graph, slots), task, found in zip(pairs, tasks, together, strict=True):
        (alone,) = ghn([graph], [slots], [task])
        assert list(found) == [slot.name for slot in slots]
        for name, core in alone.items():
            torch.testing.assert_close(found[name], core)
    assert not torch.allclose(together[0]["w"], together[2]["w"])


def test_kept_parameters_have_no_slot() -> None:
    graph, _ = headed(7)
    assert [slot.name for slot in slots_of(graph, {"w": (7, 30), "b": (7,)}, {"w": "a reason"})] == ["b"]


@pytest.mark.parametrize(("published", "scaled"), [(True, True), (False, False)])
def test_a_table_is_a_weight_like_others_to_published_hypernetworks(published: bool, scaled: bool) -> None:
    torch.manual_seed(0)
    config = GHNConfig({"a": 4}, class_width=4 if published else None, max_shape=(8, 8, 3, 3), hid=8)
    ghn = GraphHyperNetwork(config).eval()
    graph = Graph((Node("input"), Node("pos_enc", (8, 8), "table")), np.array([[0], [1]]))
    (slot,) = slots_of(graph, {"table": (8, 8)})
    core = ghn([graph], [[slot]], [None])[0]["table"]
    ghn.config = replace(config, weight_norm=False)
    torch.testing.assert_close(core, ghn([graph], [[slot]], [None])[0]["table"] * (0.5 if scaled else 1.0))  # √(2/8)


@pytest.mark.parametrize(("layers", "predicted", "alike"), [(0, False, True), (0, True, False), (2, False, False)])
def test_a_head_that_is_not_predicted_is_read_as_a_published_one(layers: int, predicted: bool, alike: bool) -> None:
    config = GHNConfig({"a": 64}, class_width=64, max_shape=(8, 8, 3, 3), hid=8, layers=layers, heads=4)
    ghn = GraphHyperNetwork(config).eval()

    def features(classes: int) -> Tensor:
        nodes = (Node("input"), Node("conv", (classes, 16), "w", head=True), Node("bias", (classes,), "b", head=True))
        graph = Graph(nodes, np.array([[0, 1], [1, 2]]))
        slots = slots_of(graph, {"w": (classes, 16), "b": (classes,)})
        return ghn.features(ghn.as_read(graph, slots if predicted else []))

    assert torch.equal(features(64), features(10)) == alike


def test_a_hypernetwork_of_several_tasks_is_none_of_the_published_ones() -> None:
    assert GHNConfig({"a": 10}, class_width=10).published
    assert not GHNConfig({"a": 10, "b": 200}, class_width=10).published
    assert not GHNConfig({"a": 10}).published


def test_a_published_one_that_gets_another_task_predicts_what_it_did(tmp_path: Path) -> None:
    """Tables of positions are scaled, and heads that stay are read, as before; also when it comes from a folder."""
    torch.manual_seed(0)
    own = GHN(GHNConfig({"a": 64}, class_width=64, max_shape=(8, 8, 3, 3), hid=8)).eval()
    more = GHN(own.config.with_tasks({"b": 5})).eval()
    more.load_state_dict({**more.state_dict(), **own.state_dict()})
    more.save_pretrained(tmp_path)
    nodes = (Node("input"), Node("conv", (10, 16), "w", head=True), Node("pos_enc", (8, 8), "t"))
    graph = Graph(nodes, np.array([[0, 0], [1, 2]]))
    slots = slots_of(graph, {"t": (8, 8), "w": (10, 16)}, {"w"})
    (expected,) = own([graph], [slots], [None])
    for ghn in (more, load(tmp_path)):
        (found,) = ghn([graph], [slots], [None])
        assert torch.equal(found["t"], expected["t"])
    assert own.config.with_tasks({"a": 64}) == own.config
    assert "as_published" not in own.config.to_dict()


def test_nothing_is_as_published_without_a_width_of_classes() -> None:
    with pytest.raises(CheckpointError, match="as_published is True and class_width None; expected the width that it knows"):
        GHNConfig({"a": 10}, as_published=True)
    with pytest.raises(CheckpointError, match="as_published is 'yes'; expected True or False"):
        GHNConfig({"a": 10}, class_width=10, as_published="yes")  # type: ignore[arg-type]


def test_the_bundled_one_reads_heads_as_they_are_and_scales_no_tables() -> None:
    """As it was trained, although it has a width of classes among those that it knows, of the one that it began as."""
    ghn = load()
    assert ghn.config.class_width == 10
    nodes = (Node("input"), Node("conv", (200, 16), "w", head=True), Node("pos_enc", (8, 8), "t"))
    graph = Graph(nodes, np.array([[0, 0], [1, 2]]))
    assert ghn.as_read(graph, []) is graph
    (slot,) = slots_of(graph, {"t": (8, 8), "w": (200, 16)}, {"w"})
    core = ghn([graph], [[slot]], [None])[0]["t"]
    plain = GraphHyperNetwork(replace(ghn.config, weight_norm=False)).eval()
    plain.load_state_dict(ghn.state_dict())
    assert torch.equal(core, plain([graph], [[slot]], [None])[0]["t"])
