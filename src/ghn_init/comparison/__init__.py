"""Which init is best for your model on your data: a short, fair race."""

from ghn_init.comparison.classical import mimetic, orthogonal, residual_norms, zero_gamma
from ghn_init.comparison.impulse import impulse
from ghn_init.comparison.inits import Init, applicable, named, predicted
from ghn_init.comparison.race import compare
from ghn_init.comparison.result import Comparison, Run
from ghn_init.comparison.rivals import dirac, lsuv, whitened

__all__ = [
    "Comparison",
    "Init",
    "Run",
    "applicable",
    "compare",
    "dirac",
    "impulse",
    "lsuv",
    "mimetic",
    "named",
    "orthogonal",
    "predicted",
    "residual_norms",
    "whitened",
    "zero_gamma",
]
