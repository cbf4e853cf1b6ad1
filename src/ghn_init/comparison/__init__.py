"""Which init is best for your model on your data: a short, fair race."""

from ghn_init.comparison.inits import Init, applicable, mimetic, named, orthogonal, predicted, residual_norms, zero_gamma
from ghn_init.comparison.race import Comparison, Run, compare

__all__ = [
    "Comparison",
    "Init",
    "Run",
    "applicable",
    "compare",
    "mimetic",
    "named",
    "orthogonal",
    "predicted",
    "residual_norms",
    "zero_gamma",
]
