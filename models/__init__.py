"""Pyro models."""

from sfnn_pyro.models.sfnn import SFNN

__all__ = ["SFNN"]
