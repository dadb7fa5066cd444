"""Many particles for the weights, a few of them for the gradient."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from sfnn_pyro.distributions.units import StraightThroughUnits
from sfnn_pyro.distributions.wrapped import is_point, name_of
from sfnn_pyro.estimators.base import (
    Coefficients,
    Estimator,
    weighted_surrogate,
    with_gradient_of,
)
from sfnn_pyro.estimators.checks import check_whole
from sfnn_pyro.estimators.wrappers.base import DIVISIBLE, RETURNS_NUMBER, WrappedEstimator
from sfnn_pyro.particles import Particles, PriorOf, SameMinibatch, total_log_prob
from sfnn_pyro.particles.draw import refuse_quantized
from sfnn_pyro.particles.layout import broadcast_weight
from sfnn_pyro.particles.resampling import resample, taken
from sfnn_pyro.particles.terms import SiteTerm
from sfnn_pyro.particles.weights import responsibilities


class Resampled(WrappedEstimator):
    r"""An estimator that draws M particles and back-propagates K of every datapoint.

    .. math::
        \sum_m \bar w_m \, g_m \approx \sum_{k=1}^K w'_k \, g_{m_k}, \qquad
        E[\text{right} \mid \text{particles}] = \text{left}

    Most of M particles have next to no responsibility, and cost as much in the backward pass as
    the others. Here M are drawn without a graph, and K are chosen by ``resample`` and run again
    for their gradient. The loss is that of all M. On a CPU, K = 5 takes two thirds of the time
    at M = 50 and somewhat more than half at M = 100; at M = 20 little is gained.

    References:
        Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016, section 3,
        for one particle drawn by its weight; ``resample`` for several.

    Arguments:
        estimator: one whose gradient weights particles by their responsibilities: ``G2``, ``G3``
            or ``G4``.
        kept: K, from 1 to M - 1.

    Raises:
        ValueError: K is out of range, or the estimator's gradient needs every particle; or on a
            call a latent site draws continuous values that carry a gradient.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro.optim import SGD
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> elbo = Resampled(G3(num_particles=50), kept=5)
        >>> svi = SVI(model, PriorProposal(model), SGD({"lr": 0.01}), elbo)
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
    """

    wraps: ClassVar[dict[str, str]] = {
        "responsibility_weighted": (
            "{inner} weights particles by more than their responsibilities and needs the gradient "
            "of all of them; use it without {outer}, or G3 or G4 with it"
        ),
        **DIVISIBLE,
        **RETURNS_NUMBER,
    }
    divisible = False
    whole_because = "chooses among all its particles"

    def __init__(self, estimator: Estimator, kept: int) -> None:
        super().__init__(estimator)
        if not estimator.vectorize_particles:
            raise ValueError("Resampled runs its particles at once: leave vectorize_particles on")
        check_whole("kept", kept)
        if not 1 <= kept < estimator.num_particles:
            raise ValueError(
                f"kept={kept}: must be at least 1 and less than "
                f"num_particles={estimator.num_particles}"
            )
        self.kept = kept

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor whose gradient is the estimate."""
        estimator = self.estimator
        with torch.no_grad():
            drawn = estimator.draw(model, guide, args, kwargs)
            _refuse_points(drawn)
            log_weight = drawn.log_weight()
            objective = estimator.objective(drawn, log_weight)
            uniform = torch.rand_like(log_weight[0])
            index, weight = resample(responsibilities(log_weight), self.kept, uniform)
            values = {
                term.name: taken(term.value, index)
                for term in drawn.latent
                if isinstance(term, SiteTerm)
            }
        # The model's gradient at given particles does not depend on what proposed them.
        with SameMinibatch(dict(drawn.subsamples), strict=True), _Attached(values):
            chosen = estimator.draw(model, PriorOf(model), args, kwargs, num_particles=self.kept)
        _check_same_run(drawn, chosen, index)
        if not drawn.is_prior:  # then some of the latents' densities stand in the weights
            names = {term.name for term in drawn.proposed_by_prior if isinstance(term, SiteTerm)}
            own = [t for t in chosen.latent if isinstance(t, SiteTerm) and t.name in names]
            chosen = replace(chosen, proposal=own)
        coefficients = _replaced(estimator.coefficients(log_weight), weight)
        surrogate = weighted_surrogate(chosen, coefficients)
        return with_gradient_of(-objective, -surrogate)


def _check_same_run(drawn: Particles, chosen: Particles, index: Tensor) -> None:
    """Refuses a program whose second run at the same particles is another one."""
    first, second = (
        broadcast_weight(total_log_prob(one.observed), one.num_particles, one.batch_shape)
        * one.scale
        for one in (drawn, chosen)
    )
    second = second.detach()
    if not torch.allclose(taken(first, index), second, rtol=1e-3, atol=1e-2, equal_nan=True):
        raise ValueError(
            "Resampled runs the model twice at the same particles, and the second run gave y "
            "another probability: the model draws noise of its own (dropout, torch.randn). Draw "
            "it by pyro.sample, or use the estimator without Resampled"
        )


def _refuse_points(drawn: Particles) -> None:
    """Refuses a value that is its parameters: run again at the value, they get no gradient."""
    for term in (term for part in drawn.components for term in part.terms):
        if isinstance(term, SiteTerm):
            refuse_quantized(term.name, term.value, "Resampled chooses among particles")
        if isinstance(term, SiteTerm) and is_point(term.fn):
            raise ValueError(
                f"site '{term.name}': a Delta drawn before has no path for its gradient; use the "
                "estimator without Resampled"
            )


class _Attached(Messenger):
    """Gives latent sites their values, with the path to the logits that a draw would have had."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.values:
            return
        value = self.values[msg["name"]]
        if isinstance(msg["fn"], StraightThroughUnits):
            value = msg["fn"].attached(value)
        elif msg["fn"].has_rsample:
            raise ValueError(
                f"site '{msg['name']}': a {name_of(msg['fn'])} drawn before has no path for "
                "its gradient; use the estimator without Resampled, or G4 with it"
            )
        msg["value"] = value


def _replaced(c: Coefficients, weight: Tensor) -> Coefficients:
    """Coefficients that are all responsibilities, those of the chosen particles instead."""
    return replace(c, **{f.name: weight for f in fields(c) if getattr(c, f.name) is not None})
