"""Sample sites of a trace as terms of a log-weight ``(M, *batch)``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor

from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.distributions.wrapped import base_of, is_masked, law_of, masks_of


class Term(Protocol):
    """A part of a log-weight: something with a log-probability ``(M, *batch)``."""

    @property
    def plates(self) -> dict[int, str]:
        """Names, by batch dimension, of the plates that it keeps beside those of a datapoint."""

    @property
    def drawn(self) -> bool:
        """Whether it is the density of a value that was drawn, not observed, nor a factor."""

    @property
    def has_path(self) -> bool:
        """Whether the value carries a gradient, so that no score is due."""

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""

    def local_log_prob(self) -> Tensor:
        """The same before its own plates are summed: ``(M, *batch)`` with their sizes."""

    def weighted(self, coefficient: Tensor | None, score: Tensor | None = None) -> Tensor:
        """A scalar with the gradient of a weighted sum of log-probabilities.

        Arguments:
            coefficient: ``(M, *batch)``, of the log-probability as it stands in the weight.
            score: ``(M, *batch)`` or with the term's plates, of the law that the value was drawn
                from, which knows no scale and no mask.
        """


def total_log_prob(terms: Sequence[Term]) -> Any:
    """Sum of the terms' log-probabilities, ``(M, *batch)`` in nats; 0.0 of no terms."""
    total: Any = 0.0
    for term in terms:
        total = total + term.log_prob()
    return total


def _weighted_sum(coefficient: Tensor, log_prob: Tensor) -> Tensor:
    # Where y is impossible the coefficient is zero, and 0 * -inf would be NaN.
    return (coefficient * log_prob.masked_fill(log_prob == -torch.inf, 0.0)).sum()


def _summed(log_prob: Tensor, dims: Sequence[int]) -> Tensor:
    own = [dim for dim in dims if log_prob.dim() >= -dim]
    return log_prob.sum(own, keepdim=True) if own else log_prob


@dataclass
class SiteTerm:
    """The log-probability of one site, reduced to one number per particle and datapoint.

    Dimensions of plates that not every site shares are summed and kept as ones, so that every
    term broadcasts against every weight.

    Arguments:
        name: of the site.
        fn: its distribution.
        value: its value.
        scale: the factor that stays inside the logarithm.
        mask: of the site, or None.
        sum_dims: batch dimensions that do not belong to a datapoint.
        drawn: whether the value was drawn.
        plates: names of the summed plates that it lies in, by batch dimension.
        dims: how many batch dimensions a log-weight has; further ones are of size 1.
    """

    name: str
    fn: Any
    value: Tensor
    scale: Any
    mask: Any
    sum_dims: tuple[int, ...]
    drawn: bool = True
    plates: dict[int, str] = field(default_factory=dict)
    dims: int | None = None
    _law: Tensor | None = field(default=None, repr=False)
    _local: Tensor | None = field(default=None, repr=False)
    _log_prob: Tensor | None = field(default=None, repr=False)

    @property
    def has_path(self) -> bool:
        """Whether the value carries a gradient, so that no score is due.

        A value that could have a path and has none, though its law has parameters to learn, was
        drawn without a graph: it counts as any value that is held constant.
        """
        return bool(self.fn.has_rsample) and (self.value.requires_grad or not self.learnable)

    @property
    def learnable(self) -> bool:
        """Whether the law that the value was drawn from has a gradient."""
        if isinstance(self.fn, BernoulliUnits):
            return self.fn.logits.requires_grad
        return self.law_log_prob().requires_grad

    @property
    def logits(self) -> Tensor:
        """Of a Bernoulli site, ``(*batch, *units)``, perhaps without the particles' dimension."""
        return base_of(self.fn).logits

    def law_log_prob(self) -> Tensor:
        """Under the law that it was drawn from: no scale, no mask, no plate summed."""
        if self._law is None:
            law = _checked_log_prob(self.name, law_of(self.fn), self._harmless())
            self._law = self._fitted(law)
        return self._law

    def _fitted(self, log_prob: Tensor) -> Tensor:
        """Without dimensions of size 1 to the left of a log-weight's own."""
        extra = 0 if self.dims is None else log_prob.dim() - self.dims
        return log_prob if extra <= 0 else log_prob.reshape(log_prob.shape[extra:])

    def _harmless(self) -> Tensor:
        """The value, a draw of its law in the place of what a mask leaves out, where that is NaN.

        The log-probability of what is left out counts for nothing, and its gradient would be
        0 * NaN.
        """
        masks = masks_of(self.fn, self.mask)
        if self.drawn or not masks or self.value.isfinite().all():
            return self.value
        left_out = torch.zeros_like(self.value, dtype=torch.bool)
        for mask in masks:
            left_out = left_out | ~mask
        with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
            return torch.where(left_out, law_of(self.fn).sample(), self.value)

    def law_total(self) -> Tensor:
        """``(M, *batch)``: the same, its own plates summed."""
        return _summed(self.law_log_prob(), self.sum_dims)

    def local_log_prob(self) -> Tensor:
        """With its scale and masks, before plates are summed."""
        if self._local is None:
            masked = is_masked(self.fn)
            log_prob = (
                _checked_log_prob(self.name, self.fn, self._harmless())
                if masked
                else self.law_log_prob()
            )
            self._local = self._fitted(scale_and_mask(log_prob, self.scale, self.mask))
        return self._local

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            self._log_prob = _summed(self.local_log_prob(), self.sum_dims)
        return self._log_prob

    def weighted(self, coefficient: Tensor | None, score: Tensor | None = None) -> Tensor:
        """A scalar with the gradient of a weighted sum of log-probabilities.

        Arguments:
            coefficient: ``(M, *batch)``, constant, of the log-probability in the weight.
            score: constant, of the law that the value was drawn from.
        """
        if is_masked(self.fn):
            parts = [(coefficient, self.local_log_prob), (score, self.law_log_prob)]
            given = [_weighted_sum(c, log_prob()) for c, log_prob in parts if c is not None]
            return sum(given[1:], given[0])
        total = score
        if coefficient is not None:
            coefficient = scale_and_mask(coefficient, self.scale, self.mask)
            total = coefficient if total is None else coefficient + total
        assert total is not None
        constant = not total.requires_grad and (self.value.is_leaf or not self.value.requires_grad)
        if self._law is None and isinstance(self.fn, BernoulliUnits) and constant:
            return self.fn.score(self.value, total)
        return _weighted_sum(total, self.law_log_prob())


