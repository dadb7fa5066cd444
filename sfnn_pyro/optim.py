"""The earlier name of ``sfnn_pyro.training.optimizers``."""

from sfnn_pyro.training.optimizers import JointOptim

__all__ = ["JointOptim"]
