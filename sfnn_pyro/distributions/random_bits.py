"""Bernoulli draws from sixteen random bits each, without rounding their probabilities.

PyTorch's generator makes one 32-bit number after another on a CPU, for ``torch.rand`` one per
draw. Here it makes seeds, and a 64-bit number of NumPy's SFC64 serves four draws: the stream
still belongs to ``torch.manual_seed``. Large draws are of several generators, each of a part, which
compiled steps run side by side. With u uniform on 0..65535 and T = 65536 p,

- u from 1 to 65535 decides: a one if u <= T, which happens floor(T) times in 65536;
- u = 0, once in 65536 draws, asks further bits: a one with the probability that is left,
  T - floor(T).

Together that is p exactly, up to the resolution of ``torch.rand`` in the second case.
"""

from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

ROWS = 64
SMALLEST = -(2**15)
SMALL = 4096
"""Up to this many draws the few more operations here cost more than they save."""

PARTS = 8
"""Generators of a large draw."""

LARGE = 2**16
"""From this many draws on it is of so many."""

FEW = 2**17
"""Up to this many draws, mostly none or one is undecided: one look at all of them comes first."""

_HALF = torch.tensor(0.5)


def draw(probs: Tensor, shape: Size, dtype: torch.dtype) -> Tensor:
    """Draws 0 or 1 with the given float32 probabilities, on the CPU.

    Arguments:
        probs: broadcastable to ``shape``.
        shape: shape of the draw.
        dtype: of the zeros and ones.

    Example:
        >>> import torch
        >>> draw(torch.tensor([0.0, 1.0]), torch.Size([3, 2]), torch.float32).mean(0)
        tensor([0., 1.])
    """
    if shape.numel() <= SMALL:
        return torch.rand(shape, dtype=torch.float32).lt_(probs).to(dtype)
    return from_bits(bits_for(shape.numel()), probs, shape, dtype)


class _Words(np.random.bit_generator.ISeedSequence):
    """Three words that are random already, as the state of a generator; hashing them is no use."""

    def __init__(self, words: Any) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Any:
        return self.words


def _generator(words: Any) -> np.random.SFC64:
    seed: Any = _Words(words)  # whose type NumPy's annotations leave out
    return np.random.SFC64(seed)


def part_of(count: int) -> int:
    """How many of so many draws each generator makes: a multiple of 64."""
    parts = PARTS if count >= LARGE else 1
    return -(-count // (ROWS * parts)) * ROWS


def seeds_for(count: int) -> Tensor:
    """Random states for the generators of so many draws ``(parts, 3)``, as int64."""
    return torch.empty(-(-count // part_of(count)), 3, dtype=torch.int64).random_()


def bits_for(count: int) -> Tensor:
    """Sixteen random bits for each of so many draws, as int16; a multiple of 64 of them."""
    seeds = seeds_for(count).numpy().view(np.uint64)
    size = part_of(count) // 4
    if len(seeds) == 1:
        words = _generator(seeds[0]).random_raw(size)
    else:
        words = np.empty((len(seeds), size), np.uint64)
        for row, seed in zip(words, seeds, strict=True):
            row[:] = _generator(seed).random_raw(size)
    return torch.from_numpy(words.reshape(-1).view(np.int16))


def from_bits(bits: Tensor, probs: Tensor, shape: Size, dtype: torch.dtype) -> Tensor:
    """Turns sixteen random bits per draw into draws; the undecided ones ask ``torch.rand``.

    Arguments:
        bits: int16, u - 32768; a multiple of 64, at least as many as draws.
        probs: float32, broadcastable to ``shape``.
        shape: shape of the draw.
        dtype: of the zeros and ones.
    """
    uniform = bits[: shape.numel()].view(shape).float()
    torch.add(_HALF, uniform, alpha=2**-16, out=uniform)  # u / 65536, exactly
    out = uniform if dtype == torch.float32 else torch.empty(shape, dtype=dtype)
    ones = torch.le(uniform, probs, out=out)
    undecided = _undecided(bits, shape.numel())
    if len(undecided):
        scaled = _at(undecided, probs, shape) * 65536
        left = scaled - scaled.floor().clamp_(max=65535)
        decided = torch.rand(len(undecided), dtype=torch.float32).lt_(left)
        ones.view(-1)[undecided] = decided.to(dtype)
    return ones


def _at(positions: Tensor, probs: Tensor, shape: Size) -> Tensor:
    """The probabilities of some draws, by their positions in the flat draw."""
    if probs.is_contiguous() and probs.shape == shape[len(shape) - probs.dim() :]:
        return probs.view(-1)[positions % probs.numel()]
    return probs.expand(shape)[torch.unravel_index(positions, shape)]


def _undecided(bits: Tensor, count: int) -> Tensor:
    """Positions of the draws with u = 0: first the columns that hold one, then the rows."""
    if len(bits) <= FEW and int(bits.amin()) != SMALLEST:
        return torch.empty(0, dtype=torch.int64)
    table = bits.view(ROWS, -1)
    columns = (table.amin(0) == SMALLEST).nonzero().squeeze(1)
    row, column = (table[:, columns] == SMALLEST).nonzero().unbind(1)
    positions = row * table.shape[1] + columns[column]
    return positions[positions < count]
