r"""The one place where a model and its proposal are run and turned into log-weights.

.. math::
    \\log w_{mb} = \\log P(y_b | h_{mb}) + \\log P(h_{mb} | x_b) - \\log R(h_{mb} | y_b, x_b)

(eq. 27 of Raiko et al., 2015), one per particle and datapoint. With the prior as proposal the
last two terms cancel exactly: they are never computed, and the model runs once. With several
proposals, each drawing its share of the particles, R is their mixture: the balance heuristic.

Proposals are recognised by two attributes: ``prior_of`` (the model that the guide is the prior
of) and ``components`` with ``counts`` (the guides that share the particles).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from sfnn_pyro.plate import ParticlePlate
from sfnn_pyro.sites import JoinedTerm, Layout, Term, sample_sites, total_log_prob

PARTICLE_PLATE = "particles"

Strategy = Callable[[Any], Any]
"""A ``poutine.reparam`` configuration: the treatment of a sample site, or None."""

Program = Callable[..., Any]

Check = Callable[[Trace, Trace | None], None]


@dataclass(frozen=True)
class Component:
    """One of the guides that proposed particles.

    Arguments:
        terms: of its log-density at *every* particle.
        first: the first particle that it drew.
        last: one after the last particle that it drew.
        is_prior: whether it is the model's own prior.
    """

    terms: Sequence[Term]
    first: int
    last: int
    is_prior: bool

    def own(self, coefficient: Tensor) -> Tensor:
        """The coefficient ``(M, *batch)`` at the particles it drew, zero at all others."""
        if self.last - self.first == coefficient.shape[0]:
            return coefficient
        result = torch.zeros_like(coefficient)
        result[self.first : self.last] = coefficient[self.first : self.last]
        return result


class MixtureTerm:
    r"""The log-density of a stratified mixture, :math:`\log \sum_k \frac{M_k}{M} R_k(h)`."""

    has_path = True

    def __init__(self, components: Sequence[Component]) -> None:
        self.components = [part for part in components if part.last > part.first]
        self._log_prob: Tensor | None = None

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            total = self.components[-1].last
            parts = [
                total_log_prob(part.terms) + math.log((part.last - part.first) / total)
                for part in self.components
            ]
            self._log_prob = torch.logsumexp(torch.stack(torch.broadcast_tensors(*parts)), 0)
        return self._log_prob

    def weighted(self, coefficient: Tensor) -> Tensor:
        """A scalar with the gradient of the sum of coefficient times log-density."""
        return (coefficient * self.log_prob()).sum()


@dataclass(frozen=True)
class Particles:
    r"""M particles of every datapoint, with the log-probabilities that weight them.

    Arguments:
        observed: terms of log P(y | h).
        latent: terms of log P(h | x).
        proposal: terms of log R(h | y, x), or None when the proposal is the prior.
        scale: the factor outside the logarithm.
        num_particles: M.
        components: the guides that drew the particles: one, unless they are a mixture.
        redraw: draws M particles again, the latent sites that it is given at given values.
        subsamples: indices that subsampled plates drew, by the plate's name.
    """

    observed: Sequence[Term]
    latent: Sequence[Term]
    proposal: Sequence[Term] | None
    scale: Any
    num_particles: int
    components: Sequence[Component] = ()
    redraw: Callable[[dict[str, Tensor]], "Particles"] | None = None
    subsamples: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_prior(self) -> bool:
        """Whether the particles were proposed by the model itself."""
        return self.proposal is None

    def log_weight(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph (eq. 27)."""
        if not self.observed:
            raise ValueError(
                "the model has no observed site, so no weight can be computed; pass the "
                "observations to the model, or condition it with poutine.condition"
            )
        total = total_log_prob(self.observed)
        if self.proposal is not None:
            total = total + total_log_prob(self.latent) - total_log_prob(self.proposal)
        return total


