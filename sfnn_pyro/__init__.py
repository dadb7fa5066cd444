"""Stochastic feedforward neural networks and multi-sample objectives, in Pyro."""
