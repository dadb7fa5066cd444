r"""The one place where a model and its proposal are run and turned into log-weights.

.. math::
    \\log w_{mb} = \\log P(y_b | h_{mb}) + \\log P(h_{mb} | x_b) - \\log R(h_{mb} | y_b, x_b)

(eq. 27 of Raiko et al., 2015), one per particle and datapoint. With the prior as proposal the
last two terms cancel exactly: they are never computed, and the model runs once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from sfnn_pyro.sites import Layout, SiteTerm, sample_sites

PARTICLE_PLATE = "particles"

Strategy = Callable[[Any], Any]
"""A ``poutine.reparam`` configuration: the treatment of a sample site, or None."""


@dataclass(frozen=True)
class Particles:
    r"""M particles of every datapoint, with the log-probabilities that weight them.

    Arguments:
        observed: terms of log P(y | h).
        latent: terms of log P(h | x).
        proposal: terms of log R(h | y, x), or None when the proposal is the prior.
        scale: the factor outside the logarithm.
        num_particles: M.
    """

    observed: Sequence[SiteTerm]
    latent: Sequence[SiteTerm]
    proposal: Sequence[SiteTerm] | None
    scale: Any
    num_particles: int

    @property
    def is_prior(self) -> bool:
        """Whether the particles were proposed by the model itself."""
        return self.proposal is None

    def log_weight(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph (eq. 27)."""
        total = total_log_prob(self.observed)
        if self.proposal is not None:
            total = total + total_log_prob(self.latent) - total_log_prob(self.proposal)
        if not torch.is_tensor(total):
            raise ValueError(
                "the model has no observed site, so no weight can be computed; pass the "
                "observations to the model, or condition it with poutine.condition"
            )
        return total


def total_log_prob(terms: Sequence[SiteTerm]) -> Any:
    """Sum of the terms' log-probabilities, ``(M, *batch)`` in nats; 0.0 of no terms."""
    total: Any = 0.0
    for term in terms:
        total = total + term.log_prob()
    return total


def draw_particles(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int,
    plate_nesting: int,
    strategy: Strategy,
    check: Callable[[Trace, Trace | None], None] | None = None,
) -> Particles:
    """Runs model and guide once under a vectorised plate of M particles.

    Arguments:
        model: a Pyro model.
        guide: a Pyro guide; with ``guide.prior_of is model`` the model proposes for itself.
        args: positional arguments of both.
        kwargs: keyword arguments of both.
        num_particles: M.
        plate_nesting: how many nested plates model and guide have; particles lie outside.
        strategy: treatment of the sample sites of whichever program draws the particles.
        check: called with the traces of model and guide before anything is computed.

    Returns:
        The particles, nothing yet computed from them.
    """

    def run(program: Callable[..., Any]) -> Trace:
        return trace_program(
            program,
            args,
            kwargs,
            num_particles=num_particles,
            plate_nesting=plate_nesting,
            strategy=strategy,
        )

    if getattr(guide, "prior_of", None) is model:
        model_trace, guide_trace = run(model), None
    else:
        guide_trace = run(guide)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = run(replayed)
    if check is not None:
        check(model_trace, guide_trace)
    sites = sample_sites(model_trace)
    guide_sites = [] if guide_trace is None else sample_sites(guide_trace)
    layout = Layout.of(sites + guide_sites, plate_nesting, PARTICLE_PLATE)
    return Particles(
        observed=[layout.term(site) for site in sites if site["is_observed"]],
        latent=[layout.term(site) for site in sites if not site["is_observed"]],
        proposal=None if guide_trace is None else [layout.term(site) for site in guide_sites],
        scale=layout.scale,
        num_particles=num_particles,
    )


def trace_program(
    program: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int,
    plate_nesting: int,
    strategy: Strategy = lambda site: None,
) -> Trace:
    """Runs a program under a vectorised plate of particles and returns its trace."""
    plate = pyro.plate(PARTICLE_PLATE, num_particles, dim=-1 - plate_nesting)
    # The strategy lies inside the plate: it sees logits before they are expanded.
    with poutine.trace() as tracer, plate, poutine.reparam(config=strategy):
        program(*args, **kwargs)
    return tracer.trace


def guess_plate_nesting(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> int:
    """How many vectorised plates are nested in model and guide, found by running them once.

    The random state is left as it was.
    """
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), poutine.block(), torch.no_grad():
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(
            *args, **kwargs
        )
    dims = [
        frame.dim
        for trace in (model_trace, guide_trace)
        for site in sample_sites(trace)
        for frame in site["cond_indep_stack"]
        if frame.vectorized
    ]
    return -min(dims, default=0)
