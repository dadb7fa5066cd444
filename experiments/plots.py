"""The paper's figures, drawn from result files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from sfnn_pyro.evaluation.completions import draw_completions
from sfnn_pyro.experiments.grid import Grid, Row, select
from sfnn_pyro.experiments.results import unpack_bits
from sfnn_pyro.experiments.theorem1 import COINS, OUTPUT
from sfnn_pyro.system.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, dict[str, Any]]
Drawn = dict[str, "Figure"]


def draw(grid: Grid, results: Results) -> Drawn:
    """The figures of a grid that its results allow, by file name."""
    return PLOTS[grid.figure](grid, results) if grid.figure else {}


def theorem1(grid: Grid, results: Results) -> Drawn:
    """P(h = 1 | x) over the epochs, of a unit trained with one particle and with more."""
    found = [(row, result) for row in grid.rows for result in _results(row, grid, results)]
    if not found:
        return {}
    figure = new_figure(figsize=(7.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = {row.label: f"C{number}" for number, row in enumerate(grid.rows)}
    labelled: set[str] = set()
    for row, result in found:
        epochs, values = _probed(result, "probabilities")
        for which in range(2):
            label = None if row.label in labelled else f"trained with {row.label}"
            labelled.add(row.label)
            line = [value[which] for value in values]
            axes.plot(epochs, line, color=colours[row.label], label=label, alpha=0.7, lw=1)
    for p in COINS:
        needed = (p - OUTPUT[0]) / (OUTPUT[1] - OUTPUT[0])
        axes.axhline(needed, color="0.3", ls="--", lw=1, zorder=0)
        text = f"P(y=1|x) = {p:g} needs {needed:.3g}"
        axes.text(1.01, needed, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set(xlabel="epoch", ylabel="P(h = 1 | x), x = 0 and x = 1", ylim=(0, 1))
    axes.legend(loc="center right", fontsize=8)
    return {"theorem1": figure}


def entropy(grid: Grid, results: Results) -> Drawn:
    """Mean entropy of the units of each layer over the epochs, of every fully stochastic row."""
    found = [(row, some[0]) for row in grid.rows if (some := _results(row, grid, results))]
    shown = [pair for pair in found if pair[0].run.network == "sfnn"]
    if not shown:
        return {}
    figure = new_figure(figsize=(8.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (row, result) in enumerate(shown):
        epochs, values = _probed(result, "entropy")
        for name, style in zip(sorted(values[0]), ("-", "--", ":"), strict=False):
            line = [value[name] for value in values]
            label = f"{row.label}: {name}"
            axes.plot(epochs, line, style, color=f"C{number}", lw=1.2, label=label)
    axes.set(xlabel="epoch", ylabel="mean entropy of a hidden unit, bits", ylim=(0, 1))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return {f"{grid.name}-entropy": figure}


def figure1(grid: Grid, results: Results) -> Drawn:
    """Left: norm of the first layer's gradient by c. Right: the objective by test particles."""
    drawn: Drawn = {}
    found = [(row, some[0]) for row in grid.rows if (some := _results(row, grid, results))]
    norms = [pair for pair in found if _probed(pair[1], "gradient_norm")[0]]
    if norms:
        figure = drawn["figure1-left"] = new_figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for epoch, value in zip(*_probed(norms[0][1], "gradient_norm"), strict=True):
            name = f"after {epoch} epoch{'s' if epoch > 1 else ''}"
            axes.plot(value["c_times_m"], value["norm"], marker=".", label=name)
        axes.set(xlabel="c M", ylabel="norm of the first layer's gradient", yscale="log")
        axes.axvline(1, color="0.6", lw=1, zorder=0)
        axes.legend(fontsize=8)
    curves = [pair for pair in found if "particles" in pair[1]]
    if curves:
        figure = drawn["figure1-right"] = new_figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for row, result in curves:
            value = result["particles"]
            objective = [-number for number in value["negative_log_likelihood"]]
            axes.plot(value["counts"], objective, marker=".", label=row.label)
        axes.set(xlabel="test particles M", ylabel="objective, nats per image")
        axes.legend(fontsize=8)
    return drawn


def figure2(grid: Grid, results: Results) -> Drawn:
    """Completions of each row's network: original, what it saw, ten samples."""
    drawn: Drawn = {}
    for number, row in enumerate(grid.rows, 1):
        some = [one for one in _results(row, grid, results) if "completions" in one]
        if not some:
            continue
        stored = some[0]["completions"]
        drawn[f"figure2-{number}"] = draw_completions(
            unpack_bits(stored["x"]),
            unpack_bits(stored["y"]),
            torch.as_tensor(unpack_bits(stored["samples"])),
            x_shape=tuple(stored["x_shape"]),
            y_shape=tuple(stored["y_shape"]),
            title=row.label,
        )
    return drawn


def vae(grid: Grid, results: Results) -> Drawn:
    """The bound of one sample of training images, and the gradient's variance, over the steps."""
    found = [(row, some[0]) for row in grid.rows if (some := _results(row, grid, results))]
    found = [pair for pair in found if _probed(pair[1], "train_bound")[0]]
    if not found:
        return {}
    figure = new_figure(figsize=(9.4, 3.6), layout="constrained")
    bound, variance = figure.subplots(1, 2)
    for number, (row, result) in enumerate(found):
        style = ("-", "--", ":")[number // 10 % 3]  # there are ten colours
        steps, bounds = _by_step(result, "train_bound")
        bound.plot(steps, [-value for value in bounds], style, label=row.label)
        variance.plot(*_by_step(result, "gradient_variance"), style)
    bound.set(xlabel="steps", ylabel="negative bound of one sample, training images, nats")
    variance.set(xlabel="steps", ylabel="variance of the encoder's gradient", yscale="log")
    figure.legend(*bound.get_legend_handles_labels(), fontsize=8, loc="outside right center")
    return {grid.name: figure}


PLOTS: dict[str, Callable[[Grid, Results], Drawn]] = {
    "theorem1": theorem1,
    "entropy": entropy,
    "figure1": figure1,
    "figure2": figure2,
    "vae": vae,
}
"""By the name that a grid's ``figure`` gives."""


def _results(row: Row, grid: Grid, results: Results) -> list[dict[str, Any]]:
    """Of a row's chosen rate, seed 0 first, without failed runs."""
    return [one for one in select(row, grid.measure, results).results if "failure" not in one]


def _by_step(result: Mapping[str, Any], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of what was followed, without that before the first step."""
    probes = sorted(result["probes"].values(), key=lambda probe: probe["steps"])[1:]
    return [probe["steps"] for probe in probes], [probe[name] for probe in probes]


def _probed(result: Mapping[str, Any], name: str) -> tuple[list[int], list[Any]]:
    """Epochs and values of what was followed during a training."""
    probes = sorted((int(epoch), probe) for epoch, probe in result["probes"].items())
    pairs = [(epoch, probe[name]) for epoch, probe in probes if name in probe]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]
