"""The printable report."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

import ghn_init
from zoo import Fn, conv, images, param


def test_report_says_per_parameter_what_happens(ghn: ghn_init.GHN) -> None:
    model = Fn(lambda m, x: m.b(m.a(x)) * m.gate, a=conv(3, 40, 9), b=nn.Conv3d(1, 1, 1), gate=param(1))
    model.b = conv(40, 40, 1)
    report = ghn_init.predict(model, ghn, images()).report
    lines = report.table().splitlines()
    assert lines[0].split() == ["parameter", "shape", "primitive", "decoded", "note"]
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:6]}
    assert table["a.weight"] == "40×3×9×9 conv 16×3×9×9 tiled 2.5 times kernel 9×9 interpolated from 7×7"
    assert table["a.bias"] == "40 bias 16 tiled 2.5 times"
    assert table["b.weight"] == "40×40×1×1 conv 16×16×1×1 tiled 6.25 times"
    assert table["gate"].startswith("1 kept it scales a stream")
    numel = 40 * 3 * 81 + 40 + 1600 + 40
    assert report.lines == [
        f"4 of 5 parameters predicted, {numel:,} of {numel + 1:,} elements (99.99 %); 1 kept",
        "warning: parameters that keep their values: 1",
        "warning: parameters that are approximated: 1",
    ]


def test_a_report_is_a_screen_of_groups(ghn: ghn_init.GHN) -> None:
    model = Fn(lambda m, x: m.b(m.a(x)) * m.gate, a=conv(3, 40, 9), b=conv(40, 40, 1), gate=param(1))
    report = ghn_init.predict(model, ghn, images()).report
    assert str(report) == repr(report)
    lines = [re.sub("  +", " | ", line.strip()) for line in str(report).splitlines()]
    assert lines[0] == report.summary
    assert lines[3:6] == [
        "module | parameters | elements | what | why",
        "(model) | 1 | 1 | kept | " + report.kept[0].note,
        "a | 2 | 9,760 | predicted, 2 tiled | kernel 9×9 interpolated from 7×7 (1)",
    ]
    assert lines[6] == "b | 2 | 1,640 | predicted, 2 tiled"


def nested(depth: int, width: int) -> nn.Module:
    """width ** depth linear layers."""
    return nn.Sequential(*(nested(depth - 1, width) if depth > 1 else nn.Linear(4, 4) for _ in range(width)))


@pytest.mark.parametrize(("depth", "width", "groups"), [(2, 3, 9), (2, 5, 5), (3, 4, 16), (1, 30, 1), (2, 30, 1)])
def test_groups_are_as_fine_as_a_screen_allows(ghn: ghn_init.GHN, depth: int, width: int, groups: int) -> None:
    report = ghn_init.predict(nested(depth, width), ghn, torch.zeros(2, 4), head=True).report
    assert len(report.groups) == groups
    assert [name for group in report.groups for name in group.names] == [row.name for row in report.rows]
    assert sum(group.numel for group in report.groups) == sum(row.numel for row in report.rows)


def test_a_groups_most_frequent_reasons_come_first(ghn: ghn_init.GHN) -> None:
    scales = {f"s{k}": param(1) for k in range(3)}
    model = Fn(lambda m, x: m.a(x) * m.s0 * m.s1 * m.s2, a=conv(), dead=param(3), **scales)
    (kept,) = (group for group in ghn_init.predict(model, ghn, images()).report.groups if group.state == "kept")
    assert list(kept.reasons.values()) == [3, 1]
    assert kept.cells[-1] == "; ".join(f"{reason} ({count})" for reason, count in kept.reasons.items())


def test_notebooks_get_both_tables_escaped(ghn: ghn_init.GHN) -> None:
    model = nn.Sequential()
    model.add_module("<b>", conv())
    html = ghn_init.predict(model, ghn, images()).report._repr_html_()
    assert html.count("<table>") == 2
    assert "<td>&lt;b&gt;.weight</td><td>8×3×3×3</td>" in html
    assert '<td class="number" data-value="216">216</td>' in html
    assert "<b>" not in html


def test_report_of_a_wholly_predicted_model_has_no_warnings(ghn: ghn_init.GHN) -> None:
    report = ghn_init.predict(conv(), ghn, images()).report
    assert report.warnings == ()
    assert report.kept == ()
    assert report.summary == "2 of 2 parameters predicted, 224 of 224 elements (100.00 %); 0 kept"


def test_widths_beyond_the_vocabulary_are_noted(ghn: ghn_init.GHN) -> None:
    report = ghn_init.predict(nn.Linear(9000, 4), ghn, head=True).report
    assert [row.note for row in report.rows] == ["width 9000 read as 8192", ""]


def test_the_report_is_data_too(ghn: ghn_init.GHN) -> None:
    report = ghn_init.predict(nn.Sequential(conv(), nn.BatchNorm2d(8)), ghn, images(), exclude="0.bias").report
    found = json.loads(json.dumps(report.to_dict()))
    assert [row["name"] for row in found["rows"]] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert found["rows"][1]["note"] == "left out by exclude"
    assert found["rows"][0]["shape"] == found["rows"][0]["core"] == [8, 3, 3, 3]
    assert found["summary"] == report.summary
    assert [group["names"] for group in found["groups"]] == [["0.weight"], ["0.bias"], ["1.weight", "1.bias"]]


def test_a_prediction_shows_itself_on_a_screen(ghn: ghn_init.GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(*(conv(8) for _ in range(200))), ghn, images(8))
    text = repr(prediction)
    assert text.startswith("Prediction for Sequential: 400 of 400 parameters predicted")
    assert len(text) < 500
