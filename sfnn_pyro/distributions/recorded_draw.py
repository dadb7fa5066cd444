"""The draws of ``random_bits`` in a form that a graph can hold: the same ones, of new numbers.

The numbers are an operator of PyTorch's, ``sfnn_pyro::uniform16``, that each replay runs anew; all
else is arithmetic that a compiler fuses with what stands before and after it.
"""

import torch
from torch import Size, Tensor

from sfnn_pyro.distributions import random_bits

torch.library.define(
    "sfnn_pyro::uniform16", "(int count) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,)
)


@torch.library.impl("sfnn_pyro::uniform16", "CompositeExplicitAutograd")
def _uniform16(count: int) -> Tensor:
    bits = random_bits.bits_for(count)
    uniform = torch.add(torch.tensor(0.5), bits[:count].float(), alpha=2**-16)
    undecided = random_bits._undecided(bits, count)
    if len(undecided):
        uniform[undecided] = torch.rand(len(undecided), dtype=torch.float32) - 1
    return uniform


@torch.library.register_fake("sfnn_pyro::uniform16")
def _of_shape(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float32)


def uniform16(count: int) -> Tensor:
    """Numbers that decide Bernoulli draws: u / 65536 for u from 1 to 65535.

    Where u is 0, and sixteen bits do not decide, v - 1 takes its place, with v uniform in [0, 1).

    Arguments:
        count: how many.

    Example:
        >>> import torch
        >>> numbers = uniform16(100_000)
        >>> numbers.dtype, bool(((numbers < 1) & (numbers >= -1)).all())
        (torch.float32, True)
    """
    return torch.ops.sfnn_pyro.uniform16(count)


def draw(probs: Tensor, shape: Size, dtype: torch.dtype) -> Tensor:
    """Draws 0 or 1 with the given float32 probabilities; bit by bit what ``random_bits`` draws.

    Arguments:
        probs: broadcastable to ``shape``.
        shape: shape of the draw.
        dtype: of the zeros and ones.

    Example:
        >>> import torch
        >>> draw(torch.tensor([0.0, 1.0]), torch.Size([3, 2]), torch.float32).mean(0)
        tensor([0., 1.])
    """
    if shape.numel() <= random_bits.SMALL:
        return (torch.rand(shape, dtype=torch.float32) < probs).to(dtype)
    uniform = uniform16(shape.numel()).view(shape)
    scaled = probs * 65536
    left = scaled - scaled.floor().clamp(max=65535)
    return torch.where(uniform > 0, uniform <= probs, uniform + 1 < left).to(dtype)
