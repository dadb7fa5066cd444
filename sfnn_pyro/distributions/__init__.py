"""Layers of Bernoulli units, their relaxations and kernels, and laws at their limits."""

from sfnn_pyro.distributions.constant import ConstantSample
from sfnn_pyro.distributions.relaxed import GumbelThroughOneHot, GumbelThroughUnits
from sfnn_pyro.distributions.units import (
    BernoulliUnits,
    IdentityThroughUnits,
    StraightThroughUnits,
)

__all__ = [
    "BernoulliUnits",
    "ConstantSample",
    "GumbelThroughOneHot",
    "GumbelThroughUnits",
    "IdentityThroughUnits",
    "StraightThroughUnits",
]
