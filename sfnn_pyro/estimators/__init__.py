"""Gradient estimators of the multi-sample objective, each a Pyro ELBO."""

from sfnn_pyro.estimators.base import Coefficients, Estimator
from sfnn_pyro.estimators.g2 import G2
from sfnn_pyro.estimators.g3 import G3
from sfnn_pyro.estimators.g4 import G4
from sfnn_pyro.estimators.g5 import G5

ESTIMATORS: dict[str, type[Estimator]] = {"g2": G2, "g3": G3, "g4": G4, "g5": G5}
"""By the name that the command line uses."""

__all__ = ["ESTIMATORS", "G2", "G3", "G4", "G5", "Coefficients", "Estimator"]
