"""What every model of the zoo has to give: the expected graph, and a prediction that covers all parameters."""

from __future__ import annotations

import torch

import ghn_init
from zoo import Case


def test_graph_has_the_expected_primitives(case: Case) -> None:
    primitives = ghn_init.trace(case.build(), case.inputs).primitives
    assert primitives.pop("input") == 1
    assert primitives == case.primitives


def test_kept_parameters_have_their_reason(case: Case, ghn: ghn_init.GHN) -> None:
    kept = ghn_init.trace(case.build(), case.inputs).kept
    assert set(kept) == set(case.kept)
    for name, words in case.kept.items():
        assert words in kept[name]


def test_predicted_and_kept_are_all_parameters_and_disjoint(case: Case, ghn: ghn_init.GHN) -> None:
    model = case.build()
    prediction = ghn_init.predict(model, ghn, case.inputs)
    names = [name for name, _ in model.named_parameters()]
    assert sorted([*prediction.tensors, *prediction.kept]) == sorted(names)
    assert [row.name for row in prediction.report.rows] == names


def test_edges_are_topological_and_every_node_reaches_the_output(case: Case) -> None:
    graph = ghn_init.trace(case.build(), case.inputs)
    from_, to = graph.edge_index
    assert (from_ < to).all()
    reached = graph.distances > 0
    for index in range(1, graph.num_nodes):
        assert reached[0, index] or graph.nodes[index].primitive == "pos_enc"


def test_applied_values_are_the_predicted_tensors(case: Case, ghn: ghn_init.GHN) -> None:
    model = case.build()
    before = {name: (id(p), p.data_ptr(), p.dtype, p.stride(), p.requires_grad) for name, p in model.named_parameters()}
    prediction = ghn_init.predict(model, ghn, case.inputs)
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in prediction.kept}
    assert prediction.apply_() is model
    parameters = dict(model.named_parameters())
    for name, tensor in prediction.tensors.items():
        assert tensor.shape == parameters[name].shape
        assert torch.equal(tensor, parameters[name])
        assert torch.isfinite(tensor).all()
    assert all(torch.equal(parameters[name], value) for name, value in kept.items())
    after = {name: (id(p), p.data_ptr(), p.dtype, p.stride(), p.requires_grad) for name, p in parameters.items()}
    assert after == before


def test_twice_is_once(case: Case, ghn: ghn_init.GHN) -> None:
    model = case.build()
    first = {name: p.clone() for name, p in ghn_init.initialize(model, ghn, case.inputs).named_parameters()}
    second = dict(ghn_init.initialize(model, ghn, case.inputs).named_parameters())
    assert all(torch.equal(first[name], second[name]) for name in first)
