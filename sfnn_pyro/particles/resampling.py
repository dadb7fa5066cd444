"""A few of many weighted particles, chosen so that no expectation changes."""

import torch
from torch import Tensor


def resample(weight: Tensor, kept: int, uniform: Tensor) -> tuple[Tensor, Tensor]:
    r"""Chooses K different particles of each datapoint, and what each of them stands for.

    .. math::
        c: \; \sum_m \min(w_m / c, 1) = K, \qquad
        P(m \text{ is kept}) = \min(w_m / c, 1), \qquad w'_m = \max(w_m, c)

    Heavy particles stay as they are; of the light ones some are kept, each with weight c in
    place of those that go. The expected weight of every particle is its own, and of all schemes
    that keep K this one has the least squared error.

    References:
        Fearnhead & Clifford, *On-line inference for hidden Markov models via particle filters*,
        JRSS B 2003.

    Arguments:
        weight: ``(M, ...)``, not negative.
        kept: K, less than M.
        uniform: ``(...)`` in [0, 1): one number chooses among a datapoint's light particles.

    Returns:
        Indices and weights, ``(K, ...)``; the weights are zero where all were.

    Example:
        >>> import torch
        >>> index, weight = resample(torch.tensor([0.1, 0.7, 0.1, 0.1]), 2, torch.tensor(0.5))
        >>> index.tolist(), [round(one, 2) for one in weight.tolist()]
        ([1, 2], [0.7, 0.3])
    """
    ordered, order = weight.movedim(0, -1).sort(descending=True)
    # If the first j are heavy, c is what the others weigh together over the places left.
    others = ordered.flip(-1).cumsum(-1).flip(-1)[..., :kept]
    places = torch.arange(kept, 0, -1, device=weight.device)
    thresholds = others / places
    # These are the first; the last of K never is one, as its threshold holds its own weight.
    heavy = (ordered[..., :kept] > thresholds).sum(-1, keepdim=True)
    c = thresholds.gather(-1, heavy)
    rank = torch.arange(ordered.shape[-1], device=weight.device)
    # Where the light ones weigh nothing, the first of them are as good as any.
    probability = torch.where(c > 0, ordered / c, rank < kept).clamp_(max=1)
    # In float64, where u + K - 1 never rounds to K.
    marks = probability.double().cumsum(-1)
    wanted = uniform.double().unsqueeze(-1) + torch.arange(kept, device=weight.device)
    chosen = torch.searchsorted(marks, wanted, right=True)
    chosen = chosen.clamp_(max=ordered.shape[-1] - 1)
    index = order.gather(-1, chosen).movedim(-1, 0)
    return index, torch.maximum(ordered.gather(-1, chosen), c).movedim(-1, 0)


def taken(value: Tensor, index: Tensor) -> Tensor:
    """The chosen particles' values.

    Arguments:
        value: ``(M, *batch, *event)``, where the batch has at least the datapoints' dimensions.
        index: ``(K, *batch)``; a dimension of 1 holds for all of the value's.

    Example:
        >>> import torch
        >>> taken(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1, 0]])).tolist()
        [[3.0, 2.0]]
    """
    batch = [
        torch.arange(size, device=index.device).view(size, *(1,) * (index.dim() - 2 - dim))
        for dim, size in enumerate(value.shape[1 : index.dim()])
    ]
    return value[(index, *batch)]
