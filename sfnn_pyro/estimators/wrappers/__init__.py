"""Estimators around another estimator."""

from sfnn_pyro.estimators.wrappers.base import WrappedEstimator
from sfnn_pyro.estimators.wrappers.captured import Captured
from sfnn_pyro.estimators.wrappers.chunked import Chunked
from sfnn_pyro.estimators.wrappers.lazy import Lazy, LazyLoss
from sfnn_pyro.estimators.wrappers.resampled import Resampled

__all__ = ["Captured", "Chunked", "Lazy", "LazyLoss", "Resampled", "WrappedEstimator"]
