"""What the package says in Python's words, in those of the command line."""

from __future__ import annotations

import re

_WORDS = {
    r"Pass strict=False to accept; predict\(model\)\.report shows all": "Leave out --strict to accept; inspect shows all",
    r"expected True, False, 'auto' or a task": "expected yes, no, auto or a task",
    r"\bhead is '": "--head is '",
    r"\bhead=True": "--head yes",
    r"\bhead=False": "--head no",
    r"\bchoose=True": "--choose",
    r"\b(condition|head|overwrite|task)='([^']*)'": r"--\1 \2",
    r"\bpass image_size\b": "pass --image-size",
    r"\bpass task=": "pass --task",
    r"example_inputs=tensor, a tuple of positional or a dict of keyword arguments": "--input, such as 3x224x224",
    r"\bfrom example_inputs\b": "from --input",
    r"ghn=ghn_init\.load\(.*\), on the command line --start,": "--start",
    r"ghn_init\.recalibrate_batchnorm\b": "ghn_init.recalibrate_batchnorm in Python",
}


def in_options(text: str) -> str:
    """`--head yes` for `head=True`, and so on."""
    for words, option in _WORDS.items():
        text = re.sub(words, option, text)
    return text
