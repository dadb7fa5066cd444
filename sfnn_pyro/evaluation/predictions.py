"""What a network predicts and how random its units are, averaged over particles."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.distributions.wrapped import base_of, name_of
from sfnn_pyro.particles import guess_plate_nesting, sample_sites, trace_program
from sfnn_pyro.particles.plate import is_particle_plate
from sfnn_pyro.reparam import is_bernoulli, lazy_units


@torch.no_grad()
def predictive_mean(
    model: Callable[..., Any], x: Tensor, *, num_particles: int = 100, batch_size: int = 100
) -> Tensor:
    r"""The mean of y under the mixture over particles.

    .. math:: E[y | x] \approx \frac1M \sum_m E[y | h_m], \qquad h_m \sim P(h | x)

    For class labels, whose mean means nothing, the classes' probabilities P(y | h) are averaged.

    References:
        Raiko et al., ICLR 2015, eqs. 6 and 7 and appendix A.

    Arguments:
        model: a Pyro model with the signature ``model(x)`` and a sample site ``y``.
        x: ``(N, dx)``.
        num_particles: M.
        batch_size: datapoints at a time.

    Returns:
        ``(N, *event)``, as y itself (with further plates, in their order); for a categorical site
        with a further dimension, the classes.

    Raises:
        ValueError: a count is below 1, there is no datapoint, the model has no site ``y``, or a
            unit's logits are NaN (the message names the site and the rows).

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> classes = predictive_mean(SFNN([4, 3, 5], "categorical"), torch.zeros(2, 4))
        >>> classes.shape, round(classes.sum().item(), 4)
        (torch.Size([2, 5]), 2.0)
    """
    if num_particles < 1 or batch_size < 1 or not len(x):
        raise ValueError(
            f"num_particles={num_particles}, batch_size={batch_size}, {len(x)} datapoints: all "
            "must be at least 1"
        )
    nesting = guess_plate_nesting(model, model, (x[:1],), {})

    def predicted(part: Tensor, count: int) -> tuple[Tensor, torch.Size]:
        trace = trace_program(
            model,
            (part,),
            {},
            num_particles=count,
            plate_nesting=nesting,
            strategy=lazy_units,
        )
        if "y" not in trace.nodes:
            raise ValueError("the model has no sample site 'y', of which this is the mean")
        return _averaged(trace.nodes["y"])

    means, shapes = zip(
        *(predicted(part, num_particles) for part in x.split(batch_size)), strict=True
    )
    if len(means) == 1:
        return means[0]
    return torch.cat(means, _rows(shapes[0], predicted(x[:1], 1)[1]) if len(shapes[0]) > 1 else 0)


def _averaged(site: Any) -> tuple[Tensor, torch.Size]:
    """The mean over particles of a site's mean, and the shape of its own plates.

    Where other sites have more plates, its batch has dimensions of size 1 to the left of its own.
    """
    mean, shape = _mean(site["fn"]).mean(0), site["fn"].batch_shape[1:]
    frames = [frame for frame in site["cond_indep_stack"] if not is_particle_plate(frame)]
    own = max((-frame.dim for frame in frames if frame.vectorized), default=0)
    further = 0
    while further < len(shape) - own and shape[further] == 1:
        further += 1
    return mean.reshape(mean.shape[further:]), shape[further:]


def _rows(several: torch.Size, one: torch.Size) -> int:
    """The dimension that has another size for another number of datapoints."""
    changed = [dim for dim, sizes in enumerate(zip(several, one, strict=True)) if len({*sizes}) > 1]
    return changed[0] if changed else 0


def _mean(fn: Any) -> Tensor:
    """``(M, B, ...)``: the mean of a distribution, the probabilities of a categorical one."""
    base = base_of(fn)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs.expand(*base.batch_shape, base.probs.shape[-1])
    try:
        mean = fn.mean
    except NotImplementedError:
        raise ValueError(f"site 'y': a {name_of(fn)} has no mean that Pyro can compute") from None
    return mean.expand(fn.batch_shape + fn.event_shape)


def squared_error(log_likelihood: Tensor, outputs: int) -> Tensor:
    r"""The sum of squared errors that a unit-variance Gaussian log-likelihood stands for.

    .. math:: S = -2 \log P(y|x) - d \log 2 \pi

    Of one particle this is :math:`\sum_i (y_i - \mu_i)^2`. Of M it is their soft minimum,
    :math:`-2 \log \frac1M \sum_m \exp(-S_m/2)`: what a stochastic network is trained for.

    Arguments:
        log_likelihood: in nats, any shape.
        outputs: d.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> y = torch.tensor([1.0, 2.0])
        >>> round(squared_error(Normal(0.0, 1.0).log_prob(y).sum(), outputs=2).item(), 4)
        5.0
    """
    return -2 * log_likelihood - outputs * math.log(2 * math.pi)


@torch.no_grad()
def unit_probabilities(model: Callable[..., Any], x: Tensor) -> dict[str, Tensor]:
    """P(h = 1 | layer below) of every unit at one particle of every datapoint.

    Arguments:
        model: a Pyro model with the signature ``model(x)``.
        x: ``(N, dx)``.

    Returns:
        By latent Bernoulli site other than ``y``, ``(N, n)``.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> unit_probabilities(SFNN([4, 3, 2]), torch.zeros(5, 4))["h1"].mean()
        tensor(0.5000)
    """
    nesting = guess_plate_nesting(model, model, (x[:1],), {})
    trace = trace_program(model, (x,), {}, num_particles=1, plate_nesting=nesting)
    return {
        site["name"]: _mean(site["fn"])[0]
        for site in sample_sites(trace)
        if site["name"] != "y" and not site["is_observed"] and is_bernoulli(site["fn"])
    }


def binary_entropy(p: Tensor) -> Tensor:
    r"""Entropy of a binary unit in bits, :math:`-p \log_2 p - (1-p) \log_2 (1-p)`.

    Example:
        >>> import torch
        >>> binary_entropy(torch.tensor([0.0, 0.5, 1.0])).abs()
        tensor([0., 1., 0.])
    """
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)
