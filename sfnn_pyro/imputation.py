"""The name of this module in the first release; new programs import the one below."""

from sfnn_pyro.evaluation.imputation import (
    Imputation,
    impute,
)

__all__ = ["Imputation", "impute"]
