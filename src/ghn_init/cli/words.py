"""What the package says in Python's words, in those of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ghn_init.errors import GHNInitError, HeadError

_TAKES = r"Pass what it takes: example_inputs=tensor, a tuple of positional or a dict of keyword arguments"
_YIELDS = r"Let the loader yield what the forward takes: images of its channels and size, or mappings of its keyword arguments"
_SEVERAL = {
    rf"(missing \d+ required \S+ arguments?: .*) ({_TAKES}|{_YIELDS})": r"\1 A forward of several inputs is for Python: "
    "ghn_init.initialize(model, example_inputs=…)",
}
_OF_DATA = {
    **_SEVERAL,
    f"{_TAKES}|{_YIELDS}": "The images of DATA have 3 channels, and their size is --image-size; pass a model that takes them",
    r"\bfrom (example_inputs|the loader)\b": "from DATA",
}
_OTHER_CLASSES = re.compile("; make the model with .*")
_WORDS = {
    **_SEVERAL,
    r"Pass strict=False to accept; predict\(model\)\.report shows all": "Leave out --strict to accept; inspect shows all",
    r"expected True, False, 'auto' or a task": "expected yes, no, auto or a task",
    r"\bhead is '": "--head is '",
    r"\bhead=True": "--head yes",
    r"\bhead=False": "--head no",
    r"\bchoose=True": "--choose",
    r"\b(condition|head|overwrite|task)='([^']*)'": r"--\1 \2",
    r"\bpass image_size\b": "pass --image-size",
    r"\bpass task=": "pass --task",
    _TAKES: "Pass what it takes: --input, such as 3x224x224",
    r"\bfrom example_inputs\b": "from --input",
    r"ghn=ghn_init\.load\(.*\), on the command line --start,": "--start",
    r"ghn_init\.recalibrate_batchnorm\b": "ghn_init.recalibrate_batchnorm in Python",
    r"\bpass max_images=": "in Python pass max_images=",
    r"each with a name of its own: pass a mapping\b": "each with a name of its own: pass NAME=DATA",
    r"pass a mapping of names to candidates": "name each model once",
    r"'([^':]*?)(\w+)\.py:(\w[\w.]*)' can't be imported \(.*\); expected .*": r"'\1\2.py:\3' can't be imported; a module is "
    r"named as for import: '\2:\3', in the folder of \2.py.",
}


def in_options(text: str) -> str:
    """`--head yes` for `head=True`, and so on."""
    return _replaced(text, _WORDS)


@contextmanager
def on_data(classes: str = "") -> Iterator[None]:
    """Errors say that models are run on the images of DATA, for which --input is not meant.

    Args:
        classes: What to do where the head has not the classes of DATA.
    """
    try:
        yield
    except GHNInitError as error:
        text = _replaced(str(error), _OF_DATA)
        if classes and (isinstance(error, HeadError) or _OTHER_CLASSES.search(text)):
            text = f"{_OTHER_CLASSES.sub('.', text)} {classes}"
        raise type(error)(text) from error


def _replaced(text: str, by: dict[str, str]) -> str:
    for words, others in by.items():
        text = re.sub(words, others, text)
    return text
