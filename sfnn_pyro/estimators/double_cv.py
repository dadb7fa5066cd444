"""DoubleCV: leave-one-out REINFORCE with a second control variate, from gradients."""

from typing import Any, Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Options
from sfnn_pyro.estimators.checks import check_vectorized
from sfnn_pyro.estimators.learned import LearnedScale, check_state
from sfnn_pyro.estimators.rloo import RLOO
from sfnn_pyro.estimators.values import (
    Leaves,
    datapoint_sum,
    deviation,
    drawn_units,
    slope_of,
    units_over,
    value_gradients,
)
from sfnn_pyro.particles import Particles
from sfnn_pyro.particles.weights import finite


class DoubleCV(RLOO):
    r"""``RLOO`` less a linear control variate in each particle, from the others' gradients.

    .. math::
        \frac1M \sum_m \Big[ f_m - \alpha c_m
            - \tfrac{1}{M-1} \sum_{j \neq m} (f_j - \alpha c_j) \Big] (h_m - \sigma(a_m))
            + \frac{\alpha}{M} \sum_m \sigma'(a_m) \circ \bar v_{-m}, \\
        c_m = (h_m - \sigma(a_m))^\top \bar v_{-m}, \qquad
        \bar v_{-m} = \tfrac{1}{M-1} \sum_{j \neq m} \partial f_j / \partial h_j

    for the logits a, with :math:`f_m = \log w_m`. The same target as ``RLOO``, unbiased whatever
    alpha is, and less variance where f is nearly linear in the units, as that of a wide layer
    is. Alpha is zero at first, and learned by regression over the steps before (the authors take
    its gradient).
    In a network of several layers c sums over the layers, and a unit's derivative passes
    through later layers by their means.

    References:
        Titsias & Shi, *Double Control Variates for Gradient Estimation in Discrete Latent
        Variable Models*, AISTATS 2022, arXiv 2111.05300.

    Arguments:
        num_particles: M, at least 2.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: fewer than two particles; a discrete latent is not Bernoulli; the guide is a
            mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import RecognitionNetwork
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), DoubleCV(num_particles=2)
        >>> elbo(model, RecognitionNetwork(model))(torch.zeros(5, 4), torch.ones(5, 2)).backward()
        >>> sorted(elbo.state_dict())
        ['averages']
    """

    proposals = ("prior", "guide")
    sites = ("Bernoulli", "reparameterisable")
    why_not = "its control variate is of one guide's units; use RLOO or VIMCO"
    divisible = False
    replayable = False

    def __init__(self, num_particles: int = 20, **options: Unpack[Options]) -> None:
        check_vectorized(self, options)
        super().__init__(num_particles, **options)
        self.scale = LearnedScale(first=0.0)

    def state_dict(self) -> dict[str, Any]:
        """The moving averages that alpha is the ratio of."""
        return {"averages": self.scale.averages.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state("DoubleCV", state, {"averages"})
        self.scale.averages = state["averages"].clone()

    def draw(self, *args: Any, **options: Any) -> Particles:
        with Leaves():
            return super().draw(*args, **options)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        terms = drawn_units(particles)
        gradients = value_gradients(terms, particles.log_weight())
        m = particles.num_particles
        others = {t.name: _mean_of_others(gradients[t.name]) for t in terms}
        control = torch.zeros_like(log_weight)
        for term in terms:
            control = control + datapoint_sum(deviation(term) * others[term.name], term)
        alpha = self.scale.value
        less = log_weight - alpha * control
        total = self.surrogate_of(particles, log_weight, lambda term: less)
        plain, correction = [], []
        for term in terms:
            # Constants of the datapoint in the second control variate's own expectation.
            known = slope_of(term) * others[term.name] / m
            pull = alpha * known * units_over(torch.as_tensor(particles.scale), term)
            total = total + (pull * term.logits).sum()
            signals = (finite((one - one.mean(0)) / (m - 1)) for one in (log_weight, control))
            first, second = (units_over(one, term) * deviation(term) for one in signals)
            plain.append(first.sum_to_size(term.logits.shape))
            correction.append((second - known).sum_to_size(term.logits.shape))
        if terms:
            self.scale.update(plain, correction)
        return total


def _mean_of_others(value: Tensor) -> Tensor:
    return (value.sum(0) - value) / (value.shape[0] - 1)
