"""The paper's Figure 2: originals, what the network saw, and what it made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import Predictive
from torch import Tensor

from sfnn_pyro.system.figures import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


@styled
def draw_completions(
    x: Tensor,
    y: Tensor,
    completions: Tensor,
    *,
    x_shape: tuple[int, int],
    y_shape: tuple[int, int],
    title: str = "",
) -> Figure:
    """Draws one row per image: the original, the input with its output masked, the samples.

    Arguments:
        x: ``(B, dx)`` in [0, 1], drawn above y.
        y: ``(B, dy)``.
        completions: ``(S, B, dy)``.
        x_shape: rows and columns of x.
        y_shape: rows and columns of y, as wide as x.
        title: written above.

    Returns:
        A Matplotlib figure, not shown.
    """
    samples = len(completions)
    gap = max(1, x_shape[1] // 8)
    strips = [
        _strip(x, below, x_shape, y_shape, gap) for below in (y, None, *completions.unbind(0))
    ]
    canvas = torch.cat(strips, 1)[:-gap, :-gap].clamp(0, 1)
    width = 0.45 * (samples + 2)
    height = width * canvas.shape[0] / canvas.shape[1]
    head = 0.25 + (0.25 if title else 0)
    figure = new_figure(figsize=(width, height + head))
    axes = figure.add_axes((0.015, 0.01, 0.97, height / (height + head)))
    axes.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    step = x_shape[1] + gap
    middle = (x_shape[1] - 1) / 2
    for column, label in ((0, "original"), (1, "input"), (2 + (samples - 1) / 2, "completions")):
        axes.text(column * step + middle, -gap, label, ha="center", va="bottom", fontsize=7)
    if title:
        figure.text(0.5, 1 - 0.05 / (height + head), title, ha="center", va="top", fontsize=9)
    return figure


def _strip(
    x: Tensor, below: Tensor | None, x_shape: Sequence[int], y_shape: Sequence[int], gap: int
) -> Tensor:
    """One column of the figure: images under each other, a gap to the right and between."""
    if x_shape[1] != y_shape[1]:
        raise ValueError(f"x is {x_shape[1]} pixels wide and y {y_shape[1]}: they must agree")
    rows = len(x)
    upper = x.reshape(rows, *x_shape)
    masked = torch.full((rows, *y_shape), 0.25)
    lower = masked if below is None else below.reshape(rows, *y_shape)
    images = torch.cat([upper, lower], 1)  # (B, height, width)
    images = torch.nn.functional.pad(images, (0, gap, 0, gap))
    return images.reshape(-1, images.shape[-1])