class Fixed(poutine.messenger.Messenger):
    """Gives sample sites their values: latent sites, and the indices of subsampled plates."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = True


class NoEmptyPlate(poutine.messenger.Messenger):
    """Refuses a plate without a datapoint, before Pyro divides by its size."""

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) and 0 in (msg["fn"].size, msg["fn"].subsample_size):
            raise ValueError(f"'{msg['name']}' is a plate of size 0: give at least one datapoint")


def proposal_kind(guide: Program, model: Program) -> str:
    """``"prior"``, ``"mixture"`` or ``"guide"``: what a guide is to this model."""
    if getattr(guide, "prior_of", None) is model:
        return "prior"
    return "mixture" if hasattr(guide, "components") else "guide"


def draw_particles(
    model: Program,
    guide: Program,
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int,
    plate_nesting: int,
    strategy: Strategy,
    vectorize: bool = True,
    check: Check | None = None,
) -> Particles:
    """Runs model and guide for M particles, all at once or one after the other.

    Arguments:
        model: a Pyro model.
        guide: a Pyro guide; with ``guide.prior_of is model`` the model proposes for itself,
            with ``guide.components`` each of them draws its share.
        args: positional arguments of both.
        kwargs: keyword arguments of both.
        num_particles: M.
        plate_nesting: how many nested plates model and guide have; particles lie outside.
        strategy: treatment of the sample sites of model and guide.
        vectorize: one run under a plate of M particles, or M runs.
        check: called with the traces of model and guide before anything is computed.

    Returns:
        The particles, nothing yet computed from them.
    """
    draw = _Draw(model, guide, args, kwargs, plate_nesting, strategy, check)
    counts = [num_particles]
    if proposal_kind(guide, model) == "mixture":
        counts = list(guide.counts(num_particles))  # type: ignore[attr-defined]
    if vectorize:
        particles = draw.block(num_particles, counts)
    else:
        owners = [number for number, count in enumerate(counts) for _ in range(count)]
        blocks = [draw.block(None, [int(k == own) for k in range(len(counts))]) for own in owners]
        particles = _join(blocks, counts, plate_nesting)

    def redraw(fixed: dict[str, Tensor]) -> Particles:
        with Fixed({**draw.subsamples, **fixed}):
            return draw_particles(
                model,
                guide,
                args,
                kwargs,
                num_particles=num_particles,
                plate_nesting=plate_nesting,
                strategy=strategy,
            )

    return replace(particles, redraw=redraw, subsamples=draw.subsamples)


@dataclass
class _Draw:
    """Runs of a model and its proposals that see the same minibatch."""

    model: Program
    guide: Program
    args: tuple
    kwargs: dict
    nesting: int
    strategy: Strategy
    check: Check | None
    subsamples: dict[str, Tensor] = field(default_factory=dict)

    def run(self, program: Program, count: int | None, values: dict[str, Tensor]) -> Trace:
        fixed = {**self.subsamples, **values}
        with Fixed(fixed) if fixed else nullcontext():
            trace = trace_program(
                program,
                self.args,
                self.kwargs,
                num_particles=count,
                plate_nesting=self.nesting,
                strategy=self.strategy,
            )
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and site_is_subsample(site):
                self.subsamples[name] = site["value"]
        return trace

    def block(self, count: int | None, counts: list[int]) -> Particles:
        """Particles of one run: ``count`` under a plate, or one without (None)."""
        model, guide = self.model, self.guide
        guide_traces: list[Trace]
        kind = proposal_kind(guide, model)
        if kind == "prior":
            model_trace = self.run(model, count, {})
            guide_traces = [model_trace]
        elif kind == "guide":
            guide_traces = [self.run(guide, count, {})]
            model_trace = self.run(model, count, _latents(guide_traces[0]))
        else:
            parts = guide.components  # type: ignore[attr-defined]
            values = self.mixed(parts, counts, vectorized=count is not None)
            model_trace = self.run(model, count, values)
            guide_traces = [
                model_trace
                if proposal_kind(part, model) == "prior"
                else self.run(part, count, values)
                for part in parts
            ]
        own = [trace for trace in guide_traces if trace is not model_trace]
        if self.check is not None:
            for trace in own or [None]:
                self.check(model_trace, trace)
        sites = sample_sites(model_trace)
        proposed = [[] if trace is model_trace else sample_sites(trace) for trace in guide_traces]
        every = sites + [site for group in proposed for site in group]
        layout = Layout.of(every, self.nesting, PARTICLE_PLATE)
        latent = [layout.term(site) for site in sites if not site["is_observed"]]
        components, first = [], 0
        for trace, group, size in zip(guide_traces, proposed, counts, strict=True):
            prior = trace is model_trace
            terms: Sequence[Term] = latent if prior else [layout.term(site) for site in group]
            components.append(Component(terms, first, first + size, prior))
            first += size
        proposal: Sequence[Term] | None = components[0].terms
        if kind != "guide":
            proposal = None if kind == "prior" else [MixtureTerm(components)]
        return Particles(
            observed=[layout.term(site) for site in sites if site["is_observed"]],
            latent=latent,
            proposal=proposal,
            scale=layout.scale,
            num_particles=first,
            components=components,
        )

    def mixed(
        self, parts: Sequence[Program], counts: list[int], *, vectorized: bool
    ) -> dict[str, Tensor]:
        """The latents' values, each component's share drawn by itself, one after the other."""
        drawn = [
            _latents(self.run(part, size if vectorized else None, {}))
            for part, size in zip(parts, counts, strict=True)
            if size
        ]
        names = [name for name in drawn[0] if all(name in values for values in drawn)]
        if not vectorized:
            return {name: drawn[0][name] for name in names}
        return {name: torch.cat([values[name] for values in drawn]) for name in names}


def _join(blocks: Sequence[Particles], counts: Sequence[int], nesting: int) -> Particles:
    """Particles drawn one after the other, as one."""

    def join(parts: Sequence[Sequence[Term]]) -> list[Term]:
        split = [
            (path, [[t for t in part if t.has_path is path] for part in parts])
            for path in (False, True)
        ]
        return [JoinedTerm(some, nesting, path) for path, some in split if any(some)]

    latent = join([block.latent for block in blocks])
    components, first = [], 0
    for number, size in enumerate(counts):
        of_all = [block.components[number] for block in blocks]
        prior = of_all[0].is_prior
        terms = latent if prior else join([part.terms for part in of_all])
        components.append(Component(terms, first, first + size, prior))
        first += size
    proposal: Sequence[Term] | None = components[0].terms
    if blocks[0].proposal is None:
        proposal = None
    elif len(components) > 1:
        proposal = [MixtureTerm(components)]
    return Particles(
        observed=join([block.observed for block in blocks]),
        latent=latent,
        proposal=proposal,
        scale=blocks[0].scale,
        num_particles=len(blocks),
        components=components,
    )


def _latents(trace: Trace) -> dict[str, Tensor]:
    return {site["name"]: site["value"] for site in sample_sites(trace) if not site["is_observed"]}


def trace_program(
    program: Program,
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int | None,
    plate_nesting: int,
    strategy: Strategy = lambda site: None,
) -> Trace:
    """Runs a program, under a vectorised plate of particles unless None, for its trace."""
    plate: Any = nullcontext()
    if num_particles is not None:
        plate = ParticlePlate(PARTICLE_PLATE, num_particles, dim=-1 - plate_nesting)
    # The strategy lies inside the plate: it sees logits before they are expanded.
    with poutine.trace() as tracer, plate, poutine.reparam(config=strategy), NoEmptyPlate():
        program(*args, **kwargs)
    return tracer.trace


def guess_plate_nesting(model: Program, guide: Program, args: tuple, kwargs: dict) -> int:
    """How many vectorised plates are nested in model and guide, found by running them once.

    The random state is left as it was.
    """
    devices = range(torch.cuda.device_count())
    traces = []
    with torch.random.fork_rng(devices), poutine.block(), torch.no_grad(), NoEmptyPlate():
        for part in getattr(guide, "components", [guide]):
            guide_trace = poutine.trace(part).get_trace(*args, **kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            traces += [guide_trace, poutine.trace(replayed).get_trace(*args, **kwargs)]
    dims = [
        frame.dim
        for trace in traces
        for site in sample_sites(trace)
        for frame in site["cond_indep_stack"]
        if frame.vectorized
    ]
    return -min(dims, default=0)
