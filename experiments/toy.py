"""The toy of the papers: one unit, the objective E[(b - p0)^2], and its training curves.

``python -m sfnn_pyro.experiments.toy --out docs/results/toy`` takes about five minutes on one core
and writes a JSON and a picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from sfnn_pyro.estimators import (
    G3,
    REBAR,
    RLOO,
    DisARM,
    DoubleCV,
    Estimator,
    MuProp,
    ReinMax,
)
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.runs import machine
from sfnn_pyro.system.atomic_files import save_figure, write_text
from sfnn_pyro.system.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGETS = (0.45, 0.49, 0.499, 0.501, 0.51)
"""p0. E[(b - p0)^2] is minimised: the optimum is p = 0 below one half, else p = 1."""

KEPT = 40
"""Points of a curve."""


def estimators() -> dict[str, Estimator]:
    """What is compared, with the particles that each needs."""
    return {
        "G3": G3(1),
        "ReinMax": ReinMax(1),
        "RLOO, M = 2": RLOO(2),
        "DisARM": DisARM(1),
        "REBAR": REBAR(1),
        "MuProp": MuProp(1),
        "DoubleCV, M = 2": DoubleCV(2),
    }


def gradient(estimator: Estimator, logits: Tensor, target: float) -> Tensor:
    """One gradient of -E[(b - p0)^2] by each of many logits, every one a run of its own."""

    def model() -> None:
        with pyro.plate("data", len(logits)):
            b: Any = pyro.sample("b", dist.Bernoulli(logits=logits))
            pyro.factor("y", -((b - target) ** 2))

    loss = estimator.differentiable_loss(model, PriorProposal(model))
    return -torch.autograd.grad(loss, logits)[0]


def curve(
    estimator: Estimator, target: float, *, steps: int, rate: float, runs: int
) -> dict[str, list[float]]:
    """Many trainings at once: quantiles of p, and the mean variance of the gradient over them.

    At every kept step the variance is that of a thousand gradients at the median run's p, so
    that it is the estimator's and not the spread of the runs.
    """
    logits = torch.zeros(runs, requires_grad=True)
    every = max(steps // KEPT, 1)
    found: dict[str, list[float]] = {"step": [], "low": [], "p": [], "high": [], "variance": []}
    for step in range(steps + 1):
        if step % every == 0:
            p = torch.sigmoid(logits.detach())
            low, middle, high = torch.quantile(p, torch.tensor([0.1, 0.5, 0.9]).to(p)).tolist()
            at = logits.detach().median().expand(1000).clone().requires_grad_()
            state = estimator.state_dict()
            variance = gradient(estimator, at, target).var().item()
            if state:  # an estimator learns nothing from what is measured
                estimator.load_state_dict(state)
            for name, value in zip(found, (step, low, middle, high, variance), strict=True):
                found[name].append(value if name == "step" else float(f"{value:.4g}"))
        descent = gradient(estimator, logits, target)
        with torch.no_grad():
            logits += rate * descent
    return found


def draw(results: dict[str, Any]) -> Figure:
    """Curves of p and of the gradient's variance, a column for each p0."""
    curves = results["curves"]
    figure = new_figure(figsize=(13, 5.4), layout="constrained")
    panels = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
    for column, (target, rows) in enumerate(curves.items()):
        for number, (name, one) in enumerate(rows.items()):
            colour = f"C{number}"
            panels[0, column].plot(one["step"], one["p"], color=colour, label=name, lw=1.2)
            panels[0, column].fill_between(
                one["step"], one["low"], one["high"], color=colour, alpha=0.12, lw=0
            )
            variance = [max(value, 1e-10) for value in one["variance"]]
            panels[1, column].plot(one["step"], variance, color=colour, lw=1.2)
        panels[0, column].set_title(f"p0 = {target}", fontsize=10)
        panels[1, column].set_xlabel("step")
        panels[1, column].set_yscale("log")
        panels[1, column].set_ylim(1e-10, 1)
    panels[0, 0].set_ylabel("p, median and 80% of runs")
    panels[1, 0].set_ylabel("variance of a gradient")
    panels[0, 0].set_ylim(0, 1)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and writes the result and its picture."""
    parser = argparse.ArgumentParser(
        prog="python -m sfnn_pyro.experiments.toy",
        description="Train one unit on E[(b - p0)^2] by every estimator. Takes five minutes.",
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of toy.json and toy.png.")
    parser.add_argument("--steps", type=int, default=4000, help="Number of steps.")
    parser.add_argument("--rate", type=float, default=1.0, help="Learning rate.")
    parser.add_argument("--runs", type=int, default=100, help="Trainings of each estimator.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all draws.")
    options = parser.parse_args(arguments)
    torch.set_default_dtype(torch.float64)
    curves: dict[str, Any] = {}
    for target in TARGETS:
        curves[str(target)] = {}
        for name, estimator in estimators().items():
            torch.manual_seed(options.seed)
            curves[str(target)][name] = curve(
                estimator, target, steps=options.steps, rate=options.rate, runs=options.runs
            )
        print(f"p0 = {target}: done", flush=True)
    settings = {"steps": options.steps, "rate": options.rate, "runs": options.runs}
    result = {
        "options": {**settings, "seed": options.seed, "dtype": "float64"},
        "machine": machine(),
        "curves": curves,
    }
    write_text(options.out / "toy.json", json.dumps(result) + "\n")
    save_figure(draw(result), options.out / "toy.png")


if __name__ == "__main__":
    main()
