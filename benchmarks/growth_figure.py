"""The figure of ``benchmarks.growth``: milliseconds and memory on logarithmic axes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

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
MIB = 2**20


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
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    panels = figure.subplots(2, len(AXES), squeeze=False)
    for column, (axis, label) in enumerate(AXES.items()):
        for row, (kind, unit, divisor) in enumerate(
            (("milliseconds", "ms a step", 1.0), ("bytes", "MiB above imports", MIB))
        ):
            panel = panels[row, column]
            found = table[kind].get(axis, {})
            if not found:
                panel.set_visible(False)
                continue
            for name, (_, colour, line) in STYLES.items():
                if name in found:
                    x, y = curve(found[name])
                    panel.plot(
                        x, [one / divisor for one in y], line, marker=".", color=colour, lw=1.2
                    )
            panel.set(xscale="log", yscale="log", xlabel=label, ylabel="" if column else unit)
            panel.grid(alpha=0.3)
            if axis in ("depth", "processes"):
                ticks = sorted({value for numbers in found.values() for value in curve(numbers)[0]})
                panel.set_xticks(ticks, [str(value) for value in ticks])
                panel.minorticks_off()
    legend = [
        panels[0, 0].plot([], [], line, color=colour, label=label)[0]
        for label, colour, line in STYLES.values()
    ]
    panels[1, -1].set_visible(True)
    panels[1, -1].axis("off")
    panels[1, -1].legend(handles=legend, loc="center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return figure
