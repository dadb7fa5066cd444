"""The name of this module in the first release; new programs import the one below."""

from sfnn_pyro.evaluation.exact import (
    exact_log_likelihood,
    exact_objective,
)

__all__ = ["exact_log_likelihood", "exact_objective"]
