"""Per-datapoint log-likelihoods by importance sampling, in bounded memory."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfnn_pyro.estimators.checks import blamed_on_data, check_whole
from sfnn_pyro.particles import PriorOf, check_program, draw_particles, guess_plate_nesting
from sfnn_pyro.particles.programs import BadValue, nan_weight
from sfnn_pyro.reparam import lazy_units
from sfnn_pyro.system.arguments import check_tensor


@torch.no_grad()
def log_likelihood(
    model: Callable[..., Any],
    *args: Any,
    guide: Callable[..., Any] | None = None,
    num_particles: int = 100,
    batch_size: int = 100,
    particle_chunk: int = 100,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    r"""The estimate :math:`\hat C_M` of every datapoint's log-likelihood, in nats.

    .. math:: \hat C_M = \log \frac1M \sum_m \frac{P(y|h_m) P(h_m|x)}{R(h_m|y,x)}

    A lower bound in expectation, tight as M grows. Streams over datapoints and particles:
    memory is that of ``batch_size * particle_chunk`` particles, whatever M is.

    References:
        Raiko et al., ICLR 2015, eqs. 6 and 27.

    Arguments:
        model: a Pyro model whose latents all lie in a data plate.
        args: its arguments; tensors, single numbers aside, have the N datapoints as first dimension
            and are sliced.
        guide: the proposal; the model's prior unless given.
        num_particles: M.
        batch_size: datapoints at a time.
        particle_chunk: particles at a time.
        on_batch: called after every slice with the number of its datapoints.

    Returns:
        ``(N,)``, not scaled by any subsampling.

    Raises:
        ValueError: a count is below 1, there is no datapoint, the model's weights are not
            per datapoint, or data that are NaN or infinite make one NaN (the message names the
            argument, the site and the rows). Parameters that are NaN give NaN.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> log_likelihood(SFNN([4, 3, 2]), torch.zeros(5, 4), torch.ones(5, 2)).shape
        torch.Size([5])
    """
    _check_counts(num_particles=num_particles, batch_size=batch_size, particle_chunk=particle_chunk)
    check_program("model", model)
    proposal = PriorOf(model) if guide is None else guide
    check_program("guide", proposal)
    datapoints = _length(args)
    nesting = guess_plate_nesting(model, proposal, _slice(args, 0, 1), {})
    results = []
    for start, stop in ranges(datapoints, batch_size):
        part = _slice(args, start, stop)
        total = torch.tensor(-math.inf)
        # Chunks of nearly equal size: a mixture cannot share out a single left-over particle.
        chunks = math.ceil(num_particles / particle_chunk)
        for first, last in ranges(num_particles, math.ceil(num_particles / chunks)):
            particles = draw_particles(
                model,
                proposal,
                part,
                {},
                num_particles=last - first,
                plate_nesting=nesting,
                strategy=lazy_units,
            )
            chunk = torch.logsumexp(particles.log_weight(), 0)
            if chunk.isnan().any():
                where = nan_weight(term for term, _ in particles.signed_terms())
                blamed = blamed_on_data(args, ValueError(where))
                if isinstance(blamed, BadValue):
                    raise blamed
            total = torch.logaddexp(total.to(chunk), chunk)
        results.append(_by_row(total - math.log(num_particles), stop - start))
        if on_batch is not None:
            on_batch(stop - start)
    return torch.cat(results)


def _by_row(total: Tensor, rows: int) -> Tensor:
    """``(rows,)``: of several plates that all sites share, those beside the rows are summed."""
    if total.numel() == rows:
        return total.reshape(rows)
    along = [dim for dim, size in enumerate(total.shape) if size == rows]
    if len(along) != 1 or rows == 1:
        raise ValueError(
            f"the model's weights have shape {tuple(total.shape)} for {rows} datapoints: "
            "every latent site must lie in the data plate, and one plate alone have the size of "
            "the data"
        )
    others = [dim for dim in range(total.dim()) if dim != along[0]]
    return total.sum(others)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        check_whole(name, count, 1)


def _length(args: tuple) -> int:
    for number, arg in enumerate(args, 1):
        if isinstance(arg, np.ndarray):
            check_tensor(f"argument {number} of the model", arg)
    lengths = {arg.shape[0] for arg in args if _has_rows(arg)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"the tensors given have {sorted(lengths)} datapoints: all need the same number, "
            "at least one"
        )
    return lengths.pop()


def _slice(args: tuple, start: int, stop: int) -> tuple:
    return tuple(arg[start:stop] if _has_rows(arg) else arg for arg in args)


def _has_rows(arg: Any) -> bool:
    return torch.is_tensor(arg) and arg.dim() > 0


def ranges(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and end of consecutive slices.

    Example:
        >>> list(ranges(5, 2))
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, total, step):
        yield start, min(start + step, total)
