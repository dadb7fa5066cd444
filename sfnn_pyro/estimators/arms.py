"""ARMS: leave-one-out REINFORCE on particles that avoid each other."""

from typing import Any, Unpack

import torch
from pyro.infer.reparam.reparam import Reparam
from torch import Size, Tensor

from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.estimators.base import Options
from sfnn_pyro.estimators.checks import check_site, check_vectorized
from sfnn_pyro.estimators.rloo import RLOO
from sfnn_pyro.estimators.values import deviation, drawn_units, units_over
from sfnn_pyro.particles import Particles, Term
from sfnn_pyro.particles.weights import finite
from sfnn_pyro.reparam import is_bernoulli


class ARMS(RLOO):
    r"""``RLOO`` on antithetic particles, corrected for their dependence.

    .. math::
        \frac{p (1 - p)}{p - J} \frac{1}{M - 1} \sum_m (f_m - \bar f)(h_m - p)
            + \frac1M \sum_m \partial \log w_m, \qquad f_m = \log w_m

    for the logits of units with :math:`p = \sigma(a)`. With d uniform on the simplex,
    :math:`u_m = (1 - d_m)^{M-1}` are uniform and lie apart; :math:`h_m = 1[u_m < p]`, of
    :math:`1 - u_m` where p is above one half, and J = P(h_1 = h_2 = 1). With two particles it is
    ``DisARM`` for the bound of one sample. All particles of a unit must have one
    probability: those of the first layer have, a recognition network's of one layer too, any
    deeper ones have not. The loss reported is a lower bound as that of independent
    particles is, of another expectation.

    References:
        Dimitriev & Zhou, *ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables*,
        ICML 2021, arXiv 2105.14141.

    Arguments:
        num_particles: M, at least 2.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: a latent site's probabilities differ between particles, as in a second
            layer, or it is not Bernoulli; fewer than two particles; the guide is a mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = ARMS(num_particles=4)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    proposals = ("prior", "guide")
    sites = ("Bernoulli", "reparameterisable")
    why_not = "its particles are drawn together, by one guide; use RLOO"
    divisible = False

    def __init__(self, num_particles: int = 20, **options: Unpack[Options]) -> None:
        check_vectorized(self, options)
        super().__init__(num_particles, **options)

    def strategy(self, site: Any) -> Any:
        if site["is_observed"] or not is_bernoulli(site["fn"]):
            return super().strategy(site)
        check_site(self, site)
        return _ApartReparam()

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        units = drawn_units(particles)
        own = {id(term) for term in units}

        def seen(term: Term) -> Tensor:
            return torch.zeros_like(log_weight) if id(term) in own else log_weight

        total = self.surrogate_of(particles, log_weight, seen)
        m = particles.num_particles
        # Where a weight is zero the bound is minus infinity with positive probability.
        signal = finite((log_weight - log_weight.mean(0)) / (m - 1)) * particles.scale
        for term in units:
            pull = units_over(signal, term) * deviation(term) * correction(term.logits.detach(), m)
            total = total + (pull * term.logits).sum()
        return total


def correction(logits: Tensor, num_particles: int) -> Tensor:
    r"""The factor :math:`p (1 - p) / (p - J)` of dependent particles; 1 of independent ones.

    Example:
        >>> import torch
        >>> correction(torch.zeros(1), 2), correction(torch.zeros(1), 10_000).round(decimals=2)
        (tensor([0.5000]), tensor([1.]))
    """
    rare = torch.sigmoid(-logits.abs())
    together = (2 - rare.pow(-1 / (num_particles - 1))).clamp(min=0) ** (num_particles - 1)
    return (1 - rare) / (1 - together)  # J / p of the rarer value


class ApartUnits(BernoulliUnits):
    """Bernoulli units whose first dimension, of the particles, is drawn antithetically."""

    def __init__(
        self,
        logits: Tensor,
        event_dim: int,
        batch_shape: Size | list[int] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.name = name

    def expand(self, batch_shape: Size, _instance: None = None) -> "ApartUnits":
        units = ApartUnits(self.logits, self.event_dim, batch_shape, self.name)
        units._probs, units._validate_args = self._probs, self._validate_args
        return units

    @torch.no_grad()
    def sample(self, sample_shape: Size = Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        m = shape[0]
        if self.logits.dim() == len(shape) and self.logits.shape[0] != 1:
            raise ValueError(
                f"site '{self.name}': its probabilities differ between particles, and ARMS draws "
                "all particles of a unit together with one probability; use DisARM, RLOO or VIMCO"
            )
        probs = self.probs
        noise = torch.empty(shape, dtype=probs.dtype, device=probs.device).exponential_()
        uniform = (1 - noise / noise.sum(0)).clamp(min=0) ** (m - 1)
        rare = torch.where(probs < 0.5, probs, 1 - probs)
        drawn = (uniform < rare) ^ (probs >= 0.5)
        return drawn.to(self.logits.dtype)


class _ApartReparam(Reparam):
    def apply(self, msg: Any) -> Any:
        fn = ApartUnits.in_place_of(msg["fn"], msg["name"])
        return {"fn": fn, "value": msg["value"], "is_observed": msg["is_observed"]}
