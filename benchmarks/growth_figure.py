"""The figure of ``benchmarks.growth``: milliseconds and memory on logarithmic axes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

AXES = {
    "particles": "particles M, one datapoint",
    "width": "units in a hidden layer",
    "depth": "hidden layers of 200",
    "datapoints": "datapoints B",
    "processes": "processes, one thread each",
}
STYLES = {
    "floor_g3": ("matrix products", "0.6", "--"),
    "ours_g3": ("ours", "C0", "-"),
    "compiled_g3": ("ours, compiled", "C1", "-"),
    "chunked_g3": ("ours, in chunks", "C4", "-"),
    "jax_g3": ("JAX, by hand", "C2", "-"),
    "pyro_renyi": ("Pyro, RenyiELBO", "C3", "-"),
}
UNITS = {"milliseconds": ("ms a step", 1.0), "bytes": ("MiB above imports", 2.0**20)}


def curve(numbers: dict[str, float]) -> tuple[list[int], list[float]]:
    """The points of a contender in the order of the axis.

    Example:
        >>> curve({"10": 3.0, "2": 1.0})
        ([2, 10], [1.0, 3.0])
    """
    pairs = sorted((int(value), number) for value, number in numbers.items())
    return [value for value, _ in pairs], [number for _, number in pairs]


def draw(table: dict, path: Path) -> Figure:
    """Draws a result; a panel for each axis, milliseconds above memory.

    Arguments:
        table: what ``benchmarks.growth`` wrote.
        path: of the picture.
    """
    rows = [kind for kind in UNITS if table[kind]]
    columns = [axis for axis in AXES if any(axis in table[kind] for kind in rows)]
    figure = Figure(figsize=(2.6 * len(columns), 0.6 + 2.6 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    shown = set()
    for row, kind in enumerate(rows):
        unit, divisor = UNITS[kind]
        for column, axis in enumerate(columns):
            panel, found = panels[row, column], table[kind].get(axis, {})
            panel.set_visible(bool(found))
            for name in STYLES.keys() & found.keys():
                _, colour, line = STYLES[name]
                x, y = curve(found[name])
                y = [number / divisor for number in y]
                panel.plot(x, y, line, marker=".", color=colour, lw=1.2)
                shown.add(name)
            panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="" if column else unit)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_locator(NullLocator())
            panel.grid(alpha=0.3)
            if axis in ("depth", "processes") and found:
                ticks = sorted({value for numbers in found.values() for value in curve(numbers)[0]})
                panel.set_xticks(ticks, [str(value) for value in ticks])
                panel.xaxis.set_minor_locator(NullLocator())
    styles = [STYLES[name] for name in STYLES if name in shown]
    lines = [Line2D([], [], color=colour, ls=line, label=label) for label, colour, line in styles]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return figure
