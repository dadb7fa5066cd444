"""What a trained model is worth: likelihoods, exact sums, imputations, predictions, pictures."""

from sfnn_pyro.evaluation.exact import exact_log_likelihood, exact_objective
from sfnn_pyro.evaluation.imputation import Imputation, impute
from sfnn_pyro.evaluation.likelihoods import log_likelihood, ranges
from sfnn_pyro.evaluation.predictions import (
    binary_entropy,
    predictive_mean,
    squared_error,
    unit_probabilities,
)

__all__ = [
    "Imputation",
    "binary_entropy",
    "exact_log_likelihood",
    "exact_objective",
    "impute",
    "log_likelihood",
    "predictive_mean",
    "ranges",
    "squared_error",
    "unit_probabilities",
]
