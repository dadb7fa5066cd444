"""Sample sites of a trace as terms of a log-weight ``(M, *batch)``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from sfnn_pyro.reparam import bernoulli_logits
from sfnn_pyro.units import BernoulliUnits


class Term(Protocol):
    """A part of a log-weight: something with a log-probability ``(M, *batch)``."""

    @property
    def has_path(self) -> bool:
        """Whether samples carry a gradient, so that no score is due."""

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""

    def weighted(self, coefficient: Tensor) -> Tensor:
        """A scalar with the gradient of the sum of coefficient times log-probability."""


def total_log_prob(terms: Sequence[Term]) -> Any:
    """Sum of the terms' log-probabilities, ``(M, *batch)`` in nats; 0.0 of no terms."""
    total: Any = 0.0
    for term in terms:
        total = total + term.log_prob()
    return total


def _weighted_sum(coefficient: Tensor, log_prob: Tensor) -> Tensor:
    # Where y is impossible the coefficient is zero, and 0 * -inf would be NaN.
    return (coefficient * log_prob.masked_fill(log_prob == -torch.inf, 0.0)).sum()


@dataclass
class SiteTerm:
    """The log-probability of one site, reduced to one number per particle and datapoint.

    Dimensions of plates that not every site shares are summed and kept as ones, so that every
    term broadcasts against every weight.
    """

    name: str
    fn: Any
    value: Tensor
    scale: Any
    mask: Any
    sum_dims: tuple[int, ...]
    _log_prob: Tensor | None = field(default=None, repr=False)

    @property
    def has_path(self) -> bool:
        """Whether samples carry a gradient, so that no score is due."""
        return bool(self.fn.has_rsample)

    @property
    def logits(self) -> Tensor:
        """Of a Bernoulli site, ``(*batch, *units)``, perhaps without the particles' dimension."""
        return bernoulli_logits(self.fn)

    def scaled(self, factor: Any) -> Tensor:
        """The factor times this site's own scale, zero where it is masked; ``(*batch)``."""
        return scale_and_mask(torch.as_tensor(factor).to(self.value), self.scale, self.mask)

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            log_prob = scale_and_mask(self.fn.log_prob(self.value), self.scale, self.mask)
            dims = [dim for dim in self.sum_dims if log_prob.dim() >= -dim]
            self._log_prob = log_prob.sum(dims, keepdim=True) if dims else log_prob
        return self._log_prob

    def weighted(self, coefficient: Tensor) -> Tensor:
        """A scalar with the gradient of the sum of coefficient times log-probability.

        Arguments:
            coefficient: ``(M, *batch)``, constant.
        """
        if self._log_prob is None and isinstance(self.fn, BernoulliUnits):
            return self.fn.score(self.value, scale_and_mask(coefficient, self.scale, self.mask))
        return _weighted_sum(coefficient, self.log_prob())


class JoinedTerm:
    """Terms of particles that were run one after the other, as one term.

    Arguments:
        parts: the terms of each particle.
        plate_nesting: how many batch dimensions a log-probability has.
        has_path: whether samples carry a gradient.
    """

    def __init__(self, parts: Sequence[Sequence[Term]], plate_nesting: int, has_path: bool) -> None:
        self.parts = parts
        self.plate_nesting = plate_nesting
        self.has_path = has_path
        self._log_prob: Tensor | None = None

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            rows = [torch.as_tensor(total_log_prob(part)) for part in self.parts]
            padded = [
                row.reshape((1,) * (self.plate_nesting - row.dim()) + row.shape) for row in rows
            ]
            self._log_prob = torch.stack(torch.broadcast_tensors(*padded))
        return self._log_prob

    def weighted(self, coefficient: Tensor) -> Tensor:
        """A scalar with the gradient of the sum of coefficient times log-probability."""
        return _weighted_sum(coefficient, self.log_prob())


@dataclass(frozen=True)
class Layout:
    """What the plates of a model say about its weights.

    Arguments:
        scale: the factor that every site carries (minibatch subsampling, an enclosing
            ``poutine.scale``): it multiplies the objective, outside the logarithm.
        sum_dims: batch dimensions that do not belong to a datapoint.
    """

    scale: Any
    sum_dims: tuple[int, ...]
    site_scale: dict[int, Any]

    @staticmethod
    def of(sites: Iterable[Any], plate_nesting: int, particle_plate: str) -> "Layout":
        """Reads the layout from the sample sites of a model and its guide."""
        sites = list(sites)
        frames = [
            {
                frame.dim: frame
                for frame in site["cond_indep_stack"]
                if frame.vectorized and frame.name != particle_plate
            }
            for site in sites
        ]
        shared = {
            dim: frame
            for dim, frame in (frames[0].items() if frames else ())
            if all(dim in other and other[dim].name == frame.name for other in frames)
        }
        plate_scale = 1.0
        for frame in shared.values():
            plate_scale *= frame.full_size / frame.size
        sum_dims = tuple(dim for dim in range(-plate_nesting, 0) if dim not in shared)
        residuals = [site["scale"] / plate_scale for site in sites]
        if residuals and all(_same(residuals[0], other) for other in residuals):
            scale = plate_scale * residuals[0]
            if not torch.is_tensor(scale) or _fits(scale, sum_dims):
                return Layout(scale, sum_dims, {id(site): 1.0 for site in sites})
        inner = {id(site): r for site, r in zip(sites, residuals, strict=True)}
        return Layout(plate_scale, sum_dims, inner)

    def term(self, site: Any) -> SiteTerm:
        """The site as a term of the log-weight."""
        scale, mask = self.site_scale[id(site)], site["mask"]
        return SiteTerm(site["name"], site["fn"], site["value"], scale, mask, self.sum_dims)


def sample_sites(trace: Trace) -> list[Any]:
    """The sample sites of a trace that carry a log-probability, in order."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample" and not site_is_subsample(site)
    ]


def _same(a: Any, b: Any) -> bool:
    if torch.is_tensor(a) and torch.is_tensor(b):
        return torch.equal(a, b)
    if torch.is_tensor(a) or torch.is_tensor(b):
        return False
    return abs(a - b) <= 1e-12 * abs(a)


def _fits(scale: Tensor, sum_dims: tuple[int, ...]) -> bool:
    return all(scale.dim() < -dim or scale.shape[dim] == 1 for dim in sum_dims)
