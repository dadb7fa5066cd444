"""The short name of ``sfnn_pyro.evaluation.exact``."""

from sfnn_pyro.evaluation.exact import (
    exact_log_likelihood,
    exact_objective,
)

__all__ = ["exact_log_likelihood", "exact_objective"]
