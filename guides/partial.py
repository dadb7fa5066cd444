"""A guide for some of the latents, the model's prior for the others."""

from collections.abc import Callable
from typing import Any

import torch

from sfnn_pyro.particles.proposals import PartialOf


class PartialProposal(torch.nn.Module, PartialOf):
    r"""Proposes some latents from a guide, and the others from the model given those.

    .. math::
        R(z, h | y) = R(z | y) \, P(h | z, \mathrm{pa}), \qquad
        w = \frac{P(y | h, z) P(z)}{R(z | y)}

    The usual guide of a model with continuous and discrete latents: an autoguide for the
    continuous ones, the prior for the discrete. What the prior proposes cancels from the
    weights exactly. Use ``PriorProposal`` where the prior proposes everything.

    Understood by the estimators of this package; to Pyro's own losses it is a guide that lacks
    some latents.

    Arguments:
        model: the Pyro model.
        guide: proposes the latents that it samples; its parameters are this proposal's.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> from pyro.infer.autoguide import AutoNormal
        >>> from sfnn_pyro.estimators import VIMCO
        >>> def model(y):
        ...     loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(y)):
        ...         h = pyro.sample("h", dist.Bernoulli(0.3))
        ...         pyro.sample("y", dist.Normal(loc + h, 1.0), obs=y)
        >>> guide = PartialProposal(model, AutoNormal(poutine.block(model, hide=["h"])))
        >>> loss = VIMCO(num_particles=10).loss(model, guide, torch.zeros(3))
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        super().__init__()
        object.__setattr__(self, "partial_of", model)  # its parameters are not the guide's
        self.guide = guide

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the guide alone: what it does not sample is the model's to draw."""
        return self.guide(*args, **kwargs)
