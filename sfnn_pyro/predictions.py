"""The short name of ``sfnn_pyro.evaluation.predictions``."""

from sfnn_pyro.evaluation.predictions import (
    binary_entropy,
    predictive_mean,
    squared_error,
    unit_probabilities,
)

__all__ = ["binary_entropy", "predictive_mean", "squared_error", "unit_probabilities"]
