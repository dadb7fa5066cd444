"""The base of every estimator: Pyro's ELBO contract over per-datapoint particle weights."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled, torch_backward
from pyro.util import warn_if_nan
from torch import Tensor

from sfnn_pyro.estimators.checks import (
    SITE_KINDS,
    check_count,
    check_finite,
    check_proposal,
    check_site,
    check_traces,
)
from sfnn_pyro.particles import Particles, draw_particles, guess_plate_nesting
from sfnn_pyro.reparam import ConstantSampleReparam, UnitsReparam, is_bernoulli
from sfnn_pyro.sites import Term
from sfnn_pyro.weights import log_mean_exp


@dataclass(frozen=True)
class Coefficients:
    r"""What multiplies the log-probabilities in a surrogate; all ``(M, *batch)``, constant.

    With the prior as proposal, what multiplies :math:`\log R` is added to that of the prior.

    Arguments:
        observed: of :math:`\log P(y | h)`; the responsibilities (eq. 16).
        latent: of :math:`\log P(h | x)`, or None for zero.
        proposal: of :math:`\log R(h | y, x)` in the weights, or None for zero.
        score: of the log-density of whichever guide drew the particle, at sites without a path
            for gradients: the learning signal of a score-function estimator; None for zero.
        control: of :math:`\log P(h | x)` at the particles that the prior drew; None for zero.
    """

    observed: Tensor
    latent: Tensor | None = None
    proposal: Tensor | None = None
    score: Tensor | None = None
    control: Tensor | None = None


class Estimator(ELBO):
    r"""A gradient estimator of the multi-sample objective, as a Pyro ELBO.

    Every subclass reports the same loss, in nats,

    .. math:: -\sum_b s_b \log \frac1M \sum_{m=1}^M w_{mb}

    (eq. 6, with weights of eq. 27 and the plate's scale s outside the logarithm) and differs
    in the surrogate whose gradient is taken. Use it in ``SVI``, or as
    ``Estimator(...)(model, guide)``, a ``torch.nn.Module`` for PyTorch's own optimizers.

    Weights belong to a datapoint: to one element of the plates that *all* sample sites share.
    Sites in further plates are summed into it; a latent outside the data plate makes the whole
    minibatch one datapoint. A factor that every site carries (subsampling, an enclosing
    ``poutine.scale``) multiplies the objective; one that single sites carry is part of their
    log-probability.

    Arguments:
        num_particles: M, at least 1.
        max_plate_nesting: how many plates model and guide nest; found on the first call by
            running them once, if it is not given.
        vectorize_particles: run model and guide once under a plate of particles, or once for
            every particle: slow, for programs that cannot run under a further plate.

    Raises:
        ValueError: ``num_particles`` is too small, or on a call the pair of model and guide is
            one that the estimator cannot handle; the message names the site and a sibling.
    """

    target: ClassVar[str]
    """What the gradient aims at: ``"objective"``, E[Chat_M]; ``"likelihood"``, log P(y|x); or
    ``"bound"``, E[Chat_1]."""
    unbiased: bool
    """Whether the expected gradient equals the target's for every M."""
    proposals: ClassVar[tuple[str, ...]] = ("prior", "guide", "mixture")
    """Which proposals it accepts."""
    sites: ClassVar[tuple[str, ...]] = SITE_KINDS
    """Which kinds of latent sites it accepts."""
    least_particles: ClassVar[int] = 1
    pathwise: ClassVar[bool] = False
    """Whether gradients pass through reparameterisable samples, or those are held constant."""
    by_responsibility: ClassVar[bool] = False
    """Whether every coefficient is the particle's responsibility or zero."""

    max_plate_nesting: float

    def __init__(
        self,
        num_particles: int = 20,
        *,
        max_plate_nesting: float = float("inf"),
        vectorize_particles: bool = True,
    ) -> None:
        check_count(self, num_particles)
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)
        self.vectorize_particles = vectorize_particles
        self._checked: tuple | None = None

    @property
    def divisible(self) -> bool:
        """Whether its gradient is a weighted sum over particles, each run's part its own."""
        own, base = type(self), Estimator
        return (
            own.surrogate is base.surrogate and own.differentiable_loss is base.differentiable_loss
        )

    def state_dict(self) -> dict[str, Any]:
        """What must be saved to go on exactly as before; most estimators keep nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``state_dict`` returned."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state and got {sorted(state)}")

    @abstractmethod
    def coefficients(self, log_weight: Tensor) -> Coefficients:
        """The surrogate's coefficients, from detached log-weights ``(M, *batch)``."""

    def strategy(self, site: Any) -> Any:
        """The treatment of a sample site while particles are drawn: here, held constant."""
        if not site["is_observed"]:
            check_site(self, site)
        if is_bernoulli(site["fn"]):
            return UnitsReparam()
        if not (site["is_observed"] or self.pathwise) and site["fn"].has_rsample:
            return ConstantSampleReparam()
        return None

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        """A scalar whose gradient is the estimate of the objective's.

        Arguments:
            particles: as drawn under ``strategy``.
            log_weight: their detached log-weights ``(M, *batch)``.
        """
        return weighted_surrogate(particles, self.coefficients(log_weight))

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss in nats, without gradients."""
        particles = self._draw(model, guide, args, kwargs)
        value = -self._objective(particles, particles.log_weight()).item()
        return checked_loss(value, args)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor whose gradient is the estimate."""
        particles = self._draw(model, guide, args, kwargs)
        log_weight = particles.log_weight().detach()
        surrogate = self.surrogate(particles, log_weight)
        return surrogate.detach() - surrogate - self._objective(particles, log_weight)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        """Adds the estimated gradients to the parameters' and returns the loss in nats."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        value = checked_loss(loss.item(), args)
        torch_backward(loss, retain_graph=self.retain_graph)
        return value

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        """One sequential pair of traces, for Pyro's utilities that ask an ELBO for it."""
        return get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)

    def _objective(self, particles: Particles, log_weight: Tensor) -> Tensor:
        return (log_mean_exp(log_weight) * particles.scale).sum()

    def _draw(
        self,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: dict,
        num_particles: int | None = None,
    ) -> Particles:
        check_proposal(self, model, guide)
        if self.max_plate_nesting == float("inf"):
            check_finite(args)
            self.max_plate_nesting = guess_plate_nesting(model, guide, args, kwargs)
        return draw_particles(
            model,
            guide,
            args,
            kwargs,
            num_particles=num_particles or self.num_particles,
            plate_nesting=int(self.max_plate_nesting),
            strategy=self.strategy,
            vectorize=self.vectorize_particles,
            check=self._check if is_validation_enabled() else None,
        )

    def _check(self, model_trace: Any, guide_trace: Any) -> None:
        """Checks a pair's traces when their sites are not those of the last call."""
        guide_sites = None if guide_trace is None else tuple(guide_trace.nodes)
        sites = tuple(model_trace.nodes), guide_sites, torch.is_grad_enabled()
        if sites != self._checked:
            check_traces(self, model_trace, guide_trace)
            self._checked = sites


