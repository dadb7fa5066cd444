"""Any number of particles in the memory of a chunk of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from pyro import poutine
from pyro.infer.util import torch_backward
from pyro.poutine import Trace
from torch import Tensor

from sfnn_pyro.distributions.wrapped import base_of
from sfnn_pyro.estimators.base import Coefficients, Estimator
from sfnn_pyro.estimators.checks import check_whole, watched_parameters
from sfnn_pyro.estimators.wrappers.base import DIVISIBLE, RETURNS_NUMBER, WrappedEstimator
from sfnn_pyro.estimators.wrappers.known import KnownGradients
from sfnn_pyro.particles import JoinedTerm, Particles, SameMinibatch, SiteTerm, proposal_kind
from sfnn_pyro.particles.programs import arguments_of
from sfnn_pyro.particles.weights import log_mean_exp


class Chunked(WrappedEstimator):
    r"""An estimator whose particles are drawn a chunk at a time, twice.

    The first pass keeps the log-weights alone, ``(M, B)``; from all of them come the
    coefficients. The second draws every chunk again from the same random state and adds its
    part of the gradient, which is that of all M particles at once, up to rounding.

    Arguments:
        estimator: one whose surrogate is a weighted sum over particles (most are).
        particle_chunk: particles at a time; it sets the memory needed.

    Raises:
        ValueError: the chunk is below 1, the estimator's surrogate is of another form, or the
            guide is a mixture, whose shares are of all particles.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> elbo = Chunked(G5(num_particles=10_000), particle_chunk=1_000)
        >>> x, y = torch.zeros(1, 4), torch.ones(1, 2)
        >>> loss = elbo.loss_and_grads(model, PriorProposal(model), x, y)
    """

    wraps: ClassVar[dict[str, str]] = {**DIVISIBLE, **RETURNS_NUMBER}
    divisible = False
    whole_because = "draws chunks of its own and needs all its particles at once"
    replayable = False

    def __init__(self, estimator: Estimator, particle_chunk: int) -> None:
        check_whole("particle_chunk", particle_chunk, 1)
        super().__init__(estimator)
        self.particle_chunk = particle_chunk

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss in nats, without gradients."""
        return _Passes(self, model, guide, args, kwargs).loss.item()

    def add_gradients(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        with watched_parameters(model, guide, args, kwargs):
            passes = _Passes(self, model, guide, args, kwargs)
            for surrogate in passes.surrogates():
                torch_backward(-surrogate, retain_graph=self.retain_graph)
        return passes.loss

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor; its gradient is computed at once, in chunks."""
        with poutine.trace(param_only=True) as tracer:
            passes = _Passes(self, model, guide, args, kwargs)
        leaves = leaves_of(tracer.trace)
        if not leaves and torch.is_grad_enabled():
            raise ValueError(
                "Chunked finds the parameters by pyro.param, pyro.module or PyroModule, and this "
                "pair of model and guide declares none; declare them, or use loss_and_grads"
            )
        total = [torch.zeros_like(p) for p in leaves]
        for surrogate in passes.surrogates():
            if not surrogate.requires_grad:  # everything is masked, or has no parameter
                continue
            grads = torch.autograd.grad(-surrogate, leaves, allow_unused=True)
            for kept, grad in zip(total, grads, strict=True):
                if grad is not None:
                    kept += grad
        return KnownGradients.apply(passes.loss, total, *leaves)


class _Passes:
    """One minibatch: the first pass on construction, the second on request."""

    def __init__(
        self, elbo: Chunked, model: Callable, guide: Callable, args: tuple, kwargs: dict
    ) -> None:
        if proposal_kind(guide, model) == "mixture":
            raise ValueError(
                "Chunked cannot divide a mixture's shares; use the estimator without it"
            )
        self.estimator = elbo.estimator
        self.call = model, guide, args, kwargs
        self.sizes = [
            min(elbo.particle_chunk, elbo.num_particles - start)
            for start in range(0, elbo.num_particles, elbo.particle_chunk)
        ]
        # In blocks made beforehand: what is kept of each chunk would else lie scattered over the
        # memory that the next chunk needs.
        self.states = [state.repeat(len(self.sizes), 1) for state in _random_state()]
        # The minibatch that each chunk is given: none for the first, which draws it, twice.
        self.minibatches: list[dict[str, tuple[int, Tensor]]] = [{}]
        self.prints: list[tuple[Tensor, Tensor]] = []
        self.observed: dict[str, float] = {}
        parts: tuple[Tensor, ...] = ()
        with torch.no_grad():
            for number, size in enumerate(self.sizes):
                for kept, state in zip(self.states, _random_state(), strict=True):
                    kept[number] = state
                particles = self._draw(number, size)
                self.minibatches.append(particles.subsamples)
                self.prints.append(_fingerprint(particles))
                self._check_observed(number, _observed(particles))
                part = particles.log_weight()
                if not parts:
                    self.log_weight = part.new_empty(elbo.num_particles, *part.shape[1:])
                    parts = self.log_weight.split(self.sizes)
                parts[number].copy_(part)
        self.after = _random_state()
        self.loss = -(log_mean_exp(self.log_weight) * particles.scale).sum()

    def _check_observed(self, number: int, observed: dict[str, float]) -> None:
        """Refuses chunks of particles of other datapoints: their weights are never compared."""
        first = self.observed = self.observed or observed
        for name in first.keys() & observed.keys():
            both = first[name], observed[name]
            if not (math.isclose(*both) or all(map(math.isnan, both))):  # NaN under a mask
                raise ValueError(
                    f"site '{name}' observes another value in chunk {number + 1} than in the "
                    "first: the program draws a minibatch or noise by itself, which all particles "
                    "must share. Draw it by pyro.plate(..., subsample_size=...), give it as an "
                    "argument, or use the estimator without Chunked"
                )

    def _draw(self, number: int, size: int) -> Particles:
        with SameMinibatch(dict(self.minibatches[number]), strict=True):
            return self.estimator.draw(*self.call, num_particles=size)

    def surrogates(self) -> Iterator[Tensor]:
        """Each chunk's part of the surrogate, its particles drawn as in the first pass."""
        c = self.estimator.coefficients(self.log_weight)
        start = 0
        for number, size in enumerate(self.sizes):
            _set_random_state([kept[number].clone() for kept in self.states])
            particles = self._draw(number, size)
            if not _same(_fingerprint(particles), self.prints[number]):
                raise ValueError(
                    "Chunked runs model and guide twice from the same random state, and the "
                    f"second run of chunk {number + 1} had other particles, observations or "
                    "parameters of a distribution: the program draws from another source of "
                    "random numbers, or draws more or less of them each time. Draw with "
                    "pyro.sample alone, or use the estimator without Chunked"
                )
            yield self.estimator.surrogate_from(particles, part_of(c, start, start + size))
            start += size
        _set_random_state(self.after)


@torch.no_grad()
def _fingerprint(particles: Particles) -> tuple[Tensor, Tensor]:
    """Numbers that other particles would not have: of every value, and of what laws are made of."""
    drawn = [term for part in particles.components for term in part.terms if term.drawn]
    sites = [
        site
        for term in (*particles.observed, *particles.latent, *drawn)
        for site in (term._every if isinstance(term, JoinedTerm) else [term])
        if isinstance(site, SiteTerm)
    ]
    laws = [one for site in sites for _, one in arguments_of(base_of(site.fn))]
    values = [_projection(site.value) for site in sites]
    given = [_projection(one) for one in laws if torch.is_tensor(one)]
    return torch.tensor(values, dtype=torch.float64), torch.tensor(given, dtype=torch.float64)


def _same(these: tuple[Tensor, Tensor], those: tuple[Tensor, Tensor]) -> bool:
    # What a law is made of is computed, and on some devices not to the last digit.
    return all(
        one.shape == other.shape and torch.allclose(one, other, rtol=rtol, atol=0, equal_nan=True)
        for one, other, rtol in zip(these, those, (1e-9, 1e-4), strict=True)
    )


@torch.no_grad()
def _observed(particles: Particles) -> dict[str, float]:
    """A number for each observed value that all particles of a run share, by the site's name."""
    return {
        term.name: _projection(term.value)
        for term in particles.observed
        if isinstance(term, SiteTerm) and term.dims is not None
        if term.value.dim() - term.fn.event_dim < term.dims
    }


def _projection(value: Tensor) -> float:
    """A sum of all numbers of a tensor with weights of their own, in little memory."""
    if not value.numel():
        return 0.0
    rows = value.detach().reshape(-1, value.shape[-1] if value.dim() else 1)
    if not rows.is_floating_point():
        rows = rows.to(torch.get_default_dtype())
    columns = _weights(rows.shape[1]).to(rows)
    return (rows @ columns).double().cpu().dot(_weights(len(rows))).item()


def _weights(count: int) -> Tensor:
    golden = (math.sqrt(5) - 1) / 2  # multiples of it modulo 1 are all different
    return 1 + torch.arange(1, count + 1, dtype=torch.float64).mul_(golden).remainder_(1)


def leaves_of(trace: Trace) -> list[Tensor]:
    """The parameters of a trace that have a gradient, each once."""
    parameters = [site["value"].unconstrained() for site in trace.nodes.values()]
    return [p for p in dict.fromkeys(parameters) if p.requires_grad]


def part_of(c: Coefficients, start: int, stop: int) -> Coefficients:
    """The coefficients of some of the particles."""
    given = {f.name: getattr(c, f.name) for f in fields(c) if getattr(c, f.name) is not None}
    return replace(c, **{name: value[start:stop] for name, value in given.items()})


def _random_state() -> list[Tensor]:
    states = [torch.random.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return states


def _set_random_state(states: list[Tensor]) -> None:
    torch.random.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])
