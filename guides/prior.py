"""The model's own prior as the proposal, the paper's choice."""

from collections.abc import Callable
from typing import Any

from pyro import poutine

from sfnn_pyro.particles.proposals import PriorOf


class PriorProposal(PriorOf):
    r"""Proposes from the model itself, :math:`R(h | y, x) := P(h | x)`.

    The weights reduce to :math:`w = P(y | h)`. An estimator of this package sees that model and
    proposal are one, and runs the model once; any other Pyro loss may use it as a plain guide.

    References:
        Raiko et al., ICLR 2015, section 2.5; Tang & Salakhutdinov, NIPS 2013.

    Arguments:
        model: any Pyro model. The guide has its latent sites and its plates.

    Example:
        >>> import torch
        >>> from pyro import poutine
        >>> from sfnn_pyro.models import SFNN
        >>> guide = PriorProposal(SFNN([4, 3, 2]))
        >>> trace = poutine.trace(guide).get_trace(torch.zeros(5, 4), torch.zeros(5, 2))
        >>> [name for name in trace.stochastic_nodes if name != "data"]
        ['h1']
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self.prior_of = model

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        with poutine.block(hide_fn=lambda site: site["type"] == "sample" and site["is_observed"]):
            self.prior_of(*args, **kwargs)
