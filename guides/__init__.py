"""Proposal guides."""

from sfnn_pyro.guides.encoder import BernoulliEncoder
from sfnn_pyro.guides.mixture import MixtureProposal
from sfnn_pyro.guides.partial import PartialProposal
from sfnn_pyro.guides.prior import PriorProposal
from sfnn_pyro.guides.recognition import RecognitionNetwork

__all__ = [
    "BernoulliEncoder",
    "MixtureProposal",
    "PartialProposal",
    "PriorProposal",
    "RecognitionNetwork",
]
