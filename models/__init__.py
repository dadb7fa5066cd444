"""Pyro models."""

from sfnn_pyro.models.hybrid import HybridSFNN
from sfnn_pyro.models.replicated import ReplicatedSFNN
from sfnn_pyro.models.sfnn import SFNN
from sfnn_pyro.models.vae import BernoulliVAE

__all__ = ["SFNN", "BernoulliVAE", "HybridSFNN", "ReplicatedSFNN"]
