"""Proposal guides."""

from sfnn_pyro.guides.prior import PriorProposal

__all__ = ["PriorProposal"]
