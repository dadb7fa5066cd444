"""Figures and their one style. Matplotlib is imported when the first is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from sfnn_pyro.system.extras import needed_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f4fc9", "#444444")
"""Okabe and Ito's, which colour-blind readers tell apart, and two more; dark ones come first."""

STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}
"""Matplotlib's settings for every figure: readable at half a page's width, on white."""

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """A function that draws in ``STYLE``, whatever the program's own settings are.

    Example:
        >>> @styled
        ... def title_size():
        ...     import matplotlib
        ...     return matplotlib.rcParams["axes.titlesize"]
        >>> title_size()
        10.0
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with needed_for("drawing"):
            import matplotlib
            from cycler import cycler
        cycle = cycler(color=COLOURS)
        with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycle}):
            return draw(*args, **kwargs)

    return drawn


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
