"""G1: the score of every unit against its own moving baseline."""

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, Options
from sfnn_pyro.estimators.checks import check_vectorized
from sfnn_pyro.particles import Particles
from sfnn_pyro.particles.terms import SiteTerm
from sfnn_pyro.particles.weights import finite, log_mean_exp, responsibilities
from sfnn_pyro.reparam import is_bernoulli


class G1(Estimator):
    r"""Score-function gradient with a baseline per hidden unit: unbiased, high variance.

    .. math::
        G_1(a_i) = (h_i - \sigma(a_i)) (L - \bar L_i), \qquad
        \bar L_i = \frac{E[(h_i - \sigma(a_i))^2 L]}{E[(h_i - \sigma(a_i))^2]}, \qquad
        L = \hat C_M

    All M particles of a datapoint share one L. Numerator and denominator are exponential moving
    averages over minibatches, particles and datapoints. A minibatch updates them after its
    gradient is taken, so that no particle enters its own baseline; the very first one is
    preceded by a draw for their sake alone. With the averages at any fixed values the
    expectation is exactly the gradient of E[Chat_M]. ``VIMCO`` has the same target and much
    less variance.

    References:
        Bengio, Léonard, Courville, 2013; Raiko et al., ICLR 2015, eqs. 17 and 18.

    Arguments:
        num_particles: M, at least 1.
        decay: of the moving averages, in [0, 1).
        options: see ``Estimator``; its baselines need ``vectorize_particles``.

    Raises:
        ValueError: ``decay`` is out of range, the guide is not the model's prior, or a discrete
            latent is not Bernoulli.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), G1(num_particles=20)
        >>> elbo(model, PriorProposal(model))(torch.zeros(5, 4), torch.ones(5, 2)).backward()
        >>> elbo.baseline("h1").shape
        torch.Size([3])
    """

    target = "objective"
    unbiased = True
    divisible = False
    proposals = ("prior",)
    sites = ("Bernoulli", "reparameterisable")
    why_not = "its score is that of the prior; use VIMCO"
    pathwise = True

    def __init__(
        self,
        num_particles: int = 20,
        *,
        decay: float = 0.99,
        **options: Unpack[Options],
    ) -> None:
        check_vectorized(self, options)
        super().__init__(num_particles, **options)
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: must lie in [0, 1)")
        self.decay = decay
        self._averages: dict[str, Tensor] = {}  # (2, *units): numerator and denominator

    def baseline(self, name: str) -> Tensor:
        """The present baseline of every unit of a site, in nats; 0 of a unit that never varied."""
        numerator, denominator = self._averages[name]
        safe = torch.where(denominator > 0, denominator, torch.ones_like(denominator))
        return numerator / safe

    def state_dict(self) -> dict[str, Any]:
        """The moving averages by site, ``(2, *units)``: numerator and denominator."""
        return {"averages": {name: pair.clone() for name, pair in self._averages.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"averages"}:
            raise ValueError(f"a state of G1 has the key 'averages', this one {sorted(state)}")
        self._averages = {name: pair.clone() for name, pair in state["averages"].items()}

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        return Coefficients(observed=responsibilities(log_weight))

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        if not self._averages:
            with torch.no_grad():
                particles = self.draw(model, guide, args, kwargs)
                self._update(particles, log_mean_exp(particles.log_weight()))
        return super().differentiable_loss(model, guide, *args, **kwargs)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        total = super().surrogate(particles, log_weight)
        objective = log_mean_exp(log_weight).unsqueeze(0)  # (1, *batch)
        for term in _bernoullis(particles):
            # Where no particle can have produced y there is nothing to compare.
            units = finite(_with_event(objective, term) - self.baseline(term.name))
            units = units * _with_event(torch.as_tensor(particles.scale).to(units), term)
            total = total + (units * _deviation(term) * term.logits).sum()
        self._update(particles, objective[0])
        return total

    @torch.no_grad()
    def _update(self, particles: Particles, objective: Tensor) -> None:
        for term in _bernoullis(particles):
            squares = _deviation(term).square()
            shared = [
                dim
                for dim in range(squares.dim() - term.fn.event_dim)
                if dim - squares.dim() + term.fn.event_dim not in term.sum_dims
            ]
            known = _with_event(objective.isfinite().unsqueeze(0), term)
            squares = squares * known
            numerator = squares * _with_event(finite(objective).unsqueeze(0), term)
            numerator = numerator.mean(shared)
            new = torch.stack([numerator, squares.mean(shared)])
            old = self._averages.get(term.name, new)
            if old.shape != new.shape:
                raise ValueError(
                    f"site '{term.name}' had units of shape {tuple(old.shape[1:])} before and now "
                    f"{tuple(new.shape[1:])}: use one G1 for each model"
                )
            self._averages[term.name] = torch.lerp(new, old, self.decay)


def _bernoullis(particles: Particles) -> list[SiteTerm]:
    terms = (term for term in particles.latent if isinstance(term, SiteTerm))
    return [term for term in terms if is_bernoulli(term.fn) and not term.has_path]


def _deviation(term: SiteTerm) -> Tensor:
    """H - sigma(a), constant, ``(M, *batch, *units)``."""
    return (term.value - torch.sigmoid(term.logits)).detach()


def _with_event(value: Tensor, term: SiteTerm) -> Tensor:
    return value.reshape(value.shape + (1,) * term.fn.event_dim)