def _checked_log_prob(name: str, fn: Any, value: Tensor) -> Tensor:
    try:
        return fn.log_prob(value)
    except ValueError as error:
        raise ValueError(f"site '{name}': {error}") from error


class JoinedTerm:
    """One site of particles that were run one after the other, as one term.

    Arguments:
        parts: its terms at each particle; none where the particle's run did not come by.
        plate_nesting: how many batch dimensions a log-probability has.
    """

    def __init__(self, parts: Sequence[Sequence[SiteTerm]], plate_nesting: int) -> None:
        self.parts = parts
        self.plate_nesting = plate_nesting
        self._log_prob: Tensor | None = None
        self._local: Tensor | None = None

    @property
    def _every(self) -> list[Any]:
        return [term for part in self.parts for term in part]

    @property
    def plates(self) -> dict[int, str]:
        """Of the first particle that has the site, if all have the same sizes."""
        return self._every[0].plates if self._alike else {}

    @property
    def drawn(self) -> bool:
        """Whether it is the density of a value that was drawn."""
        return self._every[0].drawn

    @property
    def has_path(self) -> bool:
        """Whether the values carry a gradient."""
        return any(term.has_path for term in self._every)

    @property
    def _alike(self) -> bool:
        shapes = {term.local_log_prob().shape for term in self._every}
        return len(shapes) == 1 and all(self.parts)

    def _joined(self, rows: Sequence[Any]) -> Tensor:
        nesting = self.plate_nesting
        like = next(row for row in rows if torch.is_tensor(row))
        tensors = [torch.as_tensor(row, dtype=like.dtype, device=like.device) for row in rows]
        padded = [t.reshape((1,) * (nesting - t.dim()) + t.shape) for t in tensors]
        return torch.stack(torch.broadcast_tensors(*padded))

    def log_prob(self) -> Tensor:
        """``(M, *batch)`` in nats, attached to the graph, computed once."""
        if self._log_prob is None:
            self._log_prob = self._joined([total_log_prob(part) for part in self.parts])
        return self._log_prob

    def local_log_prob(self) -> Tensor:
        """The same before plates are summed, where every particle has the same."""
        if self._local is None:
            if not self._alike:
                return self.log_prob()
            self._local = self._joined([part[0].local_log_prob() for part in self.parts])
        return self._local

    def weighted(self, coefficient: Tensor | None, score: Tensor | None = None) -> Tensor:
        """A scalar with the gradient of a weighted sum of log-probabilities."""
        given = []
        if coefficient is not None:
            given.append(_weighted_sum(coefficient, self.log_prob()))
        if score is not None:
            laws = [
                sum(term.law_log_prob() if self._alike else term.law_total() for term in part)
                for part in self.parts
            ]
            given.append(_weighted_sum(score, self._joined(laws)))
        return sum(given[1:], given[0])


def sample_sites(trace: Trace) -> list[Any]:
    """The sample sites of a trace that carry a log-probability, in order.

    The indices of a subsampled plate and what ``pyro.deterministic`` records carry none.
    """
    return [site for site in trace.nodes.values() if carries_log_prob(site)]


def carries_log_prob(site: Any) -> bool:
    """Whether a site of a trace is part of the program's density."""
    return site["type"] == "sample" and not (is_recorded(site) or site_is_subsample(site))


def is_recorded(site: Any) -> bool:
    """Whether a site is what ``pyro.deterministic`` leaves in a trace."""
    return site["type"] == "sample" and bool(site["infer"].get("_deterministic"))


def scorable(site: Any) -> Tensor:
    """A site's value as its law can score it: a tensor, of floating point where it is binary.

    PyTorch's Bernoulli takes no whole numbers, and most discrete laws no booleans.

    Raises:
        ValueError: the value is nothing that a tensor can be made of; the message names the site.
    """
    value = site["value"]
    if not torch.is_tensor(value):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"site '{site['name']}': its value is a {type(value).__name__}: give a tensor"
            ) from None
    if value.is_floating_point():
        return value
    binary = isinstance(base_of(site["fn"]), BernoulliUnits | torch.distributions.Bernoulli)
    if binary or value.dtype is torch.bool:
        return value.to(torch.get_default_dtype())
    return value


def is_drawn(site: Any) -> bool:
    """Whether a site's value was drawn: it is neither observed nor a ``pyro.factor``."""
    return not (site["is_observed"] or site_is_factor(site))
