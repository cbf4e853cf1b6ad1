"""Pictures of filters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ghn_init.viz import filters


def test_filters_of_three_inputs_are_in_colour_around_grey() -> None:
    weight = torch.zeros(3, 3, 2, 2)
    weight[0, 0, 0, 0], weight[2, 2, 1, 1] = 2.0, -1.0
    picture = filters.tiles(weight)
    assert picture.shape == (5, 5, 3)  # two rows of two, a line between them
    assert picture[0, 0].tolist() == [1.0, 0.5, 0.5]
    assert picture[4, 1].tolist() == [0.5, 0.5, 0.25]
    assert picture[2].eq(1).all()
    assert picture[:, 2].eq(1).all()
    assert picture[3:, 3:].eq(1).all()  # no fourth one


def test_filters_of_other_inputs_are_norms() -> None:
    weight = torch.zeros(1, 2, 1, 2)
    weight[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    weight[0, 0, 0, 1] = -1.0
    assert filters.tiles(weight).tolist() == [[1.0, pytest.approx(0.2)]]
    assert filters.tiles(torch.zeros(100, 1, 3, 3)).shape == (31, 31)  # 64 of them


def test_the_picture_is_written_and_other_weights_are_refused(tmp_path: Path) -> None:
    filters.draw({"one": torch.randn(4, 3, 3, 3), "two": torch.randn(5, 8, 1, 1)}, tmp_path / "filters.png")
    assert (tmp_path / "filters.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"the weight is of shape \(4, 3\); expected \(filters, inputs, height, width\)"):
        filters.draw({"one": torch.randn(4, 3)}, tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"the weight is of shape \(4, 0, 3, 3\); expected \(filters, inputs, height, width\)"):
        filters.draw({"one": torch.randn(4, 0, 3, 3)}, tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"there are no weights to draw; expected a title and a weight, or several"):
        filters.draw({}, tmp_path / "other.png")
