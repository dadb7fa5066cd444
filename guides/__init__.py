"""Proposal guides."""

from sfnn_pyro.guides.mixture import MixtureProposal
from sfnn_pyro.guides.partial import PartialProposal
from sfnn_pyro.guides.prior import PriorProposal
from sfnn_pyro.guides.recognition import RecognitionNetwork

__all__ = ["MixtureProposal", "PartialProposal", "PriorProposal", "RecognitionNetwork"]
