"""The draws of ``random_bits`` in a form that a graph can hold: the same ones, of new numbers.

The numbers are an operator of PyTorch's, ``sfnn_pyro::uniform16``, that each replay runs anew; all
else is arithmetic that a compiler fuses with what stands before and after it.
"""

import torch
from torch import Size, Tensor

from sfnn_pyro.distributions import random_bits

UNDECIDED = 2**16
"""From here on a number is the fraction that decides where sixteen bits do not."""

torch.library.define(
    "sfnn_pyro::uniform16", "(int count) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,)
)


@torch.library.impl("sfnn_pyro::uniform16", "CompositeExplicitAutograd")
def _uniform16(count: int) -> Tensor:
    bits = random_bits.bits_for(count)
    numbers = bits[:count].int()  # which a compiler's vectors hold, as they do not int16
    undecided = random_bits._undecided(bits, count)
    if len(undecided):
        fraction = torch.rand(len(undecided), dtype=torch.float32)  # a multiple of 2**-24
        numbers[undecided] = fraction.mul_(2**24).int().add_(UNDECIDED)
    return numbers


@torch.library.register_fake("sfnn_pyro::uniform16")
def _of_shape(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.int32)


def uniform16(count: int) -> Tensor:
    """Numbers that decide Bernoulli draws: u - 32768 for u from 1 to 65535.

    Where u is 0, and sixteen bits do not decide, ``UNDECIDED`` + v takes its place, with v uniform
    from 0 to 2**24 - 1.

    Arguments:
        count: how many.

    Example:
        >>> import torch
        >>> numbers = uniform16(100_000)
        >>> numbers.dtype, bool((numbers > -(2**15)).all())
        (torch.int32, True)
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
    numbers = uniform16(shape.numel()).view(shape)
    scaled = probs * 65536
    left = scaled - scaled.floor().clamp(max=65535)
    decided = numbers.float() + 2**15 <= scaled
    tie = (numbers - UNDECIDED).float() * 2**-24 < left
    return torch.where(numbers < UNDECIDED, decided, tie).to(dtype)
