"""Figures, which need Matplotlib: it is imported when the first is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfnn_pyro.system.extras import needed_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> Figure:
    """An empty figure, which no window shows.

    Arguments:
        options: those of ``matplotlib.figure.Figure``; sizes in inches.

    Raises:
        MissingExtraError: Matplotlib, which the extra ``plot`` brings, is not installed.

    Example:
        >>> float(new_figure(figsize=(4, 3)).get_figwidth())
        4.0
    """
    with needed_for("drawing"):
        from matplotlib.figure import Figure
    return Figure(**options)
