"""Exact log-likelihoods of small models, by enumeration of every hidden configuration."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from sfnn_pyro.distributions.limits import exact_log_sum
from sfnn_pyro.distributions.wrapped import base_of
from sfnn_pyro.particles import (
    Fixed,
    Layout,
    SameMinibatch,
    guess_plate_nesting,
    sample_sites,
    total_log_prob,
    trace_program,
)
from sfnn_pyro.particles.layout import broadcast_weight
from sfnn_pyro.particles.terms import is_drawn
from sfnn_pyro.reparam import exact_units


def exact_log_likelihood(
    model: Callable[..., Any], *args: Any, max_states: int = 2**20, chunk: int = 4096, **kwargs: Any
) -> Tensor:
    r"""The log-likelihood of every datapoint by enumeration, in nats and differentiable.

    .. math:: C = \log \sum_h P(y | h) P(h | x)

    The reference for every estimate of this package. Takes any model whose latents have finite
    support; the number of configurations grows exponentially with the units of a datapoint.

    References:
        Raiko et al., ICLR 2015, eq. 4.

    Arguments:
        model: a Pyro model with observed sites.
        args: its arguments.
        max_states: refuse more configurations than this.
        chunk: configurations at a time; bounds memory.
        kwargs: its keyword arguments.

    Returns:
        One number per datapoint, ``(B,)``; a scalar if a latent lies outside the data plate.

    Raises:
        ValueError: a latent site cannot be enumerated, or there are too many configurations.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> x, y = torch.zeros(4, 1), torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        >>> round(exact_log_likelihood(SFNN([1, 3, 2]), x, y).exp().sum().item(), 5)
        1.0
    """
    parts = [
        (exact_log_sum(observed + latent), layout)
        for observed, latent, layout in _tables(model, args, kwargs, max_states, chunk)
    ]
    return _per_datapoint(exact_log_sum(torch.stack([part for part, _ in parts])), parts[0][1])


def exact_objective(
    model: Callable[..., Any],
    *args: Any,
    num_particles: int,
    max_tuples: int = 2**21,
    chunk: int = 2**16,
    **kwargs: Any,
) -> Tensor:
    r"""The expected objective of every datapoint, with the prior as proposal.

    .. math:: E[\hat C_M] = \sum_{h_1 \ldots h_M} \prod_m P(h_m | x)
        \log \frac1M \sum_m P(y | h_m)

    By enumeration of every tuple of M configurations, in nats and differentiable: what ``G1`` and
    ``VIMCO`` have the gradient of.

    References:
        Raiko et al., ICLR 2015, eqs. 6 and 7.

    Arguments:
        model: a Pyro model with observed sites.
        args: its arguments.
        num_particles: M.
        max_tuples: refuse more tuples than this.
        chunk: tuples at a time; bounds memory when no gradient is taken.
        kwargs: its keyword arguments.

    Returns:
        One number per datapoint, ``(B,)``.

    Raises:
        ValueError: a latent site cannot be enumerated, or there are too many tuples.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> model, x, y = SFNN([1, 2, 2]), torch.zeros(1, 1), torch.ones(1, 2)
        >>> bound = exact_objective(model, x, y, num_particles=3)
        >>> bool(bound < exact_log_likelihood(model, x, y))
        True
    """
    tables = list(_tables(model, args, kwargs, max_tuples, 4096))
    observed = torch.cat([part[0] for part in tables])
    latent = torch.cat([part[1] for part in tables])
    layout = tables[0][2]
    states = len(observed)
    if states**num_particles > max_tuples:
        raise ValueError(
            f"{states}**{num_particles} tuples of hidden configurations are more than "
            f"max_tuples={max_tuples}; use fewer particles or a smaller model"
        )
    total = torch.zeros_like(observed[0])
    for start in range(0, states**num_particles, chunk):
        index = torch.arange(start, min(start + chunk, states**num_particles))
        tuples = _digits(index, [states] * num_particles)  # (T, M)
        objective = exact_log_sum(observed[tuples].transpose(0, 1)) - math.log(num_particles)
        probability = latent[tuples].sum(1).exp()
        never = probability == 0  # then an objective of minus infinity counts for nothing
        total = total + (probability * objective.masked_fill(never, 0.0)).sum(0)
    return _per_datapoint(total, layout)


def _per_datapoint(total: Tensor, layout: Layout) -> Tensor:
    """Without the dimensions that belong to no plate of datapoints."""
    return total.reshape([total.shape[dim] for dim in sorted(layout.names)])


def _tables(
    model: Callable, args: tuple, kwargs: dict, max_states: int, chunk: int
) -> Iterator[tuple[Tensor, Tensor, Layout]]:
    """Log P(y | h) and log P(h | x) of every configuration, ``(S, *batch)`` in chunks.

    P(h | x) is the law that the latents are drawn from, as in the estimates by particles: a scale
    or a mask of a latent site changes nothing, and each sums to one over its states.
    """
    nesting = guess_plate_nesting(model, model, args, kwargs)
    minibatch: dict[str, tuple[int, Tensor]] = {}
    with SameMinibatch(minibatch, strict=True):
        trace = _traced(model, args, kwargs, 1, nesting)
    sites = sample_sites(trace)
    layout = Layout.of(sites, nesting)
    latents = [_Enumerated(site, layout.sum_dims) for site in sites if is_drawn(site)]
    radices = [radix for latent in latents for radix in latent.radices]
    states = math.prod(radices)
    if states > max_states:
        raise ValueError(
            f"{states} hidden configurations are more than max_states={max_states}; "
            "use log_likelihood, which samples them"
        )
    for start in range(0, states, chunk):
        index = torch.arange(start, min(start + chunk, states))
        digits = _digits(index, radices)
        values = {}
        for latent in latents:
            own, digits = digits[:, : len(latent.radices)], digits[:, len(latent.radices) :]
            values[latent.name] = latent.value(own)
        with SameMinibatch(minibatch, strict=True), Fixed(values):
            trace = _traced(model, args, kwargs, len(index), nesting)
        sites = sample_sites(trace)
        for latent in latents:
            latent.check(trace)
        if {site["name"] for site in sites if is_drawn(site)} != set(values):
            raise ValueError("the model has other latent sites in some of its configurations")
        layout = Layout.of(sites, nesting)
        observed = total_log_prob([layout.term(site) for site in sites if not is_drawn(site)])
        laws = [layout.term(site).law_total() for site in sites if is_drawn(site)]
        shape = layout.batch_shape
        yield (
            broadcast_weight(observed, len(index), shape),
            broadcast_weight(sum(laws, torch.zeros(())), len(index), shape),
            layout,
        )


def _traced(model: Callable, args: tuple, kwargs: dict, count: int, nesting: int) -> Trace:
    return trace_program(
        model, args, kwargs, num_particles=count, plate_nesting=nesting, strategy=exact_units
    )


def _digits(index: Tensor, radices: list[int]) -> Tensor:
    """``(S, E)``: the index written in mixed radix."""
    digits = []
    for radix in reversed(radices):
        digits.append(index % radix)
        index = index // radix
    return torch.stack(digits[::-1], 1) if digits else index.new_zeros(len(index), 0)


class _Enumerated:
    """A latent site's values, indexed by the digits of a datapoint's configuration."""

    def __init__(self, site: Any, sum_dims: tuple[int, ...]) -> None:
        self.name = site["name"]
        fn, base = site["fn"], base_of(site["fn"])
        self.support = self._support(base)
        inner = len(base.batch_shape) - len(fn.batch_shape)
        own = {dim - inner for dim in sum_dims} | set(range(-inner, 0))
        self.batch_shape = base.batch_shape
        self.own_shape = [
            size if position - len(base.batch_shape) in own else 1
            for position, size in enumerate(base.batch_shape)
        ]
        self.radices = [len(self.support)] * math.prod(self.own_shape)

    def value(self, digits: Tensor) -> Tensor:
        """``(S, *batch, *event)`` of the digits ``(S, E)``."""
        picked = self.support[digits]
        event = picked.shape[2:]
        picked = picked.reshape(len(digits), *self.own_shape[1:], *event)
        return picked.expand(len(digits), *self.batch_shape[1:], *event)

    def check(self, trace: Trace) -> None:
        """Refuses a support that is another one in some configurations."""
        support = self._support(base_of(trace.nodes[self.name]["fn"]))
        if support.shape != self.support.shape or not support.equal(self.support):
            raise self._depends()

    def _support(self, base: Any) -> Tensor:
        """``(K, *event)``: the support of one element of a distribution."""
        if not getattr(base, "has_enumerate_support", False):
            raise ValueError(
                f"site '{self.name}': a {type(base).__name__} cannot be enumerated; "
                "use log_likelihood, which samples it"
            )
        try:
            support = base.enumerate_support(expand=False)
        except NotImplementedError:  # the count differs from element to element
            raise self._depends() from None
        return support.reshape(support.shape[0], *base.event_shape)

    def _depends(self) -> ValueError:
        return ValueError(
            f"site '{self.name}': its support is not the same for every datapoint and "
            "configuration, so that its values cannot be enumerated; use log_likelihood, which "
            "samples it"
        )
