r"""Runs a model and its proposal for M particles and turns them into log-weights.

.. math::
    \log w_{mb} = \log P(y_b | h_{mb}) + \log P(h_{mb} | x_b) - \log R(h_{mb} | y_b, x_b)

(eq. 27 of Raiko et al., 2015), one per particle and datapoint. Where the prior proposes, the last
two terms cancel exactly: they are never computed, and the model runs once. With several
proposals, each drawing its share of the particles, R is their mixture: the balance heuristic.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from functools import partial as partial_call
from typing import Any

import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from torch import Tensor

from sfnn_pyro.distributions.wrapped import is_point
from sfnn_pyro.particles.layout import Layout, broadcast_weight
from sfnn_pyro.particles.pairs import check_pair
from sfnn_pyro.particles.programs import (
    Fixed,
    PairCheck,
    SameMinibatch,
    Strategy,
    check_shapes,
    forget_observations,
    note_minibatch,
    run_auxiliary,
    run_program,
)
from sfnn_pyro.particles.proposals import (
    MixtureOf,
    Program,
    is_partial,
    proposal_kind,
)
from sfnn_pyro.particles.terms import JoinedTerm, Term, is_drawn, sample_sites, total_log_prob


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
    drawn = False

    def __init__(self, components: Sequence[Component]) -> None:
        self.components = [part for part in components if part.last > part.first]
        self.plates: dict[int, str] = {}
        self._log_prob: Tensor | None = None

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            total = self.components[-1].last
            parts = [
                torch.as_tensor(total_log_prob(part.terms))
                + math.log((part.last - part.first) / total)
                for part in self.components
            ]
            self._log_prob = torch.logsumexp(torch.stack(torch.broadcast_tensors(*parts)), 0)
        return self._log_prob

    def local_log_prob(self) -> Tensor:
        """The same: a mixture does not fall into parts."""
        return self.log_prob()

    def weighted(self, coefficient: Tensor | None, score: Tensor | None = None) -> Tensor:
        """A scalar with the gradient of the sum of coefficient times log-density."""
        assert coefficient is not None and score is None
        return (coefficient * self.log_prob()).sum()


@dataclass(frozen=True)
class Particles:
    r"""M particles of every datapoint, with the log-probabilities that weight them.

    Arguments:
        observed: terms of log P(y | h), factors included.
        latent: terms of log P(h | x).
        proposal: terms of log R(h | y, x), or None when the proposal is the prior. A term that
            the prior proposed is one of ``latent``, the same object.
        scale: the factor outside the logarithm.
        num_particles: M.
        batch_shape: sizes of a datapoint's plates.
        components: the guides that drew the particles: one, unless they are a mixture.
        redraw: draws particles again, the latent sites that it is given at given values: M of
            them unless ``count`` is given, treated as before unless ``strategy`` is given.
        subsamples: size and indices of the plates that drew a minibatch, by the plate's name.
        layout: of the plates and scales.
    """

    observed: Sequence[Term]
    latent: Sequence[Term]
    proposal: Sequence[Term] | None
    scale: Any
    num_particles: int
    batch_shape: tuple[int, ...] = ()
    components: Sequence[Component] = ()
    redraw: Callable[..., "Particles"] | None = None
    subsamples: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    layout: Layout | None = None

    @property
    def is_prior(self) -> bool:
        """Whether the particles were proposed by the model itself."""
        return self.proposal is None

    @property
    def proposed_by_prior(self) -> Sequence[Term]:
        """The latent terms that the prior proposed, which cancel from the weights."""
        if self.proposal is None:
            return self.latent
        proposed = {id(term) for term in self.proposal}
        return [term for term in self.latent if id(term) in proposed]

    def signed_terms(self) -> list[tuple[Term, int]]:
        """The terms of a log-weight with their signs, without those that cancel."""
        both = {id(term) for term in self.proposed_by_prior}
        signed = [(term, 1) for term in (*self.observed, *self.latent) if id(term) not in both]
        return signed + [(term, -1) for term in self.proposal or () if id(term) not in both]

    def log_weight(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph (eq. 27)."""
        if not self.observed and self.proposal is None:
            raise ValueError(
                "the model has no observed site, so no weight can be computed; pass the "
                "observations to the model, or condition it with poutine.condition"
            )
        total: Any = None
        for term, sign in self.signed_terms():
            part = term.log_prob() if sign > 0 else -term.log_prob()
            total = part if total is None else total + part
        return broadcast_weight(
            0.0 if total is None else total, self.num_particles, self.batch_shape
        )

    def local_log_weight(self, plates: dict[int, str]) -> Tensor:
        """The part of a log-weight that can depend on a latent in these plates.

        Elements of a plate are independent of each other given what stands outside it, so that
        the terms of its other elements are left out.

        Arguments:
            plates: names of a term's own plates, by batch dimension.

        Returns:
            ``(M, *batch)`` with the sizes of these plates.
        """
        total: Any = 0.0
        for term, sign in self.signed_terms():
            log_prob = term.local_log_prob()
            others = [dim for dim, name in term.plates.items() if plates.get(dim) != name]
            others = [dim for dim in others if log_prob.dim() >= -dim]
            part = log_prob.sum(others, keepdim=True) if others else log_prob
            total = total + sign * part
        total = torch.as_tensor(total)
        dims = 1 + len(self.batch_shape)
        total = total.reshape((1,) * (dims - total.dim()) + total.shape)
        return total.expand(self.num_particles, *total.shape[1:])


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
    check: PairCheck = check_pair,
) -> Particles:
    """Runs model and guide for M particles, all at once or one after the other.

    Arguments:
        model: a Pyro model.
        guide: a Pyro guide, or what ``sfnn_pyro.particles.proposals`` knows to be more.
        args: positional arguments of both.
        kwargs: keyword arguments of both.
        num_particles: M.
        plate_nesting: how many nested plates model and guide have; particles lie outside.
        strategy: treatment of the sample sites of model and guide.
        vectorize: one run under a plate of M particles, or M runs.
        check: called with the traces of model and guide before anything is computed, while
            Pyro's validation is on.

    Returns:
        The particles, nothing yet computed from them.

    Raises:
        ValueError: a site, a plate or a pair of model and guide is one that no right weight can
            be computed of; the message names it.
    """
    checked = check if is_validation_enabled() else None
    draw = _Draw(model, guide, args, kwargs, plate_nesting, strategy, checked)
    counts = [num_particles]
    if isinstance(guide, MixtureOf):
        counts = list(guide.counts(num_particles))
    if vectorize:
        runs = [draw.run_all(num_particles, counts)]
    else:
        owners = [number for number, count in enumerate(counts) for _ in range(count)]
        runs = [draw.run_all(None, [int(k == own) for k in range(len(counts))]) for own in owners]
    particles = _assembled(runs, counts, plate_nesting, vectorized=vectorize)

    def redraw(
        fixed: dict[str, Tensor],
        *,
        count: int = num_particles,
        strategy: Strategy = strategy,
    ) -> Particles:
        with SameMinibatch(dict(draw.subsamples), strict=True), Fixed(fixed):
            return draw_particles(
                model,
                guide,
                args,
                kwargs,
                num_particles=count,
                plate_nesting=plate_nesting,
                strategy=strategy,
                check=check,
            )

    return replace(particles, redraw=redraw, subsamples=draw.subsamples)


