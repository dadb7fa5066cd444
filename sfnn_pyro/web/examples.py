"""Test data to start a drawing from."""

from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.models import SFNN

CANDIDATES = 400
PARTICLES = 20


@torch.no_grad()
def choose_examples(model: SFNN, test: Split, count: int) -> Tensor:
    r"""Rows of the test data, half of them where the network's outputs differ most.

    .. math:: \sum_i \mathrm{Var}_h \, E(y_i | h)

    The other half are the first rows that remain, so that the unambiguous is seen too.

    Arguments:
        model: the network.
        test: from which the first 400 are candidates.
        count: how many, at most as many as there are.

    Returns:
        Rows, ``(count,)``, the most ambiguous first.

    Example:
        >>> test = Split(torch.rand(9, 4).round(), torch.rand(9, 2).round())
        >>> len(choose_examples(SFNN([4, 3, 2]), test, 6))
        6
    """
    x = test.x[:CANDIDATES]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        h = x.expand(PARTICLES, *x.shape)  # (M, B, n)
        for layer in model.layers[:-1]:
            h = torch.bernoulli(torch.sigmoid(_linear(h, layer)))
    output = _linear(h, model.layers[-1])
    if model.likelihood == "bernoulli":
        output = output.sigmoid()
    ambiguity = output.var(0).sum(-1)  # (B,)
    ambiguous = ambiguity.argsort(descending=True, stable=True)[: count // 2]
    rest = [row for row in range(len(x)) if row not in set(ambiguous.tolist())]
    others = torch.tensor(rest[: count - len(ambiguous)], dtype=torch.long)
    return torch.cat([ambiguous, others])


def _linear(h: Tensor, layer: Any) -> Tensor:
    return torch.nn.functional.linear(h, layer.weight, layer.bias)
