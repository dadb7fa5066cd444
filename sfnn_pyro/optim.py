"""The name of this module in the first release; new programs import the one below."""

from sfnn_pyro.training.optimizers import JointOptim

__all__ = ["JointOptim"]
