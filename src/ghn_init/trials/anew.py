"""Whether models that are to be trained are made anew: no parameter of one is also another's, which would be trained too."""

from __future__ import annotations

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from ghn_init.errors import ComparisonError


class Made:
    """What was made so far, as long as it is there."""

    def __init__(self) -> None:
        self._owners = WeakIdKeyDictionary()  # parameter → who made it, and its name

    def check(self, maker: str, model: nn.Module) -> None:
        """Refuses a model that has a parameter of a former one, and notes it otherwise.

        Args:
            maker: What made it, in words.
            model: Which nothing has trained yet.

        Raises:
            ComparisonError: It has.
        """
        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            if parameter in self._owners:
                before, called = self._owners[parameter]
                whose = "the one that it made before" if before == maker else f"one that {before} made"
                raise ComparisonError(
                    f"{maker} makes a {type(model).__name__} whose parameter {name!r} is also {called!r} of {whose}: training "
                    f"one would train the other. Make all of it anew (copy.deepcopy what is shared), or pass the model itself, "
                    f"of which copies are trained."
                )
        for name, parameter in parameters.items():
            self._owners[parameter] = (maker, name)
