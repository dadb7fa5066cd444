"""The name of this module in the first release; new programs import the one below."""

from sfnn_pyro.evaluation.predictions import (
    binary_entropy,
    predictive_mean,
    squared_error,
    unit_probabilities,
)

__all__ = ["binary_entropy", "predictive_mean", "squared_error", "unit_probabilities"]
