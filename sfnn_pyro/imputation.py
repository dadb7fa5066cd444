"""The short name of ``sfnn_pyro.evaluation.imputation``."""

from sfnn_pyro.evaluation.imputation import (
    Imputation,
    impute,
)

__all__ = ["Imputation", "impute"]
