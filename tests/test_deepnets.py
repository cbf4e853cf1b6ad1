"""Architectures of the published distribution: what is drawn, what is built, what is stored."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ghn_init import deepnets, trace
from ghn_init.deepnets import store
from ghn_init.deepnets.codec import decode, encode
from ghn_init.deepnets.genotype import OPERATIONS, VIT
from ghn_init.deepnets.operations import FactorizedReduce, SelfAttention, operation
from ghn_init.deepnets.splits import SPLITS
from ghn_init.deepnets.statistics import GraphStatistics, mean_path
from ghn_init.deepnets.wiring import wire
from ghn_init.errors import ArchitectureError
from ghn_init.graph import Graph, Node

DRAWN = [name for name in SPLITS if name != "predefined"]


def meta(split: str, index: int, size: int = 32) -> nn.Module:
    with torch.device("meta"):
        return deepnets.network(split, index, image_size=size)


def test_first_networks_are_the_same_everywhere() -> None:
    first = deepnets.arguments("test", 0)
    assert (first.n_cells, first.C, first.C_mult, first.ks, first.stem_type) == (5, 32, 1, 5, 0)
    assert first == deepnets.arguments("test", 0)
    assert first != deepnets.arguments("test", 1)
    assert first != deepnets.arguments("val", 0)
    assert first != deepnets.arguments("test", 0, seed=1)


@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("split", DRAWN)
def test_splits_keep_to_their_settings(split: str, count: int) -> None:
    settings = SPLITS[split]
    for index in range(count):
        drawn = deepnets.arguments(split, index)
        genotype = drawn.genotype
        steps = len(genotype.normal) // 2
        assert settings.cells[0] <= drawn.n_cells <= settings.cells[1]
        assert settings.steps[0] <= steps <= settings.steps[2]
        if drawn.n_cells > max(settings.deep):
            assert steps <= settings.steps[1]
            assert drawn.glob_avg
        assert set(genotype.operations) <= set(OPERATIONS)
        assert genotype.reduce_concat[-1] == steps + 1
        assert drawn.preproc or (steps == 1 and drawn.C_mult == 1)
        assert drawn.glob_avg or not genotype.attention
        assert not (drawn.stem_pool and drawn.stem_type == 1)
        assert "none" not in genotype.operations or steps > 1
        for edges in (genotype.normal, genotype.reduce):
            names = [name for name, _ in edges]
            assert names.count("cse") <= 1
            assert sum(name in ("conv_5x5", "conv_7x7") for name in names) <= 1
            for step in range(steps):
                assert edges[2 * step][1] != edges[2 * step + 1][1]
                assert max(edges[2 * step][1], edges[2 * step + 1][1]) <= step + 1


@pytest.mark.parametrize("count", [16, pytest.param(150, marks=pytest.mark.slow)])
def test_norms_are_left_out_of_bn_free_networks_only_and_of_some_shallow_ones(count: int) -> None:
    assert not any(deepnets.arguments("bn-free", k).norm for k in range(3))
    assert all(deepnets.arguments("search", k).norm for k in range(3))
    drawn = [deepnets.arguments("train", k) for k in range(count)]
    shallow = [a.n_cells <= 5 and len(a.genotype.normal) <= 4 for a in drawn]
    assert {a.norm for a, is_shallow in zip(drawn, shallow, strict=True) if is_shallow} == {True, False}
    assert {a.norm for a, is_shallow in zip(drawn, shallow, strict=True) if not is_shallow} == {True}


def test_wide_networks_are_the_test_networks_with_four_times_the_channels() -> None:
    test, wide = deepnets.arguments("test", 3), deepnets.arguments("wide", 3)
    assert wide == replace(test, C=4 * test.C)
    first = [next(deepnets.network("wide", 3, image_size=size).parameters()).shape[0] for size in (32, 64)]
    assert first[0] == 2 * first[1]


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("split", [*DRAWN, "predefined"])
def test_networks_have_no_parameter_that_does_nothing(split: str, size: int) -> None:
    for index in range(2):
        module = meta(split, index, size)
        graph = trace(module, torch.empty(2, 3, size, size, device="meta"))
        assert graph.kept == {}
        assert set(graph.parameter_names) == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_statistics_are_the_published_ones(count: int) -> None:
    """Means lie within four standard errors; the slow one sees a mean that is off by a seventh."""
    graphs = [trace(meta("train", k), torch.empty(2, 3, 32, 32, device="meta")) for k in range(count)]
    own = deepnets.Summary.of(GraphStatistics.of(graph, 0) for graph in graphs)
    published = deepnets.PUBLISHED_STATISTICS["train"]
    assert abs(own.nodes - published.nodes[0]) < 4 * published.nodes[1] / count**0.5
    assert abs(own.path - published.path[0]) < 4 * published.path[1] / count**0.5
    assert own.degree == pytest.approx(published.degree, abs=0.1)


def test_networks_run_and_learn() -> None:
    torch.manual_seed(0)
    for index in (0, 1):
        model = deepnets.network("test", index, num_classes=7)
        y = model(torch.randn(4, 3, 32, 32))
        assert y.shape == (4, 7)
        y.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_predefined() -> None:
    assert meta("predefined", 0).conv1.stride == (1, 1)  # type: ignore[union-attr]
    vit = trace(meta("predefined", 1), torch.empty(2, 3, 32, 32, device="meta")).primitives
    assert vit["msa"] == 10  # two of the twelve cells are average pools
    with pytest.raises(ArchitectureError, match="index is 2"):
        deepnets.network("predefined", 2)


@pytest.mark.parametrize(
    ("split", "index", "what"), [("tset", 0, "'tset'"), ("predefined", 0, "'predefined'"), ("test", -1, "-1")]
)
def test_unknown_networks(split: str, index: int, what: str) -> None:
    with pytest.raises(ArchitectureError, match=what):
        deepnets.arguments(split, index)


@pytest.mark.parametrize("name", OPERATIONS[1:])
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_keep_channels_and_halve_the_resolution(name: str, stride: int) -> None:
    y = operation(name, 16, stride, norm=True)(torch.randn(2, 16, 8, 8))
    assert y.shape == (2, 16, 8 // stride, 8 // stride)


def test_unknown_operation() -> None:
    with pytest.raises(KeyError, match="conv_3x3x3x3"):
        operation("sum_conv_3x3x3x3", 8, 1, norm=True)


def test_factorized_reduce_sees_odd_pixels_too() -> None:
    layer = FactorizedReduce(2, 4, norm=False)
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 1, 1] = 1
    assert layer(x)[0, 2:].abs().sum() > 0
    assert layer(x)[0, :2].abs().sum() == 0


@pytest.mark.parametrize(("height", "width"), [(7, 7), (7, 8), (8, 7), (1, 1)])
def test_factorized_reduce_of_odd_sides(height: int, width: int) -> None:
    x = torch.ones(2, 2, height, width)
    assert FactorizedReduce(2, 4, norm=False)(x).shape == (2, 4, -(-height // 2), -(-width // 2))


@pytest.mark.parametrize("size", [20, 28, 36, 100])
def test_networks_run_on_images_of_any_side(size: int) -> None:
    for index in range(12):
        network = meta("train", index, size).eval()
        assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 10), index


def test_padding_at_odd_sides_is_no_part_of_the_graph() -> None:
    """Networks are read at the size of their images: what a step sees is the same architecture at any of them."""
    even, odd = (trace(FactorizedReduce(2, 4, norm=True), torch.zeros(2, 2, size, size)) for size in (8, 7))
    assert even.nodes == odd.nodes
    assert list(even.edges) == list(odd.edges)


def test_attention_is_softmax_attention() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, 1)
    x = torch.randn(2, 16, 3, 3)
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = (t.unflatten(2, (8, 2)).transpose(1, 2) for t in layer.to_qkv(layer.ln1(tokens)).chunk(3, dim=2))
    weights = torch.softmax(q @ k.transpose(2, 3) / 2**0.5, dim=3)
    tokens = tokens + layer.to_out((weights @ v).transpose(1, 2).flatten(2))
    tokens = tokens + layer.ff(layer.ln2(tokens))
    torch.testing.assert_close(layer(x), tokens.transpose(1, 2).unflatten(2, (3, 3)))


def test_wiring_leaves_out_what_does_not_arrive() -> None:
    cell = ([("conv_1x1", 0), ("none", 1), ("conv_3x3", 2), ("conv_5x5", 1), ("msa", 0), ("msa", 1)], (3,))
    wirings = wire([cell])
    assert wirings is not None
    (own,) = wirings
    assert own is not None
    assert own.edges == (0, 2, 3)  # the last sum is not concatenated; none computes nothing
    assert own.inputs == (True, True)
    skips = ([("conv_1x1", 0), ("none", 1)], (2,))  # reads the cell before the last alone
    assert [w is None for w in wire([skips] * 3) or []] == [False, True, False]
    assert wire([([("none", 0), ("none", 1)], (2,))] * 2) is None


def test_a_network_that_nothing_passes_is_refused() -> None:
    genotype = replace(VIT, normal=(("none", 0), ("none", 1)))
    with pytest.raises(ArchitectureError, match="no path"):
        deepnets.DeepNet(replace(deepnets.arguments("test", 0), genotype=genotype))


def test_a_sum_without_operands_is_zeros() -> None:
    """The release concatenates zeros there, so that the next cell finds its channels."""
    edges = (("none", 0), ("none", 1), ("conv_1x1", 0), ("conv_1x1", 1))
    genotype = replace(VIT, normal=edges, normal_concat=(2, 3), reduce=edges, reduce_concat=(2, 3))
    model = deepnets.DeepNet(replace(deepnets.arguments("test", 0), genotype=genotype, n_cells=4))
    seen = []
    model.cells[1].preprocess["1"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[index, union-attr]
    model(torch.randn(2, 3, 32, 32))
    (value,) = seen
    half = value.shape[1] // 2
    assert value[:, :half].abs().max() == 0
    assert value[:, half:].abs().max() > 0


def chain(*primitives: str) -> Graph:
    edges = np.array([range(len(primitives) - 1), range(1, len(primitives))])
    return Graph(tuple(Node(p) for p in primitives), edges)


def test_mean_path_by_hand() -> None:
    assert mean_path(chain("input", "sum", "sum")) == pytest.approx((1 + 2 + 1) / 3)
    graph = Graph(tuple(Node("sum") for _ in range(3)), np.array([[0, 0, 1], [1, 2, 2]]))
    assert mean_path(graph) == 1
    assert GraphStatistics.of(graph, 5).degree == 2


def test_codec_round_trip() -> None:
    graph = trace(meta("test", 0), torch.empty(2, 3, 32, 32, device="meta"))
    again = decode(encode(graph))
    assert again.nodes == graph.nodes
    assert (again.edge_index == graph.edge_index).all()
    with pytest.raises(ValueError, match="damaged"):
        decode(encode(graph)[:-5])


def test_a_file_is_written_in_slices_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "nets.db"
    counts: list[int] = []
    assert deepnets.write(path, "test", 0, 3, on_progress=counts.append) == 3
    assert deepnets.write(path, "test", 1, 5, workers=2) == 2  # three are there
    assert deepnets.write(path, "deep", 0, 1) == 1
    assert counts == [3]
    test = deepnets.read(path, "test")
    assert [entry.index for entry in test] == [0, 1, 2, 3, 4]
    assert len(deepnets.read(path)) == 6
    entry = test[4]
    assert entry.arguments == deepnets.arguments("test", 4)
    module = entry.module()
    assert entry.statistics.params == sum(p.numel() for p in module.parameters())
    assert set(entry.graph.parameter_names) == {name for name, _ in module.named_parameters()}
    assert entry.statistics.nodes == entry.graph.num_nodes == sum(entry.statistics.primitives)
    assert [e.index for e in test[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        test[5]


def test_a_process_that_ends_is_told_with_what_a_script_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", os._exit)  # what a process begins with
    with pytest.raises(ArchitectureError, match=r"process ended before it had made.*begins below `if __name__ == '__main__':`"):
        deepnets.write(tmp_path / "nets.db", "test", 0, 2, workers=2)


def test_a_killed_writer_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nets.db"
    monkeypatch.setattr(store, "CHUNK", 3)

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deepnets.write(path, "test", 0, 7, on_progress=killed)
    assert [entry.index for entry in deepnets.read(path)] == [0, 1, 2]
    assert deepnets.write(path, "test", 0, 7) == 4
    assert [entry.index for entry in deepnets.read(path)] == list(range(7))


def test_a_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    deepnets.write(tmp_path / "nets.h5", "test", 0, 1)
    assert [entry.index for entry in deepnets.read(tmp_path / "nets.h5")] == [0]


def test_a_file_that_another_process_writes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nets.db"
    deepnets.write(path, "test", 0, 1)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0))
    words = r"nets\.db is in use by another process \(database is locked\); wait until it has ended, or take another file"
    with closing(connect(path)) as other:
        other.execute("begin exclusive")
        for use in (deepnets.read, lambda path: deepnets.write(path, "test", 0, 2)):
            with pytest.raises(ArchitectureError, match=words):
                use(path)

        def lock(_: int) -> None:
            other.execute("begin immediate")

        other.rollback()
        monkeypatch.setattr(store, "CHUNK", 1)
        with pytest.raises(ArchitectureError, match=words):
            deepnets.write(path, "test", 0, 3, on_progress=lock)


def test_a_file_in_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"nowhere/nets\.db can't be made, there is no folder .*nowhere; make it first"):
        deepnets.write(tmp_path / "nowhere" / "nets.db", "test", 0, 1)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"no file .*nowhere\.db"):
        deepnets.read(tmp_path / "nowhere.db")
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to have a header" * 10)
    with pytest.raises(ArchitectureError, match="no file of architectures"):
        deepnets.read(text)
    with pytest.raises(ArchitectureError, match="no file of architectures"):
        deepnets.write(text, "test", 0, 1)
    path = tmp_path / "nets.db"
    deepnets.write(path, "test", 0, 1)
    with pytest.raises(ArchitectureError, match="seed 0, not 3"):
        deepnets.write(path, "test", 1, 2, seed=3)
    with pytest.raises(ArchitectureError, match="no networks of split 'val'; it has test"):
        deepnets.read(path, "val")
    with pytest.raises(ArchitectureError, match="the slice of 'test' goes from 5 to 2"):
        deepnets.write(path, "test", 5, 2)
    with sqlite3.connect(path) as database:
        database.execute("update networks set graph = x'00'")
    with pytest.raises(ArchitectureError, match="network 0 of 'test' is damaged"):
        deepnets.read(path)[0]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A file of the original release's layout with one network of two cells."""
    h5py = pytest.importorskip("h5py")
    names = ["input", "conv", "bn", "sep_conv_5x5", "max_pool_3x3", "glob_avg", "conv_1x1", "fc-b"]
    genotype = {"normal": [["sep_conv_5x5", 0], ["skip_connect", 1]], "normal_concat": [2]}
    genotype |= {"reduce": [["max_pool_3x3", 0], ["none", 1]], "reduce_concat": [2]}
    net = {"genotype": genotype, "n_cells": 4, "C": 48, "norm": "bnorm", "ks": 5, "preproc": True, "glob_avg": True}
    net |= {"stem_pool": False, "stem_type": 1, "C_mult": 2, "fc_layers": 1, "fc_dim": 128}
    net |= {"num_nodes": 8, "num_params": {"cifar10": 1234, "imagenet": 9}}
    described = {"nets": [net], "meta": {"primitives_ext": dict(enumerate(names)), "unique_op_names": {"0": ""}}}
    path = tmp_path / "deepnets1m_eval.hdf5"
    with h5py.File(path, "w") as file:
        adjacency = np.triu(np.subtract.outer(np.arange(8), np.arange(8)).__neg__()).astype(np.uint8)
        file.create_dataset("bnfree/0/adj", data=adjacency)
        file.create_dataset("bnfree/0/nodes", data=np.array([[k, 0, 0] for k in range(8)], dtype=np.uint16))
    path.with_name("deepnets1m_eval_meta.json").write_text(json.dumps({"bnfree": described}))
    return path