@dataclass(frozen=True)
class _Run:
    """Traces of one run: of the model, and of each guide (the model's own for the prior)."""

    kind: str
    model: Trace
    guides: list[Trace]
    partial: list[bool]

    @cached_property
    def model_sites(self) -> list[Any]:
        """The sites of the model's density."""
        return sample_sites(self.model)

    @cached_property
    def guide_sites(self) -> list[list[Any]]:
        """The sites of each guide's density, less what the model's own prior proposed."""
        return [[] if trace is self.model else sample_sites(trace) for trace in self.guides]


@dataclass
class _Draw:
    """Runs of a model and its proposals that see the same minibatch."""

    model: Program
    guide: Program
    args: tuple
    kwargs: dict
    nesting: int
    strategy: Strategy
    check: PairCheck | None
    subsamples: dict[str, tuple[int, Tensor]] = field(default_factory=dict)

    def trace(
        self,
        program: Program,
        count: int | None,
        values: dict[str, Tensor],
        own: dict[str, tuple[int, Tensor]],
    ) -> Trace:
        """One run, its subsampled plates as in this particle's other runs, or the step's."""
        handlers: list[Any] = []
        if own is not self.subsamples and self.subsamples:
            handlers.append(SameMinibatch(self.subsamples, strict=False))
        if own:
            handlers.append(SameMinibatch(own, strict=True))
        if values:
            handlers.append(Fixed(values))
        with ExitStack() as stack:
            for handler in handlers:
                stack.enter_context(handler)
            trace = run_program(
                program,
                self.args,
                self.kwargs,
                num_particles=count,
                plate_nesting=self.nesting,
                strategy=self.strategy,
            )
        for site in trace.nodes.values():
            note_minibatch(site, own)
            note_minibatch(site, self.subsamples)
        return trace

    def run_all(self, count: int | None, counts: list[int]) -> _Run:
        """Particles of one run: ``count`` under a plate, or one without (None)."""
        model, guide = self.model, self.guide
        # Particles that are run one after the other may have plates of other sizes.
        own = self.subsamples if count is not None else {}
        kind = proposal_kind(guide, model)
        parts: Sequence[Program] = [guide]
        if kind == "prior":
            model_trace = self.trace(model, count, {}, own)
            guides = [model_trace]
        elif kind == "guide":
            guides = [self.trace(guide, count, {}, own)]
            model_trace = self.trace(model, count, _latents(guides[0]), own)
        else:
            assert isinstance(guide, MixtureOf)
            parts = guide.components
            values = self.mixed(parts, counts, own, vectorized=count is not None)
            model_trace = self.trace(model, count, values, own)
            guides = [
                model_trace
                if proposal_kind(part, model) == "prior"
                else _scored(self.trace(part, count, values, own), values)
                for part in parts
            ]
        for trace in guides:
            if trace is not model_trace:
                forget_observations(trace, model_trace)
        partial = [is_partial(part, model) for part in parts]
        if self.check is not None:
            learned: list[tuple[Trace | None, bool, Any]] = [
                (trace, rest, partial_call(run_auxiliary, part, self.args, self.kwargs))
                for part, trace, rest in zip(parts, guides, partial, strict=True)
                if trace is not model_trace
            ]
            for trace, rest, again in learned or [(None, False, lambda: model_trace)]:
                self.check(model_trace, trace, rest, again)
        nesting = self.nesting + (count is not None)
        for trace in {id(one): one for one in (model_trace, *guides)}.values():
            check_shapes(trace, nesting)
        return _Run(kind, model_trace, guides, partial)

    def mixed(
        self,
        parts: Sequence[Program],
        counts: list[int],
        own: dict[str, tuple[int, Tensor]],
        *,
        vectorized: bool,
    ) -> dict[str, Tensor]:
        """The latents' values, each component's share drawn by itself, one after the other."""
        drawn = []
        for part, size in zip(parts, counts, strict=True):
            if not size:
                continue
            count = size if vectorized else None
            values = _latents(self.trace(part, count, {}, own))
            if is_partial(part, self.model):
                values = _latents(self.trace(self.model, count, values, own))
            drawn.append(values)
        names = [name for name in drawn[0] if all(name in values for values in drawn)]
        for name, value in ((name, values[name]) for values in drawn for name in names):
            refuse_quantized(name, value, "a mixture of proposals joins it with others")
        if not vectorized:
            return {name: drawn[0][name] for name in names}
        return {name: torch.cat([values[name] for values in drawn]) for name in names}