def checked_loss(value: float, args: tuple) -> float:
    """The loss; if it is not finite, an error when the data are at fault, else a warning."""
    if not math.isfinite(value):
        check_finite(args)
        warn_if_nan(value, "loss")
    return value


def weighted_surrogate(particles: Particles, c: Coefficients) -> Tensor:
    """A scalar with the gradient of the particles' log-probabilities, weighted."""
    pulls = [
        (particles.observed, c.observed),
        (particles.latent, c.latent),
        (particles.latent if particles.proposal is None else particles.proposal, c.proposal),
    ]
    for component in particles.components:
        if c.score is not None:
            terms = [term for term in component.terms if not term.has_path]
            pulls.append((terms, component.own(c.score)))
        if c.control is not None and component.is_prior:
            pulls.append((component.terms, component.own(c.control)))
    return weighted_sum(pulls, particles.scale, c.observed)


def weighted_sum(
    pulls: Iterable[tuple[Sequence[Term], Tensor | None]], scale: Any, like: Tensor
) -> Tensor:
    """A scalar with the gradient of the sum of scale * coefficient * log-probability.

    The coefficients of a term that occurs more than once are added up first.
    """
    totals: dict[int, tuple[Term, Tensor]] = {}
    for terms, coefficient in pulls:
        if coefficient is None:
            continue
        for term in terms:
            before = totals.get(id(term))
            totals[id(term)] = term, coefficient if before is None else before[1] + coefficient
    total = like.new_zeros(())
    for term, coefficient in totals.values():
        total = total + term.weighted(coefficient * scale)
    return total
