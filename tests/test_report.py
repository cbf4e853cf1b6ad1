"""The printable report."""

from __future__ import annotations

import json

from torch import nn

import ghn_init
from zoo import Fn, conv, images, param


def test_report_says_per_parameter_what_happens(ghn: ghn_init.GHN) -> None:
    model = Fn(lambda m, x: m.b(m.a(x)) * m.gate, a=conv(3, 40, 9), b=nn.Conv3d(1, 1, 1), gate=param(1))
    model.b = conv(40, 40, 1)
    report = ghn_init.predict(model, ghn, images()).report
    lines = str(report).splitlines()
    assert lines[0].split() == ["parameter", "shape", "primitive", "decoded", "note"]
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:6]}
    assert table["a.weight"] == "40×3×9×9 conv 16×3×9×9 tiled 2.5 times kernel 9×9 interpolated from 7×7"
    assert table["a.bias"] == "40 bias 16 tiled 2.5 times"
    assert table["b.weight"] == "40×40×1×1 conv 16×16×1×1 tiled 6.25 times"
    assert table["gate"].startswith("1 kept it scales a stream")
    assert lines[-3:-1] == ["warning: parameters that keep their values: 1", "warning: parameters that are approximated: 1"]
    numel = 40 * 3 * 81 + 40 + 1600 + 40
    assert lines[-1] == f"4 of 5 parameters predicted, {numel:,} of {numel + 1:,} elements (99.99 %); 1 kept"


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


def test_a_prediction_shows_itself_on_a_screen(ghn: ghn_init.GHN) -> None:
    prediction = ghn_init.predict(nn.Sequential(*(conv(8) for _ in range(200))), ghn, images(8))
    text = repr(prediction)
    assert text.startswith("Prediction for Sequential: 400 of 400 parameters predicted")
    assert len(text) < 500
