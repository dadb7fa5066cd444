"""Theorem 1 as an experiment: one unit, the paper's P(y|h), and a data set of coins."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from sfnn_pyro.data import Dataset, Split

OUTPUT = (0.1, 0.9)
"""P(y = 1 | h) for h = 0 and 1, as in the paper's proof."""

COINS = (0.35, 0.65)
"""P(y = 1 | x) for x = 0 and 1: to match it, P(h = 1 | x) must be 0.3125 and 0.6875."""


class Unit(PyroModule):
    r"""One stochastic unit between one input and one output, of which only the unit learns.

    .. math:: P(h = 1 | x) = \sigma(w x + b), \qquad P(y = 1 | h) = 0.1 + 0.8 h

    References:
        Raiko et al., ICLR 2015, Theorem 1.

    Example:
        >>> import torch
        >>> Unit()(torch.zeros(3, 1)).shape
        torch.Size([3, 1])
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Runs the unit, sampling h and, unless it is given, y.

        Arguments:
            x: ``(B, 1)``.
            y: ``(B, 1)``, or None.
        """
        weight, bias = self.weight, self.bias
        with pyro.plate("data", len(x), dim=-1):
            h: Any = pyro.sample("h1", dist.Bernoulli(logits=x @ weight.T + bias).to_event(1))
            p = OUTPUT[0] + (OUTPUT[1] - OUTPUT[0]) * h
            return pyro.sample("y", dist.Bernoulli(p).to_event(1), obs=y)


def coin_dataset(size: int = 1000) -> Dataset:
    """Inputs 0 and 1 in turn, and outputs in exactly the proportions of ``COINS``.

    Example:
        >>> coin_dataset().train.y[1::2].mean()
        tensor(0.6500)
    """
    half = size // 2
    x = torch.tensor([0.0, 1.0], dtype=torch.float32).repeat(half)
    ranks = torch.arange(half).repeat_interleave(2) + 0.5
    y = (ranks / half < torch.tensor(COINS).repeat(half)).to(torch.float32)
    part = Split(x[:, None], y[:, None])
    provenance: dict[str, str | int] = {"source": "made up"}
    return Dataset("coin", part, part, part, "bernoulli", None, None, provenance)