def test_wide_networks_of_the_release_are_widened_when_they_are_read(release: Path) -> None:
    h5py = pytest.importorskip("h5py")
    described = release.with_name("deepnets1m_eval_meta.json")
    described.write_text(json.dumps({"wide": json.loads(described.read_text())["bnfree"]}))
    with h5py.File(release, "a") as file:
        file.move("bnfree", "wide")
    (entry,) = deepnets.read(release, "wide")
    assert entry.arguments.C == 4 * 48


def test_the_original_release_is_read(release: Path) -> None:
    (entry,) = deepnets.read(release, "bn-free")
    assert [node.primitive for node in entry.graph.nodes] == [
        "input",
        "conv",
        "bn",
        "sep_conv",
        "max_pool",
        "glob_avg",
        "conv",
        "bias",
    ]
    assert entry.graph.edges == [(k, k + 1) for k in range(7)]  # longer distances are virtual edges
    assert entry.arguments.C == 48
    assert entry.statistics.params == 1234
    assert entry.module()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert len(deepnets.read(release)) == 1  # the one split of the file


def test_damaged_releases(release: Path) -> None:
    with pytest.raises(ArchitectureError, match="splits bnfree, not 'deep'"):
        deepnets.read(release, "deep")
    described = release.with_name("deepnets1m_eval_meta.json")
    whole = json.loads(described.read_text())
    del whole["bnfree"]["nets"][0]["genotype"]
    described.write_text(json.dumps(whole))
    with pytest.raises(ArchitectureError, match="network 0 .* damaged"):
        deepnets.read(release)[0]
    described.unlink()
    with pytest.raises(ArchitectureError, match="deepnets1m_eval_meta.json beside it"):
        deepnets.read(release)
