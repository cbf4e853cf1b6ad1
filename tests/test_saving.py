"""JSON files are the old ones or the new ones."""

import json
from pathlib import Path

import pytest

from ghn_init import saving
from ghn_init.saving import differing, save_json


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    save_json(path, {"a": 1})
    save_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.json"
    save_json(path, {"a": 1})

    def cut_off(self: Path, text: str, newline: str | None = None) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(saving.Path, "write_text", cut_off)
    with pytest.raises(OSError, match="no space"):
        save_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_what_differs_is_told_with_both_values() -> None:
    there, here = {"a": 1, "b": "x", "c": 0}, {"a": 1, "b": "y", "d": 2}
    assert differing(there, here) == ["b (x there, y here)", "c (0 there, None here)", "d (None there, 2 here)"]
    assert differing(here, here) == []
