"""Estimators around another estimator."""

from sfnn_pyro.estimators.wrappers.base import WrappedEstimator
from sfnn_pyro.estimators.wrappers.chunked import Chunked
from sfnn_pyro.estimators.wrappers.compiled import Compiled
from sfnn_pyro.estimators.wrappers.lazy import Lazy, LazyLoss
from sfnn_pyro.estimators.wrappers.resampled import Resampled

__all__ = ["Chunked", "Compiled", "Lazy", "LazyLoss", "Resampled", "WrappedEstimator"]
