"""The paper's Figure 2: originals, what the network saw, and what it made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import Predictive
from torch import Tensor

from sfnn_pyro.system.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASKED = 0.25
"""Grey of what is not given."""


def sample_completions(model: Callable[..., Any], x: Tensor, num_samples: int = 10) -> Tensor:
    """Draws outputs from P(y|x), through hidden layers sampled anew for each.

    Arguments:
        model: a Pyro model with the signature ``model(x)`` and a sample site ``y``.
        x: ``(B, dx)``.
        num_samples: S.

    Returns:
        ``(S, B, dy)``.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> sample_completions(SFNN([4, 3, 2]), torch.zeros(5, 4), num_samples=7).shape
        torch.Size([7, 5, 2])
    """
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: must be at least 1")
    predictive = Predictive(model, num_samples=num_samples, parallel=True, return_sites=("y",))
    return predictive(x)["y"]


def draw_completions(
    x: Tensor,
    y: Tensor,
    completions: Tensor,
    *,
    x_shape: tuple[int, int],
    y_shape: tuple[int, int],
    side_by_side: bool = False,
    known: Tensor | None = None,
    notes: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draws one row per image: the original, what is given of it, the samples.

    Arguments:
        x: ``(B, dx)`` in [0, 1], drawn above y, or to its left.
        y: ``(B, dy)``.
        completions: ``(S, B, dy)``.
        x_shape: rows and columns of x; ``(0, columns)`` where there is no input.
        y_shape: rows and columns of y, as wide as x, or as high if beside it.
        side_by_side: whether x stands to the left of y.
        known: booleans that broadcast to ``y``, of the entries that are given; none unless given.
        notes: for each image, written to its right.
        title: written above.

    Returns:
        A Matplotlib figure, not shown.

    Raises:
        ValueError: x and y do not fit together.
    """
    y = y.to(torch.float32)
    hidden = torch.full_like(y, MASKED)
    given = hidden if known is None else torch.where(known, y, hidden)
    images = torch.cat([torch.stack([y, given]), completions.to(y)])  # (2 + S, B, dy)
    whole = whole_images(x, images, x_shape, y_shape, side_by_side)
    figure, axes, tile = _tiles(whole.transpose(0, 1), notes=notes, title=title, head=0.25)
    names = ("original", "input" if known is None else "known", "completions")
    for column, label in zip((0, 1, 2 + (len(completions) - 1) / 2), names, strict=True):
        middle = column * (tile[1] + tile[2]) + (tile[1] - 1) / 2
        axes.text(middle, -tile[2], label, ha="center", va="bottom", fontsize=7)
    return figure


def draw_samples(
    x: Tensor,
    samples: Tensor,
    *,
    x_shape: tuple[int, int],
    y_shape: tuple[int, int],
    side_by_side: bool = False,
) -> Figure:
    """Draws one row per input, of the outputs sampled for it; without inputs, a square of them.

    Arguments:
        x: ``(B, dx)``.
        samples: ``(S, B, dy)``.
        x_shape: rows and columns of x; ``(0, columns)`` where there is no input.
        y_shape: rows and columns of y.
        side_by_side: whether x stands to the left of y.

    Returns:
        A Matplotlib figure, not shown.

    Raises:
        ValueError: x and y do not fit together.

    Example:
        >>> import torch
        >>> x, samples = torch.zeros(1, 0), torch.ones(9, 1, 4)
        >>> figure = draw_samples(x, samples, x_shape=(0, 2), y_shape=(2, 2))
    """
    whole = whole_images(x, samples, x_shape, y_shape, side_by_side).transpose(0, 1)
    if not x.shape[1] and len(x) == 1:
        count = whole.shape[1]
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        blank = whole.new_zeros(rows * columns - count, *whole.shape[2:])
        whole = torch.cat([whole[0], blank]).reshape(rows, columns, *whole.shape[2:])
    return _tiles(whole)[0]


def whole_images(
    x: Tensor,
    y: Tensor,
    x_shape: tuple[int, int],
    y_shape: tuple[int, int],
    side_by_side: bool = False,
) -> Tensor:
    """Images of x and y together, the former above the latter or to its left.

    Arguments:
        x: ``(B, dx)``.
        y: ``(S, B, dy)``.
        x_shape: rows and columns of x.
        y_shape: rows and columns of y.
        side_by_side: whether x stands to the left of y.

    Returns:
        ``(S, B, rows, columns)``.

    Raises:
        ValueError: the one is wider, or higher, than the other.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(1, 2), torch.ones(1, 1, 2)
        >>> whole_images(x, y, (2, 1), (2, 1), side_by_side=True)[0, 0]
        tensor([[0., 1.],
                [0., 1.]])
    """
    if not side_by_side and x_shape[1] != y_shape[1]:
        raise ValueError(f"x is {x_shape[1]} pixels wide and y {y_shape[1]}: they must agree")
    if side_by_side and x_shape[0] != y_shape[0]:
        raise ValueError(f"x is {x_shape[0]} pixels high and y {y_shape[0]}: they must agree")
    first = x.to(y).reshape(len(x), *x_shape).expand(len(y), len(x), *x_shape)
    second = y.reshape(*y.shape[:2], *y_shape)
    return torch.cat([first, second], 3 if side_by_side else 2)


def _tiles(
    images: Tensor, *, notes: Sequence[str] = (), title: str = "", head: float = 0.02
) -> tuple[Figure, Axes, tuple[int, int, int]]:
    """Images ``(rows, columns, height, width)`` as tiles of one figure.

    Returns:
        The figure, its axes, and height, width and gap of a tile in pixels.
    """
    rows, columns, height, width = images.shape
    gap = max(1, width // 8)
    padded = torch.nn.functional.pad(images, (0, gap, 0, gap))
    canvas = padded.transpose(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    canvas = canvas[:-gap, :-gap].clamp(0, 1)
    head += 0.25 if title else 0
    aside = 0.5 if notes else 0
    inner = 0.45 * columns
    tall = inner * canvas.shape[0] / canvas.shape[1]
    figure = new_figure(figsize=(inner + aside, tall + head))
    share = inner / (inner + aside)
    axes = figure.add_axes((0.015, 0.01, 0.97 * share, tall / (tall + head)))
    axes.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    for row, note in enumerate(notes):
        middle = row * (height + gap) + (height - 1) / 2
        axes.text(canvas.shape[1] + gap, middle, note, ha="left", va="center", fontsize=6)
    if title:
        figure.text(0.5, 1 - 0.05 / (tall + head), title, ha="center", va="top", fontsize=9)
    return figure, axes, (height, width, gap)
