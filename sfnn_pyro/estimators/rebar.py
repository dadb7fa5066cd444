"""REBAR: the score of what a relaxation leaves, and the relaxation's own gradient."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import torch
from pyro.infer.reparam.reparam import Reparam
from torch import Size, Tensor

from sfnn_pyro.distributions.averaged import noise_given
from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.estimators.base import (
    Options,
    Passes,
    score_pulls,
    weighted_sum,
)
from sfnn_pyro.estimators.learned import LearnedScale, check_state
from sfnn_pyro.estimators.one_guide import OneGuideEstimator
from sfnn_pyro.estimators.values import deviation, drawn_units, units_over
from sfnn_pyro.particles import Particles, SiteTerm, Term
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp
from sfnn_pyro.reparam import check_temperature, is_bernoulli


def uniforms(like: Tensor) -> Tensor:
    """Uniform numbers of the shape of another tensor."""
    return torch.rand_like(like)


class Relaxed(NamedTuple):
    r"""A site's relaxed draws, given its hard ones, and what the objective would be with them.

    Arguments:
        z: ``(M, *batch, *units)``, logistic around the logits.
        path: :math:`\partial (z - \tilde z) / \partial a`, of the draw less the draw given h.
        control: ``(M, *batch)``, the control variate c.
        slope: ``(M, *batch, *units)``, the derivative of c by z.
    """

    z: Tensor
    path: Tensor
    control: Tensor
    slope: Tensor


class REBAR(OneGuideEstimator):
    r"""Unbiased gradient whose control variate is the objective of relaxed units.

    .. math::
        \sum_m [L - \eta c(\tilde z_m)] (h_m - \sigma(a_m))
            + \eta \, \partial_a [c(z_m) - c(\tilde z_m)]
            + \sum_m \bar w_m \, \partial \log w_m

    for the logits a, with :math:`L = \hat C_M`, :math:`z = a + \log u - \log(1 - u)`,
    :math:`h = 1[z > 0]`, :math:`\tilde z` drawn given h, and c the objective with
    :math:`\sigma(z_m / \tau)` in the place of :math:`h_m`, the other particles as they are. One
    number v serves both draws, so that :math:`\tilde z = z`, and the two runs of the
    authors' are one:

    .. math::
        \partial_a (z - \tilde z) = h \frac{1 - p}{u} + (1 - h) \frac{p}{1 - u}

    With several particles the mean weight of the others is taken off L and c. A layer is
    relaxed with those before it as they are; those after it are relaxed too, by the noise that
    gave their hard values. The factor eta is learned by regression over the steps before (the
    authors take its gradient), the temperature is given.

    References:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, *REBAR: Low-variance, unbiased gradient
        estimates for discrete latent variable models*, NeurIPS 2017, arXiv 1703.07370.

    Arguments:
        num_particles: M, at least 1.
        temperature: tau, positive.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: ``temperature`` is not positive, a discrete latent is not Bernoulli, or the
            guide is a mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = REBAR(num_particles=1)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    replayable = False
    why_not = "its relaxation is that of one guide; use VIMCO"
    passes = Passes(per_site=1)

    def __init__(
        self,
        num_particles: int = 20,
        *,
        temperature: float = 0.5,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        check_temperature(temperature)
        self.temperature = temperature
        self.scale = LearnedScale(first=1.0)

    def state_dict(self) -> dict[str, Any]:
        """The moving averages that eta is the ratio of."""
        return {"averages": self.scale.averages.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state(type(self).__name__, state, set(self.state_dict()))
        self.scale.averages = state["averages"].clone()

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # then no relaxation has a slope to learn from
            return log_weight.new_zeros(())
        total = super().surrogate(particles, log_weight)
        others = leave_one_out(log_weight)
        m = particles.num_particles
        # With one particle there is no mean of others.
        baseline = finite(others - math.log(m - 1)) if m > 1 else torch.zeros_like(log_weight)
        objective = finite(log_mean_exp(log_weight) - baseline)
        scale, eta = torch.as_tensor(particles.scale), self.scale.value
        signals: dict[int, Tensor] = {}
        names, plain, control, estimates = [], [], [], []
        for term, relaxed in self._relaxations(particles, others, baseline):
            score, path = deviation(term), relaxed.slope * relaxed.path
            value, further = self.further_control(term, relaxed)
            rest = units_over(objective - value, term) * score + further
            own = units_over(relaxed.control, term) * score - path
            signals[id(term)] = (objective - eta * relaxed.control - value).detach()
            pull = units_over(scale, term) * (eta * path + further)
            total = total + (pull.detach() * term.logits).sum()
            shape = term.logits.shape
            names.append(term.name)
            plain.append(rest.detach().sum_to_size(shape))
            control.append(own.sum_to_size(shape))
            estimates.append((rest - eta * own).sum_to_size(shape))

        def signal(term: Term) -> Tensor:
            return signals.get(id(term), objective)

        pulls = score_pulls(particles, signal)
        total = total + weighted_sum(pulls, particles.scale, log_weight)
        if names:
            self.scale.update(plain, control)
            self.learn(names, estimates)
        return total

    def further_control(self, term: SiteTerm, relaxed: Relaxed) -> tuple[Tensor, Tensor]:
        """A further control variate and its path's gradient; here none."""
        return torch.zeros_like(relaxed.control), torch.zeros_like(relaxed.slope)

    def learn(self, names: Sequence[str], estimates: Sequence[Tensor]) -> None:
        """Learns from the gradients of the sites' logits; here nothing."""

    def _relaxations(
        self, particles: Particles, others: Tensor, baseline: Any
    ) -> list[tuple[SiteTerm, Relaxed]]:
        """Every site relaxed, with those before it hard and those after it relaxed too."""
        assert particles.redraw is not None
        terms = drawn_units(particles)
        draws = {term.name: _relaxed_draw(term) for term in terms}
        found = []
        kept: dict[str, Tensor] = {}
        for term in terms:
            z, path = draws[term.name]
            r = torch.sigmoid(z / self.temperature).requires_grad_()
            later = {
                t.name: draws[t.name][0] - t.logits.detach() for t in terms if t.name not in kept
            }
            strategy = _RelaxedSites(later, self.temperature, self.strategy)
            with torch.enable_grad():
                fixed = {**kept, term.name: r}
                log_weight = particles.redraw(fixed, strategy=strategy).log_weight()
            slope = torch.zeros_like(r)
            if log_weight.requires_grad:
                (gradient,) = torch.autograd.grad(log_weight.sum(), r, allow_unused=True)
                slope = slope if gradient is None else finite(gradient)
            slope = slope * (r * (1 - r)).detach() / self.temperature
            together = torch.logaddexp(others, log_weight.detach())
            share = finite((log_weight.detach() - together).exp())
            control = together - math.log(particles.num_particles) - baseline
            # Where nothing relaxed can have produced y the control variate is a constant.
            share = share * control.isfinite()
            relaxed = Relaxed(z, path, finite(control), units_over(share, term) * slope)
            found.append((term, relaxed))
            kept[term.name] = term.value.detach()
        return found


def _relaxed_draw(term: SiteTerm) -> tuple[Tensor, Tensor]:
    """The logistic draw z given h, and the derivative by a of z less that of z drawn given h."""
    logits, value = term.logits.detach(), term.value.detach()
    low, above, below = noise_given(logits, value, uniforms(value))
    is_one = value > 0.5
    z = logits + torch.where(is_one, above.log() - low.log(), low.log() - below.log())
    # (1 - p) / u of a one, p / (1 - u) of a zero.
    path = torch.where(is_one, torch.sigmoid(-logits) / above, torch.sigmoid(logits) / below)
    return z, path


class RelaxedUnits(BernoulliUnits):
    """Bernoulli units drawn as tempered sigmoids of given noise, with a path to their logits."""

    has_rsample = True

    def __init__(
        self,
        logits: Tensor,
        event_dim: int,
        batch_shape: Size | list[int] | None,
        noise: Tensor,
        temperature: float,
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.noise, self.temperature = noise, temperature

    def expand(self, batch_shape: Size, _instance: None = None) -> "RelaxedUnits":
        return RelaxedUnits(self.logits, self.event_dim, batch_shape, self.noise, self.temperature)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        return torch.sigmoid((self.logits + self.noise) / self.temperature)


class _RelaxedSites:
    """A strategy: Bernoulli latents of known noise are relaxed, others as they are."""

    def __init__(self, noise: Mapping[str, Tensor], temperature: float, rest: Any) -> None:
        self.noise, self.temperature, self.rest = noise, temperature, rest

    def __call__(self, site: Any) -> Any:
        latent = not site["is_observed"] and is_bernoulli(site["fn"])
        if latent and site["name"] in self.noise:
            return _RelaxedReparam(self.noise[site["name"]], self.temperature)
        return self.rest(site)


class _RelaxedReparam(Reparam):
    def __init__(self, noise: Tensor, temperature: float) -> None:
        self.options = noise, temperature

    def apply(self, msg: Any) -> Any:
        fn = RelaxedUnits.in_place_of(msg["fn"], *self.options)
        return {"fn": fn, "value": msg["value"], "is_observed": msg["is_observed"]}
