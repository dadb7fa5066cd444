"""Pyro models."""

from sfnn_pyro.models.hybrid import HybridSFNN
from sfnn_pyro.models.replicated import ReplicatedSFNN
from sfnn_pyro.models.sfnn import SFNN

__all__ = ["SFNN", "HybridSFNN", "ReplicatedSFNN"]