def _scored(trace: Trace, values: dict[str, Tensor]) -> Trace:
    """A component's trace at every particle's values, if it can be scored at them."""
    for site in sample_sites(trace):
        if site["is_observed"]:
            continue
        if site["name"] not in values:
            raise ValueError(
                f"site '{site['name']}': a guide with a latent of its own, as an autoguide has, "
                "cannot be scored at the particles of another, which have no value for it; use it "
                "alone, or a guide that samples the model's latents directly"
            )
        refuse_delta(site, "the particles of another guide")
    return trace


def refuse_quantized(name: str, value: Tensor, why: str) -> None:
    """Refuses a hard value whose soft one, which its density is of, is an attribute of it."""
    if hasattr(value, "_unquantize"):
        raise ValueError(
            f"site '{name}': a straight-through sample of Pyro carries its soft value as an "
            f"attribute, which is lost where {why}"
        )


def refuse_delta(site: Any, where: str) -> None:
    """Refuses to score a point mass at a value that something else drew."""
    if is_point(site["fn"]):
        raise ValueError(
            f"site '{site['name']}': a Delta has no density at {where}; use a guide that draws "
            "this latent from a distribution"
        )


def _assembled(
    runs: Sequence[_Run], counts: Sequence[int], nesting: int, *, vectorized: bool
) -> Particles:
    """The terms of all runs under one layout, joined if there is one run for each particle."""
    layout = Layout.of(
        [site for run in runs for group in (run.model_sites, *run.guide_sites) for site in group],
        nesting,
    )

    def terms(groups: Sequence[Sequence[Any]]) -> list[Term]:
        if vectorized:
            return [layout.term(site) for site in groups[0]]
        names = list(dict.fromkeys(site["name"] for group in groups for site in group))
        return [
            JoinedTerm(
                [[layout.term(s) for s in group if s["name"] == name] for group in groups], nesting
            )
            for name in names
        ]

    observed = terms([[s for s in run.model_sites if not is_drawn(s)] for run in runs])
    latent_sites = [[s for s in run.model_sites if is_drawn(s)] for run in runs]
    latent = terms(latent_sites)
    by_name = dict(
        zip(dict.fromkeys(s["name"] for group in latent_sites for s in group), latent, strict=True)
    )
    components, first = [], 0
    for number, size in enumerate(counts):
        groups = [run.guide_sites[number] for run in runs]
        is_prior = runs[0].guides[number] is runs[0].model
        own: Sequence[Term] = latent if is_prior else terms(groups)
        if runs[0].partial[number]:
            named = {site["name"] for group in groups for site in group}
            own = [*own, *(term for name, term in by_name.items() if name not in named)]
        components.append(Component(own, first, first + size, is_prior))
        first += size
    kind = runs[0].kind
    proposal: Sequence[Term] | None = components[0].terms
    if kind != "guide":
        proposal = None if kind == "prior" else [MixtureTerm(components)]
    return Particles(
        observed=observed,
        latent=latent,
        proposal=proposal,
        scale=layout.scale,
        num_particles=first,
        batch_shape=layout.batch_shape,
        components=components,
        layout=layout,
    )


def _latents(trace: Trace) -> dict[str, Tensor]:
    return {site["name"]: site["value"] for site in sample_sites(trace) if not site["is_observed"]}
