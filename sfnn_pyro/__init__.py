"""Stochastic feedforward neural networks and multi-sample objectives, in Pyro."""

__version__ = "0.1.0"
