"""Drawn units as leaves of a graph: what a log-weight would gain by a change of each."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine.messenger import Messenger
from torch import Tensor

from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.particles import Particles, SiteTerm
from sfnn_pyro.particles.weights import finite
from sfnn_pyro.reparam import is_bernoulli


class Leaves(Messenger):
    """Makes the values of Bernoulli latents leaves that a gradient can be taken of.

    They stay constant to the parameters: a leaf has no path to the logits it was drawn from.
    """

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or not torch.is_grad_enabled() or not is_bernoulli(msg["fn"]):
            return
        if torch.is_tensor(msg["value"]) and not msg["value"].requires_grad:
            msg["value"] = msg["value"].detach().requires_grad_()


def drawn_units(particles: Particles) -> list[SiteTerm]:
    """The Bernoulli latents of the one guide that drew the particles, in their order."""
    (component,) = particles.components
    terms = (term for term in component.terms if isinstance(term, SiteTerm))
    return [term for term in terms if term.drawn and is_bernoulli(term.fn) and not term.has_path]


def units_over(value: Tensor, term: SiteTerm) -> Tensor:
    """A number of each datapoint ``(M, *batch)`` with ones for the dimensions of an event."""
    return value.reshape(value.shape + (1,) * term.fn.event_dim)


def datapoint_sum(units: Tensor, term: SiteTerm) -> Tensor:
    """``(M, *batch)``: numbers of units, summed over all that one datapoint has."""
    events = tuple(range(-term.fn.event_dim, 0))
    total = units.sum(events) if events else units
    own = [dim for dim in term.sum_dims if total.dim() >= -dim]
    return total.sum(own, keepdim=True) if own else total


def unit_numbers(term: SiteTerm) -> Tensor:
    """The number of each unit of a datapoint, broadcastable to ``(M, *batch, *units)``."""
    value = term.value
    batch = value.dim() - term.fn.event_dim
    inner = {batch + dim for dim in term.sum_dims}
    shape = [size if dim in inner or dim >= batch else 1 for dim, size in enumerate(value.shape)]
    return torch.arange(math.prod(shape), device=value.device).reshape(shape)


def deviation(term: SiteTerm) -> Tensor:
    """H - sigma(a), constant, ``(M, *batch, *units)``."""
    return term.value.detach() - torch.sigmoid(term.logits.detach())


def slope_of(term: SiteTerm) -> Tensor:
    """The slope of the sigmoid, constant, in the shape of the logits."""
    p = torch.sigmoid(term.logits.detach())
    return p * (1 - p)


def value_gradients(terms: Sequence[SiteTerm], log_weight: Tensor) -> dict[str, Tensor]:
    r"""The derivative of the log-weights by each drawn unit, by site: ``(M, *batch, *units)``.

    .. math::
        v^l = \partial \log w / \partial h^l
            + \sum_{l' > l} (\partial a^{l'} / \partial h^l)^\top
                [\sigma'(a^{l'}) \circ v^{l'}]

    Later units follow by the slope of their mean, as in ``G3``. Zero where nothing is known.

    Arguments:
        terms: of units whose values are ``Leaves``, in the order in which they were drawn.
        log_weight: ``(M, *batch)``, attached.
    """
    outputs, pulls = [log_weight], [torch.ones_like(log_weight)]
    found: dict[str, Tensor] = {}
    for term in reversed(terms):
        attached = [number for number, one in enumerate(outputs) if one.requires_grad]
        gradient = None
        if attached and term.value.requires_grad:
            (gradient,) = torch.autograd.grad(
                [outputs[number] for number in attached],
                term.value,
                [pulls[number] for number in attached],
                retain_graph=True,
                allow_unused=True,
            )
        # Where no particle can have produced y the derivative is not a number.
        v = torch.zeros_like(term.value) if gradient is None else finite(gradient)
        found[term.name] = v.detach()
        outputs.append(term.logits)
        pulls.append((slope_of(term) * found[term.name]).sum_to_size(term.logits.shape))
    return found


class MeanUnits(BernoulliUnits):
    """Bernoulli units that take their mean for a draw."""

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.probs.to(self.logits.dtype).expand(shape).clone()


class MeanUnitsReparam(Reparam):
    """Takes the mean of a Bernoulli site for its draw, held constant."""

    def apply(self, msg: Any) -> Any:
        fn = MeanUnits.in_place_of(msg["fn"])
        return {"fn": fn, "value": msg["value"], "is_observed": msg["is_observed"]}
