"""Deterministic networks inside models and guides."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from pyro.nn.module import to_pyro_module_

from sfnn_pyro.models.signature import MAX_WIDTH
from sfnn_pyro.system.numbers import check_whole, shown

SLOPE = 0.3
"""Of a unit with a negative input, as in the literature's networks of Bernoulli latents."""


def feedforward(widths: Sequence[int]) -> Any:
    r"""Linear layers with leaky rectifiers between them, none after the last.

    Weights start uniform in :math:`\pm\sqrt{6 / (n_{in} + n_{out})}`, biases at zero (Glorot and
    Bengio, 2010), as in the code of the papers that ``sfnn reproduce vae`` compares with.

    Arguments:
        widths: from input to output, at least two; two make a linear map.

    Returns:
        A ``torch.nn.Sequential`` whose parameters are Pyro's.

    Raises:
        ValueError: the widths are not of this form.

    Example:
        >>> import torch
        >>> feedforward([4, 3, 2])(torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """
    widths = list(widths)
    for width in widths:
        check_whole("widths: the width", width, 1, MAX_WIDTH)
    if len(widths) < 2:
        raise ValueError(f"widths={shown(widths)}: give an input and an output width at least")
    parts: list[torch.nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        if parts:
            parts.append(torch.nn.LeakyReLU(SLOPE))
        layer = torch.nn.Linear(n_in, n_out)
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        parts.append(layer)
    network = torch.nn.Sequential(*parts)
    to_pyro_module_(network)
    return network
